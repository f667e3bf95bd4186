//! What somebody else than the Engine has to know to push an image: where to, and with which login. The lifecycle exports by itself.

use super::target::Target;
use super::{PushedImage, RegistryStage, TokenAge, manifest, unless_cancelled};
use crate::image::image_within;
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
        let confirming = async {
            self.of_allowed_size(&to.target, digest, ctx).await?;
            self.confirmed(&to.target, tag, digest, ctx).await
        };
        unless_cancelled(ctx, confirming).await
    }

    /// What the manifest names, as it lies in the registry. (What is too large stays there under the attempt's tag, which nobody is told:
    /// its digest may be that of an earlier image too, and with the digest all its tags would go.)
    async fn of_allowed_size(&self, target: &Target, digest: &str, ctx: &StageContext) -> Result<(), Failure> {
        if self.image_max == 0 {
            return Ok(());
        }
        match manifest::size(&self.http, target, digest).await {
            Ok(bytes) => image_within(bytes, self.image_max),
            Err(trouble) => {
                ctx.warn(format!(
                    "The registry could not be asked for the image's size ({trouble}); it is not held to IMAGE_MAX."
                ));
                Ok(())
            }
        }
    }
}
