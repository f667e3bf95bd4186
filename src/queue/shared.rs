//! What all parts of one worker's queue share: connection, names, identity, the attempts that go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::cancel_log::CancelLog;
use super::claim::Claiming;
use super::dial::Dial;
use super::error::QueueError;
use super::identity::WorkerIdentity;
use super::keys::Keys;
use super::link::Link;
use super::live::Live;
use super::memory::Memory;
use super::restore::Seen;
use super::wake::Wake;
use crate::config::QueueConfig;

/// The lease's time to live; without a renewal for so long others take the jobs.
pub(super) const LEASE_TTL: Duration = Duration::from_secs(30);
/// The time between two renewals.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long after a renewal something may leave the host. Ten seconds before the lease is gone: what was begun has time to end.
pub(super) const GATE_SPAN: Duration = Duration::from_secs(20);

pub(super) struct Shared {
    /// What the builds ask on. It is driven by the runtime that opened it.
    pub(super) link: Link,
    /// What proves that this worker lives: opened and used by the control tasks alone, so that nothing else can hold it up.
    pub(super) control: Link,
    pub(super) keys: Keys,
    pub(super) identity: WorkerIdentity,
    /// This worker's claimed list and lease.
    pub(super) claimed: String,
    pub(super) lease: String,
    pub(super) cancel_channel: String,
    pub(super) max_job_bytes: u64,
    pub(super) post_timeout: Duration,
    pub(super) live: Live,
    pub(super) cancels: CancelLog,
    pub(super) claiming: Mutex<Claiming>,
    /// What was claimed before the restart is known.
    pub(super) has_resumed: AtomicBool,
    /// Held by who waits for a job.
    pub(super) asking: Mutex<()>,
    pub(super) wake: Mutex<Wake>,
    /// Jobs that were cancelled while they were queued may be claimed now. Not before the worker has said so: it looks for room first.
    pub(super) may_claim: AtomicBool,
    /// Asks the lease keeper to look now.
    pub(super) lease_doubted: Notify,
    /// The lease was renewed: the records are due for a look.
    pub(super) renewed: Notify,
    /// There may be something to write to the memory.
    pub(super) memory_changed: Notify,
    /// The process before this one ended in good order: what it left behind counts as no crash.
    pub(super) left_in_order: bool,
    pub(super) seen: std::sync::Mutex<Seen>,
    /// One at a time compares Redis with the one that was seen.
    pub(super) recognising: Mutex<()>,
    /// How often Redis was found to have forgotten. A claim that was asked for before is looked after anew.
    pub(super) forgets: AtomicU64,
    /// A claim was handed over while the records were written again, and may have been missed.
    pub(super) restore_again: AtomicBool,
    /// After Redis had forgotten: what lies in this worker's list and nobody here has is due to go back.
    pub(super) unknown_due: AtomicBool,
    pub(super) memory: Memory,
}

/// Which Redis the records are in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epoch {
    /// The value of the epoch key.
    pub(super) value: String,
    /// The server's own id, new at each start of it; `None` where it may not be asked.
    pub(super) run_id: Option<String>,
}

impl Shared {
    pub(super) fn new(
        config: &QueueConfig,
        keys: Keys,
        dial: &Dial,
        identity: WorkerIdentity,
        memory: Memory,
        post_timeout: Duration,
    ) -> Self {
        Self {
            link: Link::new(dial.clone()),
            control: Link::new(dial.clone()),
            wake: Mutex::new(Wake::new(dial.clone())),
            claimed: keys.claimed(&identity.id),
            lease: keys.lease(&identity.id),
            keys,
            identity,
            cancel_channel: config.cancel_channel.clone(),
            max_job_bytes: config.max_job_bytes as u64,
            post_timeout,
            live: Live::default(),
            cancels: CancelLog::default(),
            claiming: Mutex::default(),
            may_claim: AtomicBool::new(false),
            has_resumed: AtomicBool::new(false),
            asking: Mutex::default(),
            lease_doubted: Notify::new(),
            renewed: Notify::new(),
            memory_changed: Notify::new(),
            left_in_order: false,
            seen: std::sync::Mutex::default(),
            recognising: Mutex::default(),
            forgets: AtomicU64::new(0),
            restore_again: AtomicBool::new(false),
            unknown_due: AtomicBool::new(false),
            memory,
        }
    }
    pub(super) fn worker(&self) -> &str {
        &self.identity.id
    }
    pub(super) fn nonce(&self) -> &str {
        &self.identity.nonce
    }
}

pub(super) type SharedRef = Arc<Shared>;

impl Shared {
    /// Names the key that is of a wrong type, where that is the trouble.
    pub(super) async fn named(&self, error: QueueError) -> QueueError {
        self.link.named(&self.keys, &[(&self.claimed, "list"), (&self.lease, "string")], error).await
    }
    /// As [`Self::named`], asked on the control tasks' own connection.
    pub(super) async fn named_by_control(&self, error: QueueError) -> QueueError {
        self.control.named(&self.keys, &[(&self.claimed, "list"), (&self.lease, "string")], error).await
    }
    /// Writes what has to be remembered over a restart. A disk that is full costs the memory, not the worker.
    pub(super) async fn save_memory(self: &Arc<Self>) {
        let shared = self.clone();
        let saved = tokio::task::spawn_blocking(move || shared.memory.save()).await;
        if let Ok(Err(e)) = saved {
            tracing::warn!("What was delivered cannot be written to {}: {e}", self.identity.dir.display());
        }
    }
    /// Saves the memory after each renewal until `stop`. A task of its own, beside the builds: the disk may stall, and the lease must not.
    pub(super) async fn keep_memory(self: &Arc<Self>, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.memory_changed.notified() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.save_memory() => {}
            }
        }
    }
}
