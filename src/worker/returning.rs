//! What was claimed and has not begun goes back to the queue: in a drain, and where it cannot begin here.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::attempt::open_report;
use super::shared::Shared;
use crate::protocol::{LogSink, LogType};
use crate::queue::Claim;
use crate::secrets::Redactor;

/// Deployments whose PENDING is posted at a time.
const AT_ONCE: usize = 64;
/// How long a journal's disk may hold up the return of its job.
const OPENS_WITHIN: Duration = Duration::from_secs(2);

/// Returns the jobs to the head of the queue, in their order. PENDING goes out before: another host says BUILDING as soon as it has
/// the job.
/// `why`: what the deployments' logs say of this host.
pub async fn return_unbegun(shared: Arc<Shared>, claims: Vec<Claim>, why: &'static str) {
    stream::iter(&claims).for_each_concurrent(AT_ONCE, |claim| tell_pending(&shared, claim, why)).await;
    // The last one first: each goes to the head.
    for claim in claims.iter().rev() {
        shared.until_redis_answers("a job's return", || shared.queue.give_back(claim)).await;
    }
    tracing::info!(jobs = claims.len(), "the jobs that had not begun are at the head of the queue again");
}

/// Sends what an earlier attempt left in its journal, and PENDING.
async fn tell_pending(shared: &Arc<Shared>, claim: &Claim, why: &str) {
    let Some(deployment) = &claim.deployment else { return };
    let redactor = Arc::new(Redactor::new(&shared.own_secrets(), &[], &[]));
    let Ok(Some(report)) = tokio::time::timeout(OPENS_WITHIN, open_report(shared, claim, deployment, &redactor)).await else {
        tracing::warn!(deployment_id = %deployment, "PENDING is not told, the journal cannot be opened; the job goes back all the same");
        return;
    };
    let text = format!("This attempt does not begin on {}, {why}: the deployment goes back to the queue.", shared.host);
    report.line(LogType::Warning, &text);
    report.give_back().await;
}
