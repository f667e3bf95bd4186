//! PURE: what stands in an element becomes a [`Job`], or a list of all that is wrong with it. The git provider is read in
//! [`super::provider`], the lists in [`super::lists`].

use std::time::Duration;

use url::Url;

use super::problems::{Problems, trimmed};
use super::raw::{RawJob, Scalar};
use super::{CommitRef, Job, JobRejected};
use crate::protocol::id::{BranchName, CommitSha, DeploymentId, RepositoryName, ServiceId};
use crate::protocol::outcome::{Code, Failure};

const MAX_PATH_BYTES: usize = 4096;
const MAX_IMAGE_BYTES: usize = 512;

pub(super) fn validate(raw: RawJob, github_url: &Url) -> Result<Job, JobRejected> {
    let deployment_id = raw.deployment_id();
    // The one everyday case among the refused: named for itself, whatever else the element lacks.
    if let Scalar::Text(sha) = &raw.commit
        && let sha = trimmed(sha)
        && !sha.is_empty()
        && sha.bytes().all(|b| b == b'0')
    {
        let failure = Failure::new(
            Code::JobBranchDeleted,
            "The branch was deleted: commitSha is all zeros, there is nothing to build.",
            "Push the branch again, or deploy another one.",
        );
        return Err(JobRejected { deployment: deployment_id, failure });
    }

    let mut wrong = Problems::default();
    // Ids are taken to the letter: whatever else names the deployment has to find it. All other fields come from forms.
    let deployment = wrong.id("deploymentId", raw.deployment, DeploymentId::parse);
    let service = wrong.id("serviceId", raw.service, ServiceId::parse);
    let repository = wrong.id("repositoryName", raw.repository.trimmed(), RepositoryName::parse);
    let branch = wrong.id("branch", raw.branch.trimmed(), BranchName::parse);
    let commit = wrong.commit(raw.commit);
    let git = wrong.git(raw.provider, repository.as_ref(), github_url);
    let dockerfile = wrong.dockerfile(raw.dockerfile);
    let builder = wrong.builder(raw.builder);
    let build_timeout = wrong.build_timeout(raw.build_timeout);
    let env = wrong.env(raw.env);
    let ports = wrong.ports(raw.ports);

    match (deployment, service, repository, branch, commit, git, (dockerfile, builder)) {
        (
            Some(deployment),
            Some(service),
            Some(repository),
            Some(branch),
            Some(commit),
            Some(git),
            (Some(dockerfile), Some(builder)),
        ) if wrong.count == 0 => {
            let unsupported = raw.unsupported;
            Ok(Job {
                deployment,
                service,
                repository,
                branch,
                commit,
                git,
                dockerfile,
                builder,
                build_timeout,
                env,
                ports,
                unsupported,
            })
        }
        _ => Err(JobRejected { deployment: deployment_id, failure: wrong.into_failure() }),
    }
}

impl Problems {
    fn commit(&mut self, value: Scalar) -> Option<CommitRef> {
        match self.text("commitSha", value.trimmed())? {
            None => Some(CommitRef::Tip),
            Some(sha) if sha.len() < 40 && sha.len() >= 4 && sha.bytes().all(|b| b.is_ascii_hexdigit()) => {
                self.add("commitSha", "is an abbreviated id; give all of its 40 digits");
                None
            }
            Some(sha) => match CommitSha::parse(&sha.to_ascii_lowercase()) {
                Ok(sha) => Some(CommitRef::Exact(sha)),
                Err(e) => {
                    self.add("commitSha", e.rule);
                    None
                }
            },
        }
    }

    /// `Some(None)`: none is named.
    fn dockerfile(&mut self, value: Scalar) -> Option<Option<String>> {
        let Some(text) = self.text("runtimeFilePath", value.trimmed())? else { return Some(None) };
        match normal_path(&text) {
            Ok(path) => Some(path),
            Err(problem) => {
                self.add("runtimeFilePath", problem);
                None
            }
        }
    }

    /// `Some(None)`: none is named. Only the shape of a reference is looked at: the operator's list has the say.
    fn builder(&mut self, value: Scalar) -> Option<Option<String>> {
        let Some(text) = self.text("builder", value.trimmed())? else { return Some(None) };
        if !is_image(&text) {
            self.add("builder", "is no image reference");
            return None;
        }
        Some(Some(text))
    }

    /// Seconds. `None` also where it is wrong: then it was added, and there is no job.
    fn build_timeout(&mut self, value: Scalar) -> Option<Duration> {
        let seconds = match value {
            Scalar::Absent => return None,
            Scalar::Number(text) | Scalar::Text(text) => text.trim().parse::<u32>().ok().filter(|seconds| *seconds != 0),
            _ => None,
        };
        if seconds.is_none() {
            self.add("buildTimeout", "is no number of seconds, 1 or more");
        }
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

/// Whether it has the shape of an image's reference.
pub fn is_image(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    text.len() <= MAX_IMAGE_BYTES && text.bytes().all(allowed)
}

/// The path without leading `/` and `./`, doubled slashes and inner `..`. `Ok(None)` where it names the repository itself.
fn normal_path(text: &str) -> Result<Option<String>, &'static str> {
    if text.len() > MAX_PATH_BYTES {
        return Err("is longer than 4096 bytes");
    }
    if text.contains('\\') {
        return Err("has a backslash; directories are separated by '/'");
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character");
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or("leads out of the repository")?;
            }
            name => segments.push(name),
        }
    }
    Ok((!segments.is_empty()).then(|| segments.join("/")))
}
