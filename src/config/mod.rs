//! Configuration: layers (embedded default.toml → file → .env → environment) into one validated [`Config`].
//! The only reader of the environment. One file per concern.

mod build;
mod dashboard;
mod git;
mod logging;
mod queue;
mod registry;
mod worker;

pub use build::{BuildConfig, BuildNetwork, PullCredentials};
pub use dashboard::DashboardConfig;
pub use git::GitConfig;
pub use logging::{LogFormat, LoggingConfig};
pub use queue::QueueConfig;
pub use registry::{AwsKeys, EcrConfig, GenericRegistryConfig, RegistryConfig};
pub use worker::WorkerConfig;

/// Everything that can be configured, validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub worker: WorkerConfig,
    pub queue: QueueConfig,
    pub dashboard: DashboardConfig,
    pub git: GitConfig,
    pub build: BuildConfig,
    pub registry: RegistryConfig,
    pub logging: LoggingConfig,
}
