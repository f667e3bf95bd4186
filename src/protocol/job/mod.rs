//! PURE: a queue element, read and validated into a [`Job`].

mod lists;
mod problems;
mod provider;
mod raw;
mod unsupported;
mod validate;

pub use validate::is_image;

#[cfg(test)]
mod tests;

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::id::{BranchName, CommitSha, DeploymentId, RepositoryName, ServiceId};
use super::outcome::{Code, Failure};

/// Which commit to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitRef {
    /// The tip of `branch` (`commitSha` is "", absent or null).
    Tip,
    Exact(CommitSha),
}

#[derive(Debug, Clone)]
pub struct GitCredentials {
    /// May be empty: some hosts take a token alone.
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
    /// The buildpacks builder that the job asks for, as an image reference. The operator's list decides whether it may be used.
    pub builder: Option<String>,
    /// Lowers `BUILD_TIMEOUT` for this job; a longer one does not raise it.
    pub build_timeout: Option<Duration>,
    pub env: Vec<EnvVar>,
    pub ports: Vec<Port>,
    /// Fields that people expect and that change nothing yet, as the job names them.
    pub unsupported: Vec<String>,
}

/// Why an element is no job, and whose it is if that could be read.
#[derive(Debug, Clone)]
pub struct JobRejected {
    pub deployment: Option<DeploymentId>,
    /// Code `job.*`; cause names every field that is wrong, never a value that may be secret.
    pub failure: Failure,
}

/// So much of an element that is too large is looked through for the deployment's id.
const SALVAGE_BYTES: usize = 64 * 1024;

impl Job {
    /// What the deployment's log has to say of fields without effect.
    pub fn unsupported_warning(&self) -> Option<String> {
        unsupported::warning(&self.unsupported)
    }

    /// Reads one queue element. `max_bytes` is `MAX_JOB_BYTES`; `github_url` is the base that GITHUB jobs clone from (`GITHUB_URL`).
    ///
    /// Memory: at most a few times the element, whatever it holds. A field given twice counts as given last.
    pub fn parse(element: &[u8], max_bytes: usize, github_url: &Url) -> Result<Job, JobRejected> {
        if element.len() > max_bytes {
            return Err(JobRejected::too_large(element, element.len() as u64, max_bytes));
        }
        let (raw, syntax) = raw::read(element);
        if let Err(problem) = syntax {
            let failure = Failure::new(
                Code::JobMalformed,
                format!("The queue element is not a job: {problem}."),
                "Push one JSON object as the README describes it.",
            );
            return Err(JobRejected { deployment: raw.deployment_id(), failure });
        }
        validate::validate(raw, github_url)
    }
}

impl JobRejected {
    /// Of an element of `bytes` bytes; `head` is its beginning, as much as was read.
    pub fn too_large(head: &[u8], bytes: u64, max_bytes: usize) -> JobRejected {
        let (raw, _) = raw::read(&head[..head.len().min(SALVAGE_BYTES)]);
        let failure = Failure::new(
            Code::JobTooLarge,
            format!("The queue element has {bytes} bytes; at most {max_bytes} are taken."),
            "Make the environment variables smaller, or raise MAX_JOB_BYTES.",
        );
        JobRejected { deployment: raw.deployment_id(), failure }
    }
}
