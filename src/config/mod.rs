//! Configuration: layers (embedded default.toml → file → .env → credentials → environment) into one validated [`Config`].
//! The only reader of the environment. One file per concern; `layers` finds values, `reader` understands them.

mod build;
mod buildpacks;
mod dashboard;
mod dotenv;
mod errors;
mod git;
mod keys;
mod layers;
mod loaded;
mod logging;
mod queue;
mod reader;
#[cfg(test)]
mod redis_tests;
mod redis_tls;
mod redis_url;
mod registry;
mod surroundings;
#[cfg(test)]
mod tests;
mod units;
mod worker;

pub use build::{BuildConfig, BuildNetwork, PullCredentials};
pub use buildpacks::{Builder, BuildpacksConfig, BuildpacksNetwork, with_tag};
pub use dashboard::{DashboardAddress, DashboardConfig};
pub use dotenv::DotEnv;
pub use errors::{ConfigError, ConfigErrors};
pub use git::{GitConfig, PrivateHosts};
pub use keys::{KEYS, Key};
pub use layers::DEFAULT_TOML;
pub use loaded::{Entry, Loaded, Settings, SingleBuildConfig};
pub use logging::{LogFormat, LoggingConfig};
pub use queue::{QueueConfig, QueueMode};
pub use redis_tls::TlsTrust;
pub use registry::{AwsKeys, EcrConfig, GenericRegistryConfig, RegistryConfig};
pub use surroundings::{SYSTEM_FILE, Surroundings, TerminalHints, named_variable, names_a_proxy};
pub use units::duration;
pub use worker::{StageTimeouts, WorkerConfig};

/// Everything that can be configured, validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub worker: WorkerConfig,
    pub queue: QueueConfig,
    pub dashboard: DashboardConfig,
    pub git: GitConfig,
    pub build: BuildConfig,
    pub buildpacks: BuildpacksConfig,
    pub registry: RegistryConfig,
    pub logging: LoggingConfig,
}

impl Config {
    /// Reads all layers and validates every key. `Err` lists everything that is wrong.
    pub fn load(from: &Surroundings) -> Result<Loaded, ConfigErrors> {
        Settings::read(from).into_config()
    }

    /// Every secret of the configuration, for a job's redactor.
    pub fn secrets(&self) -> Vec<secrecy::SecretString> {
        let pulls = self.build.pull_registries.iter().map(|p| p.password.clone());
        self.queue.password.iter().cloned().chain([self.dashboard.key.clone()]).chain(pulls).collect()
    }
}
