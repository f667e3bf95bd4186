//! The journals that a restarted worker finds and no claim belongs to: whose end is still to be told, and which are void.

use super::shared::Shared;
use super::startup::until_reached;
use crate::protocol::{DeploymentId, Outcome};
use crate::queue::{Claim, Standing};

/// Gives out a claim for each end that Redis has forgotten and the dashboard has not heard. The other journals are removed: their job
/// was acknowledged, or is another worker's to tell.
pub(super) async fn settle(shared: &Shared, resumed: &[Claim]) -> Vec<Claim> {
    let journals = match shared.reporter.undelivered() {
        Ok(journals) => journals,
        Err(error) => {
            tracing::warn!("cannot list WORK_DIR/journal: {error}");
            return Vec::new();
        }
    };
    let mut forgotten = Vec::new();
    for (deployment, attempt, outcome) in journals {
        if resumed.iter().any(|claim| claim.deployment.as_ref() == Some(&deployment)) {
            continue;
        }
        match still_to_tell(shared, &deployment, attempt, outcome).await {
            Some(claim) => {
                tracing::info!(deployment_id = %deployment, "Redis has forgotten this deployment; its end is in the journal and is told");
                forgotten.push(claim);
            }
            None => {
                tracing::info!(deployment_id = %deployment, "its journal is dropped: Redis says that the job is not this worker's any more");
                if let Err(error) = shared.reporter.discard(&deployment) {
                    tracing::warn!(deployment_id = %deployment, "its journal cannot be removed: {error}");
                }
            }
        }
    }
    forgotten
}

async fn still_to_tell(shared: &Shared, deployment: &DeploymentId, attempt: u32, outcome: Option<Outcome>) -> Option<Claim> {
    let outcome = outcome?;
    let told = shared.reporter.ended(deployment).is_some_and(|(told, _)| told == attempt);
    if told || until_reached("Redis", || shared.queue.standing(deployment)).await != Standing::Forgotten {
        return None;
    }
    until_reached("Redis", || shared.queue.restore_end(deployment, attempt, &outcome)).await
}
