//! The end of an attempt: its outcome is stored before it is posted, and only a delivered one removes the job.

use std::time::Duration;

use tracing::{info, warn};

use super::attempt::{Acknowledged, Claim, ClaimFate, Fenced, HostFaults, Telling};
use super::error::QueueError;
use super::script::{Answer, Call, FINISH, GIVE_BACK, HOST_FAULT, MAY_POST, OUTCOME};
use super::shared::Shared;
use crate::protocol::{Code, DeploymentId, Failure, Outcome};

/// Entries of the dead letter list.
const DEAD_LETTERS: u64 = 1000;
/// Ended records stay for an hour, at most 10,000 of them: a late cancel and a worker that was away find them.
pub(super) const ENDED_STAY: Duration = Duration::from_secs(3600);
const ENDED_MOST: u64 = 10_000;
/// The most that a BUILDED waits for older jobs of its service: above the time after which an end that is refused is given up.
const OLDER_MOST: Duration = Duration::from_secs(10 * 60);
/// Between two looks whether an older job of the service is closed.
const OLDER_EVERY: Duration = Duration::from_millis(250);

impl Shared {
    pub(super) async fn store_outcome(&self, claim: &Claim, outcome: &Outcome) -> Result<Fenced, QueueError> {
        // What is no job has no record, and nobody to tell.
        let Some(id) = &claim.deployment else { return Ok(Fenced::Stored) };
        let (cancelled, superseded) = voids();
        let (json, retry) = (encode(outcome), matches!(outcome, Outcome::Failed { failure } if failure.is_retryable()));
        let (mut suspect, mut looked) = (String::new(), false);
        loop {
            let lease = if suspect.is_empty() { self.lease.clone() } else { self.keys.lease(&suspect) };
            let call = Call::of(&OUTCOME)
                .keys(&[&self.keys.jobs, &lease])
                .arg(id.as_str())
                .arg(self.worker())
                .number(claim.attempt.into())
                .number(claim.seq)
                .arg(&json)
                .arg(status(outcome))
                .arg(if retry { "1" } else { "" })
                .number(millis(self.post_timeout))
                .arg(&suspect)
                .arg(&cancelled)
                .arg(&superseded)
                .number(millis(OLDER_MOST));
            let answer = self.link.run(call).await?;
            if is_gone(&answer) && !std::mem::replace(&mut looked, true) {
                self.recognised().await?;
                continue;
            }
            if answer.text(0) != "wait" {
                return self.fenced(claim, &answer, Some(outcome));
            }
            if suspect != answer.text(2) || suspect.is_empty() {
                let (older, worker) = (answer.text(1), answer.text(2));
                info!(deployment_id = %id, older, worker, "The end waits until the older deployment of the service is closed.");
            }
            suspect = answer.text(2).to_owned();
            tokio::time::sleep(OLDER_EVERY).await;
        }
    }

    pub(super) async fn may_post(&self, claim: &Claim, telling: Telling) -> Result<Fenced, QueueError> {
        let Some(id) = &claim.deployment else { return Ok(Fenced::Stored) };
        // An end that an earlier process stored may have been posted by it, with no answer yet.
        if telling == Telling::RefusedEnd && !matches!(claim.fate, ClaimFate::Build | ClaimFate::BuildAlone) {
            return Ok(Fenced::Stored);
        }
        let mut answer = self.ask_may_post(claim, id, telling).await?;
        if is_gone(&answer) {
            self.recognised().await?;
            answer = self.ask_may_post(claim, id, telling).await?;
        }
        if answer.text(0) != "nothing" {
            return self.fenced(claim, &answer, None);
        }
        // Redis lost what was stored (it came back from an older snapshot): this process knows it still.
        let known = self.live.get(claim);
        let knew = known.as_ref().is_some_and(|a| a.knows_cancelled);
        let Some(outcome) = known.and_then(|a| a.outcome) else {
            // Nothing has ended yet: a status on the way may be told, the attempt is ours and not cancelled.
            return Ok(Fenced::Stored);
        };
        let stored = self.store_outcome(claim, &outcome).await?;
        // It was stored by this call, not by the caller.
        self.live.update(claim, |a| a.knows_cancelled = knew);
        match stored {
            Fenced::Stored => {
                let answer = self.ask_may_post(claim, id, telling).await?;
                self.fenced(claim, &answer, None)
            }
            other => Ok(other),
        }
    }

