//! PURE: the words of the wire contract and of the build's outcome. No tokio, no I/O.

mod cancel;
mod id;
mod job;
mod line;
mod log;
mod outcome;
mod shorten;
mod wire;

pub use cancel::parse_cancel;
pub use id::{BranchName, CommitSha, DeploymentId, InvalidId, RepositoryName, ServiceId};
pub use job::{CommitRef, EnvVar, GitCredentials, GitSource, Job, JobRejected, Port, is_image};
pub use line::{is_special, safe_line, safe_text, without_colours};
pub use log::{LogSink, LogType};
pub use outcome::{Blame, Code, Evidence, Failure, FailureKind, Outcome};
pub use shorten::shorten;
pub use wire::{DeploymentStatus, ImageRef, LogPost, RegistryType, StatusData, StatusPost};
