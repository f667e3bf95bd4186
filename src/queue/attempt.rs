//! What the queue hands to the worker, and what it says of an attempt.

use bytes::Bytes;

use crate::protocol::{DeploymentId, Outcome, ServiceId};

/// One claimed element: this worker owns this attempt until it is acknowledged, given back or lost.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The element to the byte; of one that is too large only the beginning.
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

impl Claim {
    /// How long the element is in Redis, in bytes.
    pub fn size(&self) -> u64 {
        match self.fate {
            ClaimFate::TooLarge { bytes } => bytes,
            _ => self.payload.len() as u64,
        }
    }
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
    /// The element has more than `MAX_JOB_BYTES` and was not read; `payload` is its beginning. It goes to the dead letter.
    TooLarge {
        bytes: u64,
    },
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
#[derive(Debug, Clone)]
pub enum Notice {
    Cancelled(DeploymentId),
    Superseded {
        deployment: DeploymentId,
        by: DeploymentId,
    },
    /// Taken over by another worker: drop it without a word.
    Lost(DeploymentId),
    /// A job was cancelled while it waited in the queue. It is claimed to report CANCELLED, and takes no build slot.
    Claimed(Claim),
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
