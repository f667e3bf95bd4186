//! What somebody else than the Engine has to know to push an image: where to, and with which login. The lifecycle exports by itself.

use super::target::Target;
use super::{PushedImage, RegistryStage, TokenAge, unless_cancelled};
use crate::protocol::{Code, Failure, ImageRef};
use crate::secrets::SecretString;
use crate::stage::StageContext;

/// A service's repository, open for an export. Debug output has no password.
#[derive(Debug, Clone)]
pub struct ExportTarget {
    target: Target,
}

impl ExportTarget {
    /// `host/path`, as image references have it.
    pub fn repository(&self) -> String {
        self.target.repository()
    }
    /// Host and port.
    pub fn host(&self) -> &str {
        &self.target.host
    }
    /// User and password, where the registry asks for a login.
    pub fn login(&self) -> Option<(&str, &SecretString)> {
        self.target.credentials.as_ref().map(|c| (c.username.as_str(), &c.password))
    }
}

impl RegistryStage {
    /// The service's repository (in ECR made when missing, with a token that is good for some minutes more).
    pub async fn export_target(&self, ctx: &StageContext) -> Result<ExportTarget, Failure> {
        let target = unless_cancelled(ctx, self.target(ctx, TokenAge::Any)).await?;
        Ok(ExportTarget { target })
    }

    /// Asks the registry for what was exported to `tag`: it has to have `digest` there.
    pub async fn confirm(&self, to: &ExportTarget, tag: &str, digest: &str, ctx: &StageContext) -> Result<PushedImage, Failure> {
        if ImageRef::new(&to.repository(), tag, digest).is_none() {
            let cause = "The exporter reported a digest that is none.";
            return Err(Failure::new(Code::BuildpacksLifecycle, cause, "Check BUILDPACKS_LIFECYCLE_IMAGE."));
        }
        unless_cancelled(ctx, self.confirmed(&to.target, tag, digest, ctx)).await
    }
}
