//! Secrets that come into being while jobs run, such as a registry's token: one growable set that all redactors of a process share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};

use super::patterns::Patterns;
use super::redactor::patterns_of;

/// All secrets of the set together: their encoded forms take some sixteen times as much memory, and building them milliseconds.
const MAX_BYTES: usize = 64 * 1024;
/// A token's server may honour it longer than it says, and a build may print it after that.
const KEPT_AT_LEAST: Duration = Duration::from_secs(3600);

/// Shared by all clones. Whoever fetches a secret adds it before anybody else gets it; from then on every redactor that was made
/// with this set masks it, also one that is in the middle of a stream.
#[derive(Clone, Default)]
pub struct FetchedSecrets(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Counts the changes of `set`, so that a stream sees without a lock whether there was one.
    generation: AtomicU64,
    set: RwLock<Set>,
}

#[derive(Default)]
struct Set {
    secrets: Vec<Fetched>,
    patterns: Arc<Patterns>,
}

struct Fetched {
    value: SecretString,
    until: Instant,
    /// The generation that it was last added in.
    added: u64,
}

impl fmt::Debug for FetchedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FetchedSecrets")
    }
}

impl FetchedSecrets {
    /// Masks `values` from now on, for at least as long as they are good. Above [`MAX_BYTES`] earlier ones go, those first that
    /// run out first.
    pub fn add(&self, values: impl IntoIterator<Item = SecretString>, good_for: Duration) {
        let now = Instant::now();
        let until = now + good_for.max(KEPT_AT_LEAST);
        let mut set = self.0.set.write().unwrap_or_else(PoisonError::into_inner);
        let next = self.generation() + 1;
        let mut is_new = false;
        for value in values {
            is_new |= set.insert(Fetched { value, until, added: next });
        }
        if !is_new {
            return;
        }
        set.make_room(now, next);
        let values: Vec<SecretString> = set.secrets.iter().map(|fetched| fetched.value.clone()).collect();
        set.patterns = Arc::new(patterns_of(&values));
        self.0.generation.store(next, Ordering::Release);
    }

    /// Changes with the set.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(super) fn patterns(&self) -> Arc<Patterns> {
        Arc::clone(&self.0.set.read().unwrap_or_else(PoisonError::into_inner).patterns)
    }
}

impl Set {
    /// Whether it was not there yet.
    fn insert(&mut self, new: Fetched) -> bool {
        let is_same = |known: &&mut Fetched| known.value.expose_secret() == new.value.expose_secret();
        if let Some(known) = self.secrets.iter_mut().find(is_same) {
            known.until = known.until.max(new.until);
            known.added = new.added;
            return false;
        }
        self.secrets.push(new);
        true
    }

    /// What was added in `newest` stays, whatever its size: it is about to be used.
    fn make_room(&mut self, now: Instant, newest: u64) {
        self.secrets.retain(|fetched| now < fetched.until || fetched.added == newest);
        self.secrets.sort_by_key(|fetched| fetched.until);
        let size = |fetched: &Fetched| fetched.value.expose_secret().len();
        let mut surplus = self.secrets.iter().map(size).sum::<usize>().saturating_sub(MAX_BYTES);
        self.secrets.retain(|fetched| {
            let goes = surplus > 0 && fetched.added != newest;
            surplus = if goes { surplus.saturating_sub(size(fetched)) } else { surplus };
            !goes
        });
    }
}

#[cfg(test)]
#[path = "fetched_tests.rs"]
mod tests;
