//! The Engine and how an image is built.

use secrecy::SecretString;

#[derive(Debug, Clone)]
pub struct BuildConfig {
    /// `DOCKER_HOST`: unix:///var/run/docker.sock by default; only unix sockets.
    pub engine_socket: std::path::PathBuf,
    /// `BUILD_PLATFORM`, default linux/amd64.
    pub platform: String,
    /// `BUILD_NETWORK`: default or none.
    pub network: BuildNetwork,
    /// `BUILD_CACHE_MAX` bytes, default 20 GiB: BuildKit's cache is pruned down to it.
    pub cache_max_bytes: u64,
    /// `CONTEXT_GIT_DIR`: serve a shallow `.git` in the context. Default false.
    pub context_git_dir: bool,
    /// `PULL_REGISTRIES`: read-only credentials for private base images, `host=user:password` separated by commas or new lines.
    pub pull_registries: Vec<PullCredentials>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildNetwork {
    Default,
    None,
}

#[derive(Debug, Clone)]
pub struct PullCredentials {
    pub host: String,
    pub username: String,
    pub password: SecretString,
}
