//! `slipway check`: asks every part once.

use std::path::PathBuf;

use super::start;
use crate::exit::Exit;

/// Ask every part once, and say what is wrong with which: WORK_DIR, Redis, the Engine, the registry, the dashboard.
///
/// Claims no job and builds nothing; it may run beside the daemon. Ends with 0 when a worker could work, with 69 when a part is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(Args {}: Args, config_file: Option<PathBuf>) -> Exit {
    let loaded = match start::config(config_file) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let log = match start::log(&loaded.config.logging, &loaded.secrets, &loaded.warnings) {
        Ok(log) => log,
        Err(exit) => return exit,
    };
    start::block_on(async {
        let findings = crate::worker::check(&loaded.config).await;
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        // What a part said of itself may quote what it was given.
        match start::output(log.secrets.redact(&lines.join("\n"))) {
            Exit::Ok if findings.iter().all(crate::worker::Finding::is_ok) => Exit::Ok,
            Exit::Ok => Exit::Unavailable,
            unsaid => unsaid,
        }
    })
}
