//! What a job has said and the disk has not taken yet: in order, bounded by who waits for room, under a lock that is never held while the disk
//! is waited for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::batch::{Batch, Batcher};
use super::DiskUse;
use crate::protocol::{DeploymentStatus, LogType};

/// Text that waits for a disk that answers; above it whoever reads a build's output waits before the next chunk. A chunk may go beyond.
const ROOM_BYTES: usize = 4 << 20;
/// The same for a disk that has stalled: an Engine before 23 loses the rest of a build's log where it cannot pass 1 MiB of it on …
const STALLED_ROOM_BYTES: usize = 16 << 20;
/// … as long as all journals together hold less than this.
const STALLED_ROOM_OF_ALL: u64 = 64 << 20;
/// A disk that takes nothing for longer has stalled. Short, for the sake of such an Engine: a busy host is slow to start the writer.
pub const STALLED_AFTER: Duration = Duration::from_millis(100);

/// One entry of the journal that is to be written.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// A post's worth of lines.
    Log {
        kind: LogType,
        text: String,
        lines: u64,
    },
    Status(DeploymentStatus),
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Log { text, .. } => text.len(),
            Entry::Status(_) => 0,
        }
    }
}

#[derive(Debug)]
pub struct Gathered {
    batcher: Batcher,
    entries: VecDeque<Entry>,
    /// Of the entries, and of those that are being written.
    bytes: usize,
    /// Somebody writes, or is about to: whatever is added meanwhile is written by him too.
    has_writer: bool,
    /// When the disk took an entry last, or the first one that it has not taken came.
    moved: Instant,
    is_closed: bool,
    /// Counts what waits in all journals.
    disk: Arc<DiskUse>,
}

/// What an addition set in motion.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Woken {
    /// A writer is to be started: [`super::Journal::write`].
    pub writer: bool,
    /// Lines began to gather that have to be written in [`super::super::batch::FLUSH_AFTER`].
    pub gathering: bool,
}

impl Gathered {
    pub fn new(disk: Arc<DiskUse>) -> Self {
        Self {
            batcher: Batcher::default(),
            entries: VecDeque::new(),
            bytes: 0,
            has_writer: false,
            moved: Instant::now(),
            is_closed: false,
            disk,
        }
    }

    /// Takes one line, or several joined by `\n`.
    pub fn line(&mut self, kind: LogType, text: &str) -> Woken {
        if self.is_closed {
            return Woken::default();
        }
        let Self { batcher, entries, bytes, moved, disk, .. } = self;
        let was_empty = batcher.is_empty();
        batcher.push(kind, text, &mut |batch| add(entries, bytes, moved, disk, batch));
        let gathering = was_empty && !self.batcher.is_empty();
        Woken { writer: self.wants_writer(), gathering }
    }

    /// Takes a status, behind the lines.
    pub fn status(&mut self, status: DeploymentStatus) -> Woken {
        if self.is_closed {
            return Woken::default();
        }
        self.close_batch();
        self.entries.push_back(Entry::Status(status));
        Woken { writer: self.wants_writer(), gathering: false }
    }

    /// What is gathered becomes an entry, however little it is.
    pub fn close_batch(&mut self) {
        let Self { batcher, entries, bytes, moved, disk, .. } = self;
        batcher.flush(&mut |batch| add(entries, bytes, moved, disk, batch));
    }

    /// The oldest entry. It counts until [`Gathered::written`].
    pub fn next(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }

    /// As [`Gathered::next`], for the writer: with nothing left it is the writer no more.
    pub fn next_for_writer(&mut self) -> Option<Entry> {
        let next = self.next();
        self.has_writer = next.is_some();
        next
    }

    /// The entry is on disk, or the disk has refused it for good.
    pub fn written(&mut self, entry: &Entry) {
        let bytes = entry.bytes().min(self.bytes);
        self.bytes -= bytes;
        self.disk.wait_less(bytes as u64);
        self.moved = Instant::now();
    }

