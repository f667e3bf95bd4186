//! Amazon ECR: the token that pushes, and the repository, made with its lifecycle policy when missing.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::config::Credentials as SdkCredentials;
use aws_sdk_ecr::types::AuthorizationData;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;

use super::aws_login::Noting;
use super::ecr_failure::{self, Asked};
use super::ecr_lifecycle::{self, Decision};
use super::name::{self, Dialect};
use super::target::{Credentials, Target};
use crate::config::EcrConfig;
use crate::protocol::{Code, Failure, RegistryType, ServiceId};
use crate::secrets::FetchedSecrets;

/// A repository that was seen with its policy is not asked about again for so long.
const SEEN_FOR: Duration = Duration::from_secs(3600);
/// A push may take minutes: a token is renewed this long before it runs out.
const TOKEN_MARGIN: Duration = Duration::from_secs(600);
/// A token whose expiry is unknown or lies in the past (a test double says 2015, a clock may be wrong) is used for this long.
const TOKEN_AT_LEAST: Duration = Duration::from_secs(60);

/// How long a token is good, whatever the answer says of it: a build that was given one may print it for so long.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The client calls are dropped with the future: a cancelled job leaves no request behind.
pub(super) struct Ecr {
    config: EcrConfig,
    client: OnceCell<Client>,
    token: Mutex<Option<Token>>,
    /// By repository path.
    seen: Mutex<HashMap<String, Seen>>,
    /// Gets each token before anybody is handed it.
    fetched: FetchedSecrets,
}

#[derive(Clone)]
struct Token {
    credentials: Credentials,
    until: Instant,
}

struct Seen {
    /// The registry's host out of the repository's URI.
    host: String,
    at: Instant,
}

/// Whether a token may come from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenAge {
    Any,
    /// The registry has just refused the one that was known.
    Fresh,
}

impl Ecr {
    /// No I/O.
    pub(super) fn new(config: EcrConfig, fetched: FetchedSecrets) -> Self {
        Self { config, client: OnceCell::new(), token: Mutex::default(), seen: Mutex::default(), fetched }
    }

    /// The service's repository, made when missing. What is no reason to fail goes to `warn`.
    pub(super) async fn target(&self, service: &ServiceId, age: TokenAge, warn: impl Fn(String)) -> Result<Target, Failure> {
        let path = name::repository_path(&self.config.repository_prefix, service, Dialect::Ecr)?;
        let credentials = self.credentials(age).await?;
        let host = match &self.config.registry_host {
            Some(host) => {
                self.repository_host(&path, warn).await?;
                host.clone()
            }
            None => self.repository_host(&path, warn).await?,
        };
        // The Engine falls back to http for this machine's own addresses, and so do we: ECR itself is never there.
        let plain_http = name::is_loopback(&host);
        Ok(Target { host, path, kind: RegistryType::Ecr, credentials: Some(credentials), plain_http })
    }

