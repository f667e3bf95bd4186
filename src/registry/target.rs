//! Where one image goes: the repository, and how to speak to the registry that has it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::protocol::RegistryType;

/// What a registry asks a client for.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: SecretString,
}

impl Credentials {
    /// `user:password`, as Basic authentication joins them. A secret of its own: base64 of it does not contain base64 of the password.
    pub(super) fn joined(&self) -> SecretString {
        format!("{}:{}", self.username, self.password.expose_secret()).into()
    }

    /// All that has to be masked of it: also the base64 form of the login, which programs encode once more (a Docker configuration in base64).
    pub(super) fn secrets(&self) -> [SecretString; 3] {
        let joined = self.joined();
        let encoded = STANDARD.encode(joined.expose_secret());
        [self.password.clone(), joined, encoded.into()]
    }
}

/// One service's repository in one registry.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Host and port as image references have it.
    pub(super) host: String,
    /// The repository's path below the host.
    pub(super) path: String,
    pub(super) kind: RegistryType,
    pub(super) credentials: Option<Credentials>,
    /// Our own manifest calls go by http. Whoever makes the target decides; a name of this machine decides nothing by itself.
    pub(super) plain_http: bool,
}

impl Target {
    /// `host/path`, the repository as image references have it.
    pub(super) fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }
    /// The registry's API, `http(s)://host/v2/`.
    pub(super) fn api(&self) -> String {
        // Docker Hub's references name one host, its API is on another.
        let host = match self.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        let scheme = if self.plain_http { "http" } else { "https" };
        format!("{scheme}://{host}/v2/")
    }
}