    pub fn has_room(&self, now: Instant) -> bool {
        let has_stalled = now.saturating_duration_since(self.moved) >= STALLED_AFTER;
        self.bytes < ROOM_BYTES || (has_stalled && self.bytes < STALLED_ROOM_BYTES && self.disk.waiting() < STALLED_ROOM_OF_ALL)
    }

    pub fn is_empty(&self) -> bool {
        self.batcher.is_empty() && self.entries.is_empty()
    }

    /// From here on nothing is taken.
    pub fn close(&mut self) {
        let mut closed = Self::new(Arc::clone(&self.disk));
        closed.is_closed = true;
        *self = closed;
    }

    fn wants_writer(&mut self) -> bool {
        !self.entries.is_empty() && !std::mem::replace(&mut self.has_writer, true)
    }
}

fn add(entries: &mut VecDeque<Entry>, bytes: &mut usize, moved: &mut Instant, disk: &DiskUse, batch: Batch<'_>) {
    if *bytes == 0 {
        *moved = Instant::now();
    }
    *bytes += batch.text.len();
    disk.wait_more(batch.text.len() as u64);
    entries.push_back(Entry::Log { kind: batch.kind, text: batch.text.to_owned(), lines: batch.lines });
}

impl Drop for Gathered {
    fn drop(&mut self) {
        self.disk.wait_less(self.bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_at_a_time_is_asked_for_and_writes_what_comes_meanwhile() {
        let mut gathered = Gathered::new(Arc::default());
        assert_eq!(gathered.line(LogType::Stdout, "a"), Woken { writer: false, gathering: true });
        assert_eq!(gathered.status(DeploymentStatus::Building), Woken { writer: true, gathering: false });
        assert!(matches!(gathered.next_for_writer(), Some(Entry::Log { text, .. }) if text == "a"));
        assert_eq!(gathered.status(DeploymentStatus::Building), Woken::default(), "the writer comes to it");
        assert_eq!(gathered.next_for_writer(), Some(Entry::Status(DeploymentStatus::Building)));
        assert_eq!(gathered.next_for_writer(), Some(Entry::Status(DeploymentStatus::Building)));
        assert_eq!(gathered.next_for_writer(), None);
        assert!(gathered.status(DeploymentStatus::Building).writer, "the last one is gone");
    }

    #[test]
    fn there_is_no_room_while_much_waits_for_the_disk_or_is_being_written() {
        let disk = Arc::<DiskUse>::default();
        let mut gathered = Gathered::new(Arc::clone(&disk));
        let now = Instant::now();
        while gathered.has_room(now) {
            gathered.line(LogType::Stdout, &"x".repeat(1000));
        }
        let first = gathered.next_for_writer().expect("an entry");
        assert!(!gathered.has_room(now), "it is in memory until it is written");
        gathered.written(&first);
        assert!(gathered.has_room(now));
        gathered.close();
        assert!(gathered.has_room(now) && gathered.is_empty());
        assert_eq!(gathered.line(LogType::Stdout, "late"), Woken::default());
        assert_eq!(disk.waiting(), 0);
    }

    #[test]
    fn while_the_disk_has_stalled_more_may_wait_but_not_without_bound_and_not_in_all_journals() {
        let disk = Arc::<DiskUse>::default();
        let fill = || {
            let mut gathered = Gathered::new(Arc::clone(&disk));
            gathered.line(LogType::Stdout, &"x".repeat(50_000));
            gathered.line(LogType::Stdout, "y");
            let later = Instant::now() + STALLED_AFTER;
            while gathered.has_room(later) {
                gathered.line(LogType::Stdout, &"x".repeat(50_000));
            }
            gathered
        };
        let first = fill();
        assert!(first.bytes >= STALLED_ROOM_BYTES && first.bytes < STALLED_ROOM_BYTES + 200_000, "{}", first.bytes);
        let many: Vec<_> = (0..20).map(|_| fill()).collect();
        assert!(disk.waiting() < STALLED_ROOM_OF_ALL + 20 * (ROOM_BYTES as u64 + 200_000), "{}", disk.waiting());
        assert!(many.iter().all(|one| one.bytes >= ROOM_BYTES), "each has a little");
        drop((first, many));
        assert_eq!(disk.waiting(), 0);
    }
}
