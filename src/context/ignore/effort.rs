//! PURE: how much work a comparison of patterns with paths may be, and when to stop it.

use std::cell::Cell;

use crate::protocol::{Code, Failure};

/// Steps of patterns times characters of paths: some ten seconds of one thread. A monorepo with a long .dockerignore takes a hundredth.
const MOST: u64 = 10_000_000_000;
/// Looked at whether to stop once in so many: some milliseconds.
const LOOK: u64 = 1 << 20;
/// For a look aside: a few milliseconds.
const LITTLE: u64 = 10_000_000;
/// Bytes that are hashed or searched in the time of one step.
const BYTES_PER_STEP: usize = 8;

/// Why the work broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Spent {
    #[error("stopped")]
    Stopped,
    #[error(
        "The patterns with wildcards in .dockerignore (or the names with wildcards in the Dockerfile) take too long to compare with \
         the repository's paths."
    )]
    TooMuch,
}

impl From<Spent> for Failure {
    fn from(spent: Spent) -> Self {
        match spent {
            Spent::Stopped => Failure::interrupted(),
            Spent::TooMuch => Failure::new(
                Code::ContextIgnoreInvalid,
                spent.to_string(),
                "Use fewer and shorter patterns with `*`, and exclude whole directories by their names.",
            ),
        }
    }
}

/// What one pass over a tree may still take.
pub struct Effort<'s> {
    left: Cell<u64>,
    until_look: Cell<u64>,
    is_stopped: &'s dyn Fn() -> bool,
}

impl<'s> Effort<'s> {
    /// `is_stopped`: whether nobody waits for the result any more.
    pub fn new(is_stopped: &'s dyn Fn() -> bool) -> Self {
        Self::of(MOST, is_stopped)
    }
    pub(super) fn of(most: u64, is_stopped: &'s dyn Fn() -> bool) -> Self {
        Self { left: Cell::new(most), until_look: Cell::new(0), is_stopped }
    }
    /// For a few patterns and short paths: never broken off.
    pub fn free() -> Effort<'static> {
        Effort::of(u64::MAX, &|| false)
    }

    /// For something that may as well stay unknown.
    pub fn little() -> Effort<'static> {
        Effort::of(LITTLE, &|| false)
    }

    pub fn spend(&self, steps: usize) -> Result<(), Spent> {
        let steps = steps as u64;
        self.left.set(self.left.get().checked_sub(steps).ok_or(Spent::TooMuch)?);
        match self.until_look.get().checked_sub(steps) {
            Some(rest) if rest > 0 => self.until_look.set(rest),
            _ if (self.is_stopped)() => return Err(Spent::Stopped),
            _ => self.until_look.set(LOOK),
        }
        Ok(())
    }
    /// For bytes that are hashed or searched.
    pub fn spend_bytes(&self, bytes: usize) -> Result<(), Spent> {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }
}
