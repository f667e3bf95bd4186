//! IMAGE: BuildContext → [`BuiltImage`], by the Docker Engine.
//!
//! [`DockerfileStage`] opens a session of its own for each build ([`session`]: files, secrets, credentials), asks the Engine to build
//! ([`request`]), and turns what BuildKit tells ([`messages`] → [`progress`] → [`output`]) into log lines, or into a [`failure`].

mod broken_log;
mod build;
mod buildpacks;
mod disk_usage;
mod dockerfile;
mod dockerfile_images;
mod dockerfile_text;
mod engine;
mod exposure;
mod failure;
mod filesync;
pub mod labels;
mod log_limits;
mod messages;
mod missing;
mod newer_syntax;
mod output;
mod probe;
mod process_mark;
mod progress;
mod reading;
mod registries;
mod remote_host;
mod request;
mod select;
mod services;
mod session;
mod size_limits;
mod step_start;
mod tasks;
mod tenant;

pub use buildpacks::{Application, BuildpacksStage, CacheVolume, Owner};
pub use disk_usage::{DiskUsage, UsageOf, disk_usage};
pub use dockerfile::DockerfileStage;
pub use dockerfile_images::registries_of;
pub use engine::connect_engine;
pub use exposure::exposure_warnings;
pub use log_limits::log_limits;
pub use probe::{Probed, SharedProbe, probe};
pub use process_mark::{Life, ProcessMark};
pub use size_limits::image_within;

/// An image in the Engine, without a tag: the Engine's own cache keeps its layers warm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// `sha256:…`, the Engine's image id (the config digest).
    pub id: String,
}
