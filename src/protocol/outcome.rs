//! PURE: how a job ends, and why it failed, in words a user understands.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shorten::shorten;
use super::wire::{ImageRef, RegistryType};

/// Characters of its cause that a failure is told with, however long its cure is.
const LEAST_CAUSE: usize = 50;

/// Whose fault a failure is, and so whether it is tried again. Only `Infrastructure` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    User,
    Infrastructure,
    Cancelled,
    Timeout,
    LeaseLost,
    Rejected,
}

macro_rules! codes {
    ($($variant:ident = $text:literal, $kind:ident, $meaning:literal;)*) => {
        /// A stable code for each failure. Users and dashboards match on [`Code::as_str`]; a code is never renamed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $meaning] $variant,)* }
        impl Code {
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];
            pub fn as_str(self) -> &'static str { match self { $(Code::$variant => $text,)* } }
            pub fn kind(self) -> FailureKind { match self { $(Code::$variant => FailureKind::$kind,)* } }
            /// What it means, one sentence, as docs/failure-codes.md has it.
            pub fn meaning(self) -> &'static str { match self { $(Code::$variant => $meaning,)* } }
            pub fn parse(text: &str) -> Option<Code> { match text { $($text => Some(Code::$variant),)* _ => None } }
        }
    };
}

codes! {
    JobMalformed = "job.malformed", Rejected, "the queue element is not a job: bad JSON, a missing field, or a value that is not allowed";
    JobTooLarge = "job.too_large", Rejected, "the queue element is larger than MAX_JOB_BYTES";
    JobBranchDeleted = "job.branch_deleted", Rejected, "commitSha is all zeros: the branch was deleted";
    JobCrashedWorkers = "job.crashed_workers", Rejected, "three attempts at this job ended with a dead worker; it is in the dead letter list";

    GitAuth = "git.auth", User, "the git server refused the credentials";
    GitRepositoryNotFound = "git.repository_not_found", User, "the git server knows no such repository, or hides it from these credentials";
    GitBranchNotFound = "git.branch_not_found", User, "the repository has no such branch or tag";
    GitCommitGone = "git.commit_gone", User, "the server no longer has, or does not give out, that commit";
    GitHostNotAllowed = "git.host_not_allowed", User, "the git host is not in GIT_ALLOWED_HOSTS, or has an address that GIT_PRIVATE_HOSTS keeps jobs away from (always: link-local and metadata addresses)";
    GitUnsupported = "git.unsupported", User, "the repository needs something of git that is not supported (SHA-256 object names)";
    GitHostUnknown = "git.host_unknown", User, "the name of the git host that the job gives does not exist";
    GitCertificate = "git.certificate", User, "the certificate of the git host that the job gives is not valid, or nobody here trusts its issuer";
    GitUnreachable = "git.unreachable", Infrastructure, "the git server cannot be reached or answered with an error of its own";
    GitStalled = "git.stalled", Infrastructure, "the git server stopped sending, or sent too slowly";
    GitProtocol = "git.protocol", Infrastructure, "the git server's answer could not be understood";
    SourceTooLarge = "source.too_large", User, "the repository, or one file in it, is above a limit";
    SourceBadPath = "source.bad_path", User, "the repository has a path that cannot be in a build context";

    ContextNoDockerfile = "context.no_dockerfile", User, "there is no Dockerfile where the job or the repository says";
    ContextDockerfileInvalid = "context.dockerfile_invalid", User, "the Dockerfile's path is outside the repository, or is no regular file";
    ContextEnvIsDirectory = "context.env_is_directory", User, "the repository has a directory named .env, where the job's variables have to go";
    ContextIgnoreInvalid = "context.ignore_invalid", User, ".dockerignore has a pattern that cannot be read";
    ContextUnsupported = "context.unsupported", User, "the tree needs something that is not built (Git LFS pointers, submodules) and says so";
    ContextTooLarge = "context.too_large", User, "the files of the build have more than CONTEXT_MAX together";

    DockerfileSyntax = "dockerfile.syntax", User, "BuildKit could not parse the Dockerfile";
    DockerfileStepFailed = "dockerfile.step_failed", User, "a RUN step ended with an exit code other than 0";
    DockerfileCopyMissing = "dockerfile.copy_missing", User, "COPY, ADD or a mount names a file that is not there";
    DockerfileBaseImage = "dockerfile.base_image", User, "the base image does not exist or may not be pulled";
    DockerfileSecretMissing = "dockerfile.secret_missing", User, "a RUN step needs a secret that the job has no variable for";
    DockerfileFrontend = "dockerfile.frontend", User, "the image that the # syntax= line names cannot be used";
    DockerfileHostUnknown = "dockerfile.host_unknown", User, "a host that the Dockerfile names (a base image, the # syntax= line, an ADD) does not exist";
    DockerfileCertificate = "dockerfile.certificate", User, "a host that the Dockerfile names has a certificate that is not valid, or that the Docker Engine does not trust";
    DockerfileBuild = "dockerfile.build", User, "BuildKit refused the build for another reason that lies in the Dockerfile";
    BuildpacksNothingDetected = "buildpacks.nothing_detected", User, "there is no Dockerfile, and no buildpack recognises the repository";
    BuildpacksDetectFailed = "buildpacks.detect_failed", User, "a buildpack failed while it looked at the repository";
    BuildpacksBuildFailed = "buildpacks.build_failed", User, "a buildpack failed to build the app";
    BuildpacksMemory = "buildpacks.memory", User, "a phase needed more than BUILDPACKS_MEMORY";
    BuildpacksProcesses = "buildpacks.processes", User, "a phase started more processes than BUILDPACKS_PIDS";
    BuildpacksFileTooLarge = "buildpacks.file_too_large", User, "a phase wrote a file larger than BUILDPACKS_FILE_BYTES";
    BuildpacksBuilder = "buildpacks.builder", User, "the job's builder is not in BUILDPACKS_BUILDERS";
    BuildpacksRunImage = "buildpacks.run_image", Infrastructure, "the builder's run image is not in its registry, or may not be pulled";
    BuildpacksKilled = "buildpacks.killed", Infrastructure, "a phase was killed from outside";
    BuildpacksLifecycle = "buildpacks.lifecycle", Infrastructure, "the lifecycle, or an image that the operator chose for it, did not do as expected";
    ImageTooLarge = "image.too_large", User, "the image is larger than IMAGE_MAX";
    BuildPullUnreachable = "build.pull_unreachable", Infrastructure, "the registry of a base image cannot be reached";
    EngineUnreachable = "engine.unreachable", Infrastructure, "the Docker Engine cannot be reached";
    EngineLost = "engine.lost", Infrastructure, "the Docker Engine went away in the middle of a build";
    EngineDiskFull = "engine.disk_full", Infrastructure, "the Docker Engine has no disk space left";
    EngineError = "engine.error", Infrastructure, "the Docker Engine answered with an error of its own";

    RegistryDenied = "registry.denied", Infrastructure, "the registry refused the push: wrong credentials or no right to the repository";
    RegistryUnreachable = "registry.unreachable", Infrastructure, "the registry cannot be reached or answered with an error of its own";
    RegistryStalled = "registry.stalled", Infrastructure, "the push made no progress for 60 s";
    RegistryDigest = "registry.digest", Infrastructure, "the registry does not have the pushed image under its digest";
    RegistrySettings = "registry.settings", Infrastructure, "the registry does not take a push as this worker or its Engine is set up: the repository's prefix, plain http, a certificate";
    RegistryName = "registry.name", User, "the service's id cannot be the name of a repository in the registry";
    RegistryEcr = "registry.ecr", Infrastructure, "the ECR API refused or failed";

    BuildCancelled = "build.cancelled", Cancelled, "the deployment was cancelled";
    BuildSuperseded = "build.superseded", Cancelled, "a newer job of the same service took its place";
    BuildTimeout = "build.timeout", Timeout, "the build took longer than BUILD_TIMEOUT, or one of its stages longer than its own limit";
    BuildSilent = "build.silent", Timeout, "the build printed nothing for BUILD_SILENCE_TIMEOUT";

    ReportRefused = "report.refused", Infrastructure, "the dashboard refuses the end of this deployment while it takes other posts; it stands in the dead letter list only";

    WorkerDiskFull = "worker.disk_full", Infrastructure, "WORK_DIR has no disk space left";
    WorkerLeaseLost = "worker.lease_lost", LeaseLost, "another worker took the job over";
    WorkerInternal = "worker.internal", Infrastructure, "a defect of Slipway";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}
impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Code::parse(&text).ok_or_else(|| serde::de::Error::custom("unknown failure code"))
    }
}

/// What a failure that blames a peer rests on, and so whether other jobs wait for that peer as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Evidence {
    /// The peer did not answer this worker.
    #[default]
    Seen,
    /// It answered so, or stopped answering, where this job's repository or credentials were concerned: no other job's business.
    OfThisJob,
    /// Words say so that a job can put there. Whoever hears them asks the peer itself.
    Hearsay,
}

/// Whose part failed, and so for how long it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blame {
    /// A part that the operator chose (Redis, the Engine, the registry of the push, hosts of `UPSTREAM_HOSTS`): it is waited for.
    #[default]
    Operator,
    /// A host that the job names: it has a bounded number of tries.
    Job,
}

/// Why a job failed. `cause` and `way_out` are one line each, in words for the user who pushed the code; neither holds a secret
/// on purpose, and both pass the redactor before they leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub code: Code,
    pub cause: String,
    pub way_out: String,
    /// How long the peer asked to be left alone (`Retry-After`). Of the moment: it is not stored.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// What says that a peer was away. Of the moment too.
    #[serde(skip)]
    pub evidence: Evidence,
    /// Whose part failed. Of the moment too.
    #[serde(skip)]
    pub blame: Blame,
    /// The host that failed, as the job names it, where the stage knows it. Decides `blame`.
    #[serde(skip)]
    pub host: Option<String>,
}

