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
    /// The worker that had it died with it: the journal's lines of that attempt may lie on its host for ever. Say so in the log.
    pub taken_over: Option<TakenOver>,
    /// The host whose worker gave it back to the queue: in a drain, or because it could not begin there.
    pub requeued_by: Option<Box<str>>,
}

/// Where an attempt ended with its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The host's name, as it called itself.
    pub host: String,
    pub attempt: u32,
}

impl Claim {
    /// For an end that only a journal knows.
    pub(super) fn of_journal(id: &DeploymentId, attempt: u32, outcome: &Outcome) -> Self {
        Self {
            payload: Bytes::new(),
            deployment: Some(id.clone()),
            service: None,
            attempt,
            // Nothing orders it any more: it is over.
            seq: 1,
            fate: ClaimFate::Ended(outcome.clone()),
            taken_over: None,
            requeued_by: None,
        }
    }
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

/// What is about to be told to the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// A status on the way (BUILDING, PENDING), or lines.
    Status,
    /// The end that was stored.
    End,
    /// Nothing: the dashboard refuses this end alone, and has answered each post of it. A newer deployment's BUILDED need not wait for it
    /// until the next try is asked for.
    RefusedEnd,
}

/// How many attempts of a job failed by their host's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFaults {
    /// This one included.
    Counted(u32),
    /// Redis has no record of the job, so it counts anew.
    Unknown,
    /// The claim is another worker's, or nothing is counted at all.
    NotOurs,
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
    /// Another end of this attempt is stored and may have been seen: that one is told again, and nothing else.
    Stands(Outcome),
    /// Not this worker's attempt any more: drop everything without a word.
    Lost,
}

/// What became of a claim that Redis could not read.
#[derive(Debug)]
pub enum Adopted {
    /// It has a record now: the claim that stands for it.
    Ours(Box<Claim>),
    /// The deployment is somebody else's, or has ended: nothing may be told.
    Taken,
}

/// What became of a job whose end was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// It is gone.
    Removed,
    /// A cancel met its BUILDED on the way: it is there still, and CANCELLED is to be stored and told after it.
    Cancelled,
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

/// What Redis knows of a deployment whose journal a restarted worker finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// This worker has it, as that attempt: [`super::Queue::resume`] gives it out. Of another attempt's journal send nothing.
    Ours { attempt: u32 },
    /// Another worker has it: send nothing.
    Elsewhere { attempt: u32, worker: String },
    /// It waits in the queue for its next attempt: send nothing.
    Waiting { attempt: u32 },
    /// It ended, here or elsewhere: send nothing.
    Ended,
    /// Redis came back empty since: an end in the journal is still to be delivered, see [`super::Queue::restore_end`].
    Forgotten,
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
