//! PURE: the journal's records as bytes: marker, tag, length, checksum, payload. Finds its way again after bytes that are not whole.

use serde::{Deserialize, Serialize};

use super::ledger::{Missing, Segment};
use crate::protocol::{DeploymentId, DeploymentStatus, LogType, Outcome};

/// No payload is longer; a length above it is not a record's.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// marker (2), tag (1), zero (1), length (4), CRC-32 (4).
pub const HEAD: usize = 12;
/// Neither byte occurs in UTF-8: no text in a record looks like the beginning of one.
const MARKER: [u8; 2] = [0xFF, 0xFE];

/// First in every segment: all that is needed to go on without reading the segments before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub deployment: DeploymentId,
    pub attempt: u32,
    /// The segments before this one that were on disk when it was begun.
    pub segments: Vec<Segment>,
    /// Ends written so far.
    pub ends: u64,
    pub end: Option<EndNote>,
}

/// How the job ended, as it is to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNote {
    /// 1 for the first end in this journal; a later one voids an earlier one that was not sent.
    pub ordinal: u64,
    pub attempt: u32,
    pub outcome: Outcome,
}

/// One record, borrowed from the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'b> {
    Header(Box<Header>),
    Log {
        kind: LogType,
        text: &'b str,
    },
    Status(DeploymentStatus),
    End(Box<EndNote>),
    /// The records after it belong to this attempt; an end before it is void.
    Attempt(u32),
    /// Lines that could not be written here (no room on the disk).
    Missing(Missing),
}

impl Record<'_> {
    /// Appends the record to `out`. `None` (and nothing appended) where it is longer than a record may be.
    pub fn encode(&self, seed: u32, out: &mut Vec<u8>) -> Option<()> {
        let begin = out.len();
        out.extend_from_slice(&[0; HEAD]);
        let tag = match self {
            Record::Header(h) => json(1, h, out),
            Record::Log { kind, text } => {
                out.push(kind_byte(*kind));
                out.extend_from_slice(text.as_bytes());
                Some(2)
            }
            Record::Status(s) => json(3, s, out),
            Record::End(e) => json(4, e, out),
            Record::Attempt(n) => {
                out.extend_from_slice(&n.to_le_bytes());
                Some(5)
            }
            Record::Missing(m) => json(6, m, out),
        };
        let length = out.len() - begin - HEAD;
        let Some(tag) = tag.filter(|_| length <= MAX_PAYLOAD) else {
            out.truncate(begin);
            return None;
        };
        let crc = checksum(seed, tag, &out[begin + HEAD..]);
        out[begin..begin + 2].copy_from_slice(&MARKER);
        out[begin + 2] = tag;
        out[begin + 4..begin + 8].copy_from_slice(&(length as u32).to_le_bytes());
        out[begin + 8..begin + 12].copy_from_slice(&crc.to_le_bytes());
        Some(())
    }

    fn decode(tag: u8, payload: &[u8]) -> Option<Record<'_>> {
        Some(match tag {
            1 => Record::Header(serde_json::from_slice(payload).ok()?),
            2 => {
                let (kind, text) = payload.split_first()?;
                Record::Log { kind: byte_kind(*kind)?, text: std::str::from_utf8(text).ok()? }
            }
            3 => Record::Status(serde_json::from_slice(payload).ok()?),
            4 => Record::End(serde_json::from_slice(payload).ok()?),
            5 => Record::Attempt(u32::from_le_bytes(payload.try_into().ok()?)),
            6 => Record::Missing(serde_json::from_slice(payload).ok()?),
            _ => return None,
        })
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'b> {
    /// A record, and how many bytes it takes.
    Record(Record<'b>, usize),
    /// So many bytes are no whole record.
    Garbage(usize),
    /// The record goes on behind these bytes.
    More,
}

/// Reads what stands at the beginning of `bytes` (not empty). `at_end`: nothing follows them in the file.
pub fn step(bytes: &[u8], seed: u32, at_end: bool) -> Step<'_> {
    match read(bytes, seed) {
        Read::Whole(record, size) => return Step::Record(record, size),
        Read::Cut if !at_end => return Step::More,
        Read::Cut | Read::Bad => {}
    }
    let mut goes_on = None;
    for at in 1..bytes.len() {
        if bytes[at] != MARKER[0] {
            continue;
        }
        match read(&bytes[at..], seed) {
            Read::Whole(..) => return Step::Garbage(at),
            Read::Cut if !at_end && goes_on.is_none() => goes_on = Some(at),
            Read::Cut | Read::Bad => {}
        }
    }
    Step::Garbage(goes_on.unwrap_or(bytes.len()))
}

enum Read<'b> {
    Whole(Record<'b>, usize),
    Cut,
    Bad,
}

