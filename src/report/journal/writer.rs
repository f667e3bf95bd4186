//! From a job's lines to its journal: gathered in memory by whoever speaks, written by one writer at a time beside the runtime.

use std::time::Instant;

use super::gathered::{Entry, STALLED_AFTER, Woken};
use super::ledger::Missing;
use super::record::Record;
use super::{Journal, Written};
use crate::protocol::{DeploymentStatus, LogType};

impl Journal {
    /// Takes one line, or several joined by `\n`. Where the disk refuses it, it is counted and the count is told.
    pub fn log(&self, kind: LogType, text: &str) -> Woken {
        self.gathered().line(kind, text)
    }

    /// Takes a status in order with the lines. An end that stands before it is void, unless it is CANCELLED: nothing follows that.
    pub fn status(&self, status: DeploymentStatus) -> Woken {
        self.gathered().status(status)
    }

    /// Whether so little waits for the disk that more may come.
    pub fn has_room(&self) -> bool {
        self.gathered().has_room(Instant::now())
    }

    /// Waits until there is room.
    pub async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.room.notified());
            // Registered before the look: what is freed between the two is not missed.
            freed.as_mut().enable();
            if self.has_room() {
                return;
            }
            // A disk that stalls from now on makes room too.
            tokio::time::timeout(STALLED_AFTER, freed).await.ok();
        }
    }

    /// Blocking. Writes until nothing is left: to be called by the writer that was asked for, once each time. `true`: there is more to send.
    pub fn write(&self) -> bool {
        let mut records = false;
        loop {
            // Taken with the lock held, so that whoever holds it finds all that is older on disk or gathered.
            let mut written = self.written();
            let Some(entry) = self.gathered().next_for_writer() else { return records };
            records |= self.write_entry(&mut written, entry);
        }
    }

    /// Blocking. Writes all that was gathered. `true`: there is more to send.
    pub fn flush(&self) -> bool {
        let mut written = self.written();
        self.write_rest(&mut written)
    }

    /// Nothing waits for the disk.
    pub fn is_flushed(&self) -> bool {
        self.gathered().is_empty()
    }

    pub(super) fn write_rest(&self, written: &mut Written) -> bool {
        self.gathered().close_batch();
        let mut records = false;
        loop {
            let Some(entry) = self.gathered().next() else { return records };
            records |= self.write_entry(written, entry);
        }
    }

    fn write_entry(&self, written: &mut Written, entry: Entry) -> bool {
        let wrote = !written.removed
            && match &entry {
                Entry::Log { kind, text, lines } => self.write_log(written, *kind, text, *lines),
                Entry::Status(status) => self.write_status(written, *status),
            };
        let mut gathered = self.gathered();
        gathered.written(&entry);
        if gathered.has_room(Instant::now()) {
            self.room.notify_waiters();
        }
        wrote
    }

    fn write_log(&self, written: &mut Written, kind: LogType, text: &str, lines: u64) -> bool {
        let size = Missing { lines, bytes: text.len() as u64 };
        match self.append(written, &[Record::Log { kind, text }], size, false) {
            Ok(()) => true,
            Err(e) => {
                if written.lost.is_none() {
                    tracing::error!(deployment_id = %self.id, error = %e, "the journal cannot be written, log lines are lost until it can");
                }
                written.lost.add(size);
                false
            }
        }
    }

    fn write_status(&self, written: &mut Written, status: DeploymentStatus) -> bool {
        if written.is_cancelled() {
            return false;
        }
        match self.append(written, &[Record::Status(status)], Missing::default(), true) {
            Ok(()) => {
                written.end = None;
                true
            }
            Err(e) => {
                tracing::error!(deployment_id = %self.id, error = %e, ?status, "the status cannot be written to the journal and is not told");
                false
            }
        }
    }
}
