//! JOB IN: all of Redis. Claim, lease, outcome, acknowledgement, requeue, dead letter, cancel notices.

mod gate;

pub use gate::{Gate, GateState};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::QueueConfig;
use crate::protocol::{DeploymentId, Outcome, ServiceId};

/// Why Redis did not do what was asked. `Display` names the address, the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("Redis at {address} cannot be reached: {cause}. Check REDIS_HOST and REDIS_PORT, and that Redis runs.")]
    Unreachable { address: String, cause: String },
    #[error("Redis at {address} refused the login: {cause}. Check REDIS_USERNAME and REDIS_PASSWORD.")]
    Denied { address: String, cause: String },
    #[error("Redis at {address} answered: {cause}")]
    Refused { address: String, cause: String },
    /// Another process holds this worker's lease and renews it.
    #[error("another worker with the id {worker} is alive and renews its lease. {cause}")]
    IdentityTaken { worker: String, cause: String },
}

/// Who this worker is: from `WORK_DIR/identity` (id, kept), with a nonce per process start (kept too, to recognise the own lease).
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// `[a-z0-9]{16}`.
    pub id: String,
    pub nonce: String,
    /// The nonce of the process before this one, if any.
    pub previous_nonce: Option<String>,
    /// For people: the host's name.
    pub host: String,
}

/// One claimed element: this worker owns this attempt until it is acknowledged, given back or lost.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The element to the byte.
    pub payload: Bytes,
    /// As read by the claim script; `None` where the payload names no valid id (then it is no job, and has no record).
    pub deployment: Option<DeploymentId>,
    pub service: Option<ServiceId>,
    /// 1 for the first.
    pub attempt: u32,
    /// Order of the job within its service; kept over take-overs.
    pub seq: u64,
    pub fate: ClaimFate,
}

/// What the records said when the job was claimed.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimFate {
    Build,
    /// A tombstone or a cancel flag was there: report CANCELLED, build nothing.
    Cancelled,
    /// An outcome was stored by an earlier attempt: deliver it, build nothing.
    Ended(Outcome),
    /// A newer job of the same service was seen: report CANCELLED naming it.
    Superseded {
        by: DeploymentId,
    },
    /// Three attempts ended with a dead worker: dead letter and FAILED.
    CrashedWorkers {
        attempts: u32,
    },
    /// Two attempts ended with a dead worker: builds alone on this host.
    BuildAlone,
}

/// What the outcome script said.
#[derive(Debug, Clone, PartialEq)]
pub enum Fenced {
    /// Stored (or the same was stored before): post it.
    Stored,
    /// A cancel came first: post CANCELLED; it is stored as the outcome.
    Cancelled,
    /// A newer job of the service superseded it: post CANCELLED naming it.
    Superseded { by: DeploymentId },
    /// Not this worker's attempt any more: drop everything without a word.
    Lost,
}

/// What happens to a running attempt from outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    Cancelled(DeploymentId),
    Superseded {
        deployment: DeploymentId,
        by: DeploymentId,
    },
    /// Taken over by another worker: drop it without a word.
    Lost(DeploymentId),
}

/// The worker's side of the queue.
pub struct Queue {}

impl Queue {
    /// Connects, checks version and rights (says once what is lost without them), takes the lease (takes it over at once when it
    /// is the own earlier one), requeues nothing yet.
    pub async fn connect(config: &QueueConfig, identity: WorkerIdentity) -> Result<Queue, QueueError> {
        let _ = identity;
        Err(QueueError::Unreachable { address: format!("{}:{}", config.host, config.port), cause: String::new() })
    }
    /// Starts the lease keeper, the cancel subscription, the wake-up and the reaper on `tasks`; they end with `stop`, the lease is
    /// released by `release`. `notices` has a bounded capacity.
    pub fn run(&self, tasks: &TaskTracker, stop: CancellationToken) -> (Gate, mpsc::Receiver<Notice>) {
        let _ = (tasks, stop);
        unimplemented!()
    }
    /// What this worker had claimed before it was restarted, oldest first; each is a new attempt unless its outcome is stored.
    pub async fn resume(&self) -> Result<Vec<Claim>, QueueError> {
        unimplemented!()
    }
    /// Waits for a job and claims it. Cancel-safe: dropping the future loses no job. Reconnects with back-off by itself.
    pub async fn claim(&self) -> Claim {
        unimplemented!()
    }
    /// Stores the outcome if the attempt is still this worker's and no cancel came first. Idempotent.
    pub async fn store_outcome(&self, claim: &Claim, outcome: &Outcome) -> Result<Fenced, QueueError> {
        let _ = (claim, outcome);
        unimplemented!()
    }
    /// Asked before each post of BUILDED: Redis answers, the attempt is still ours, no cancel came.
    pub async fn may_post(&self, claim: &Claim) -> Result<Fenced, QueueError> {
        let _ = claim;
        unimplemented!()
    }
    /// Removes the job: its end was delivered (or refused for good).
    pub async fn acknowledge(&self, claim: &Claim) -> Result<(), QueueError> {
        let _ = claim;
        unimplemented!()
    }
    /// Puts the job back to the head of the queue (drain). `false`: it was not ours any more.
    pub async fn give_back(&self, claim: &Claim) -> Result<bool, QueueError> {
        let _ = claim;
        unimplemented!()
    }
    /// Removes the claim and notes it in the dead letter list: `note` is JSON (reason, redacted head of the payload).
    pub async fn dead_letter(&self, claim: &Claim, note: &str) -> Result<(), QueueError> {
        let _ = (claim, note);
        unimplemented!()
    }
    /// Releases the lease (end of a drain with nothing left).
    pub async fn release(&self) -> Result<(), QueueError> {
        unimplemented!()
    }
}

/// The producer's side, for `slipway enqueue` and `slipway cancel`.
pub struct Producer {}

impl Producer {
    pub async fn connect(config: &QueueConfig) -> Result<Producer, QueueError> {
        Err(QueueError::Unreachable { address: format!("{}:{}", config.host, config.port), cause: String::new() })
    }
    /// Clears the id's tombstone and pushes the job (RPUSH; `front`: LPUSH). Returns the list's length.
    pub async fn enqueue(&self, payload: &[u8], id: &DeploymentId, front: bool) -> Result<u64, QueueError> {
        let _ = (payload, id, front);
        unimplemented!()
    }
    /// Runs the cancel script and publishes the message. Says what it found.
    pub async fn cancel(&self, id: &DeploymentId) -> Result<CancelFound, QueueError> {
        let _ = id;
        unimplemented!()
    }
}

/// What a cancel found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelFound {
    /// A worker has it: its flag is set.
    Running { worker: String },
    /// It waits in the queue; the tombstone makes it end as CANCELLED when its turn comes (or it was moved out at once).
    Queued,
    /// Ended a moment ago.
    Ended,
    /// Not seen anywhere: a tombstone waits for it for 7 days.
    Unknown,
}
