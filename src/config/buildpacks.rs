//! Cloud Native Buildpacks: which builders are allowed, and what their phases may use.

use std::time::Duration;

/// One allowed builder and the run image that its images stand on. Nothing else names either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    pub image: String,
    pub run_image: String,
}

#[derive(Debug, Clone)]
pub struct BuildpacksConfig {
    /// `BUILDPACKS_BUILDERS`: `builder=run-image`, separated by commas; the first is the default, a job may name another of them.
    pub builders: Vec<Builder>,
    /// `BUILDPACKS_LIFECYCLE_IMAGE`: holds the phases that see registry credentials. No shell, no buildpack in it.
    pub lifecycle_image: String,
    /// `BUILDPACKS_NETWORK`: `own` (a bridge without traffic between containers) or `none`, for detect and build.
    pub network: BuildpacksNetwork,
    /// `BUILDPACKS_TRUSTED`: one `creator` container instead of five. Only where builder and apps are trusted.
    pub trusted: bool,
    /// `BUILDPACKS_MEMORY` bytes, default 2 GiB, for each phase's container.
    pub memory_bytes: u64,
    /// `BUILDPACKS_CPUS`, default 2.
    pub cpus: f64,
    /// `BUILDPACKS_PIDS`, default 512.
    pub pids: u32,
    /// `BUILDPACKS_FILE_BYTES`, default 4 GiB: the largest file that a phase may write.
    pub file_bytes: u64,
    /// `BUILDPACKS_PHASE_TIMEOUT`, seconds, default 1800.
    pub phase_timeout: Duration,
    /// `BUILDPACKS_CACHE_MAX` bytes, default 10 GiB: cache volumes above it are removed, least recently used first.
    pub cache_max_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildpacksNetwork {
    Own,
    None,
}

impl BuildpacksConfig {
    /// The builder that a job asks for (`None`: the default). `Err` lists the allowed ones.
    pub fn builder(&self, wanted: Option<&str>) -> Result<&Builder, Vec<&str>> {
        let found = match wanted {
            None => self.builders.first(),
            Some(name) => self.builders.iter().find(|b| b.image == name),
        };
        found.ok_or_else(|| self.builders.iter().map(|b| b.image.as_str()).collect())
    }
}
