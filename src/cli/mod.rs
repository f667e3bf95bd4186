//! The command line: one file per command. Each reads what it needs of the configuration, does one thing, and returns an [`Exit`].

mod build;
mod cancel;
mod check;
mod completions;
#[cfg(test)]
mod documents_tests;
mod enqueue;
mod follow;
mod listen;
mod new_id;
mod order;
mod secret_args;
mod start;
mod worker;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::exit::Exit;

const EXIT_CODES: &str = "\
Exit codes:
   0  done (build, enqueue --follow: the image is built)
   1  the build failed or was cancelled (build, enqueue --follow)
   2  the command line is wrong
  69  a part cannot be used (check names it): Redis, Engine, registry, dashboard, an address
  70  a defect of Slipway
  75  interrupted, or held by another process: the same command may succeed later
  78  the configuration is wrong; every error is listed

Examples:
  slipway worker --print-config         what is configured, and where each value comes from
  slipway check                         is every part there, and what would cure it?
  slipway listen                        a dashboard in this terminal, in place of a real one
  slipway worker                        the daemon: takes jobs from Redis until it is stopped
  slipway enqueue octo/hello --follow   push a job and watch it
  slipway cancel dpl_8f3k2              end it, queued or running
  slipway build .                       why does this build fail? No Redis, no dashboard";

/// Slipway: jobs in from Redis, container images out to a registry, live reports to a dashboard.
#[derive(Debug, Parser)]
#[command(name = "slipway", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// Configuration file, in place of /etc/slipway/slipway.toml.
    ///
    /// Above it count: .env in the working directory, systemd credentials, environment variables. `slipway worker --print-config` shows
    /// the result. config/default.toml has every key.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Worker(worker::Args),
    Check(check::Args),
    Enqueue(enqueue::Args),
    Cancel(cancel::Args),
    Build(build::Args),
    Listen(listen::Args),
    Completions(completions::Args),
}

impl Cli {
    /// Runs the command to its end.
    pub fn run(self) -> Exit {
        let Cli { config, command } = self;
        match command {
            Command::Worker(args) => worker::run(args, config),
            Command::Check(args) => check::run(args, config),
            Command::Enqueue(args) => enqueue::run(args, config),
            Command::Cancel(args) => cancel::run(args, config),
            Command::Build(args) => build::run(args, config),
            Command::Listen(args) => listen::run(args, config),
            Command::Completions(args) => completions::run(args),
        }
    }
}
