//! What is masked in the worker's own log: the configuration's secrets always, a job's as long as the job is there.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use crate::secrets::Redactor;

/// Lets text out without its secrets.
pub type Mask = Arc<dyn for<'t> Fn(&'t str) -> Cow<'t, str> + Send + Sync>;

/// All redactors whose secrets must not stand in the log.
pub struct Masks {
    own: Redactor,
    jobs: RwLock<Vec<Weak<Redactor>>>,
}

impl Masks {
    /// `own`: knows the configuration's secrets.
    pub fn new(own: Redactor) -> Arc<Self> {
        Arc::new(Self { own, jobs: RwLock::new(Vec::new()) })
    }

    /// From now on this job's secrets are masked too, until its redactor is dropped.
    pub fn add(&self, job: &Arc<Redactor>) {
        let mut jobs = self.jobs.write().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|j| j.strong_count() > 0);
        jobs.push(Arc::downgrade(job));
    }

    /// For [`super::init`].
    pub fn mask(self: &Arc<Self>) -> Mask {
        let masks = Arc::clone(self);
        Arc::new(move |text| masks.redact(text))
    }

    fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = self.own.redact(text);
        let jobs = self.jobs.read().unwrap_or_else(PoisonError::into_inner);
        for job in jobs.iter().filter_map(Weak::upgrade) {
            let masked = match job.redact(&text) {
                Cow::Borrowed(_) => None,
                Cow::Owned(masked) => Some(masked),
            };
            if let Some(masked) = masked {
                text = Cow::Owned(masked);
            }
        }
        text
    }
}