    async fn ask_may_post(&self, claim: &Claim, id: &DeploymentId, telling: Telling) -> Result<Answer, QueueError> {
        let (cancelled, superseded) = voids();
        let knows = self.live.get(claim).is_some_and(|a| a.knows_cancelled);
        let call = Call::of(&MAY_POST)
            .keys(&[&self.keys.jobs])
            .arg(id.as_str())
            .arg(self.worker())
            .number(claim.attempt.into())
            .number(claim.seq)
            .arg(&cancelled)
            .arg(&superseded)
            .arg(if knows { "1" } else { "" })
            .arg(match telling {
                Telling::Status => "",
                Telling::End => "1",
                Telling::RefusedEnd => "refused",
            });
        self.link.run(call).await
    }

    fn fenced(&self, claim: &Claim, answer: &Answer, stored: Option<&Outcome>) -> Result<Fenced, QueueError> {
        let fenced = match answer.text(0) {
            "stored" => Fenced::Stored,
            "cancelled" => Fenced::Cancelled,
            "superseded" => DeploymentId::parse(answer.text(1)).map_or(Fenced::Cancelled, |by| Fenced::Superseded { by }),
            // The same epoch and no record: it was taken over and ended.
            "lost" | "missing" => Fenced::Lost,
            "stands" => Fenced::Stands(self.stored_end(answer.text(1))?),
            other => return Err(self.link.dial.said(&format!("the outcome script answered {other:?}"))),
        };
        match (&fenced, stored) {
            (Fenced::Lost, _) => self.live.lose(claim),
            (Fenced::Stored, Some(outcome)) => self.live.update(claim, |a| {
                a.knows_cancelled = matches!(outcome, Outcome::Cancelled { .. });
                a.outcome = Some(outcome.clone());
            }),
            (Fenced::Stands(outcome), Some(_)) => self.live.update(claim, |a| {
                a.knows_cancelled = matches!(outcome, Outcome::Cancelled { .. });
                a.outcome = Some(outcome.clone());
            }),
            (Fenced::Stored | Fenced::Stands(_), None) => {}
            // Only who was about to store an end has one of his own that gives way. A status on the way that meets a cancel is
            // no such: the end behind it, which is another still, is to be told of the cancel too.
            (Fenced::Cancelled, _) => self.live.update(claim, |a| {
                a.knows_cancelled |= stored.is_some();
                a.outcome = Some(Outcome::Cancelled { failure: cancelled_failure() });
            }),
            (Fenced::Superseded { by }, _) => self.live.update(claim, |a| {
                a.knows_cancelled |= stored.is_some();
                a.outcome = Some(Outcome::Cancelled { failure: superseded_failure(by.as_str()) });
            }),
        }
        Ok(fenced)
    }

    fn stored_end(&self, json: &str) -> Result<Outcome, QueueError> {
        serde_json::from_str(json).map_err(|e| self.link.dial.said(&format!("the end in the record cannot be read: {e}")))
    }

    /// `note`: for the dead letter list, or "" for a job that ended.
    pub(super) async fn finish(&self, claim: &Claim, note: &str) -> Result<Acknowledged, QueueError> {
        let mut answer = self.ask_finish(claim, note, "").await?;
        if is_gone(&answer) {
            self.recognised().await?;
            answer = self.ask_finish(claim, note, "1").await?;
        }
        if answer.text(0) == "cancelled" {
            return Ok(Acknowledged::Cancelled);
        }
        self.live.end(claim);
        if note.is_empty() && answer.text(0) != "lost" {
            self.memory.delivered(claim, self.seen_epoch().as_ref());
        }
        let id = claim.deployment.as_ref().map(DeploymentId::as_str).unwrap_or_default();
        match answer.text(0) {
            "parked_runs" => info!(deployment_id = id, "The push that waited for this one's end is at the head of the queue."),
            "parked_dropped" => info!(
                deployment_id = id,
                "The same deployment was pushed a second time while it was in work; that push is dropped."
            ),
            "lost" => warn!(deployment_id = id, "The job ended here, but another worker has it by now."),
            _ => {}
        }
        Ok(Acknowledged::Removed)
    }

