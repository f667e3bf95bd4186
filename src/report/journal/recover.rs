//! A journal that an earlier process left: reads its newest segment, cuts a torn last write off, finds the place to go on from.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, Cursor, PREAMBLE, Position, segment_path};
use super::ledger::{Ledger, Missing, Segment};
use super::record::{self, EndNote, Header, Record, Step};
use super::{DiskUse, Journal, Written};
use crate::protocol::{DeploymentId, Outcome};
use crate::report::batch::lines_in;

/// What a journal says without being opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub attempt: u32,
    pub outcome: Option<Outcome>,
}

/// Attempt and end of the journal whose segments are `numbers`. `None`: nothing of it can be read. Changes nothing on disk.
pub fn summary(dir: &Path, id: &DeploymentId, numbers: &[u64]) -> io::Result<Option<Summary>> {
    for number in numbers.iter().rev() {
        if let Some(scan) = scan(&segment_path(dir, id, *number), *number)? {
            let voided = files::read_cursor(dir, id, scan.birth)?.map_or(0, |c| c.voided_end);
            let outcome = scan.end.filter(|e| e.ordinal > voided).map(|e| e.outcome);
            return Ok(Some(Summary { attempt: scan.attempt, outcome }));
        }
    }
    Ok(None)
}

/// Removes a journal that is not open. The newest segment goes last, as in [`Journal::remove`].
pub fn discard(dir: &Path, id: &DeploymentId, numbers: &[u64], disk: &DiskUse) -> io::Result<()> {
    for number in numbers {
        let path = segment_path(dir, id, *number);
        let len = std::fs::metadata(&path)?.len();
        files::remove(&path)?;
        disk.shrink(len);
    }
    files::remove_cursor(dir, id)
}

impl Journal {
    /// Goes on with the journal whose segments are `numbers`. Where none of them can be read it is removed, and a new one begun
    /// that says so. `disk` counts the bytes of it already.
    pub fn recover(
        dir: PathBuf,
        id: DeploymentId,
        numbers: &[u64],
        attempt: u32,
        cap: u64,
        disk: Arc<DiskUse>,
        birth: u64,
    ) -> io::Result<Self> {
        let mut unreadable = 0;
        for (at, number) in numbers.iter().enumerate().rev() {
            let path = segment_path(&dir, &id, *number);
            if let Some(found) = scan(&path, *number)? {
                let journal = resume(dir, id, &numbers[..at], found, cap, disk, unreadable)?;
                journal.begin_attempt(attempt)?;
                return Ok(journal);
            }
            let len = std::fs::metadata(&path)?.len();
            tracing::warn!(deployment_id = %id, bytes = len, "a part of the journal cannot be read and is removed");
            files::remove(&path)?;
            disk.shrink(len);
            unreadable += len;
        }
        let journal = Journal::create(dir, id, attempt, cap, disk, birth)?;
        journal.written().lost = Missing { lines: 0, bytes: unreadable };
        Ok(journal)
    }
}

fn resume(
    dir: PathBuf,
    id: DeploymentId,
    earlier: &[u64],
    found: Scan,
    cap: u64,
    disk: Arc<DiskUse>,
    unreadable: u64,
) -> io::Result<Journal> {
    let path = segment_path(&dir, &id, found.segment.number);
    if found.torn > 0 {
        tracing::warn!(deployment_id = %id, bytes = found.torn, "the last write to the journal was torn and is cut off");
        files::truncate(&path, found.segment.len)?;
        disk.shrink(found.torn);
    }
    let mut segments = Vec::with_capacity(earlier.len());
    for number in earlier {
        let mut segment = found.segments.iter().find(|s| s.number == *number).cloned().unwrap_or_default();
        segment.number = *number;
        segment.len = std::fs::metadata(segment_path(&dir, &id, *number))?.len();
        segments.push(segment);
    }
    let ledger = Ledger::new(cap, segments, found.segment);
    let begin = Position { segment: ledger.first().number, offset: 0 };
    let end = Position { segment: ledger.last().number, offset: ledger.last().len };
    let cursor = files::read_cursor(&dir, &id, found.birth)?;
    let mut position = cursor.map_or(begin, |c| c.position).clamp(begin, end);
    if let Some(segment) = ledger.get(position.segment) {
        position.offset = position.offset.min(segment.len);
    }
    let (delivered_end, voided_end) = cursor.map_or((0, 0), |c| (c.delivered_end, c.voided_end));
    // A power cut may take from the disk what was told already: the cursor must not point into what is written there next.
    if cursor.is_some_and(|c| c.position > position) {
        files::write_cursor(&dir, &id, found.birth, &Cursor { position, delivered_end, voided_end })?;
    }
    let written = Written {
        attempt: found.attempt,
        ledger,
        position,
        ends: found.ends,
        end: found.end.filter(|e| e.ordinal > voided_end),
        delivered_end,
        voided_end,
        lost: Missing { lines: 0, bytes: unreadable },
        removed: false,
    };
    Ok(Journal::of(dir, id, found.birth, disk, written))
}

/// A segment read from its first record to its last.
struct Scan {
    birth: u64,
    attempt: u32,
    /// The segments before it when it was begun.
    segments: Vec<Segment>,
    segment: Segment,
    ends: u64,
    end: Option<EndNote>,
    /// Bytes of a torn write behind the last record.
    torn: u64,
}

/// `None`: its preamble or its header is not whole.
fn scan(path: &Path, number: u64) -> io::Result<Option<Scan>> {
    let bytes = std::fs::read(path)?;
    let Some(birth) = files::birth_of(&bytes) else {
        return Ok(None);
    };
    let seed = birth as u32;
    let Some(Step::Record(Record::Header(header), size)) =
        bytes.get(PREAMBLE..).filter(|b| !b.is_empty()).map(|b| record::step(b, seed, true))
    else {
        return Ok(None);
    };
    let Header { attempt, segments, ends, end, .. } = *header;
    let segment = Segment { number, ..Segment::default() };
    let mut scan = Scan { birth, attempt, segments, segment, ends, end, torn: 0 };
    let mut at = PREAMBLE + size;
    while at < bytes.len() {
        match record::step(&bytes[at..], seed, true) {
            Step::Record(record, size) => {
                scan.take(record);
                at += size;
            }
            Step::Garbage(size) if at + size == bytes.len() => {
                scan.torn = size as u64;
                break;
            }
            // The reader comes to it and says so.
            Step::Garbage(size) => at += size,
            Step::More => break,
        }
    }
    scan.segment.len = at as u64;
    Ok(Some(scan))
}

impl Scan {
    fn take(&mut self, record: Record<'_>) {
        match record {
            Record::Header(_) => {}
            Record::Log { text, .. } => self.segment.log.add(Missing { lines: lines_in(text), bytes: text.len() as u64 }),
            Record::Missing(missing) => self.segment.log.add(missing),
            Record::Status(_) => {
                self.segment.pinned = true;
                self.end = None;
            }
            Record::End(end) => {
                self.segment.pinned = true;
                self.ends = end.ordinal;
                self.end = Some(*end);
            }
            Record::Attempt(attempt) => {
                self.attempt = attempt;
                self.end = None;
            }
        }
    }
}
