//! Where images are pushed.

use secrecy::SecretString;

use super::reader::{Reader, flag, host_and_port, http_url, whole};

#[derive(Debug, Clone)]
pub enum RegistryConfig {
    Ecr(EcrConfig),
    Generic(GenericRegistryConfig),
}

impl RegistryConfig {
    /// Names that stand in every report and log: an environment value that is part of one is no secret.
    pub fn public_names(&self) -> Vec<String> {
        match self {
            RegistryConfig::Ecr(ecr) => [Some(&ecr.repository_prefix), Some(&ecr.region), ecr.registry_host.as_ref()]
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            RegistryConfig::Generic(generic) => vec![generic.host.clone(), generic.repository_prefix.clone()],
        }
    }
}

#[derive(Debug, Clone)]
pub struct EcrConfig {
    /// `AWS_REGION`.
    pub region: String,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; `None`: the SDK's own chain.
    pub keys: Option<AwsKeys>,
    /// `AWS_ENDPOINT_URL` (moto, VPC endpoints).
    pub endpoint_url: Option<url::Url>,
    /// `ECR_REPOSITORY_PREFIX`, default `deployra/`.
    pub repository_prefix: String,
    /// `ECR_KEEP_IMAGES`, default 10.
    pub keep_images: u32,
    /// `ECR_REGISTRY_HOST`: a host (and port) that stands before the one that the ECR API names. For moto and proxies.
    pub registry_host: Option<String>,
}

#[derive(Debug, Clone)]
pub struct AwsKeys {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
}

#[derive(Debug, Clone)]
pub struct GenericRegistryConfig {
    /// `REGISTRY_HOST`, e.g. ghcr.io or 127.0.0.1:5000.
    pub host: String,
    /// `REGISTRY_REPOSITORY_PREFIX`, e.g. `octo/`; the service id follows. Default empty.
    pub repository_prefix: String,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    /// `REGISTRY_INSECURE`: plain http for our own manifest calls. Default: only for loopback hosts.
    pub insecure: bool,
}

impl RegistryConfig {
    /// ECR where `AWS_REGION` is set and `REGISTRY_HOST` is not.
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        match (r.given("REGISTRY_HOST"), r.given("AWS_REGION")) {
            (Some(_), _) => GenericRegistryConfig::read(r).map(Self::Generic),
            (None, Some(_)) => EcrConfig::read(r).map(Self::Ecr),
            (None, None) => {
                r.reject_together(
                    &["AWS_REGION", "REGISTRY_HOST"],
                    "neither is set, so there is nowhere to push to. Set AWS_REGION for ECR, or REGISTRY_HOST for any other registry",
                );
                None
            }
        }
    }
}

impl EcrConfig {
    fn read(r: &mut Reader) -> Option<Self> {
        let region = r.parsed("AWS_REGION", |text| {
            let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if plain { Ok(text.to_owned()) } else { Err("is not a region such as eu-central-1") }
        });
        let keys = AwsKeys::read(r);
        let endpoint_url = r.given_parsed("AWS_ENDPOINT_URL", http_url);
        let repository_prefix = r.given_parsed("ECR_REPOSITORY_PREFIX", repository_prefix);
        let keep_images = r.number("ECR_KEEP_IMAGES", 1..=10_000);
        let registry_host = r.given_parsed("ECR_REGISTRY_HOST", host_and_port);
        Some(Self {
            region: region?,
            keys: keys?,
            endpoint_url: endpoint_url?,
            repository_prefix: repository_prefix?.unwrap_or_default(),
            keep_images: keep_images?,
            registry_host: registry_host?,
        })
    }
}

impl AwsKeys {
    /// `Some(None)`: none are given, the SDK's own chain is used.
    fn read(r: &mut Reader) -> Option<Option<Self>> {
        match (r.given_secret("AWS_ACCESS_KEY_ID"), r.given_secret("AWS_SECRET_ACCESS_KEY")) {
            (Some(access_key_id), Some(secret_access_key)) => {
                Some(Some(Self { access_key_id, secret_access_key, session_token: r.given_secret("AWS_SESSION_TOKEN") }))
            }
            (None, None) => Some(None),
            _ => {
                r.reject_together(
                    &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
                    "only one of them is set. Set both, or none to use the AWS SDK's own credential chain",
                );
                None
            }
        }
    }
}

impl GenericRegistryConfig {
    fn read(r: &mut Reader) -> Option<Self> {
        let host = r.parsed("REGISTRY_HOST", host_and_port);
        let repository_prefix = r.given_parsed("REGISTRY_REPOSITORY_PREFIX", repository_prefix);
        let username = r.given_parsed("REGISTRY_USERNAME", whole)?;
        let password = r.given_secret("REGISTRY_PASSWORD");
        let insecure = r.parsed("REGISTRY_INSECURE", |text| if text == "auto" { Ok(None) } else { flag(text).map(Some) });
        if username.is_some() != password.is_some() {
            r.reject_together(&["REGISTRY_USERNAME", "REGISTRY_PASSWORD"], "only one of them is set. Set both, or none");
            return None;
        }
        let host = host?;
        let insecure = insecure?.unwrap_or_else(|| is_loopback(&host));
        Some(Self { host, repository_prefix: repository_prefix?.unwrap_or_default(), username, password, insecure })
    }
}

/// What may stand before a service id in a repository's name.
fn repository_prefix(text: &str) -> Result<String, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    if !plain || text.starts_with(['/', '.', '_', '-']) || text.contains("//") {
        return Err("is not a repository prefix: small letters, digits, '.', '_', '-' and '/', such as deployra/");
    }
    Ok(text.to_owned())
}

fn is_loopback(host: &str) -> bool {
    match url::Url::parse(&format!("http://{host}")).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
