//! The lease: taken at the start and renewed, and after each renewal a look at what the records say.
//!
//! Renewing and looking are two tasks. Renewing proves that the worker lives, so it waits for Redis and for nothing else: not for a disk, and
//! not for a lock that a caller of the claim script holds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::attempt::Notice;
use super::claim::{Taken, Wanted};
use super::ending::millis;
use super::error::QueueError;
use super::gate::{GateKeeper, boot_time};
use super::live::Word;
use super::script::{Answer, Call, LEASE_RELEASE, LEASE_RENEW, LEASE_TAKE, LOOK, UNCOUNT};
use super::shared::{Epoch, GATE_SPAN, LEASE_TTL, RENEW_EVERY, Shared};
use super::trouble::Trouble;
use crate::protocol::DeploymentId;

/// Between two tries to renew a lease that could not be renewed, or to give it back.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long a worker that stops tries to give its lease back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks at a lease that an unknown process holds.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// Whose the lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// This process's, without a break.
    Still,
    /// This process's again: it had run out, or Redis had lost it.
    Again,
    ByAnother,
}

impl Shared {
    /// Takes the lease: at once where it is free or the own earlier one, after its time to live where an unknown process holds
    /// it and does not renew it.
    pub(super) async fn take_lease(&mut self) -> Result<(), QueueError> {
        let mut left_before: Option<u64> = None;
        loop {
            let answer = self.ask_lease().await?;
            if answer.text(0) == "held" {
                self.left_in_order = answer.text(2).contains("\"released\":true");
                let (server, _) = self.link.session().await?;
                self.keep_epoch(Epoch { value: answer.text(1).to_owned(), run_id: server.run_id.clone() }, boot_time());
                return Ok(());
            }
            let left = answer.number(1).unwrap_or_default();
            match left_before {
                None => info!(
                    worker = self.worker(),
                    "The lease of this worker's id is held by a process that is not known here. Waiting {} s for it to run out.",
                    left.div_ceil(1000)
                ),
                // A clock that runs a little uneven is no renewal; one gives back at least some seconds.
                Some(before) if left > before + 1000 => {
                    let cause =
                        "Two processes have the same identity, perhaps because WORK_DIR was copied to another host. Give one of \
                                 them a WORK_DIR of its own, or remove the file identity from its copy."
                            .to_owned();
                    return Err(QueueError::IdentityTaken { worker: self.worker().to_owned(), cause });
                }
                Some(_) => {}
            }
            left_before = Some(left);
            sleep(WATCH_EVERY).await;
        }
    }

    async fn ask_lease(&self) -> Result<Answer, QueueError> {
        let about = self.about(false);
        let previous = self.identity.previous_nonce.as_deref().unwrap_or_default();
        let call = Call::of(&LEASE_TAKE)
            .keys(&[&self.lease, &self.keys.workers, &self.keys.epoch])
            .arg(self.worker())
            .arg(self.nonce())
            .arg(previous)
            .number(millis(LEASE_TTL))
            .arg(&about)
            // The nonce is random: good enough for a value that only has to be another one than before.
            .arg(self.nonce());
        self.link.run(call).await
    }

    /// What the registry says of this worker, for people and for who takes over.
    fn about(&self, released: bool) -> String {
        serde_json::json!({ "host": self.identity.host, "nonce": self.nonce(), "released": released }).to_string()
    }

