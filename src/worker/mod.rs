//! The daemon: supervisor, the life of a job, the order of the stages.

mod single_build;

pub use single_build::{BuildFrom, SingleBuild};

use std::sync::Arc;

use crate::config::Config;
use crate::exit::Exit;
use crate::telemetry::Masks;

/// The daemon, to its end. Jobs' redactors are added to `masks`, so that their secrets stand in no log.
pub async fn run(config: Config, masks: Arc<Masks>) -> Exit {
    let _ = (config, masks);
    Exit::Defect
}

/// One build without Redis and dashboard: lines to standard error, the image's reference to standard output.
pub async fn build_once(request: SingleBuild, masks: Arc<Masks>) -> Exit {
    let _ = (request, masks);
    Exit::Defect
}
