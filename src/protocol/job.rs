//! PURE: a queue element, read and validated into a [`Job`].

use secrecy::SecretString;
use url::Url;

use super::id::{BranchName, CommitSha, DeploymentId, RepositoryName, ServiceId};
use super::outcome::Failure;

/// Which commit to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitRef {
    /// The tip of `branch` (`commitSha` is "", absent or null).
    Tip,
    Exact(CommitSha),
}

#[derive(Debug, Clone)]
pub struct GitCredentials {
    pub username: String,
    pub password: SecretString,
}

/// Where the commit is fetched from. `url` is http or https, without user, password, query and fragment, and ends with `.git`.
#[derive(Debug, Clone)]
pub struct GitSource {
    pub url: Url,
    /// `None`: a public repository.
    pub credentials: Option<GitCredentials>,
}

/// One variable of the job. The key is as it came (unchecked by the producer); the value is a secret.
#[derive(Debug, Clone)]
pub struct EnvVar {
    pub key: String,
    pub value: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    pub service_port: u16,
    pub container_port: u16,
}

/// A job that may be built. Every field is validated; nothing in it can be a path, an option or a URL with a password.
#[derive(Debug, Clone)]
pub struct Job {
    pub deployment: DeploymentId,
    pub service: ServiceId,
    pub repository: RepositoryName,
    pub branch: BranchName,
    pub commit: CommitRef,
    pub git: GitSource,
    /// Path of the Dockerfile inside the repository, normalised: no leading `/` or `./`, no `..`, no `\`.
    pub dockerfile: Option<String>,
    pub env: Vec<EnvVar>,
    pub ports: Vec<Port>,
}

/// Why an element is no job, and whose it is if that could be read.
#[derive(Debug, Clone)]
pub struct JobRejected {
    pub deployment: Option<DeploymentId>,
    /// Code `job.*`; cause names every field that is wrong, never a value that may be secret.
    pub failure: Failure,
}

impl Job {
    /// Reads one queue element. `max_bytes` is `MAX_JOB_BYTES`.
    pub fn parse(element: &[u8], max_bytes: usize) -> Result<Job, JobRejected> {
        let _ = (element, max_bytes);
        unimplemented!()
    }
}
