//! IMAGE: BuildContext → [`BuiltImage`], by the Docker Engine.

pub mod labels;

use crate::config::BuildConfig;
use crate::context::BuildContext;
use crate::protocol::{Failure, Job};
use crate::secrets::SecretString;
use crate::source::CommitInfo;
use crate::stage::StageContext;

/// An image in the Engine, without a tag: the Engine's own cache keeps its layers warm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// `sha256:…`, the Engine's image id (the config digest).
    pub id: String,
}

/// Connects to the Engine's unix socket and negotiates the API version. Timeouts far above a build's first byte.
pub async fn connect_engine(config: &BuildConfig) -> Result<bollard::Docker, Failure> {
    let _ = config;
    Err(Failure::interrupted())
}

/// Builds Dockerfiles through the Engine's BuildKit, each in a session of its own.
pub struct DockerfileStage {}

impl DockerfileStage {
    /// `host_key`: this WORK_DIR's random key; it keeps tenants' caches apart. `worker_id` goes into labels.
    pub fn new(config: BuildConfig, engine: bollard::Docker, host_key: SecretString, worker_id: String) -> Self {
        let _ = (config, engine, host_key, worker_id);
        Self {}
    }
    /// Serves the context, follows the build, writes its steps and output to the job's log.
    /// When the token trips nothing of the build is left: an image that appears while exporting is removed before this returns.
    pub async fn build(
        &self,
        context: BuildContext,
        commit: &CommitInfo,
        job: &Job,
        ctx: &StageContext,
    ) -> Result<BuiltImage, Failure> {
        let _ = (context, commit, job, ctx);
        Err(Failure::interrupted())
    }
    /// Removes this build's untagged image when nothing else needs it (after the push, or when the job was cancelled),
    /// without taking another service's. Build cache stays.
    pub async fn remove(&self, image: &BuiltImage) {
        let _ = image;
    }
}
