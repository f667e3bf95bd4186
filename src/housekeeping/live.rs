//! Which attempts of this worker may own something on this host right now.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::protocol::DeploymentId;

/// Shared set of the attempts in work. The sweep asks it before it removes anything.
#[derive(Clone, Default)]
pub struct Live(Arc<Mutex<HashSet<(DeploymentId, u32)>>>);

/// As long as it lives, nothing of the attempt is swept.
pub struct LiveGuard {
    live: Live,
    key: (DeploymentId, u32),
}

impl Live {
    pub fn enter(&self, deployment: &DeploymentId, attempt: u32) -> LiveGuard {
        let key = (deployment.clone(), attempt);
        self.lock().insert(key.clone());
        LiveGuard { live: self.clone(), key }
    }
    pub fn contains(&self, deployment: &DeploymentId, attempt: u32) -> bool {
        self.lock().contains(&(deployment.clone(), attempt))
    }
    fn lock(&self) -> MutexGuard<'_, HashSet<(DeploymentId, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.live.lock().remove(&self.key);
    }
}