    /// Renews until `stop`; the gate follows. Runs on the control thread.
    pub(super) async fn keep_lease(self: &Arc<Self>, gate: &GateKeeper, notices: &Sender<Notice>, stop: &CancellationToken) {
        let mut trouble = Trouble::new(&self.link.dial.board);
        let mut proved = boot_time();
        loop {
            let asked = boot_time();
            let mut pause = TRY_AGAIN;
            match self.renew().await {
                Ok(held @ (Held::Still | Held::Again)) => match self.are_ours(gate, held, notices).await {
                    Ok(true) => {
                        proved = asked;
                        if gate.hold(proved, GATE_SPAN) {
                            info!("The lease is held: reports and pushes may leave this host.");
                        }
                        pause = RENEW_EVERY;
                        trouble.over();
                        self.memory_changed.notify_one();
                        self.renewed.notify_one();
                    }
                    Ok(false) => {}
                    Err(e) => drop(trouble.told(&self.named_by_control(e).await)),
                },
                Ok(Held::ByAnother) => {
                    if gate.shut() {
                        error!(
                            worker = self.worker(),
                            "Another process holds the lease of this worker's id. Nothing leaves this host, nothing is claimed. Perhaps \
                             WORK_DIR was copied: give each host its own."
                        );
                    }
                }
                Err(e) => {
                    trouble.told(&self.named_by_control(e).await);
                    if boot_time().saturating_sub(proved) >= GATE_SPAN && gate.shut() {
                        warn!(
                            "The lease could not be renewed for 20 s: builds go on, but nothing leaves this host until Redis answers."
                        );
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
                () = self.lease_doubted.notified() => {}
            }
        }
    }

    /// Looks after each renewal until `stop`, and again soon where that failed.
    pub(super) async fn keep_looking(&self, notices: &Sender<Notice>, stop: &CancellationToken) {
        let mut trouble = Trouble::new(&self.link.dial.board);
        let mut failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.renewed.notified() => {}
                () = sleep(TRY_AGAIN), if failed => {}
            }
            let looked = tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look_after(notices) => looked,
            };
            failed = looked.is_err();
            match looked {
                Ok(()) => trouble.over(),
                Err(e) => drop(trouble.told(&self.named(e).await)),
            }
        }
    }

    /// Whether the gate may be held open. Behind a shut one, or while the lease had run out, the attempts may have been taken over:
    /// who lost one hears of it before anything leaves this host again. `false`: it cannot be said yet.
    async fn are_ours(&self, gate: &GateKeeper, held: Held, notices: &Sender<Notice>) -> Result<bool, QueueError> {
        if held == Held::Still && gate.is_open() {
            return Ok(true);
        }
        gate.shut();
        self.look(notices).await
    }

    pub(super) async fn renew(&self) -> Result<Held, QueueError> {
        let asked = boot_time();
        let about = self.about(false);
        let new_epoch = format!("{}{}", self.nonce(), millis(boot_time()));
        let call = Call::of(&LEASE_RENEW)
            .keys(&[&self.lease, &self.keys.workers, &self.keys.epoch])
            .arg(self.worker())
            .arg(self.nonce())
            .number(millis(LEASE_TTL))
            .arg(&about)
            .arg(&new_epoch);
        let answer = self.control.run(call).await?;
        let held = match answer.text(0) {
            "held" => Held::Still,
            "again" => {
                info!("The lease had run out, or Redis had lost it; it is this worker's again.");
                Held::Again
            }
            _ => return Ok(Held::ByAnother),
        };
        let (server, _) = self.control.session().await?;
        self.recognise(Epoch { value: answer.text(1).to_owned(), run_id: server.run_id.clone() }, asked).await?;
        Ok(held)
    }

    /// Looks at the records of all attempts, and at what was cancelled while it waited. Also after each (re)subscription.
    pub(super) async fn look_after(&self, notices: &Sender<Notice>) -> Result<(), QueueError> {
        self.look(notices).await?;
        if self.unknown_due.swap(false, Ordering::SeqCst)
            && let Err(e) = self.return_unknown().await
        {
            self.unknown_due.store(true, Ordering::SeqCst);
            return Err(e);
        }
        self.take_cancelled(notices).await?;
        self.take_crashes_back().await?;
        self.return_pending().await?;
        self.return_unheard().await
    }

    /// A job was lost to another worker while this process lived: what the reaper counted as a crash was none.
    async fn take_crashes_back(&self) -> Result<(), QueueError> {
        while let Some(sha) = self.live.next_lost() {
            let call = Call::of(&UNCOUNT).keys(&[&self.keys.crashes]).arg(&sha).arg(self.nonce());
            if self.control.run(call).await?.number(0) == Some(1) {
                info!("A job was taken over while this worker was cut off: that counts as no crash of the job.");
            }
            self.live.settle(&sha);
        }
        Ok(())
    }

    /// `false`: not all that was found could be told.
    pub(super) async fn look(&self, notices: &Sender<Notice>) -> Result<bool, QueueError> {
        let attempts = self.live.all();
        if attempts.is_empty() {
            return Ok(true);
        }
        let lines: Vec<(String, String)> =
            attempts.iter().map(|a| (a.claim.attempt.to_string(), a.claim.seq.to_string())).collect();
        let mut call = Call::of(&LOOK).keys(&[&self.keys.jobs, &self.keys.epoch]).arg(self.worker());
        for (a, (attempt, seq)) in attempts.iter().zip(&lines) {
            let id = a.claim.deployment.as_ref().map(DeploymentId::as_str).unwrap_or_default();
            call = call.arg(id).arg(attempt).arg(seq);
        }
        let answer = self.control.run(call).await?;
        let (server, _) = self.control.session().await?;
        let now = Epoch { value: answer.text(0).to_owned(), run_id: server.run_id.clone() };
        if self.seen_epoch() != Some(now) {
            // Not the Redis that the records were seen in: the keeper writes them again before anything is called lost.
            self.lease_doubted.notify_one();
            return Ok(false);
        }
        let mut all_told = true;
        for i in (1..answer.len()).step_by(3) {
            let Ok(id) = DeploymentId::parse(answer.text(i)) else { continue };
            let Some(attempt) = attempts.iter().find(|a| a.claim.deployment.as_ref() == Some(&id)) else { continue };
            let claim = &attempt.claim;
            match answer.text(i + 1) {
                "cancelled" => {
                    self.live.notice(claim, Word::Cancelled, || notices.try_send(Notice::Cancelled(id.clone())).is_ok());
                }
                "superseded" => {
                    let Ok(by) = DeploymentId::parse(answer.text(i + 2)) else { continue };
                    let notice = Notice::Superseded { deployment: id.clone(), by };
                    self.live.notice(claim, Word::Superseded, || notices.try_send(notice).is_ok());
                }
                _ => all_told &= self.lose(claim, &id, notices),
            }
        }
        Ok(all_told)
    }

    /// `false`: there is no room to tell it.
    fn lose(&self, claim: &super::Claim, id: &DeploymentId, notices: &Sender<Notice>) -> bool {
        // It may have ended between the copy of the list and the answer.
        if self.live.get(claim).is_none() {
            return true;
        }
        let told = notices.try_send(Notice::Lost(id.clone())).is_ok();
        if told {
            self.live.lose(claim);
            warn!(deployment_id = %id, attempt = claim.attempt, "This attempt is another worker's, or is over: it is dropped here.");
        }
        told
    }

    /// Claims what was cancelled while it waited, so that it is reported also when every build slot is taken; not while nothing may be
    /// claimed at all.
    pub(super) async fn take_cancelled(&self, notices: &Sender<Notice>) -> Result<(), QueueError> {
        while self.may_claim.load(Ordering::Relaxed)
            && let Ok(place) = notices.try_reserve()
        {
            match self.take(Wanted::Cancelled).await? {
                Taken::Claim(claim) => place.send(Notice::Claimed(*claim)),
                Taken::Again => {}
                Taken::Nothing | Taken::NotOwner => break,
            }
        }
        Ok(())
    }

    /// Gives the lease back. A claim whose reply was lost goes back to the queue first. Tried for a while: a link that heals in this
    /// moment still answers with its last failure.
    pub(super) async fn release(self: &Arc<Self>) -> Result<(), QueueError> {
        let began = boot_time();
        loop {
            match self.try_release().await {
                Err(_) if boot_time().saturating_sub(began) < RELEASE_WITHIN => sleep(TRY_AGAIN).await,
                released => return released,
            }
        }
    }

    async fn try_release(self: &Arc<Self>) -> Result<(), QueueError> {
        self.return_pending().await?;
        // A disk that stalls must not hold the lease: what is not remembered costs a second build in the worst case.
        let _late = timeout(RELEASE_WITHIN, self.save_memory()).await;
        let about = self.about(true);
        let call = Call::of(&LEASE_RELEASE)
            .keys(&[&self.lease, &self.keys.workers, &self.claimed])
            .arg(self.worker())
            .arg(self.nonce())
            .arg(&about);
        let left = self.link.run(call).await?.number(0).unwrap_or_default();
        if left > 0 {
            info!("Jobs that stay claimed by this worker: {left}. They are taken up at its next start, or by another worker.");
        }
        Ok(())
    }
}