impl Failure {
    pub fn new(code: Code, cause: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self {
            code,
            cause: cause.into(),
            way_out: way_out.into(),
            retry_after: None,
            evidence: Evidence::Seen,
            blame: Blame::Operator,
            host: None,
        }
    }
    /// The same, by a peer that named the time after which it may be asked again.
    pub fn asking_for(self, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..self }
    }
    /// The same, with other evidence.
    pub fn by(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }
    /// The same, at this host.
    pub fn at(self, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..self }
    }
    /// What a stage returns when its token has tripped. The attempt's owner knows why and replaces it.
    pub fn interrupted() -> Self {
        Self::new(Code::BuildCancelled, "The build was stopped.", "")
    }
    pub fn kind(&self) -> FailureKind {
        self.code.kind()
    }
    /// The failure in at most `max` characters. Code and cure stay whole and the cause is shortened; a cure is shortened only where it
    /// would leave the cause less than [`LEAST_CAUSE`].
    pub fn within(&self, max: usize) -> String {
        let code = format!(" [{}]", self.code);
        let mut room = max.saturating_sub(code.chars().count());
        let mut way_out = String::new();
        if !self.way_out.is_empty() {
            let least = LEAST_CAUSE.min(self.cause.chars().count()) + 1;
            way_out = format!(" {}", shorten(&self.way_out, room.saturating_sub(least)));
            room = room.saturating_sub(way_out.chars().count());
        }
        format!("{}{code}{way_out}", shorten(&self.cause, room))
    }
    /// Whether trying the same stage again may help. A refusal by the registry is not tried again blindly by stages
    /// that have not renewed their credentials; that is the stage's own business.
    pub fn is_retryable(&self) -> bool {
        self.kind() == FailureKind::Infrastructure
    }
}

impl fmt::Display for Failure {
    /// `cause [code] way out`, one line: the dashboard's `error` and the last log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.cause, self.code)?;
        if !self.way_out.is_empty() {
            write!(f, " {}", self.way_out)?;
        }
        Ok(())
    }
}
impl std::error::Error for Failure {}

/// How a job ends. Stored in Redis before it is posted, so that it may be repeated and never contradicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "UPPERCASE")]
pub enum Outcome {
    Builded { image: ImageRef, registry: RegistryType },
    Failed { failure: Failure },
    Cancelled { failure: Failure },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_failure_that_is_cut_keeps_its_code() {
        let failure = |cause: usize| Failure::new(Code::GitAuth, "é".repeat(cause), "Try the other password.");
        assert_eq!(failure(5).within(191), "ééééé [git.auth] Try the other password.");
        for cause in [170, 180, 181, 400] {
            let cut = failure(cause).within(191);
            assert!(cut.chars().count() <= 191 && cut.contains(" [git.auth]"), "{cut}");
        }
    }

    proptest! {
        /// 110 characters: what the longest code and [`LEAST_CAUSE`] leave of 191.
        #[test]
        fn a_failure_that_is_cut_keeps_its_cure(code in 0..Code::ALL.len(), cause in "([a-z]{1,90} ){1,9}end", cure in "([a-z]{1,9} ){0,10}x") {
            let failure = Failure::new(Code::ALL[code], &cause, &cure);
            let told = failure.within(191);
            prop_assert!(told.chars().count() <= 191, "{told}");
            prop_assert!(told.ends_with(&format!("[{}] {cure}", failure.code)), "{told}");
            prop_assert!(told.contains("end ["), "{told}");
        }
    }
}
