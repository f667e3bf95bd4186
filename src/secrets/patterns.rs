//! PURE: a set of byte patterns, of which the longest that begins at a place is found.
//!
//! An automaton over all patterns takes some fifty bytes of memory for each byte of theirs; with thousands of variables that is
//! too much. Here the patterns lie sorted in one block. A filter over their first bytes lets nearly every place of a text pass
//! in a nanosecond; what is left is a binary search, and no pattern is longer than a few hundred bytes.

use secrecy::{ExposeSecret, SecretSlice};

/// Every pattern has at least so many bytes; the filter looks at these.
pub(super) const HEAD: usize = 6;
const HEAD_MASK: u64 = (1 << (8 * HEAD)) - 1;
const NONE: u32 = u32::MAX;

/// What is at a place in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum At {
    Nothing,
    /// The longest pattern here has so many bytes.
    Pattern(usize),
    /// The text ends here in the middle of a pattern: more of it must be seen.
    Undecided,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    len: u32,
}

/// Collects patterns. Bytes that do not fit into 4 GiB are refused by the caller's own limits long before.
#[derive(Default)]
pub(super) struct Builder {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Builder {
    /// Patterns shorter than [`HEAD`], or made of the mask's own character alone, are left out.
    pub(super) fn add(&mut self, pattern: &[u8]) {
        if pattern.len() < HEAD || pattern.iter().all(|b| *b == b'*') {
            return;
        }
        let (Ok(start), Ok(len)) = (u32::try_from(self.bytes.len()), u32::try_from(pattern.len())) else { return };
        self.bytes.extend_from_slice(pattern);
        self.spans.push(Span { start, len });
    }

    pub(super) fn build(self) -> Patterns {
        let Self { bytes, mut spans } = self;
        let text = |span: &Span| &bytes[span.start as usize..(span.start + span.len) as usize];
        spans.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        spans.dedup_by(|a, b| text(a) == text(b));

        let mut shorter = Vec::with_capacity(spans.len());
        let mut open: Vec<usize> = Vec::new();
        for (i, span) in spans.iter().enumerate() {
            while open.last().is_some_and(|&o| !text(span).starts_with(text(&spans[o]))) {
                open.pop();
            }
            shorter.push(open.last().map_or(NONE, |&o| o as u32));
            open.push(i);
        }

        let bits = (spans.len() * 32).next_power_of_two().clamp(1 << 10, 1 << 24);
        let mut filter = Filter { words: vec![0; bits / 64].into(), shift: 64 - bits.trailing_zeros() };
        for span in &spans {
            filter.insert(head(text(span)));
        }
        Patterns { bytes: SecretSlice::from(bytes), spans: spans.into(), shorter: shorter.into(), filter }
    }
}

pub(super) struct Patterns {
    bytes: SecretSlice<u8>,
    /// Sorted by their text, each text once.
    spans: Box<[Span]>,
    /// For each span the longest other one that its text begins with.
    shorter: Box<[u32]>,
    filter: Filter,
}

impl Default for Patterns {
    fn default() -> Self {
        Builder::default().build()
    }
}

impl Patterns {
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn text(&self, i: usize) -> &[u8] {
        let span = self.spans[i];
        &self.bytes.expose_secret()[span.start as usize..(span.start + span.len) as usize]
    }

    /// What begins at the beginning of `rest`. `ends`: nothing comes after `rest`.
    pub(super) fn at(&self, rest: &[u8], ends: bool) -> At {
        if rest.len() < HEAD {
            if ends {
                return At::Nothing;
            }
        } else if !self.filter.may_contain(head(rest)) {
            return At::Nothing;
        }
        let after = self.spans.partition_point(|span| {
            let start = span.start as usize;
            self.bytes.expose_secret()[start..start + span.len as usize] <= *rest
        });
        if !ends && after < self.spans.len() && self.text(after).starts_with(rest) {
            return At::Undecided;
        }
        // The pattern just before is the longest one here, or begins with it.
        let mut candidate = after.checked_sub(1).map_or(NONE, |i| i as u32);
        while candidate != NONE {
            let text = self.text(candidate as usize);
            if rest.starts_with(text) {
                return At::Pattern(text.len());
            }
            candidate = self.shorter[candidate as usize];
        }
        At::Nothing
    }

    /// The first place at or after `from` where something may begin.
    pub(super) fn next_candidate(&self, text: &[u8], from: usize) -> usize {
        let mut i = from;
        while i + 8 <= text.len() {
            if self.filter.may_contain(head(&text[i..])) {
                return i;
            }
            i += 1;
        }
        i
    }
}

fn head(text: &[u8]) -> u64 {
    match text.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes) & HEAD_MASK,
        None => text.iter().take(HEAD).rev().fold(0, |head, b| (head << 8) | u64::from(*b)),
    }
}

/// One bit for the hash of each head.
struct Filter {
    words: Box<[u64]>,
    shift: u32,
}

impl Filter {
    fn bit(&self, head: u64) -> usize {
        (head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
    fn insert(&mut self, head: u64) {
        let bit = self.bit(head);
        self.words[bit / 64] |= 1 << (bit % 64);
    }
    fn may_contain(&self, head: u64) -> bool {
        let bit = self.bit(head);
        self.words[bit / 64] & (1 << (bit % 64)) != 0
    }
}
