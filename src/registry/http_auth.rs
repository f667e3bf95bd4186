//! Requests to a registry with its authentication: Basic, or a Bearer token from the server that it names.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::Url;

use super::challenge::{self, Challenge};
use super::manifest::read_at_most;
use super::push_failure::one_line;
use super::target::Target;
use crate::peer::retry_after;
use crate::protocol::{Code, Failure};
use crate::secrets::FetchedSecrets;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A manifest is small; ten seconds would do, but a registry that wakes up from sleep may need longer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A token without a lifetime is good for 60 s (distribution's token specification).
const TOKEN_LIFETIME: u64 = 60;
/// A token is sent in a header, for which servers have less room than this.
const MAX_TOKEN: usize = 32 << 10;

/// Why the registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it refused the credentials: {0}")]
    Denied(String),
    #[error("it answered {said}")]
    Status { said: String, retry_after: Option<Duration> },
    #[error("{0}")]
    Protocol(String),
    /// The caller did not let the request go out.
    #[error("it was not asked")]
    Withheld,
}

/// Asked right before a request goes out.
pub type MaySend<'a> = &'a (dyn Fn() -> BoxFuture<'a, bool> + Send + Sync);

impl Trouble {
    pub(super) fn transport(error: &reqwest::Error) -> Self {
        let mut text = String::new();
        let mut source: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = source {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            source = error.source();
        }
        Trouble::Unreachable(one_line(&text))
    }
    /// `retry_after`: that header's value in time.
    pub(super) fn from_status(host: &str, status: StatusCode, body: &str, retry_after: Option<Duration>) -> Self {
        let said =
            if body.is_empty() { format!("{status} from {host}") } else { format!("{status} from {host}: {}", one_line(body)) };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Trouble::Denied(said),
            _ => Trouble::Status { said, retry_after },
        }
    }
    /// `doing`: what failed, with the registry's host, without a full stop.
    pub(super) fn failure(&self, doing: &str) -> Failure {
        if let Some((why, way_out)) = self.setting() {
            return Failure::new(Code::RegistrySettings, format!("{doing}: {why}."), way_out);
        }
        let (code, way_out) = match self {
            Trouble::Unreachable(said) if said.contains("dns error") => {
                (Code::RegistryUnreachable, "Check REGISTRY_HOST (of ECR: AWS_REGION) for a slip, and this worker's DNS.")
            }
            Trouble::Unreachable(_) => {
                (Code::RegistryUnreachable, "Check that the registry runs, and this worker's network, proxy and CA certificates.")
            }
            Trouble::Denied(_) => (
                Code::RegistryDenied,
                "Check the registry's user and password, and their right to pull from and push to the repository.",
            ),
            Trouble::Status { .. } | Trouble::Protocol(_) | Trouble::Withheld => {
                (Code::RegistryUnreachable, "See the registry's own log for the reason.")
            }
        };
        let patience = match self {
            Trouble::Status { retry_after, .. } => *retry_after,
            _ => None,
        };
        Failure::new(code, format!("{doing}: {self}."), way_out).asking_for(patience)
    }

    /// What is wrong and which setting cures it, where another try would come to the same.
    fn setting(&self) -> Option<(&'static str, &'static str)> {
        match self {
            // What a TLS client says of an answer in plain HTTP.
            Trouble::Unreachable(said) if said.contains("InvalidContentType") => Some((
                "it speaks http, not https",
                "Set REGISTRY_INSECURE=true, and list it in the Engine's insecure-registries (daemon.json).",
            )),
            Trouble::Unreachable(said) if said.contains("UnknownIssuer") => Some((
                "its certificate is signed by nobody that this host trusts",
                "Add its CA to the host's (or name it in SSL_CERT_FILE), and to the Engine's certs.d.",
            )),
            Trouble::Unreachable(said) if said.contains("invalid peer certificate: Expired") => {
                Some(("its certificate has run out", "Renew it, or correct this host's clock."))
            }
            Trouble::Unreachable(said) if said.contains("invalid peer certificate: NotValidForName") => {
                Some(("its certificate is for another name", "Set REGISTRY_HOST to a name that is in it, or renew it."))
            }
            Trouble::Status { said, .. } if said.to_ascii_lowercase().contains("http request to an https server") => {
                Some(("it speaks https, and is asked in plain http", "Leave REGISTRY_INSECURE out."))
            }
            _ => None,
        }
    }
}

