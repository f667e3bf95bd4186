//! The labels that Slipway puts on what it leaves in the Engine, so that its owner is found again after a crash.
//!
//! An image hands its labels down to every container made from it and to every image built on it: a label alone
//! does not prove that Slipway made the thing it stands on.

use std::collections::BTreeMap;

use super::process_mark::ProcessMark;
use crate::protocol::{DeploymentId, ServiceId};

/// The service's id.
pub const SERVICE: &str = "dev.slipway.service";
/// The deployment's id.
pub const DEPLOYMENT: &str = "dev.slipway.deployment";
/// The attempt, a decimal number from 1.
pub const ATTEMPT: &str = "dev.slipway.attempt";
/// The worker's id: another worker removes what carries it only where the process that made it is dead.
pub const WORKER: &str = "dev.slipway.worker";
/// The process that made it: what a worker left whose id is lost is known by that.
pub const PROCESS: &str = "dev.slipway.process";
/// On a volume that stays between builds: what it is the cache of. It has no deployment.
pub const CACHE: &str = "dev.slipway.cache";

/// The labels of all that one attempt makes in the Engine.
pub fn of_attempt(service: &ServiceId, deployment: &DeploymentId, attempt: u32, worker: &str) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        (SERVICE, service.to_string()),
        (DEPLOYMENT, deployment.to_string()),
        (ATTEMPT, attempt.to_string()),
        (WORKER, worker.to_owned()),
    ]);
    labels.extend(ProcessMark::own().map(|own| (PROCESS, own.to_string())));
    labels
}
