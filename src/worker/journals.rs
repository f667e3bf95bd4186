//! The reports that an earlier process of this host left on disk: each is one of a claim that is taken up again, or is dropped.

use super::shared::Shared;
use crate::protocol::{DeploymentId, Outcome};
use crate::queue::{Claim, QueueError, Standing};

/// Drops the journals that belong to none of the `resumed` claims: Redis says that their jobs are not this worker's any more, so
/// nothing in them may be sent. An end that a Redis which came back empty knows nothing of is written there again and returned as
/// a claim: it is still to be told.
pub async fn sort_out(shared: &Shared, resumed: &[Claim]) -> Vec<Claim> {
    let journals = match shared.reporter.undelivered().await {
        Ok(journals) => journals,
        Err(error) => {
            tracing::warn!("cannot list WORK_DIR/journal: {error}");
            return Vec::new();
        }
    };
    let mut restored = Vec::new();
    for (deployment, attempt, end) in journals {
        if resumed.iter().any(|claim| claim.deployment.as_ref() == Some(&deployment)) {
            continue;
        }
        let ask = || restored_end(shared, &deployment, attempt, end.as_ref());
        // Not answered before the worker was stopped: the next start asks again.
        let Some(claim) = shared.until_redis_answers("a report from before the restart", ask).await else { continue };
        if let Some(claim) = claim {
            tracing::warn!(deployment_id = %deployment, "Redis came back empty; the end of this job stands in its journal and is told");
            restored.push(claim);
            continue;
        }
        tracing::info!(deployment_id = %deployment, "its journal is dropped: Redis says that the job is not this worker's any more");
        if let Err(error) = shared.reporter.discard(&deployment).await {
            tracing::warn!(deployment_id = %deployment, "its journal cannot be removed: {error}");
        }
    }
    restored
}

/// The claim of an end that only the journal knows. `None`: there is none, or it is another one's by now.
async fn restored_end(
    shared: &Shared,
    deployment: &DeploymentId,
    attempt: u32,
    end: Option<&Outcome>,
) -> Result<Option<Claim>, QueueError> {
    match (shared.queue.standing(deployment).await?, end) {
        (Standing::Forgotten, Some(outcome)) => shared.queue.restore_end(deployment, attempt, outcome).await,
        _ => Ok(None),
    }
}
