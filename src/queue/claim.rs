//! Claiming: waits for jobs, takes them, and loses none when a reply is lost or a caller goes away.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use redis::FromRedisValue;
use tracing::{error, info, warn};

use super::attempt::{Claim, ClaimFate, TakenOver};
use super::error::QueueError;
use super::memory::Source;
use super::script::{Answer, CLAIM, Call, PEEK, SUPERSEDE};
use super::shared::Shared;
use super::trouble::Trouble;
use super::window::{READ, Seen, Window};
use crate::protocol::{Code, DeploymentId, Failure, Outcome, ServiceId};

/// Of an element that is too large so much is read.
pub(super) const HEAD_BYTES: u64 = 4096;
/// Which jobs are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Any,
    /// Only one that was cancelled while it waited.
    Cancelled,
}

/// One call is under way at a time. Its token makes it repeatable: as long as the reply was not read, the same token is used
/// again, and the script answers with the same claim.
#[derive(Debug, Default)]
pub(super) struct Claiming {
    token: u64,
    pub(super) pending: Option<Pending>,
    window: Window,
}

/// A call whose reply was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pending {
    /// Who claims next gets what it took.
    Asked(Wanted),
    /// What it took was asked to go back to the queue, and may have gone: nobody gets it any more.
    GoingBack(Wanted),
}

#[derive(Debug)]
pub(super) enum Taken {
    Claim(Box<Claim>),
    /// There is no job.
    Nothing,
    /// One was taken that is not for the caller.
    Again,
    /// The lease is not this process's.
    NotOwner,
}

