//! All secrets that this process knows at the moment, for the worker's own log: its own and those of every running job.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use super::redactor::{Redactor, mask};

/// The process's own secrets, and a redactor per running job, known for as long as its guard lives. One per process.
///
/// For the worker's own log alone, which its operator reads. A job's log is masked by that job's redactor and not by this: with it a
/// tenant could print guesses and see by the mask which of them is another tenant's secret at the moment.
#[derive(Debug)]
pub struct ActiveSecrets {
    redactors: RwLock<Arc<Vec<Arc<Redactor>>>>,
}

impl ActiveSecrets {
    /// `own`: knows the configuration's secrets; they stay known.
    pub fn new(own: Redactor) -> Arc<Self> {
        Arc::new(Self { redactors: RwLock::new(Arc::new(vec![Arc::new(own)])) })
    }

    /// From now until the guard is dropped these secrets are masked too.
    #[must_use = "the secrets are forgotten when the guard is dropped"]
    pub fn register(self: &Arc<Self>, redactor: Arc<Redactor>) -> ActiveGuard {
        self.change(|redactors| redactors.push(redactor.clone()));
        ActiveGuard { owner: self.clone(), redactor }
    }

    /// Masks the secrets of all registered redactors, also where they overlap.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let redactors = self.redactors.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut places: Vec<Range<usize>> = redactors.iter().flat_map(|r| r.find(text.as_bytes())).collect();
        places.sort_unstable_by_key(|place| place.start);
        places.dedup_by(|next, last| {
            let joined = next.start <= last.end;
            if joined {
                last.end = last.end.max(next.end);
            }
            joined
        });
        mask(text, &places)
    }

    /// Readers keep the list they have: nobody waits for a redaction.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Redactor>>)) {
        let mut current = self.redactors.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = current.as_ref().clone();
        change(&mut next);
        *current = Arc::new(next);
    }
}

/// Keeps one redactor's secrets known.
#[derive(Debug)]
pub struct ActiveGuard {
    owner: Arc<ActiveSecrets>,
    redactor: Arc<Redactor>,
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.owner.change(|redactors| {
            if let Some(at) = redactors.iter().position(|r| Arc::ptr_eq(r, &self.redactor)) {
                redactors.remove(at);
            }
        });
    }
}
