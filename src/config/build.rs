//! The Engine and how an image is built.

use secrecy::SecretString;

use super::reader::{Reader, flag, host_and_port};

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
    /// `CONTEXT_MAX` bytes, default 10 GiB: all files of a build together. 0: no limit.
    pub context_max_bytes: u64,
    /// `IMAGE_MAX` bytes, default 10 GiB. 0: no limit.
    pub image_max_bytes: u64,
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

impl BuildConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let engine_socket = r.parsed("DOCKER_HOST", |text| match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(path.into()),
            _ => Err("is not a unix socket; write unix:///var/run/docker.sock"),
        });
        let platform = r.parsed("BUILD_PLATFORM", platform);
        let network = r.parsed("BUILD_NETWORK", |text| match text {
            "default" => Ok(BuildNetwork::Default),
            "none" => Ok(BuildNetwork::None),
            _ => Err("is neither default nor none"),
        });
        let cache_max_bytes = r.size("BUILD_CACHE_MAX", 1, "must not be zero");
        // Understood, so that who turns it on learns of it at the start and not from a build that misses its history.
        let no_git_dir = r.parsed("CONTEXT_GIT_DIR", |text| match flag(text)? {
            false => Ok(()),
            true => Err("is not supported: .git is never in the build context. Leave it out, or set it to false"),
        });
        let context_max_bytes = r.size("CONTEXT_MAX", 0, "");
        let image_max_bytes = r.size("IMAGE_MAX", 0, "");
        let pull_registries = r.given_parsed("PULL_REGISTRIES", pull_registries);
        no_git_dir?;
        Some(Self {
            engine_socket: engine_socket?,
            platform: platform?,
            network: network?,
            cache_max_bytes: cache_max_bytes?,
            context_max_bytes: context_max_bytes?,
            image_max_bytes: image_max_bytes?,
            pull_registries: pull_registries?.unwrap_or_default(),
        })
    }
}

fn platform(text: &str) -> Result<String, &'static str> {
    let parts: Vec<&str> = text.split('/').collect();
    let plain = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.'));
    if matches!(parts.len(), 2 | 3) && parts.iter().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("is not os/architecture, such as linux/amd64 or linux/arm64/v8")
    }
}

/// `host=user:password`, separated by new lines where there is one, else by commas.
fn pull_registries(text: &str) -> Result<Vec<PullCredentials>, String> {
    let separator = if text.contains('\n') { '\n' } else { ',' };
    let entries = text.split(separator).map(str::trim).filter(|entry| !entry.is_empty()).enumerate();
    // The entry is a secret, its number is none.
    let number = |at: usize| format!("has an entry that is not host=user:password (number {})", at + 1);
    entries.map(|(at, entry)| pull_login(entry).ok_or_else(|| number(at))).collect()
}

fn pull_login(entry: &str) -> Option<PullCredentials> {
    let (host, login) = entry.split_once('=')?;
    let (username, password) = login.split_once(':').filter(|(name, password)| !name.is_empty() && !password.is_empty())?;
    let host = host_and_port(host.trim()).ok()?;
    Some(PullCredentials { host, username: username.to_owned(), password: password.into() })
}
