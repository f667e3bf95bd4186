//! `slipway cancel`: ends a deployment wherever it is.

use std::path::PathBuf;

use super::start;
use crate::exit::Exit;
use crate::protocol::DeploymentId;
use crate::queue::{CancelFound, Producer, QueueError};

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
        let cancel = async {
            let producer = Producer::connect(&queue).await?;
            let found = producer.cancel(&args.id).await?;
            let is_dead = matches!(&found, CancelFound::Running { worker } if !producer.is_alive(worker).await);
            Ok::<_, QueueError>(words(&args.id, &found, is_dead))
        };
        match cancel.await {
            Ok(words) => start::output(words),
            Err(e) => start::fail(Exit::Unavailable, e),
        }
    })
}

/// `is_dead`: the worker that has the job no longer renews its lease.
fn words(id: &DeploymentId, found: &CancelFound, is_dead: bool) -> String {
    match found {
        CancelFound::Running { worker } if is_dead => {
            format!("{id} will end as CANCELLED when another worker takes it over: worker {worker}, which has it, is dead")
        }
        CancelFound::Running { worker } => format!("{id} is being cancelled by worker {worker}"),
        CancelFound::Queued => format!("{id} is queued and will end as CANCELLED"),
        CancelFound::Ended => format!("{id} ended a moment ago; there is nothing to cancel"),
        CancelFound::Unknown => format!("{id} was not seen yet; if it comes within 7 days it ends as CANCELLED"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_worker_is_not_named_as_the_one_that_cancels() {
        let id = DeploymentId::parse("dpl_8f3k2").unwrap();
        let found = CancelFound::Running { worker: "host-1".into() };
        assert_eq!(words(&id, &found, false), "dpl_8f3k2 is being cancelled by worker host-1");
        let dead = words(&id, &found, true);
        assert!(dead.contains("when another worker takes it over") && dead.contains("host-1, which has it, is dead"), "{dead}");
    }
}
