//! REGISTRY: BuiltImage → [`PushedImage`]: push through the Engine, confirmed by digest; `latest` by our own manifest PUT.

use crate::config::RegistryConfig;
use crate::image::BuiltImage;
use crate::protocol::{Failure, ImageRef, RegistryType};
use crate::stage::StageContext;

/// An image that the registry has, confirmed under its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    pub reference: ImageRef,
    pub registry: RegistryType,
}

pub struct RegistryStage {}

impl RegistryStage {
    /// No I/O yet. `engine` pushes.
    pub fn new(config: RegistryConfig, engine: bollard::Docker) -> Self {
        let _ = (config, engine);
        Self {}
    }
    /// Tags `<deployment>-<attempt>`, pushes, removes that name from the Engine again (also when it fails or is cancelled),
    /// confirms the digest. Prints progress to the log. Retries nothing but an expired token once: the pipeline retries.
    pub async fn push(&self, image: &BuiltImage, ctx: &StageContext) -> Result<PushedImage, Failure> {
        let _ = (image, ctx);
        Err(Failure::interrupted())
    }
    /// Moves `latest` to the pushed manifest (GET by digest, PUT by tag). Called last, behind the outcome's fence.
    pub async fn move_latest(&self, image: &PushedImage, ctx: &StageContext) -> Result<(), Failure> {
        let _ = (image, ctx);
        Ok(())
    }
    /// Secrets that the redactor has to know now: registry password, AWS keys, the current ECR token.
    pub fn secrets(&self) -> Vec<crate::secrets::SecretString> {
        Vec::new()
    }
}
