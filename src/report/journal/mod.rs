//! One deployment's journal on disk: what is to be told, in order, and how far it was told.
//!
//! Lines and statuses go through memory ([`gathered`]) to a writer that is started beside the runtime, so a disk that stalls holds up no
//! thread of the runtime: lines wait, and whoever reads a build's output waits for room. Calls that say "Blocking" wait for the disk.
//!
//! Segments bound it: what the dashboard has answered is removed as a whole segment, and where it does not answer, the oldest
//! lines (head) and the newest (tail) stay within the cap, and a line says how many are missing between them.

mod files;
mod gathered;
mod ledger;
mod reader;
mod record;
mod recover;
mod writer;

use std::io;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub use files::{Position, list, remove_cursor};
pub use gathered::Woken;
pub use ledger::Missing;
pub use reader::{Item, Loaded};
pub use record::EndNote;
pub use recover::{Summary, discard, summary};

use files::{Cursor, segment_path};
use gathered::Gathered;
use ledger::{Ledger, Segment};
use record::{Header, Record};

use crate::protocol::{DeploymentId, LogType, Outcome};

/// Bytes of all journals together.
#[derive(Debug, Default)]
pub struct DiskUse {
    on_disk: AtomicU64,
    /// In memory, for the disk.
    waiting: AtomicU64,
}

impl DiskUse {
    pub fn bytes(&self) -> u64 {
        self.on_disk.load(Ordering::Relaxed)
    }
    pub fn grow(&self, bytes: u64) {
        self.on_disk.fetch_add(bytes, Ordering::Relaxed);
    }
    fn shrink(&self, bytes: u64) {
        self.on_disk.fetch_sub(bytes, Ordering::Relaxed);
    }
    fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
    fn wait_more(&self, bytes: u64) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }
    fn wait_less(&self, bytes: u64) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What became of an end that the sender came to.
#[derive(Debug, Clone, Copy)]
pub enum EndFate {
    Delivered(u64),
    /// A cancel came first. The end is as if never written.
    Voided(u64),
}

/// What a call to [`Journal::end`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndPlace {
    /// It stands in the journal under this ordinal, not delivered yet.
    Waits(u64),
    /// The same end was delivered before (by the process before this one).
    Delivered,
    /// Another end was delivered, and only a cancel may follow one.
    OtherDelivered,
    /// CANCELLED stands there, and nothing follows it.
    AfterCancelled,
}

/// A journal. Holds no file open.
pub struct Journal {
    dir: PathBuf,
    id: DeploymentId,
    /// Random: tells this journal from an earlier one of the deployment, and seeds its checksums.
    birth: u64,
    disk: Arc<DiskUse>,
    /// Locked for a moment only, also by the runtime's threads.
    gathered: Mutex<Gathered>,
    /// There is room for more.
    room: Notify,
    /// Locked while the disk is waited for: never by the runtime's threads.
    written: Mutex<Written>,
    /// What the runtime's threads may know of `written`, as of its last release.
    facts: Mutex<Facts>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    has_more: bool,
    end: Option<u64>,
    is_cancelled: bool,
}

/// `Written`, locked. When it is released the facts are those of then.
struct Held<'a> {
    facts: &'a Mutex<Facts>,
    written: MutexGuard<'a, Written>,
}

impl Deref for Held<'_> {
    type Target = Written;
    fn deref(&self) -> &Written {
        &self.written
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Written {
        &mut self.written
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = self.written.facts();
    }
}

/// What is on disk.
struct Written {
    attempt: u32,
    ledger: Ledger,
    /// Everything before it was answered, or needs no answer.
    position: Position,
    ends: u64,
    /// The end that is to be told, or was.
    end: Option<EndNote>,
    delivered_end: u64,
    voided_end: u64,
    /// Text that the disk refused; said by the next record that it takes.
    lost: Missing,
    removed: bool,
}

