//! PURE: the labels that Slipway puts on what it leaves in the Engine, so that its owner is found again after a crash.
//!
//! An image hands its labels down to every container made from it and to every image built on it: a label alone
//! does not prove that Slipway made the thing it stands on.

/// The service's id.
pub const SERVICE: &str = "dev.slipway.service";
/// The deployment's id.
pub const DEPLOYMENT: &str = "dev.slipway.deployment";
/// The attempt, a decimal number from 1.
pub const ATTEMPT: &str = "dev.slipway.attempt";
/// The worker's id: only that worker removes what carries it.
pub const WORKER: &str = "dev.slipway.worker";
