//! `slipway worker`: the daemon.

use std::path::PathBuf;

use super::start;
use crate::exit::Exit;

/// Take jobs from Redis, build, push, report, until SIGTERM or SIGINT.
///
/// On the first signal no more jobs are taken; running builds may finish for DRAIN_TIMEOUT, then their jobs go back to the head of the
/// queue. A second signal ends at once and loses nothing either. SIGHUP opens the files in LOG_DIR again and does nothing else.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print the whole configuration, secrets masked, with the origin of each value, and end.
    #[arg(long)]
    print_config: bool,
}

pub(super) fn run(args: Args, config_file: Option<PathBuf>) -> Exit {
    let loaded = match start::config(config_file) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    if args.print_config {
        start::tell(&loaded.warnings);
        return start::output(loaded.to_string().trim_end());
    }
    match start::log(&loaded.config.logging, &loaded.secrets, &loaded.warnings) {
        Ok(log) => start::block_on(crate::worker::run(loaded.config, log.secrets.clone(), log.guard.reopen.clone())),
        Err(exit) => exit,
    }
}
