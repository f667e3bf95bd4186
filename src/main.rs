//! The binary: command line → configuration → telemetry → one command. No logic.

use std::process::ExitCode;

use clap::Parser;
use slipway::cli::Cli;

fn main() -> ExitCode {
    slipway::memory::give_back_what_is_free();
    // The one TLS provider of the process. With two in one binary and none installed rustls panics at the first connection.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        unreachable!("nothing ran before that could have installed another TLS provider");
    }
    Cli::parse().run().into()
}
