//! PURE: which segments a journal has, when a new one is begun, and which one has to go when the cap is reached.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// A journal is at most so many segments: the first ones are the head, the last two the tail.
const SEGMENTS: usize = 8;
const HEAD_SEGMENTS: usize = 6;
/// A segment holds at least one record of the greatest size and its header.
const SMALLEST_SEGMENT: u64 = 128 * 1024;

/// Log text that is not there: lines and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    pub lines: u64,
    pub bytes: u64,
}

impl Missing {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
    pub fn add(&mut self, more: Missing) {
        self.lines += more.lines;
        self.bytes += more.bytes;
    }
}

/// One file of a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// 1 for the journal's first; a gap in the numbers is where segments were cut out.
    pub number: u64,
    /// Bytes on disk.
    pub len: u64,
    /// The log text in it.
    pub log: Missing,
    /// It holds a status or an end and is never cut out.
    pub pinned: bool,
    /// What was cut out before it.
    pub missing: Missing,
}

/// The segments on disk, oldest first; never empty.
#[derive(Debug)]
pub struct Ledger {
    segments: VecDeque<Segment>,
    segment_bytes: u64,
}

impl Ledger {
    /// `cap`: bytes of one journal on disk (`LOG_MAX_BYTES`).
    pub fn new(cap: u64, earlier: Vec<Segment>, last: Segment) -> Self {
        let mut segments = VecDeque::from(earlier);
        segments.push_back(last);
        Self { segments, segment_bytes: (cap / SEGMENTS as u64).max(SMALLEST_SEGMENT) }
    }
    pub fn first(&self) -> &Segment {
        &self.segments[0]
    }
    pub fn last(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }
    pub fn last_mut(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }
    pub fn get(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().find(|s| s.number == number)
    }
    /// The segment behind `number`.
    pub fn after(&self, number: u64) -> Option<&Segment> {
        self.segments.iter().find(|s| s.number > number)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter()
    }
    /// Whether a record of `bytes` goes to a new segment.
    pub fn is_full(&self, bytes: usize) -> bool {
        let last = self.last();
        (last.pinned || last.log.lines > 0) && last.len + bytes as u64 > self.segment_bytes
    }
    /// Before a new segment: the one that has to go, the oldest of the tail. What it held counts as missing before the next one.
    pub fn make_room(&mut self) -> Option<Segment> {
        if self.segments.len() < SEGMENTS {
            return None;
        }
        let newest = self.segments.len() - 1;
        let victim = (HEAD_SEGMENTS..newest).find(|n| !self.segments[*n].pinned)?;
        let gone = self.segments.remove(victim)?;
        let next = &mut self.segments[victim];
        next.missing.add(gone.missing);
        next.missing.add(gone.log);
        Some(gone)
    }
    pub fn begin(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }
    /// Takes out the segments before `number`: they are delivered. The last one stays.
    pub fn delivered_before(&mut self, number: u64) -> Vec<Segment> {
        let count = self.segments.iter().take_while(|s| s.number < number).count().min(self.segments.len() - 1);
        self.segments.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn disk_is_bounded_and_every_line_is_on_disk_delivered_or_counted_as_missing(
            steps in prop::collection::vec((1u64..60_000, 0u8..40), 1..600)
        ) {
            let cap = 1024 * 1024;
            let mut ledger = Ledger::new(cap, Vec::new(), Segment { number: 1, ..Segment::default() });
            let (mut written, mut delivered) = (0, 0);
            for (bytes, dice) in steps {
                if ledger.is_full(bytes as usize) {
                    ledger.make_room();
                    let number = ledger.last().number + 1;
                    ledger.begin(Segment { number, ..Segment::default() });
                }
                let last = ledger.last_mut();
                last.len += bytes;
                last.log.add(Missing { lines: 1, bytes });
                written += 1;
                if dice == 0 {
                    let second = ledger.iter().nth(1).map(|s| s.number);
                    for gone in second.map(|n| ledger.delivered_before(n)).unwrap_or_default() {
                        delivered += gone.log.lines + gone.missing.lines;
                    }
                }
                let there: u64 = ledger.iter().map(|s| s.log.lines + s.missing.lines).sum();
                prop_assert_eq!(there + delivered, written);
                prop_assert!(ledger.iter().map(|s| s.len).sum::<u64>() <= cap + 60_000);
            }
        }
    }

    #[test]
    fn the_head_and_the_newest_lines_stay_and_a_segment_with_a_status_too() {
        let mut ledger = Ledger::new(0, Vec::new(), Segment { number: 1, ..Segment::default() });
        for number in 2..=20 {
            ledger.last_mut().log.lines = 1;
            ledger.make_room();
            ledger.begin(Segment { number, pinned: number == 9, ..Segment::default() });
        }
        let numbers: Vec<_> = ledger.iter().map(|s| s.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 9, 19, 20]);
    }
}
