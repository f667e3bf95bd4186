//! PURE: patterns found by the text that a path begins or ends with.

use std::collections::{BTreeSet, HashMap};

#[derive(Debug, Default)]
pub(super) struct Affixes {
    by_text: HashMap<Box<[u8]>, Vec<u32>>,
    lengths: BTreeSet<usize>,
}

impl Affixes {
    /// Returns how many patterns have this text now.
    pub(super) fn add(&mut self, text: &str, id: u32) -> usize {
        self.lengths.insert(text.len());
        let ids = self.by_text.entry(text.as_bytes().into()).or_default();
        ids.push(id);
        ids.len()
    }

    /// How many texts of the path are looked up, at most.
    pub(super) fn lookups(&self, path: &str) -> usize {
        self.lengths.len().min(path.len() + 1)
    }

    pub(super) fn of_beginning<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a u32> {
        let path = path.as_bytes();
        self.lengths.range(..=path.len()).filter_map(|&len| self.by_text.get(&path[..len])).flatten()
    }

    pub(super) fn of_end<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a u32> {
        let path = path.as_bytes();
        self.lengths.range(..=path.len()).filter_map(|&len| self.by_text.get(&path[path.len() - len..])).flatten()
    }
}
