//! When Redis has forgotten: records are written again from memory and journal, or what was taken over is let go.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::warn;

use super::attempt::{Claim, Standing};
use super::ending::{encode, status};
use super::error::QueueError;
use super::link::Link;
use super::live::Attempt;
use super::script::{Call, RESTORE, STANDING};
use super::shared::{Epoch, Shared};
use crate::protocol::{DeploymentId, Outcome};

/// After an absence that was longer a missing record is taken for one that ended on another host: ended records stay for an hour,
/// so one that is missing sooner was lost with a snapshot.
const SHORT_ABSENCE: Duration = Duration::from_secs(900);

/// Which server the records were seen in last, and when ([`super::gate::boot_time`]).
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) epoch: Option<Epoch>,
    pub(super) at: Duration,
}

impl Shared {
    pub(super) fn seen_epoch(&self) -> Option<Epoch> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).epoch.clone()
    }
    pub(super) fn keep_epoch(&self, now: Epoch, at: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.epoch.as_ref() != Some(&now) {
            self.memory.keep_epoch(&now);
        }
        *seen = Seen { epoch: Some(now), at };
    }
    /// Called with each proof of the lease at `at`: where Redis is not the one of before, everything is written again first. It waits for
    /// Redis and for no claim that is under way: the lease depends on it.
    pub(super) async fn recognise(&self, now: Epoch, at: Duration) -> Result<(), QueueError> {
        let _one = self.recognising.lock().await;
        let (before, last) = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.epoch.clone(), seen.at)
        };
        let is_emptied = |before: &Epoch| before.value != now.value;
        match before.filter(|before| *before != now) {
            Some(before) if is_emptied(&before) || at.saturating_sub(last) < SHORT_ABSENCE => {
                // A claim that is handed over from here on finds another number than before it was asked for, and asks for a second round.
                self.forgets.fetch_add(1, Ordering::SeqCst);
                if is_emptied(&before) {
                    warn!(
                        "Redis came back empty: the records of this worker's {} attempts are written again. What was queued there is lost.",
                        self.live.len()
                    );
                }
                self.restore_all().await?;
                self.unknown_due.store(true, Ordering::SeqCst);
            }
            _ if self.restore_again.load(Ordering::SeqCst) => self.restore_all().await?,
            _ => {}
        }
        self.keep_epoch(now, at);
        Ok(())
    }

    async fn restore_all(&self) -> Result<(), QueueError> {
        // Before the copy: what is handed over after it asks again.
        self.restore_again.store(false, Ordering::SeqCst);
        let restored = self.restore_attempts().await;
        if restored.is_err() {
            self.restore_again.store(true, Ordering::SeqCst);
        }
        restored
    }

    async fn restore_attempts(&self) -> Result<(), QueueError> {
        for Attempt { claim, outcome, .. } in &self.live.all() {
            let Some(id) = claim.deployment.as_ref().filter(|_| self.live.get(claim).is_some()) else { continue };
            if self.restore(&self.control, id, claim, outcome.as_ref()).await? == "restored" {
                warn!(deployment_id = %id, attempt = claim.attempt, "Redis had forgotten this attempt; its record is written again.");
            }
        }
        Ok(())
    }

    /// `link`: whichever connection is the caller's.
    async fn restore(
        &self,
        link: &Link,
        id: &DeploymentId,
        claim: &Claim,
        outcome: Option<&Outcome>,
    ) -> Result<String, QueueError> {
        let json = outcome.map(encode).unwrap_or_default();
        let retry = matches!(outcome, Some(Outcome::Failed { failure }) if failure.is_retryable());
        // Of an element that is too large only the beginning is here: pushed, that would be another element.
        let payload = if claim.size() == claim.payload.len() as u64 { &claim.payload[..] } else { b"" };
        let keys = &self.keys;
        let call = Call::of(&RESTORE)
            .keys(&[&self.claimed, &self.lease, &keys.jobs, &keys.service, &keys.tombs, &keys.queue, &keys.incoming])
            .arg(self.worker())
            .arg(self.nonce())
            .arg(id.as_str())
            .number(claim.attempt.into())
            .number(claim.seq)
            .arg(claim.service.as_ref().map(|s| s.as_str()).unwrap_or_default())
            .arg(payload)
            .arg(&json)
            .arg(outcome.map(status).unwrap_or_default())
            .arg(if retry { "1" } else { "" });
        Ok(link.run(call).await?.text(0).to_owned())
    }

    pub(super) async fn standing(&self, id: &DeploymentId) -> Result<Standing, QueueError> {
        let answer = self.link.run(Call::of(&STANDING).keys(&[&self.keys.jobs]).arg(id.as_str())).await?;
        let attempt = answer.number(1).and_then(|n| u32::try_from(n).ok()).unwrap_or_default();
        Ok(match answer.text(0) {
            "held" if answer.text(2) == self.worker() => Standing::Ours { attempt },
            "held" => Standing::Elsewhere { attempt, worker: answer.text(2).to_owned() },
            "waiting" => Standing::Waiting { attempt },
            "ended" => Standing::Ended,
            _ if self.is_new_redis() => Standing::Forgotten,
            _ => Standing::Ended,
        })
    }

    /// Whether Redis is another one than the earlier process of this host spoke to last.
    fn is_new_redis(&self) -> bool {
        let now = self.seen_epoch();
        match (&self.memory.earlier, now) {
            (Some(earlier), Some(now)) => earlier.value != now.value,
            _ => false,
        }
    }

    pub(super) async fn restore_end(
        &self,
        id: &DeploymentId,
        attempt: u32,
        outcome: &Outcome,
    ) -> Result<Option<Claim>, QueueError> {
        if !self.is_new_redis() {
            return Ok(None);
        }
        let claim = Claim::of_journal(id, attempt, outcome);
        match self.restore(&self.link, id, &claim, Some(outcome)).await?.as_str() {
            "restored" | "kept" => {
                self.live.begin(&claim);
                Ok(Some(claim))
            }
            "lost" => Ok(None),
            other => Err(self.link.dial.said(&format!("the restore script answered {other:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;

    use super::super::attempt::ClaimFate;
    use super::super::dial::Dial;
    use super::super::gate::boot_time;
    use super::super::identity::WorkerIdentity;
    use super::super::keys::Keys;
    use super::super::memory::Memory;
    use super::*;
    use crate::config::QueueConfig;

    /// A worker that has seen a Redis, which nobody asks here.
    fn worker(dir: &std::path::Path) -> Shared {
        let config = QueueConfig {
            host: "127.0.0.1".into(),
            port: 1,
            username: None,
            password: None,
            database: 0,
            tls: None,
            mode: crate::config::QueueMode::Leases,
            queue_name: "q".into(),
            cancel_channel: "cancel".into(),
            max_job_bytes: 1024,
        };
        let (identity, _lock) = WorkerIdentity::open(dir).unwrap();
        let dial = Dial::new(&config, String::new()).unwrap();
        let shared = Shared::new(&config, Keys::of("q").unwrap(), &dial, identity, Memory::empty(dir), Duration::ZERO);
        shared.keep_epoch(epoch("before"), boot_time());
        shared
    }

    fn epoch(value: &str) -> Epoch {
        Epoch { value: value.to_owned(), run_id: None }
    }

    #[tokio::test]
    async fn a_redis_that_came_back_empty_is_recognised_while_a_claim_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let shared = worker(dir.path());
        let _claiming = shared.claiming.lock().await;
        let recognised = shared.recognise(epoch("after"), boot_time()).now_or_never();
        assert!(matches!(recognised, Some(Ok(()))), "the lease would not be renewed before the claim has its answer");
        assert!(shared.unknown_due.load(Ordering::SeqCst), "what nobody knows of goes back afterwards");
    }

    #[tokio::test]
    async fn a_claim_of_before_that_is_handed_over_afterwards_has_the_records_written_once_more() {
        let dir = tempfile::tempdir().unwrap();
        let shared = worker(dir.path());
        let asked = shared.forgets.load(Ordering::SeqCst);
        shared.recognise(epoch("after"), boot_time()).await.unwrap();
        let claim = Claim {
            deployment: None,
            service: None,
            attempt: 1,
            seq: 1,
            payload: Bytes::from_static(b"{}"),
            fate: ClaimFate::Build,
            taken_over: None,
            requeued_by: None,
        };
        shared.hand_over(&claim, shared.forgets.load(Ordering::SeqCst));
        assert!(!shared.restore_again.load(Ordering::SeqCst), "it is of the Redis of now");
        shared.hand_over(&claim, asked);
        assert!(shared.restore_again.load(Ordering::SeqCst));
        shared.recognise(epoch("after"), boot_time()).await.unwrap();
        assert!(!shared.restore_again.load(Ordering::SeqCst), "done");
    }
}