impl Journal {
    /// Begins a journal.
    pub fn create(dir: PathBuf, id: DeploymentId, attempt: u32, cap: u64, disk: Arc<DiskUse>, birth: u64) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let header = Header { deployment: id.clone(), attempt, segments: Vec::new(), ends: 0, end: None };
        Record::Header(Box::new(header)).encode(birth as u32, &mut bytes).ok_or_else(too_long)?;
        let len = files::create_segment(&segment_path(&dir, &id, 1), birth, &bytes)?;
        disk.grow(len);
        let ledger = Ledger::new(cap, Vec::new(), Segment { number: 1, len, ..Segment::default() });
        let position = Position { segment: 1, offset: len };
        let written = Written {
            attempt,
            ledger,
            position,
            ends: 0,
            end: None,
            delivered_end: 0,
            voided_end: 0,
            lost: Missing::default(),
            removed: false,
        };
        Ok(Self::of(dir, id, birth, disk, written))
    }

    fn of(dir: PathBuf, id: DeploymentId, birth: u64, disk: Arc<DiskUse>, written: Written) -> Self {
        let facts = Mutex::new(written.facts());
        let gathered = Mutex::new(Gathered::new(Arc::clone(&disk)));
        Self { dir, id, birth, disk, gathered, room: Notify::new(), written: Mutex::new(written), facts }
    }

    /// Blocking.
    fn written(&self) -> Held<'_> {
        Held { facts: &self.facts, written: self.written.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self) -> Facts {
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seed(&self) -> u32 {
        self.birth as u32
    }

    /// Blocking. From here on the records are another attempt's; an end of the earlier one is void.
    pub fn begin_attempt(&self, attempt: u32) -> io::Result<()> {
        let mut written = self.written();
        if written.attempt != attempt {
            self.append(&mut written, &[Record::Attempt(attempt)], Missing::default(), false)?;
            written.attempt = attempt;
            written.end = None;
        }
        Ok(())
    }

    /// Blocking. Appends the end behind its last log line, unless it stands there. Not synced: see [`Journal::sync`].
    pub fn end(&self, outcome: &Outcome, last_line: Option<(LogType, &str)>) -> io::Result<EndPlace> {
        let mut written = self.written();
        let cancels = matches!(outcome, Outcome::Cancelled { .. });
        // A status that waits for the disk comes first: an end that stands before it is void.
        self.write_rest(&mut written);
        if let Some(end) = &written.end {
            let delivered = written.delivered_end >= end.ordinal;
            if end.outcome == *outcome {
                return Ok(if delivered { EndPlace::Delivered } else { EndPlace::Waits(end.ordinal) });
            }
            if written.is_cancelled() && !cancels {
                return Ok(EndPlace::AfterCancelled);
            }
            if delivered && !cancels {
                return Ok(EndPlace::OtherDelivered);
            }
        }
        let written = &mut *written;
        let note = EndNote { ordinal: written.ends + 1, attempt: written.attempt, outcome: outcome.clone() };
        let line = last_line.map(|(kind, text)| Record::Log { kind, text });
        let records: Vec<_> = line.into_iter().chain([Record::End(Box::new(note.clone()))]).collect();
        self.append(written, &records, Missing::default(), true)?;
        written.ends = note.ordinal;
        written.end = Some(note);
        Ok(EndPlace::Waits(written.ends))
    }

    /// Blocking. Makes all that was written and not answered survive a power cut: the segments and the directory.
    pub fn sync(&self) -> io::Result<()> {
        let paths: Vec<_> = {
            let written = self.written();
            written.ledger.iter().map(|s| segment_path(&self.dir, &self.id, s.number)).collect()
        };
        for path in paths {
            files::sync(&path)?;
        }
        files::sync_dir(&self.dir)
    }

    /// Writes records as one. `log`: the text in them, for the count when they are cut out.
    fn append(&self, written: &mut Written, records: &[Record<'_>], log: Missing, pinned: bool) -> io::Result<()> {
        let mut bytes = Vec::new();
        let lost = written.lost;
        if !lost.is_none() {
            Record::Missing(lost).encode(self.seed(), &mut bytes).ok_or_else(too_long)?;
        }
        for record in records {
            record.encode(self.seed(), &mut bytes).ok_or_else(too_long)?;
        }
        if written.ledger.is_full(bytes.len()) {
            self.begin_segment(written)?;
        }
        let last = written.ledger.last_mut();
        files::append(&segment_path(&self.dir, &self.id, last.number), last.len, &bytes)?;
        self.disk.grow(bytes.len() as u64);
        last.len += bytes.len() as u64;
        last.log.add(log);
        last.log.add(lost);
        last.pinned |= pinned;
        written.lost = Missing::default();
        Ok(())
    }

    fn begin_segment(&self, written: &mut Written) -> io::Result<()> {
        if let Some(gone) = written.ledger.make_room() {
            files::remove(&segment_path(&self.dir, &self.id, gone.number))?;
            self.disk.shrink(gone.len);
        }
        let number = written.ledger.last().number + 1;
        let header = Header {
            deployment: self.id.clone(),
            attempt: written.attempt,
            segments: written.ledger.iter().cloned().collect(),
            ends: written.ends,
            end: written.end.clone(),
        };
        let mut bytes = Vec::new();
        Record::Header(Box::new(header)).encode(self.seed(), &mut bytes).ok_or_else(too_long)?;
        let len = files::create_segment(&segment_path(&self.dir, &self.id, number), self.birth, &bytes)?;
        self.disk.grow(len);
        written.ledger.begin(Segment { number, len, ..Segment::default() });
        Ok(())
    }

    /// Blocking. What was read was answered (or needs no answer): the journal goes on behind it, also after a restart.
    pub fn told(&self, after: Position, end: Option<EndFate>) {
        let mut held = self.written();
        let written = &mut *held;
        if written.removed {
            return;
        }
        written.position = after;
        match end {
            Some(EndFate::Delivered(ordinal)) => written.delivered_end = ordinal,
            Some(EndFate::Voided(ordinal)) => {
                written.voided_end = ordinal;
                written.end.take_if(|e| e.ordinal == ordinal);
            }
            None => {}
        }
        let cursor = Cursor { position: after, delivered_end: written.delivered_end, voided_end: written.voided_end };
        if let Err(e) = files::write_cursor(&self.dir, &self.id, self.birth, &cursor) {
            tracing::warn!(deployment_id = %self.id, error = %e, "the journal's cursor cannot be written: after a restart reports are repeated");
        }
        for gone in written.ledger.delivered_before(after.segment) {
            self.disk.shrink(gone.len);
            if let Err(e) = files::remove(&segment_path(&self.dir, &self.id, gone.number)) {
                tracing::warn!(deployment_id = %self.id, error = %e, "a delivered part of the journal cannot be removed");
            }
        }
    }

    /// Whether something is to be read (it may turn out to be nothing that is told).
    pub fn has_more(&self) -> bool {
        self.facts().has_more
    }

    /// Whether the end with this ordinal is the one to tell.
    pub fn is_current(&self, ordinal: u64) -> bool {
        self.facts().end == Some(ordinal)
    }

    pub fn is_cancelled(&self) -> bool {
        self.facts().is_cancelled
    }

    pub fn has_end(&self) -> bool {
        self.facts().end.is_some()
    }

    /// Blocking.
    pub fn summary(&self) -> Summary {
        let written = self.written();
        Summary { attempt: written.attempt, outcome: written.end.as_ref().map(|e| e.outcome.clone()) }
    }

    /// Blocking. Removes the journal; what comes later is dropped. The newest segment goes last: what is left of a removal that was
    /// cut short still knows all.
    pub fn remove(&self) -> io::Result<()> {
        let mut written = self.written();
        self.gathered().close();
        self.room.notify_waiters();
        written.removed = true;
        for segment in written.ledger.iter() {
            files::remove(&segment_path(&self.dir, &self.id, segment.number))?;
            self.disk.shrink(segment.len);
        }
        files::remove_cursor(&self.dir, &self.id)
    }
}

impl Written {
    fn facts(&self) -> Facts {
        let (position, last) = (self.position, self.ledger.last());
        Facts {
            has_more: !self.removed && (position.segment < last.number || position.offset < last.len),
            end: self.end.as_ref().map(|e| e.ordinal),
            is_cancelled: self.is_cancelled(),
        }
    }
    fn is_cancelled(&self) -> bool {
        matches!(&self.end, Some(EndNote { outcome: Outcome::Cancelled { .. }, .. }))
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a record is longer than a journal takes")
}