fn read(bytes: &[u8], seed: u32) -> Read<'_> {
    let known = bytes.len().min(MARKER.len());
    if bytes[..known] != MARKER[..known] {
        return Read::Bad;
    }
    let Some((head, rest)) = bytes.split_at_checked(HEAD) else {
        return Read::Cut;
    };
    let (tag, length) = (head[2], u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize);
    if head[3] != 0 || length > MAX_PAYLOAD {
        return Read::Bad;
    }
    let Some(payload) = rest.get(..length) else {
        return Read::Cut;
    };
    if checksum(seed, tag, payload).to_le_bytes() != head[8..12] {
        return Read::Bad;
    }
    match Record::decode(tag, payload) {
        Some(record) => Read::Whole(record, HEAD + length),
        None => Read::Bad,
    }
}

/// The seed is random per journal: a tenant's text cannot carry a checksum that fits.
fn checksum(seed: u32, tag: u8, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new_with_initial(seed);
    crc.update(&[tag]);
    crc.update(payload);
    crc.finalize()
}

fn json(tag: u8, value: &impl Serialize, out: &mut Vec<u8>) -> Option<u8> {
    serde_json::to_writer(out, value).ok().map(|()| tag)
}

fn kind_byte(kind: LogType) -> u8 {
    match kind {
        LogType::Stdout => 1,
        LogType::Stderr => 2,
        LogType::Info => 3,
        LogType::Warning => 4,
        LogType::Error => 5,
    }
}

fn byte_kind(byte: u8) -> Option<LogType> {
    [LogType::Stdout, LogType::Stderr, LogType::Info, LogType::Warning, LogType::Error]
        .get(usize::from(byte).wrapping_sub(1))
        .copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: u32 = 0x5EED;

    fn encoded(texts: &[String]) -> (Vec<u8>, Vec<std::ops::Range<usize>>) {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        for text in texts {
            let begin = bytes.len();
            Record::Log { kind: LogType::Stdout, text }.encode(SEED, &mut bytes).unwrap();
            ranges.push(begin..bytes.len());
        }
        (bytes, ranges)
    }

    fn texts_of(bytes: &[u8]) -> (Vec<String>, usize) {
        let (mut at, mut texts, mut garbage) = (0, Vec::new(), 0);
        while at < bytes.len() {
            match step(&bytes[at..], SEED, true) {
                Step::Record(Record::Log { text, .. }, size) => {
                    texts.push(text.to_owned());
                    at += size;
                }
                Step::Record(_, size) => at += size,
                Step::Garbage(size) => {
                    assert!(size > 0);
                    garbage += size;
                    at += size;
                }
                Step::More => unreachable!("nothing follows"),
            }
        }
        (texts, garbage)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(texts in prop::collection::vec(any::<String>(), 0..20)) {
            let (bytes, _) = encoded(&texts);
            prop_assert_eq!(texts_of(&bytes), (texts, 0));
        }

        #[test]
        fn a_torn_write_costs_only_the_record_that_was_torn(texts in prop::collection::vec(any::<String>(), 1..20), cut in any::<prop::sample::Index>()) {
            let (bytes, ranges) = encoded(&texts);
            let cut = cut.index(bytes.len());
            let whole = ranges.iter().filter(|r| r.end <= cut).count();
            let (read, garbage) = texts_of(&bytes[..cut]);
            prop_assert_eq!(&read[..], &texts[..whole]);
            prop_assert_eq!(garbage, cut - ranges.get(whole).map_or(cut, |r| r.start));
        }

        #[test]
        fn a_flipped_bit_costs_only_the_record_that_it_stands_in(texts in prop::collection::vec(any::<String>(), 1..20), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (mut bytes, ranges) = encoded(&texts);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let hurt = ranges.iter().position(|r| r.contains(&at)).unwrap();
            let expected: Vec<_> = texts.iter().enumerate().filter(|(n, _)| *n != hurt).map(|(_, t)| t.clone()).collect();
            prop_assert_eq!(texts_of(&bytes), (expected, ranges[hurt].len()));
        }

        #[test]
        fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(prop_oneof![Just(0xFFu8), Just(0xFE), Just(2), Just(0), any::<u8>()], 0..300)) {
            let (texts, garbage) = texts_of(&bytes);
            prop_assert!(texts.is_empty() || garbage < bytes.len());
        }

        #[test]
        fn a_record_that_goes_on_behind_the_bytes_is_waited_for(text in any::<String>(), cut in any::<prop::sample::Index>()) {
            let (bytes, _) = encoded(&[text]);
            let cut = 1 + cut.index(bytes.len() - 1);
            prop_assert_eq!(step(&bytes[..cut], SEED, false), Step::More);
        }
    }

    #[test]
    fn a_record_of_another_journal_is_not_believed() {
        let (bytes, _) = encoded(&["forged".to_owned()]);
        assert_eq!(step(&bytes, SEED + 1, true), Step::Garbage(bytes.len()));
    }
}
