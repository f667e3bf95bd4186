//! `slipway cancel`: ends a deployment wherever it is.

use std::path::PathBuf;

use super::start;
use crate::exit::Exit;
use crate::protocol::DeploymentId;
use crate::queue::{CancelFound, Producer};

/// Cancel a deployment, queued or running.
///
/// Unlike a bare `redis-cli PUBLISH builder:cancel ID`, which Redis forgets when no worker listens, this also leaves a note that is found later.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The deployment's id.
    #[arg(value_name = "ID", value_parser = DeploymentId::parse)]
    id: DeploymentId,
}

pub(super) fn run(args: Args, config_file: Option<PathBuf>) -> Exit {
    let (settings, queue) = match start::with_queue(config_file) {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let _log = match start::log_of(&settings) {
        Ok(log) => log,
        Err(exit) => return exit,
    };
    start::block_on(async {
        let found = match Producer::connect(&queue).await {
            Ok(producer) => producer.cancel(&args.id).await,
            Err(e) => Err(e),
        };
        match found {
            Ok(found) => start::output(words(&args.id, &found)),
            Err(e) => start::fail(Exit::Unavailable, e),
        }
    })
}

fn words(id: &DeploymentId, found: &CancelFound) -> String {
    match found {
        CancelFound::Running { worker } => format!("{id} is being cancelled by worker {worker}"),
        CancelFound::Queued => format!("{id} is queued and will end as CANCELLED"),
        CancelFound::Ended => format!("{id} ended a moment ago; there is nothing to cancel"),
        CancelFound::Unknown => format!("{id} was not seen yet; if it comes within 7 days it ends as CANCELLED"),
    }
}
