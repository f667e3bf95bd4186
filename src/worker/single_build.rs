//! What `slipway build` asks for: one build that nobody queued.

use std::path::PathBuf;

use url::Url;

use crate::config::SingleBuildConfig;
use crate::protocol::{BranchName, CommitRef, DeploymentId, EnvVar, GitCredentials, ServiceId};

/// Where a single build's commit is read.
#[derive(Debug, Clone)]
pub enum BuildFrom {
    /// A git repository on this machine.
    Folder(PathBuf),
    /// The repository's own URL, http or https, without user and password.
    Url { url: Url, credentials: Option<GitCredentials> },
}

/// One build that nobody queued.
#[derive(Debug)]
pub struct SingleBuild {
    pub config: SingleBuildConfig,
    pub deployment: DeploymentId,
    pub service: ServiceId,
    pub from: BuildFrom,
    /// `None`: `main` for a URL, the checked-out branch for a folder.
    pub branch: Option<BranchName>,
    pub commit: CommitRef,
    pub dockerfile: Option<String>,
    pub env: Vec<EnvVar>,
}
