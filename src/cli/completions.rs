//! `slipway completions`: prints a shell's completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, start};
use crate::exit::Exit;

/// Print a completion script, e.g. `slipway completions bash > /etc/bash_completion.d/slipway`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    shell: Shell,
}

pub(super) fn run(args: Args) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "slipway", &mut script);
    start::output(String::from_utf8_lossy(&script).trim_end())
}