/// One client for one worker's registry; remembers how it wants to be spoken to, and its tokens.
pub(super) struct RegistryHttp {
    client: OnceCell<Client>,
    /// The registry is on this machine: no proxy stands between.
    direct: bool,
    known: Mutex<Known>,
    /// Gets each token before it is sent.
    fetched: FetchedSecrets,
}

#[derive(Default)]
struct Known {
    /// By the registry's API address.
    challenges: HashMap<String, Challenge>,
    /// By repository; those that ran out go when a new one comes.
    tokens: HashMap<String, Token>,
}

struct Token {
    value: SecretString,
    until: Instant,
}

impl RegistryHttp {
    /// No I/O, and no client yet: an idle worker does not pay for TLS.
    pub(super) fn new(direct: bool, fetched: FetchedSecrets) -> Self {
        Self { client: OnceCell::new(), direct, known: Mutex::default(), fetched }
    }

    /// Sends `method` to `<api>/<path>`; `shape` adds headers and body, and is called again when the registry asks for
    /// credentials first. 401 that stays is [`Trouble::Denied`]; every other answer is the caller's. Redirects are not
    /// followed: credentials go to the registry and its token server alone.
    pub(super) async fn send(
        &self,
        target: &Target,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Trouble> {
        self.send_if(&|| std::future::ready(true).boxed(), target, method, path, shape).await
    }

    /// As [`RegistryHttp::send`], but asks `may_send` right before each request, when the credentials are there already.
    pub(super) async fn send_if(
        &self,
        may_send: MaySend<'_>,
        target: &Target,
        method: Method,
        path: &str,
        shape: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Trouble> {
        let api = target.api();
        let url = Url::parse(&format!("{api}{path}")).map_err(|_| Trouble::Protocol("its address cannot be read".into()))?;
        let client = self.client().await?;
        let attempt = async |authorization: Option<HeaderValue>| {
            let request = shape(client.request(method.clone(), url.clone()));
            let request = match authorization {
                Some(value) => request.header(AUTHORIZATION, value),
                None => request,
            };
            if !may_send().await {
                return Err(Trouble::Withheld);
            }
            request.send().await.map_err(|error| Trouble::transport(&error))
        };
        let known = self.known().challenges.get(&api).cloned();
        let authorization = match &known {
            Some(challenge) => Some(self.authorize(target, challenge, Freshness::MayBeKnown).await?),
            None => None,
        };
        let response = attempt(authorization).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = asked(&response, &url)?;
        let answered_basic_already = known.is_some() && challenge == Challenge::Basic;
        if answered_basic_already {
            return Err(Trouble::from_status(&target.host, StatusCode::UNAUTHORIZED, "", None));
        }
        let authorization = self.authorize(target, &challenge, Freshness::New).await?;
        self.known().challenges.insert(api, challenge);
        let response = attempt(Some(authorization)).await?;
        match response.status() {
            StatusCode::UNAUTHORIZED => Err(Trouble::from_status(&target.host, StatusCode::UNAUTHORIZED, "", None)),
            _ => Ok(response),
        }
    }

    async fn client(&self) -> Result<&Client, Trouble> {
        self.client
            .get_or_try_init(|| async {
                let builder = Client::builder()
                    .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
                    .connect_timeout(CONNECT_TIMEOUT)
                    .timeout(REQUEST_TIMEOUT)
                    .pool_max_idle_per_host(2)
                    .pool_idle_timeout(Duration::from_secs(30))
                    .redirect(reqwest::redirect::Policy::none());
                let builder = if self.direct { builder.no_proxy() } else { builder };
                builder.build().map_err(|error| Trouble::transport(&error))
            })
            .await
    }

    async fn authorize(&self, target: &Target, challenge: &Challenge, freshness: Freshness) -> Result<HeaderValue, Trouble> {
        match challenge {
            Challenge::Basic => {
                let Some(credentials) = &target.credentials else {
                    return Err(Trouble::Denied(format!(
                        "{} asks for a user and a password, and none is configured",
                        target.host
                    )));
                };
                Ok(basic(credentials.joined().expose_secret()))
            }
            Challenge::Bearer { realm, service } => {
                let known = match freshness {
                    Freshness::MayBeKnown => self.known().token(&target.repository()),
                    Freshness::New => None,
                };
                let token = match known {
                    Some(token) => token,
                    None => self.fetch_token(target, realm, service.as_deref()).await?,
                };
                let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
                    .map_err(|_| Trouble::Protocol("its token server gave a token that cannot be sent".into()))?;
                value.set_sensitive(true);
                Ok(value)
            }
        }
    }

    async fn fetch_token(&self, target: &Target, realm: &Url, service: Option<&str>) -> Result<SecretString, Trouble> {
        let mut request = self.client().await?.get(realm.clone());
        if let Some(service) = service {
            request = request.query(&[("service", service)]);
        }
        if !target.path.is_empty() {
            request = request.query(&[("scope", format!("repository:{}:pull,push", target.path))]);
        }
        if let Some(credentials) = &target.credentials {
            request = request.header(AUTHORIZATION, basic(credentials.joined().expose_secret()));
        }
        let response = request.send().await.map_err(|error| Trouble::transport(&error))?;
        let status = response.status();
        // A token server's answer may repeat what it was sent: its text stays out of sight.
        if !status.is_success() {
            return Err(Trouble::from_status(
                realm.host_str().unwrap_or("the token server"),
                status,
                "",
                retry_after(response.headers()),
            ));
        }
        let body = read_at_most(response, 1 << 20).await?;
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| Trouble::Protocol("its token server's answer is not JSON with a token".into()))?;
        let value =
            answer.token.or(answer.access_token).ok_or_else(|| Trouble::Protocol("its token server gave no token".into()))?;
        if value.len() > MAX_TOKEN {
            return Err(Trouble::Protocol("its token server gave a token that cannot be sent".into()));
        }
        let value = SecretString::from(value);
        // Not used in its last tenth: the request has to arrive while it is good.
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(TOKEN_LIFETIME).clamp(1, 3600)).mul_f32(0.9);
        self.fetched.add([value.clone()], lifetime);
        self.known().remember(target.repository(), Token { value: value.clone(), until: Instant::now() + lifetime });
        Ok(value)
    }

    /// Nothing panics while the lock is held, and what it guards is only a cache.
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn token(&self, repository: &str) -> Option<SecretString> {
        self.tokens.get(repository).filter(|token| Instant::now() < token.until).map(|token| token.value.clone())
    }
    fn remember(&mut self, repository: String, token: Token) {
        self.tokens.retain(|_, token| Instant::now() < token.until);
        self.tokens.insert(repository, token);
    }
}

#[derive(Clone, Copy)]
enum Freshness {
    MayBeKnown,
    /// The registry has just refused what was known.
    New,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn asked(response: &Response, url: &Url) -> Result<Challenge, Trouble> {
    let values = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    let mut unfollowed = None;
    for value in values {
        match challenge::parse(value, url) {
            Ok(challenge) => return Ok(challenge),
            Err(why) => unfollowed = Some(why),
        }
    }
    Err(match unfollowed {
        Some(why) => Trouble::Denied(why.to_string()),
        None => Trouble::Denied("it does not say how it wants to be asked (no WWW-Authenticate)".into()),
    })
}

fn basic(joined: &str) -> HeaderValue {
    // Base64 is always a header value.
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(joined))).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}
