//! PURE: a pattern with wildcards, matched in one pass over the path.

use super::effort::{Effort, Spent};

#[derive(Debug)]
pub(super) struct Glob {
    branches: Box<[Branch]>,
}

/// One way to match, whole.
#[derive(Debug)]
struct Branch {
    steps: Box<[Step]>,
    /// What every path that matches begins with, ends with, and has in it.
    prefix: Box<str>,
    suffix: Box<str>,
    needle: Box<str>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// One character.
    One(Set),
    /// One character or none.
    Maybe(Set),
    /// Any number of characters, none too.
    Many(Set),
    /// `(.*/)?`: nothing, or [`Step::Directories`] that follow.
    Optional,
    /// `.*/`, entered only from [`Step::Optional`].
    Directories,
    /// No character; a condition on the place.
    Assert(Assertion),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Assertion {
    Start,
    End,
    /// Between a letter, digit or `_` (ASCII) and something else. `src\build` has one, to the surprise of who wrote it.
    WordBorder,
    NoWordBorder,
}

impl Assertion {
    fn holds(self, before: Option<char>, after: Option<char>) -> bool {
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        match self {
            Assertion::Start => before.is_none(),
            Assertion::End => after.is_none(),
            Assertion::WordBorder => is_word(before) != is_word(after),
            Assertion::NoWordBorder => is_word(before) == is_word(after),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Set {
    Char(char),
    /// `.`: all but a new line.
    Any,
    Class {
        negated: bool,
        ranges: Box<[(char, char)]>,
    },
}

impl Set {
    pub(super) fn everything() -> Self {
        Set::Class { negated: true, ranges: Box::default() }
    }

    fn has(&self, c: char) -> bool {
        match self {
            Set::Char(own) => *own == c,
            Set::Any => c != '\n',
            Set::Class { negated, ranges } => ranges.iter().any(|(lo, hi)| (*lo..=*hi).contains(&c)) != *negated,
        }
    }
}

impl Glob {
    /// What it costs: steps of all branches.
    pub(super) fn steps(&self) -> usize {
        self.branches.iter().map(|branch| branch.steps.len()).sum()
    }

    pub(super) fn new(branches: Vec<Vec<Step>>) -> Self {
        Self { branches: branches.into_iter().map(Branch::new).collect() }
    }

    /// The text that every path that matches begins with.
    pub(super) fn prefix(&self) -> &str {
        if let [branch] = &*self.branches { &branch.prefix } else { "" }
    }

    /// The text that every path that matches ends with.
    pub(super) fn suffix(&self) -> &str {
        if let [branch] = &*self.branches { &branch.suffix } else { "" }
    }

    /// Takes time in proportion to the path's length times the pattern's, whatever they are.
    pub(super) fn matches(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        for branch in &self.branches {
            if branch.matches(path, effort)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Branch {
    fn new(steps: Vec<Step>) -> Self {
        let bare = |step: &&Step| matches!(step, Step::Assert(Assertion::Start | Assertion::End));
        let suffix: String = literals(steps.iter().rev().skip_while(bare)).chars().rev().collect();
        Self {
            prefix: literals(steps.iter().skip_while(bare)).into(),
            suffix: suffix.into(),
            needle: longest_literal(&steps).into(),
            steps: steps.into(),
        }
    }

    fn matches(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        effort.spend_bytes(path.len())?;
        if !path.starts_with(&*self.prefix) || !path.ends_with(&*self.suffix) || !path.contains(&*self.needle) {
            return Ok(false);
        }
        // Whether each step may come next; the last place is the end of the pattern.
        let mut now = vec![false; self.steps.len() + 1];
        let mut next = now.clone();
        now[0] = true;
        let mut before = None;
        let mut chars = path.chars();
        loop {
            let after = chars.next();
            effort.spend(self.steps.len())?;
            self.pass_over(&mut now, before, after);
            let Some(c) = after else { return Ok(now[self.steps.len()]) };
            next.fill(false);
            for (i, step) in self.steps.iter().enumerate().filter(|(i, _)| now[*i]) {
                match step {
                    Step::One(set) | Step::Maybe(set) => next[i + 1] |= set.has(c),
                    Step::Many(set) => next[i] |= set.has(c),
                    Step::Directories => {
                        next[i] |= c != '\n';
                        next[i + 1] |= c == '/';
                    }
                    Step::Optional | Step::Assert(_) => {}
                }
            }
            if !next.contains(&true) {
                return Ok(false);
            }
            std::mem::swap(&mut now, &mut next);
            before = after;
        }
    }

    /// What takes no character may be passed over: always forwards, so once through is enough.
    fn pass_over(&self, states: &mut [bool], before: Option<char>, after: Option<char>) {
        for (i, step) in self.steps.iter().enumerate() {
            if states[i] {
                match step {
                    Step::Many(_) | Step::Maybe(_) => states[i + 1] = true,
                    Step::Optional => {
                        states[i + 1] = true;
                        states[i + 2] = true;
                    }
                    Step::Assert(assertion) => states[i + 1] |= assertion.holds(before, after),
                    Step::One(_) | Step::Directories => {}
                }
            }
        }
    }
}

fn literals<'s>(steps: impl Iterator<Item = &'s Step>) -> String {
    steps.map_while(|step| if let Step::One(Set::Char(c)) = step { Some(*c) } else { None }).collect()
}

fn longest_literal(steps: &[Step]) -> String {
    let runs = steps.split(|step| !matches!(step, Step::One(Set::Char(_))));
    runs.map(|run| literals(run.iter())).max_by_key(String::len).unwrap_or_default()
}