    pub(super) async fn ask_finish(&self, claim: &Claim, note: &str, without_record: &str) -> Result<Answer, QueueError> {
        let keys = &self.keys;
        let names = [&self.claimed, &keys.jobs, &keys.queue, &keys.crashes, &keys.service, &keys.ended, &keys.dead];
        let call = self
            .of_claim(Call::of(&FINISH).keys(&names.map(String::as_str)), claim)
            .arg(note)
            .number(DEAD_LETTERS)
            .number(millis(ENDED_STAY))
            .number(ENDED_MOST)
            .arg(without_record);
        self.link.run(call).await
    }

    pub(super) async fn give_back(&self, claim: &Claim) -> Result<bool, QueueError> {
        let mut answer = self.ask_give_back(claim, "").await?;
        if answer.text(0) == "missing" {
            self.recognised().await?;
            answer = self.ask_give_back(claim, "1").await?;
        }
        self.live.end(claim);
        Ok(answer.number(0) == Some(1))
    }

    pub(super) async fn ask_give_back(&self, claim: &Claim, without_record: &str) -> Result<Answer, QueueError> {
        let call = Call::of(&GIVE_BACK).keys(&[&self.keys.queue, &self.claimed, &self.keys.jobs]);
        self.link.run(self.of_claim(call, claim).arg(without_record).arg(&self.identity.host)).await
    }

    pub(super) async fn count_host_fault(&self, claim: &Claim) -> Result<HostFaults, QueueError> {
        let mut answer = self.ask_host_fault(claim).await?;
        if answer.text(0) == "missing" {
            self.recognised().await?;
            answer = self.ask_host_fault(claim).await?;
        }
        Ok(match answer.number(0).and_then(|n| u32::try_from(n).ok()) {
            None if answer.text(0) == "missing" => HostFaults::Unknown,
            None | Some(0) => HostFaults::NotOurs,
            Some(n) => HostFaults::Counted(n),
        })
    }

    async fn ask_host_fault(&self, claim: &Claim) -> Result<Answer, QueueError> {
        let call = Call::of(&HOST_FAULT)
            .keys(&[&self.keys.jobs])
            .arg(claim.deployment.as_ref().map(DeploymentId::as_str).unwrap_or_default())
            .arg(self.worker())
            .number(claim.attempt.into())
            .number(claim.seq);
        self.link.run(call).await
    }

    /// Before anything is called lost: is this the Redis that the records were seen in? If not they are written again.
    async fn recognised(&self) -> Result<(), QueueError> {
        self.renew().await.map(drop)
    }

    fn of_claim<'a>(&'a self, call: Call<'a>, claim: &'a Claim) -> Call<'a> {
        call.arg(claim.deployment.as_ref().map(DeploymentId::as_str).unwrap_or_default())
            .arg(self.worker())
            .number(claim.attempt.into())
            .number(claim.seq)
            .arg(&claim.payload)
            .number(claim.size())
    }
}

/// Not ours, or nobody's: perhaps only because Redis has forgotten.
fn is_gone(answer: &Answer) -> bool {
    matches!(answer.text(0), "lost" | "missing")
}

pub(super) fn cancelled_failure() -> Failure {
    Failure::new(Code::BuildCancelled, "The deployment was cancelled.", "")
}

pub(super) fn superseded_failure(by: &str) -> Failure {
    Failure::new(Code::BuildSuperseded, format!("The newer deployment {by} of the same service took its place."), "")
}

/// What the scripts store where a cancel or a newer job came first; `@@` stands for the newer one's id.
fn voids() -> (String, String) {
    let json = |failure| encode(&Outcome::Cancelled { failure });
    (json(cancelled_failure()), json(superseded_failure("@@")))
}

pub(super) fn encode(outcome: &Outcome) -> String {
    // Strings and plain enums only: there is nothing in it that JSON cannot say.
    serde_json::to_string(outcome).unwrap_or_default()
}

pub(super) fn status(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Builded { .. } => "BUILDED",
        Outcome::Failed { .. } => "FAILED",
        Outcome::Cancelled { .. } => "CANCELLED",
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