    /// Whether the API answers to these keys in this region.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        self.credentials(TokenAge::Any).await.map(drop)
    }

    /// The repository is to be looked at again: the registry says that it is not there.
    pub(super) async fn forget(&self, path: &str) {
        self.seen.lock().await.remove(path);
    }

    /// The AWS keys of the configuration. What is fetched with them is in the set of fetched secrets.
    pub(super) fn secrets(&self) -> Vec<SecretString> {
        let keys = self.config.keys.iter();
        keys.flat_map(|keys| [Some(keys.access_key_id.clone()), Some(keys.secret_access_key.clone()), keys.session_token.clone()])
            .flatten()
            .collect()
    }

    async fn client(&self) -> &Client {
        self.client
            .get_or_init(|| async {
                let mut loader = aws_config::defaults(BehaviorVersion::latest())
                    .region(Region::new(self.config.region.clone()))
                    .retry_config(RetryConfig::standard().with_max_attempts(3))
                    .timeout_config(
                        TimeoutConfig::builder()
                            .connect_timeout(Duration::from_secs(5))
                            .operation_attempt_timeout(Duration::from_secs(15))
                            .operation_timeout(Duration::from_secs(45))
                            .build(),
                    );
                if let Some(keys) = &self.config.keys {
                    let session = keys.session_token.as_ref().map(|token| token.expose_secret().to_owned());
                    let (id, secret) = (keys.access_key_id.expose_secret(), keys.secret_access_key.expose_secret());
                    loader = loader.credentials_provider(SdkCredentials::new(id, secret, session, None, "slipway"));
                }
                if let Some(url) = &self.config.endpoint_url {
                    loader = loader.endpoint_url(url.as_str());
                }
                let sdk = loader.load().await;
                let mut config = aws_sdk_ecr::config::Builder::from(&sdk);
                if let Some(provider) = sdk.credentials_provider() {
                    config = config.credentials_provider(Noting { provider, fetched: self.fetched.clone() });
                }
                Client::from_conf(config.build())
            })
            .await
    }

    fn asked<'a>(&'a self, action: &'a str) -> Asked<'a> {
        Asked { action, region: &self.config.region }
    }

    /// One request for many waiting jobs: the lock is held while it is under way.
    async fn credentials(&self, age: TokenAge) -> Result<Credentials, Failure> {
        let mut slot = self.token.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| age == TokenAge::Any && Instant::now() < token.until) {
            return Ok(token.credentials.clone());
        }
        *slot = None;
        let answer = self
            .client()
            .await
            .get_authorization_token()
            .send()
            .await
            .map_err(|error| ecr_failure::failure(self.asked("ecr:GetAuthorizationToken"), &error))?;
        let token = answer.authorization_data().first().and_then(|data| token(data, SystemTime::now())).ok_or_else(|| {
            Failure::new(
                Code::RegistryEcr,
                "The ECR API gave no token that can be read.",
                "Check AWS_ENDPOINT_URL: it may not be ECR.",
            )
        })?;
        self.fetched.add(token.credentials.secrets(), TOKEN_LIFETIME);
        Ok(slot.insert(token).credentials.clone())
    }

    async fn repository_host(&self, path: &str, warn: impl Fn(String)) -> Result<String, Failure> {
        if let Some(seen) = self.seen.lock().await.get(path).filter(|seen| seen.at.elapsed() < SEEN_FOR) {
            return Ok(seen.host.clone());
        }
        let uri = match self.describe(path).await? {
            Some(uri) => uri,
            None => self.create(path).await?,
        };
        let host = uri.split('/').next().unwrap_or_default().to_owned();
        self.keep_policy(path, warn).await?;
        let mut seen = self.seen.lock().await;
        seen.retain(|_, seen| seen.at.elapsed() < SEEN_FOR);
        seen.insert(path.to_owned(), Seen { host: host.clone(), at: Instant::now() });
        Ok(host)
    }

    /// The repository's URI, `None` where there is none.
    async fn describe(&self, path: &str) -> Result<Option<String>, Failure> {
        match self.client().await.describe_repositories().repository_names(path).send().await {
            Ok(answer) => {
                let uri = answer.repositories().first().and_then(|repository| repository.repository_uri());
                uri.map(|uri| Some(uri.to_owned())).ok_or_else(no_uri)
            }
            Err(error) if error.as_service_error().is_some_and(|e| e.is_repository_not_found_exception()) => Ok(None),
            Err(error) => Err(ecr_failure::failure(self.asked("ecr:DescribeRepositories"), &error)),
        }
    }

    async fn create(&self, path: &str) -> Result<String, Failure> {
        match self.client().await.create_repository().repository_name(path).send().await {
            Ok(answer) => {
                answer.repository().and_then(|repository| repository.repository_uri()).map(str::to_owned).ok_or_else(no_uri)
            }
            // Another worker was faster.
            Err(error) if error.as_service_error().is_some_and(|e| e.is_repository_already_exists_exception()) => {
                self.describe(path).await?.ok_or_else(no_uri)
            }
            Err(error) => Err(ecr_failure::failure(self.asked("ecr:CreateRepository"), &error)),
        }
    }

    async fn keep_policy(&self, path: &str, warn: impl Fn(String)) -> Result<(), Failure> {
        let client = self.client().await;
        let existing = match client.get_lifecycle_policy().repository_name(path).send().await {
            Ok(answer) => answer.lifecycle_policy_text().map(str::to_owned),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_lifecycle_policy_not_found_exception()) => None,
            Err(error) if ecr_failure::is_access_denied(&error) => {
                warn(policy_denied(path, "ecr:GetLifecyclePolicy"));
                return Ok(());
            }
            Err(error) => return Err(ecr_failure::failure(self.asked("ecr:GetLifecyclePolicy"), &error)),
        };
        let Decision::Put(policy) = ecr_lifecycle::decide(existing.as_deref(), self.config.keep_images) else {
            return Ok(());
        };
        match client.put_lifecycle_policy().repository_name(path).lifecycle_policy_text(policy).send().await {
            Ok(_) => Ok(()),
            Err(error) if ecr_failure::is_access_denied(&error) => {
                warn(policy_denied(path, "ecr:PutLifecyclePolicy"));
                Ok(())
            }
            Err(error) => Err(ecr_failure::failure(self.asked("ecr:PutLifecyclePolicy"), &error)),
        }
    }
}

fn policy_denied(path: &str, action: &str) -> String {
    format!("AWS denies {action}: old images of {path} are not expired by Slipway's policy.")
}

fn no_uri() -> Failure {
    Failure::new(
        Code::RegistryEcr,
        "The ECR API did not say where the repository is.",
        "Check AWS_ENDPOINT_URL: it may not be ECR.",
    )
}

/// `authorizationToken` is base64 of `user:password`.
fn token(data: &AuthorizationData, now: SystemTime) -> Option<Token> {
    let decoded = STANDARD.decode(data.authorization_token()?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (username, password) = decoded.split_once(':')?;
    let expires =
        data.expires_at().and_then(|at| u64::try_from(at.secs()).ok()).map(|secs| UNIX_EPOCH + Duration::from_secs(secs));
    Some(Token {
        credentials: Credentials { username: username.to_owned(), password: password.to_owned().into() },
        until: Instant::now() + usable_for(expires, now),
    })
}

fn usable_for(expires: Option<SystemTime>, now: SystemTime) -> Duration {
    let left = expires.and_then(|at| at.duration_since(now).ok()).unwrap_or_default();
    left.saturating_sub(TOKEN_MARGIN).max(TOKEN_AT_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_shortly_before_it_runs_out() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let hours = |n: u64| Duration::from_secs(n * 3600);
        assert_eq!(usable_for(Some(now + hours(12)), now), hours(12) - TOKEN_MARGIN);
    }

    #[test]
    fn an_expiry_in_the_past_or_none_is_good_for_a_minute() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let in_2015 = UNIX_EPOCH + Duration::from_secs(1_436_000_000);
        assert_eq!(usable_for(Some(in_2015), now), TOKEN_AT_LEAST);
        assert_eq!(usable_for(None, now), TOKEN_AT_LEAST);
    }
}