impl Shared {
    /// Waits for a job. Errors are told once and tried again, for as long as it takes.
    pub(super) async fn claim(&self) -> Claim {
        let _asking = self.asking.lock().await;
        let mut trouble = Trouble::new(&self.link.dial.board);
        loop {
            let pause = match self.take(Wanted::Any).await {
                Ok(Taken::Claim(claim)) => {
                    trouble.over();
                    return *claim;
                }
                Ok(Taken::Again) => None,
                Ok(Taken::Nothing) => match self.wake.lock().await.wait(&self.keys).await {
                    Ok(()) => {
                        trouble.over();
                        None
                    }
                    Err(e) => Some(trouble.told(&self.named(e).await)),
                },
                Ok(Taken::NotOwner) => {
                    self.lease_doubted.notify_one();
                    Some(Duration::from_secs(1))
                }
                Err(e) => Some(trouble.told(&self.named(e).await)),
            };
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// One call of the claim script.
    pub(super) async fn take(&self, wanted: Wanted) -> Result<Taken, QueueError> {
        let mut claiming = self.claiming.lock().await;
        if matches!(claiming.pending, Some(Pending::GoingBack(_))) && !self.put_back(&mut claiming).await? {
            return Ok(Taken::NotOwner);
        }
        if claiming.pending == Some(Pending::Asked(Wanted::Any)) && wanted == Wanted::Cancelled {
            // The repeated token may answer with a job to build: that one is for who asks for any.
            return Ok(Taken::Nothing);
        }
        let forgets = self.forgets.load(Ordering::SeqCst);
        let taken = self.ask_claim(&mut claiming, wanted).await?;
        match &taken {
            // This says nothing of a claim whose reply was lost before the lease ran out: the same token asks again.
            Taken::NotOwner => return Ok(taken),
            Taken::Claim(claim) => self.hand_over(claim, forgets),
            Taken::Nothing | Taken::Again => {}
        }
        // From here on nothing waits: the caller gets it.
        claiming.pending = None;
        Ok(taken)
    }

    /// `forgets`: of before it was asked for.
    pub(super) fn hand_over(&self, claim: &Claim, forgets: u64) {
        self.live.begin(claim);
        // In this order: whoever writes the records again counts first and copies the list of attempts then.
        if self.forgets.load(Ordering::SeqCst) != forgets {
            self.restore_again.store(true, Ordering::SeqCst);
            self.lease_doubted.notify_one();
        }
    }

    /// The script's answer to the present token. The claim stays pending.
    async fn ask_claim(&self, claiming: &mut Claiming, wanted: Wanted) -> Result<Taken, QueueError> {
        if claiming.pending.is_none() {
            claiming.token += 1;
            claiming.pending = Some(Pending::Asked(wanted));
        }
        let token = format!("{}/{}", self.nonce(), claiming.token);
        let keys = &self.keys;
        let call = Call::of(&CLAIM)
            .keys(&[&keys.queue, &keys.incoming, &self.claimed, &self.lease, &keys.workers, &keys.jobs])
            .keys(&[&keys.service, &keys.tombs, &keys.crashes, &keys.ended])
            .arg(self.worker())
            .arg(self.nonce())
            .arg(&token)
            .number(self.max_job_bytes)
            .number(HEAD_BYTES)
            .arg(if wanted == Wanted::Any { "next" } else { "cancelled" })
            .arg(&keys.notices);
        let mut answer = self.link.run(call).await?;
        let behind = answer.number(9).and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
        let mut claim = match self.read(&mut answer)? {
            Taken::Claim(claim) => claim,
            other => return Ok(other),
        };
        self.look_ahead(&mut claiming.window, &mut claim, behind).await?;
        if self.is_over(&claim).await? { Ok(Taken::Again) } else { Ok(Taken::Claim(claim)) }
    }

    /// A newer job of the service that waits behind this one: this one is not built.
    async fn look_ahead(&self, window: &mut Window, claim: &mut Claim, behind: usize) -> Result<(), QueueError> {
        let (Some(id), Some(service)) = (&claim.deployment, &claim.service) else { return Ok(()) };
        let mut seen = window.claimed(id.as_str(), service.as_str(), behind);
        if !matches!(claim.fate, ClaimFate::Build | ClaimFate::BuildAlone) {
            return Ok(());
        }
        if seen == Seen::Unknown {
            *window = self.peek().await?;
            seen = window.behind(id.as_str(), service.as_str());
        }
        let Seen::Newer(newer) = seen else { return Ok(()) };
        for by in newer.iter().filter_map(|n| DeploymentId::parse(n).ok()) {
            let keys = &self.keys;
            let call = Call::of(&SUPERSEDE)
                .keys(&[&keys.incoming, &keys.queue, &keys.jobs, &keys.tombs])
                .arg(id.as_str())
                .arg(self.worker())
                .number(claim.attempt.into())
                .number(claim.seq)
                .arg(by.as_str())
                .number(READ as u64);
            if self.link.run(call).await?.number(0) == Some(1) {
                claim.fate = ClaimFate::Superseded { by };
                break;
            }
        }
        Ok(())
    }

    async fn peek(&self) -> Result<Window, QueueError> {
        let call = Call::of(&PEEK).keys(&[&self.keys.incoming, &self.keys.queue]).number(READ as u64);
        let answer = self.link.run(call).await?;
        let pairs = answer.len().saturating_sub(1) / 2;
        let waiting = (0..pairs).map(|i| (answer.text(2 * i).to_owned(), answer.text(2 * i + 1).to_owned())).collect();
        Ok(Window::new(waiting, answer.text(2 * pairs).is_empty()))
    }

    /// A claim whose caller went away before the reply came, and may not claim again soon, goes back to the queue.
    pub(super) async fn return_pending(&self) -> Result<(), QueueError> {
        // Who still asks gets it by the same token, and in its order.
        let Ok(_nobody_asks) = self.asking.try_lock() else { return Ok(()) };
        let mut claiming = self.claiming.lock().await;
        self.put_back(&mut claiming).await.map(|_| ())
    }

    /// `false`: the lease is not this process's, and what is pending stays so.
    async fn put_back(&self, claiming: &mut Claiming) -> Result<bool, QueueError> {
        let Some(Pending::Asked(wanted) | Pending::GoingBack(wanted)) = claiming.pending else { return Ok(true) };
        match self.ask_claim(claiming, wanted).await? {
            Taken::Claim(claim) => {
                // A request that was given up may still arrive.
                claiming.pending = Some(Pending::GoingBack(wanted));
                self.ask_give_back(&claim, "1").await?;
            }
            Taken::NotOwner => return Ok(false),
            Taken::Nothing | Taken::Again => {}
        }
        // Not before: it would lie in this worker's list for ever, and nobody would know of it.
        claiming.pending = None;
        Ok(true)
    }

    /// What this worker had claimed before it was restarted.
    pub(super) async fn resume(&self) -> Result<Vec<Claim>, QueueError> {
        let claims = self.unknown_claims(self.left_in_order).await?;
        for claim in &claims {
            self.live.begin(claim);
        }
        self.has_resumed.store(true, Ordering::Release);
        Ok(claims)
    }

    /// Whether the server started without data, where it tells: a snapshot can be older than the epoch key. `None`: it does not tell.
    async fn has_loaded_nothing(&self) -> Option<bool> {
        let info = self.link.command(redis::cmd("INFO").arg("persistence")).await.ok()?;
        let info = String::from_redis_value(info).ok()?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
        // What came from the append-only file is not counted; there is one, so something may have come back with it.
        if field("aof_enabled") == Some("1") {
            return Some(false);
        }
        Some(field("rdb_last_load_keys_loaded")? == "0")
    }

    /// A finished job that an older snapshot of Redis brought back is removed without a word to the dashboard.
    pub(super) async fn is_over(&self, claim: &Claim) -> Result<bool, QueueError> {
        if !self.memory.has(claim) {
            return Ok(false);
        }
        // Not what the keeper has seen last: this claim may be the first word of a Redis that was started again.
        let (server, _) = self.link.session().await?;
        let epoch = self.link.command(redis::cmd("GET").arg(&self.keys.epoch)).await?;
        let epoch = Option::<String>::from_redis_value(epoch).ok().flatten();
        let loaded_nothing = self.has_loaded_nothing().await;
        if !self.memory.knows(claim, Source { run_id: server.run_id.as_deref(), epoch: epoch.as_deref(), loaded_nothing }) {
            return Ok(false);
        }
        if self.ask_finish(claim, "", "1").await?.text(0) == "cancelled" {
            // Its BUILDED was delivered, and it was cancelled after that: it is still there, and CANCELLED is to be told.
            return Ok(false);
        }
        let id = claim.deployment.as_ref().map(DeploymentId::as_str).unwrap_or_default();
        warn!(
            deployment_id = id,
            "The end of this job was delivered before; Redis has it again from an older snapshot. It was removed. To build it once more, push it again."
        );
        self.memory.removed(claim, server.run_id.as_deref());
        Ok(true)
    }

    /// A claim as the scripts write it.
    pub(super) fn read(&self, answer: &mut Answer) -> Result<Taken, QueueError> {
        match answer.text(0) {
            "claim" => {}
            "none" => return Ok(Taken::Nothing),
            "fenced" => return Ok(Taken::NotOwner),
            "moved" => return Ok(Taken::Again),
            "parked" => {
                let (id, worker, again) = (answer.text(1), answer.text(2), answer.text(3) == "1");
                info!(deployment_id = id, worker, "{}", parked(again));
                return Ok(Taken::Again);
            }
            other => return Err(self.link.dial.said(&format!("the claim script answered {other:?}"))),
        }
        let size = answer.number(2).unwrap_or_default();
        let deployment = DeploymentId::parse(answer.text(3)).ok();
        let fate = fate(answer.text(7), answer.text(8), size);
        let host = Some(answer.text(10)).filter(|host| !host.is_empty()).map(str::to_owned);
        let (taken_over, requeued_by) = match (host, answer.number(11).and_then(|n| u32::try_from(n).ok())) {
            (Some(host), Some(attempt)) => (Some(TakenOver { host, attempt }), None),
            (requeued_by, _) => (None, requeued_by.map(String::into_boxed_str)),
        };
        let claim = Claim {
            service: ServiceId::parse(answer.text(4)).ok(),
            attempt: answer.number(5).and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            seq: answer.number(6).unwrap_or_default(),
            payload: Bytes::from(answer.take(1)),
            deployment,
            fate,
            taken_over,
            requeued_by,
        };
        Ok(Taken::Claim(Box::new(claim)))
    }
}

fn parked(again: bool) -> &'static str {
    if again {
        "The same deployment was pushed again while it is in work; it takes the place of the push that waited before."
    } else {
        "The same deployment was pushed again while it is in work; the second push waits for the first one's end."
    }
}

fn fate(word: &str, detail: &str, size: u64) -> ClaimFate {
    match word {
        "alone" => ClaimFate::BuildAlone,
        "cancelled" => ClaimFate::Cancelled,
        "crashed" => ClaimFate::CrashedWorkers { attempts: detail.parse().unwrap_or(3) },
        "too_large" => ClaimFate::TooLarge { bytes: size },
        "superseded" => DeploymentId::parse(detail).map_or(ClaimFate::Cancelled, |by| ClaimFate::Superseded { by }),
        "ended" => stored(detail).map_or(ClaimFate::Build, ClaimFate::Ended),
        _ => ClaimFate::Build,
    }
}

/// An outcome as another worker stored it, perhaps one of a newer version with codes that are unknown here.
fn stored(json: &str) -> Option<Outcome> {
    if let Ok(outcome) = serde_json::from_str(json) {
        return Some(outcome);
    }
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let cause = value.pointer("/failure/cause").and_then(|c| c.as_str()).unwrap_or("It ended on another worker.");
    let way_out = value.pointer("/failure/way_out").and_then(|c| c.as_str()).unwrap_or_default();
    match value.get("status").and_then(|s| s.as_str()) {
        Some("FAILED") => Some(Outcome::Failed { failure: Failure::new(Code::WorkerInternal, cause, way_out) }),
        Some("CANCELLED") => Some(Outcome::Cancelled { failure: Failure::new(Code::BuildCancelled, cause, way_out) }),
        _ => {
            error!("The outcome that is stored for a deployment cannot be read; it is built again.");
            None
        }
    }
}
