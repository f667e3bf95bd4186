//! One deployment's journal on disk: what is to be told, in order, and how far it was told. All calls may touch the disk.
//!
//! Segments bound it: what the dashboard has answered is removed as a whole segment, and where it does not answer, the oldest
//! lines (head) and the newest (tail) stay within the cap, and a line says how many are missing between them.

mod files;
mod ledger;
mod reader;
mod record;
mod recover;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use files::{Position, list, remove_cursor};
pub use ledger::Missing;
pub use reader::{Item, Loaded};
pub use record::EndNote;
pub use recover::{Summary, discard, summary};

use files::{Cursor, segment_path};
use ledger::{Ledger, Segment};
use record::{Header, Record};

use super::batch::{Batch, Batcher};
use crate::protocol::{DeploymentId, DeploymentStatus, LogType, Outcome};

/// Bytes of all journals together.
#[derive(Debug, Default)]
pub struct DiskUse(AtomicU64);

impl DiskUse {
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    pub fn grow(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
    fn shrink(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
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

/// What a line set in motion.
#[derive(Debug, Default, Clone, Copy)]
pub struct Woken {
    /// There is more to send.
    pub records: bool,
    /// Lines began to gather that have to be written in [`super::batch::FLUSH_AFTER`].
    pub gathering: bool,
}

/// A journal. Holds no file open.
pub struct Journal {
    dir: PathBuf,
    id: DeploymentId,
    /// Random: tells this journal from an earlier one of the deployment, and seeds its checksums.
    birth: u64,
    disk: Arc<DiskUse>,
    state: Mutex<State>,
}

struct State {
    batcher: Batcher,
    written: Written,
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
        Ok(Self { dir, id, birth, disk, state: Mutex::new(State { batcher: Batcher::default(), written }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seed(&self) -> u32 {
        self.birth as u32
    }

    /// Takes one line, or several joined by `\n`. Where the disk refuses it, it is counted and the count is told.
    pub fn log(&self, kind: LogType, text: &str) -> Woken {
        let mut state = self.state();
        let State { batcher, written } = &mut *state;
        if written.removed {
            return Woken::default();
        }
        let (empty, mut records) = (batcher.is_empty(), false);
        batcher.push(kind, text, &mut |batch| records |= self.write_batch(written, batch));
        Woken { records, gathering: empty && !batcher.is_empty() }
    }

    /// Writes what has gathered. `true`: there is more to send.
    pub fn flush(&self) -> bool {
        let mut state = self.state();
        self.flush_held(&mut state)
    }

    fn flush_held(&self, state: &mut State) -> bool {
        let State { batcher, written } = state;
        let mut records = false;
        batcher.flush(&mut |batch| records |= self.write_batch(written, batch));
        records
    }

    fn write_batch(&self, written: &mut Written, batch: Batch<'_>) -> bool {
        let size = Missing { lines: batch.lines, bytes: batch.text.len() as u64 };
        match self.append(written, &[Record::Log { kind: batch.kind, text: batch.text }], size, false) {
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

    /// Appends a status in order with the lines. An end that stands before it is void, unless it is CANCELLED: nothing follows that.
    pub fn status(&self, status: DeploymentStatus) -> io::Result<()> {
        let mut state = self.state();
        if state.written.removed || state.written.is_cancelled() {
            return Ok(());
        }
        self.flush_held(&mut state);
        self.append(&mut state.written, &[Record::Status(status)], Missing::default(), true)?;
        state.written.end = None;
        Ok(())
    }

    /// From here on the records are another attempt's; an end of the earlier one is void.
    pub fn begin_attempt(&self, attempt: u32) -> io::Result<()> {
        let mut state = self.state();
        if state.written.attempt != attempt {
            self.append(&mut state.written, &[Record::Attempt(attempt)], Missing::default(), false)?;
            state.written.attempt = attempt;
            state.written.end = None;
        }
        Ok(())
    }

    /// Appends the end behind its last log line, unless it stands there. Not synced: see [`Journal::sync`].
    pub fn end(&self, outcome: &Outcome, last_line: Option<(LogType, &str)>) -> io::Result<EndPlace> {
        let mut state = self.state();
        let cancels = matches!(outcome, Outcome::Cancelled { .. });
        if let Some(end) = &state.written.end {
            let delivered = state.written.delivered_end >= end.ordinal;
            if end.outcome == *outcome {
                return Ok(if delivered { EndPlace::Delivered } else { EndPlace::Waits(end.ordinal) });
            }
            if state.written.is_cancelled() && !cancels {
                return Ok(EndPlace::AfterCancelled);
            }
            if delivered && !cancels {
                return Ok(EndPlace::OtherDelivered);
            }
        }
        self.flush_held(&mut state);
        let written = &mut state.written;
        let note = EndNote { ordinal: written.ends + 1, attempt: written.attempt, outcome: outcome.clone() };
        let line = last_line.map(|(kind, text)| Record::Log { kind, text });
        let records: Vec<_> = line.into_iter().chain([Record::End(Box::new(note.clone()))]).collect();
        self.append(written, &records, Missing::default(), true)?;
        written.ends = note.ordinal;
        written.end = Some(note);
        Ok(EndPlace::Waits(written.ends))
    }

    /// Makes all that was written and not answered survive a power cut: the segments and the directory.
    pub fn sync(&self) -> io::Result<()> {
        let paths: Vec<_> = {
            let state = self.state();
            state.written.ledger.iter().map(|s| segment_path(&self.dir, &self.id, s.number)).collect()
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

    /// What was read was answered (or needs no answer): the journal goes on behind it, also after a restart.
    pub fn told(&self, after: Position, end: Option<EndFate>) {
        let mut state = self.state();
        let written = &mut state.written;
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

    /// Whether the end with this ordinal is the one to tell.
    pub fn is_current(&self, ordinal: u64) -> bool {
        self.state().written.end.as_ref().is_some_and(|e| e.ordinal == ordinal)
    }

    pub fn is_cancelled(&self) -> bool {
        self.state().written.is_cancelled()
    }

    pub fn has_end(&self) -> bool {
        self.state().written.end.is_some()
    }

    pub fn summary(&self) -> Summary {
        let state = self.state();
        Summary { attempt: state.written.attempt, outcome: state.written.end.as_ref().map(|e| e.outcome.clone()) }
    }

    /// Removes the journal; what comes later is dropped. The newest segment goes last: what is left of a removal that was
    /// cut short still knows all.
    pub fn remove(&self) -> io::Result<()> {
        let mut state = self.state();
        state.batcher.flush(&mut |_| {});
        state.written.removed = true;
        for segment in state.written.ledger.iter() {
            files::remove(&segment_path(&self.dir, &self.id, segment.number))?;
            self.disk.shrink(segment.len);
        }
        files::remove_cursor(&self.dir, &self.id)
    }
}

impl Written {
    fn is_cancelled(&self) -> bool {
        matches!(&self.end, Some(EndNote { outcome: Outcome::Cancelled { .. }, .. }))
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a record is longer than a journal takes")
}
