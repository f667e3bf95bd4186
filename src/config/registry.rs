//! Where images are pushed.

use secrecy::SecretString;

#[derive(Debug, Clone)]
pub enum RegistryConfig {
    Ecr(EcrConfig),
    Generic(GenericRegistryConfig),
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
