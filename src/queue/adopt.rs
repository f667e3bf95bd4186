//! Adoption: an element that Redis cannot read as a job gets a record under the id that the worker could read, so that its end is
//! fenced. Without one a cut copy of a job could tell FAILED for a deployment that another host builds.

use super::attempt::{Adopted, Claim};
use super::error::QueueError;
use super::script::{ADOPT, Call};
use super::shared::Shared;
use crate::protocol::DeploymentId;

/// Elements at the head of the queue among which a whole one of the deployment is looked for, and how many bytes of them.
const LOOKED_THROUGH: u64 = 64;
const LOOKED_BYTES: u64 = 8 << 20;

impl Shared {
    pub(super) async fn adopt(&self, claim: &Claim, id: &DeploymentId) -> Result<Adopted, QueueError> {
        let keys = &self.keys;
        let call = Call::of(&ADOPT)
            .keys(&[&keys.jobs, &self.lease, &keys.queue, &keys.incoming])
            .arg(self.worker())
            .arg(self.nonce())
            .arg(id.as_str())
            .number(LOOKED_THROUGH)
            .number(LOOKED_BYTES);
        let answer = self.link.run(call).await?;
        match answer.text(0) {
            "ours" => {
                let attempt = answer.number(1).and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
                let seq = answer.number(2).unwrap_or_default();
                let adopted = Claim { deployment: Some(id.clone()), attempt, seq, ..claim.clone() };
                self.live.end(claim);
                self.live.begin(&adopted);
                Ok(Adopted::Ours(Box::new(adopted)))
            }
            "taken" => Ok(Adopted::Taken),
            "fenced" => Err(self.link.dial.said("the lease of this worker belongs to another process")),
            other => Err(self.link.dial.said(&format!("the adopt script answered {other:?}"))),
        }
    }
}
