//! PURE: .dockerignore, to the letter of moby's patternmatcher (its behaviour, read from its source and its tables of cases).
//!
//! Made for long lists and large trees: a pattern without wildcards, or with `**` at one end only, is found by hashing, the others
//! by the text that they begin or end with; only what is left is matched character by character, in linear time.

mod affix;
mod effort;
mod glob;
mod lines;
mod pattern;
mod regex;
mod syntax;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use affix::Affixes;
pub use effort::{Effort, Spent};
use glob::Glob;
pub use lines::read_patterns;
pub(super) use pattern::clean;
use pattern::{Compiled, Pattern};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: {reason}")]
pub struct IgnoreError {
    pub pattern: String,
    pub reason: &'static str,
}

/// So many patterns with wildcards may have no text at their beginning or end to find them by, or the same one.
const MAX_ALIKE: usize = 10_000;
const MAX_UNANCHORED: usize = 1_000;
/// So many steps (about one a character) may all patterns with wildcards have together: 32 MB. Plain paths cost next to nothing.
const MAX_STEPS: usize = 1_000_000;
/// A longer pattern is nobody's path.
const MAX_PATTERN_BYTES: usize = 4096;

/// Ordered patterns with `!` exceptions.
#[derive(Debug, Default)]
pub struct PatternMatcher {
    /// For each pattern whether it is an exception.
    exceptions: Vec<bool>,
    exact: HashMap<Box<str>, Vec<u32>>,
    prefixes: Affixes,
    suffixes: Affixes,
    globs: HashMap<u32, Glob>,
    globs_by_prefix: Affixes,
    globs_by_suffix: Affixes,
    globs_unanchored: Vec<u32>,
    /// Of all globs.
    steps: usize,
}

impl PatternMatcher {
    /// Blank patterns are left out. Fails where a pattern cannot be read, as BuildKit does.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, IgnoreError> {
        let mut matcher = Self::default();
        for text in patterns {
            let text = text.as_ref();
            matcher.add(text).map_err(|reason| IgnoreError { pattern: text.chars().take(200).collect(), reason })?;
        }
        Ok(matcher)
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err("is longer than 4096 bytes");
        }
        if text.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            // BuildKit hands patterns on as headers, and no header holds one.
            return Err("has a control character");
        }
        let Some(Pattern { exception, text }) = Pattern::parse(text)? else { return Ok(()) };
        let id = u32::try_from(self.exceptions.len()).map_err(|_| "is one too many")?;
        self.exceptions.push(exception);
        match pattern::compile(&text) {
            Compiled::Exact => self.exact.entry(text.into()).or_default().push(id),
            Compiled::Prefix(prefix) => {
                self.prefixes.add(prefix, id);
            }
            Compiled::Suffix(suffix) => {
                // `**/name` is `name` at the top too.
                if let Some(name) = suffix.strip_prefix('/') {
                    self.exact.entry(name.into()).or_default().push(id);
                }
                self.suffixes.add(suffix, id);
            }
            Compiled::Regex(regex) => {
                let glob = Glob::new(regex::parse(&regex)?);
                self.steps += glob.steps();
                if self.steps > MAX_STEPS {
                    return Err("is one too many: the patterns with wildcards have more than a million characters together");
                }
                let (prefix, suffix) = (glob.prefix(), glob.suffix());
                let alike = if prefix.is_empty() && suffix.is_empty() {
                    self.globs_unanchored.push(id);
                    self.globs_unanchored.len() + (MAX_ALIKE - MAX_UNANCHORED)
                } else if prefix.len() >= suffix.len() {
                    self.globs_by_prefix.add(prefix, id)
                } else {
                    self.globs_by_suffix.add(suffix, id)
                };
                if alike > MAX_ALIKE {
                    return Err(
                        "is one too many of its kind: patterns with wildcards have to differ in what they begin or end with",
                    );
                }
                self.globs.insert(id, glob);
            }
        }
        Ok(())
    }

    /// Whether `path` (relative, `/`-separated) or one of its parents is excluded, exceptions applied in order.
    pub fn matches(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        let mut ids = Vec::new();
        self.find(path, &mut ids, effort)?;
        for parent in pattern::parents(path) {
            self.find(&parent, &mut ids, effort)?;
        }
        // Each pattern that matches overrules those before it: the last one decides.
        Ok(ids.iter().max().is_some_and(|&id| !self.exceptions[id as usize]))
    }

    pub fn has_exceptions(&self) -> bool {
        self.exceptions.contains(&true)
    }

    /// Adds the patterns that match `path` itself, in no order.
    fn find(&self, path: &str, ids: &mut Vec<u32>, effort: &Effort) -> Result<(), Spent> {
        let lookups = [&self.prefixes, &self.suffixes, &self.globs_by_prefix, &self.globs_by_suffix];
        effort.spend_bytes(path.len() * (1 + lookups.map(|affixes| affixes.lookups(path)).iter().sum::<usize>()))?;
        let before = ids.len();
        ids.extend(self.exact.get(path).into_iter().flatten());
        ids.extend(self.prefixes.of_beginning(path));
        ids.extend(self.suffixes.of_end(path));
        let globs = self.globs_by_prefix.of_beginning(path).chain(self.globs_by_suffix.of_end(path));
        for id in globs.chain(&self.globs_unanchored) {
            if let Some(glob) = self.globs.get(id)
                && glob.matches(path, effort)?
            {
                ids.push(*id);
            }
        }
        effort.spend(ids.len() - before)
    }
}
