//! What a journal says next, read back from disk.

use std::io;

use super::files::{self, PREAMBLE, Position, segment_path};
use super::ledger::Missing;
use super::record::{self, EndNote, Record, Step};
use super::{Journal, Written};
use crate::protocol::{DeploymentStatus, LogType};
use crate::report::batch::joins;

/// One read from disk: a post's worth and the greatest record.
const READ_BYTES: usize = 80 * 1024;

/// What is told next. Log texts are redacted already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Log {
        kind: LogType,
        text: String,
    },
    Status(DeploymentStatus),
    End(EndNote),
    /// Cut out here: the cap was reached.
    CutOut(Missing),
    /// Never written here: the disk refused it.
    Unwritten(Missing),
    /// So many bytes stand here that cannot be read.
    Unreadable(u64),
}

/// An item, and the position behind it.
#[derive(Debug)]
pub struct Loaded {
    pub item: Item,
    pub after: Position,
}

impl Journal {
    /// Blocking. What is told next. Consecutive log records of one type are joined up to a post's size, but not beyond `until`.
    /// Says the same again until [`Journal::told`].
    pub fn read(&self, until: Option<Position>) -> io::Result<Option<Loaded>> {
        loop {
            let (from, len) = {
                let mut written = self.written();
                match self.seek(&mut written) {
                    Seek::At(from, len) => (from, len),
                    Seek::CutOut(missing, after) => return Ok(Some(Loaded { item: Item::CutOut(missing), after })),
                    Seek::Nothing => return Ok(None),
                }
            };
            // Not under the lock: nobody cuts out the segment that is being sent, and what is before `len` does not change.
            let wanted = usize::try_from(len - from.offset).unwrap_or(usize::MAX).min(READ_BYTES);
            let bytes = match files::read(&segment_path(&self.dir, &self.id, from.segment), from.offset, wanted) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
                other => other?,
            };
            if bytes.is_empty() {
                let after = Position { offset: len, ..from };
                return Ok(Some(Loaded { item: Item::Unreadable(len - from.offset), after }));
            }
            let at_end = bytes.len() < wanted || from.offset + bytes.len() as u64 == len;
            let (item, size) = first_item(
                &bytes,
                self.seed(),
                at_end,
                until.filter(|u| u.segment == from.segment).map(|u| (u.offset - from.offset) as usize),
            );
            let after = Position { offset: from.offset + size as u64, ..from };
            match item {
                Some(item) => return Ok(Some(Loaded { item, after })),
                None => self.written().position = after,
            }
        }
    }

    /// Moves the position to where something may stand.
    fn seek(&self, written: &mut Written) -> Seek {
        if written.removed {
            return Seek::Nothing;
        }
        let here = written.ledger.get(written.position.segment).filter(|s| written.position.offset < s.len);
        let (segment, offset) = match here {
            Some(segment) => (segment, written.position.offset),
            None => match written.ledger.after(written.position.segment) {
                Some(next) => (next, 0),
                None => return Seek::Nothing,
            },
        };
        let (number, len, missing) = (segment.number, segment.len, segment.missing);
        if offset == 0 && !missing.is_none() {
            written.position = Position { segment: number, offset };
            return Seek::CutOut(missing, Position { segment: number, offset: PREAMBLE as u64 });
        }
        written.position = Position { segment: number, offset: offset.max(PREAMBLE as u64) };
        Seek::At(written.position, len)
    }
}

enum Seek {
    At(Position, u64),
    CutOut(Missing, Position),
    Nothing,
}

/// The first item in `bytes` and the size of all that was read for it; without an item: of what was passed over.
fn first_item(bytes: &[u8], seed: u32, at_end: bool, until: Option<usize>) -> (Option<Item>, usize) {
    let mut at = 0;
    let mut log: Option<(LogType, String)> = None;
    while at < bytes.len() && until.is_none_or(|until| at < until) {
        let (record, size) = match record::step(&bytes[at..], seed, at_end) {
            Step::Record(record, size) => (record, size),
            Step::More if at > 0 => break,
            _ if log.is_some() => break,
            Step::Garbage(size) => return (Some(Item::Unreadable(size as u64)), at + size),
            // Cannot be: a read is longer than any record.
            Step::More => return (Some(Item::Unreadable(bytes.len() as u64)), bytes.len()),
        };
        let item = match (record, &mut log) {
            (Record::Log { kind, text }, None) => {
                log = Some((kind, text.to_owned()));
                None
            }
            (Record::Log { kind, text }, Some((last, joined))) if *last == kind && joins(joined.len(), text.len()) => {
                joined.push('\n');
                joined.push_str(text);
                None
            }
            (_, Some(_)) => break,
            (Record::Status(status), None) => Some(Item::Status(status)),
            (Record::End(end), None) => Some(Item::End(*end)),
            (Record::Missing(missing), None) => Some(Item::Unwritten(missing)),
            (Record::Header(_) | Record::Attempt(_), None) => None,
        };
        at += size;
        if item.is_some() {
            return (item, at);
        }
    }
    (log.map(|(kind, text)| Item::Log { kind, text }), at)
}
