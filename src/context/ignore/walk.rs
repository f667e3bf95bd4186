//! PURE: the exclusion of a tree's entries one after the other, each with what was found for its directory.

use super::{Effort, PatternMatcher, Spent};

/// Asked for the entries of a tree in order, a directory before what is in it.
///
/// BuildKit remembers for a directory which patterns it tried and found to match; those count for all that is in it. A pattern
/// that it did not need to try on the directory is tried on the entry alone. That makes a difference to
/// [`PatternMatcher::matches`] where exceptions and patterns repeat each other, and it is what users know.
pub struct IgnoreWalk<'m> {
    matcher: &'m PatternMatcher,
    effort: &'m Effort<'m>,
    /// The directories that the walk is in.
    open: Vec<OpenDirectory>,
    found: Vec<u32>,
}

struct OpenDirectory {
    path: String,
    /// The patterns that count for all in here, in order.
    matched: Vec<u32>,
    excluded: bool,
}

impl<'m> IgnoreWalk<'m> {
    pub(super) fn new(matcher: &'m PatternMatcher, effort: &'m Effort<'m>) -> Self {
        Self { matcher, effort, open: Vec::new(), found: Vec::new() }
    }

    /// Whether the entry is excluded. What is in an excluded directory may still come back by an exception.
    pub fn excludes(&mut self, path: &str, is_directory: bool) -> Result<bool, Spent> {
        while self.open.last().is_some_and(|dir| !is_inside(path, &dir.path)) {
            self.open.pop();
        }
        let exceptions = &self.matcher.exceptions;
        let inherited = self.open.last().map_or(&[][..], |dir| &dir.matched);
        let (excluded, matched) = if self.open.last().is_some_and(|dir| dir.excluded) && !self.matcher.has_exceptions() {
            (true, inherited.to_vec())
        } else {
            self.found.clear();
            self.matcher.find(path, &mut self.found, self.effort)?;
            self.found.sort_unstable();
            self.found.dedup();
            apply(inherited, &self.found, exceptions)
        };
        if is_directory {
            self.open.push(OpenDirectory { path: path.to_owned(), matched, excluded });
        }
        Ok(excluded)
    }
}

fn is_inside(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Goes through the patterns in order. One that would not change the verdict so far is not tried, and so not remembered, but what
/// is inherited is.
fn apply(inherited: &[u32], found: &[u32], exceptions: &[bool]) -> (bool, Vec<u32>) {
    let mut excluded = false;
    let mut matched = Vec::with_capacity(inherited.len() + found.len());
    let (mut i, mut f) = (0, 0);
    while i < inherited.len() || f < found.len() {
        let from_parent = f == found.len() || (i < inherited.len() && inherited[i] <= found[f]);
        let id = if from_parent { inherited[i] } else { found[f] };
        if f < found.len() && found[f] == id {
            f += 1;
        }
        i += usize::from(from_parent);
        let exception = exceptions[id as usize];
        if from_parent || exception == excluded {
            matched.push(id);
            excluded = !exception;
        }
    }
    (excluded, matched)
}
