//! JOB IN: all of Redis. Claim, lease, outcome, acknowledgement, requeue, dead letter, cancel notices.

mod access;
mod attempt;
mod claim;
mod dial;
mod ending;
mod error;
mod gate;
mod identity;
mod keys;
mod lease;
mod link;
mod listen;
mod live;
mod producer;
mod resp;
mod script;
mod shared;
mod wake;
mod window;

pub use access::COMMANDS;
pub use attempt::{CancelFound, Claim, ClaimFate, Fenced, Notice};
pub use error::QueueError;
pub use gate::{Gate, GateState};
pub use identity::{IdentityError, IdentityLock, WorkerIdentity, host_key};
pub use keys::Keys;
pub use producer::Producer;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::shared::{Shared, SharedRef};
use crate::config::QueueConfig;
use crate::protocol::Outcome;

/// Notices that wait for the worker. Where there is no room they are given at the next look: none is lost.
const NOTICES: usize = 64;

/// The worker's side of the queue.
pub struct Queue {
    shared: SharedRef,
    listener: dial::Dial,
}

impl Queue {
    /// Connects, checks version and rights (says once what is lost without them), takes the lease (takes it over at once when it
    /// is the own earlier one), requeues nothing yet.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses; it may be called again. [`QueueError::IdentityTaken`] when another process
    /// renews this worker's lease, [`QueueError::Name`] for a queue name that cannot be used: calling again does not help.
    pub async fn connect(config: &QueueConfig, identity: WorkerIdentity) -> Result<Queue, QueueError> {
        let mut shared = Shared::new(config, identity)?;
        shared.take_lease().await?;
        let listener = dial::Dial::new(config, access::rule(&shared.keys, &config.cancel_channel));
        Ok(Queue { shared: Arc::new(shared), listener })
    }
    /// Starts the lease keeper, the cancel subscription and the reaper on `tasks`; they end with `stop`, the lease is
    /// released by `release`. `notices` has a bounded capacity. To be called once.
    pub fn run(&self, tasks: &TaskTracker, stop: CancellationToken) -> (Gate, mpsc::Receiver<Notice>) {
        let (keeper, gate) = Gate::kept();
        let (notices, receiver) = mpsc::channel(NOTICES);
        let (shared, tx, token) = (self.shared.clone(), notices.clone(), stop.clone());
        tasks.spawn(async move { shared.keep_lease(&keeper, &tx, &token).await });
        let (shared, dial) = (self.shared.clone(), self.listener.clone());
        tasks.spawn(async move { shared.listen(&dial, &notices, &stop).await });
        (gate, receiver)
    }
    /// What this worker had claimed before it was restarted, oldest first; each is a new attempt unless its outcome is stored.
    /// To be called before the first [`Queue::claim`]; after an error it may be called again.
    ///
    /// # Errors
    /// When Redis does not answer or refuses.
    pub async fn resume(&self) -> Result<Vec<Claim>, QueueError> {
        self.shared.resume().await
    }
    /// Waits for a job and claims it. Cancel-safe: dropping the future loses no job. Reconnects with back-off by itself.
    pub async fn claim(&self) -> Claim {
        self.shared.claim().await
    }
    /// Stores the outcome if the attempt is still this worker's and no cancel came first. Idempotent. A BUILDED waits here until
    /// every older attempt of the same service is closed in Redis, or its lease is gone plus one HTTP time-out; a cancel ends the
    /// wait. The outcome's texts have passed the redactor: they are kept in Redis.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn store_outcome(&self, claim: &Claim, outcome: &Outcome) -> Result<Fenced, QueueError> {
        self.shared.store_outcome(claim, outcome).await
    }
    /// Asked before each post of an end: Redis answers, the attempt is still ours, no cancel came. From here on the end counts as
    /// seen by the dashboard.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses: then nothing may be posted.
    pub async fn may_post(&self, claim: &Claim) -> Result<Fenced, QueueError> {
        self.shared.may_post(claim).await
    }
    /// Removes the job: its end was delivered (or refused for good). A second push of the same deployment that came meanwhile goes
    /// to the head of the queue if the end was an infrastructure failure, else it is dropped. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn acknowledge(&self, claim: &Claim) -> Result<(), QueueError> {
        self.shared.finish(claim, "").await
    }
    /// Puts the job back to the head of the queue (drain). `false`: it was not ours any more. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn give_back(&self, claim: &Claim) -> Result<bool, QueueError> {
        self.shared.give_back(claim).await
    }
    /// Removes the claim and notes it in the dead letter list (the last 1,000 stay): `note` is JSON (reason, redacted head of the
    /// payload), not empty. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn dead_letter(&self, claim: &Claim, note: &str) -> Result<(), QueueError> {
        self.shared.finish(claim, note).await
    }
    /// Releases the lease (end of a drain). What is still claimed counts as no crash.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses: the lease then runs out by itself.
    pub async fn release(&self) -> Result<(), QueueError> {
        self.shared.release().await
    }
}
