//! The secrets of several redactors at once: for texts that the secrets of more than one job may stand in.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::fetched::FetchedSecrets;
use super::redactor::{Redactor, mask};

/// Redactors of which each is known for as long as somebody else holds it, and one that stays known.
#[derive(Debug, Default)]
pub struct ActiveSecrets {
    always: Option<Redactor>,
    redactors: RwLock<Vec<Weak<Redactor>>>,
}

impl ActiveSecrets {
    /// `own`: knows the configuration's secrets; they stay known.
    pub fn new(own: Redactor) -> Arc<Self> {
        Arc::new(Self { always: Some(own), redactors: RwLock::default() })
    }

    /// What is fetched while jobs run, which `own` masks too.
    pub fn fetched(&self) -> FetchedSecrets {
        self.always.as_ref().map(|own| own.fetched().clone()).unwrap_or_default()
    }

    /// From now until it is dropped elsewhere its secrets are masked too.
    pub fn add(&self, redactor: &Arc<Redactor>) {
        let mut redactors = self.redactors.write().unwrap_or_else(PoisonError::into_inner);
        redactors.retain(|r| r.strong_count() > 0);
        redactors.push(Arc::downgrade(redactor));
    }

    /// Masks the secrets of all redactors, also where they overlap.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        // Nobody waits for a redaction: the list is left before it begins.
        let redactors = self.redactors.read().unwrap_or_else(PoisonError::into_inner).clone();
        let own = self.always.iter().flat_map(|r| r.find(text.as_bytes()));
        let jobs = redactors.iter().filter_map(Weak::upgrade).flat_map(|r| r.find(text.as_bytes()));
        mask(text, &joined(own.chain(jobs).collect()))
    }
}

/// In order and apart from each other.
pub(super) fn joined(mut places: Vec<Range<usize>>) -> Vec<Range<usize>> {
    places.sort_unstable_by_key(|place| place.start);
    places.dedup_by(|next, last| {
        let joined = next.start <= last.end;
        if joined {
            last.end = last.end.max(next.end);
        }
        joined
    });
    places
}
