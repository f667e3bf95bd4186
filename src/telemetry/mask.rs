//! What is masked in the worker's own log: the configuration's secrets always, a job's as long as the job is there.

use std::borrow::Cow;
use std::sync::Arc;

use crate::secrets::{ActiveSecrets, Redactor};

/// Lets text out without its secrets.
pub type Mask = Arc<dyn for<'t> Fn(&'t str) -> Cow<'t, str> + Send + Sync>;

/// All redactors whose secrets must not stand in the log.
pub struct Masks {
    all: ActiveSecrets,
    /// Never dropped.
    _own: Arc<Redactor>,
}

impl Masks {
    /// `own`: knows the configuration's secrets.
    pub fn new(own: Redactor) -> Arc<Self> {
        let (all, own) = (ActiveSecrets::default(), Arc::new(own));
        all.add(&own);
        Arc::new(Self { all, _own: own })
    }

    /// From now on this job's secrets are masked too, until its redactor is dropped.
    pub fn add(&self, job: &Arc<Redactor>) {
        self.all.add(job);
    }

    /// For [`super::init`].
    pub fn mask(self: &Arc<Self>) -> Mask {
        let masks = Arc::clone(self);
        Arc::new(move |text| masks.all.redact(text))
    }
}
