//! One HTTP post to the dashboard, and what was answered. No retry, no state.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use serde::Serialize;
use time::OffsetDateTime;

use super::answer::{Answer, Body};
use crate::config::DashboardConfig;
use crate::peer::{CertificateProblem, ServerSettings, certificate_error, is_loopback, proxy_before};
use crate::protocol::{DeploymentId, LogPost, StatusPost};

/// No connection is established for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the five seconds after which a Node server closes an idle connection: a post on one that is just being closed is a post
/// whose answer is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// So much is read of an answer's body: it says whether the API acknowledges the post.
const BODY_BYTES: usize = 64 * 1024;

const SETTINGS: ServerSettings = ServerSettings {
    address: "API_URL",
    authorities: "that this host trusts",
    own_authority: "Name the file with the certificate of the authority that signed it in SSL_CERT_FILE.",
};

/// A body for one of the two routes.
pub enum Post<'p> {
    Log(&'p LogPost),
    Status(&'p StatusPost),
}

pub struct Client {
    http: reqwest::Client,
    /// `{API_URL}/webhooks/deployments`
    base: String,
    key: HeaderValue,
    timeout: Duration,
    /// The proxy that all posts go through.
    proxy: Option<String>,
}

impl Client {
    pub fn new(config: &DashboardConfig, connections: usize) -> io::Result<Self> {
        let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidInput, why);
        // The error would not show the key, but says nothing either.
        let mut key = HeaderValue::from_str(config.key.expose_secret())
            .map_err(|_| invalid("API_KEY has a character that cannot be in an HTTP header"))?;
        key.set_sensitive(true);
        // A proxy that the environment names is used, as the operator wants it; but not between this machine and itself.
        let direct = is_loopback(&config.url);
        let builder = reqwest::Client::builder();
        let builder = if direct { builder.no_proxy() } else { builder };
        let http = builder
            // The key goes to no other host than API_URL's, so not to a redirect's.
            .redirect(Policy::none())
            .connect_timeout(config.timeout.min(CONNECT_TIMEOUT))
            .pool_max_idle_per_host(connections)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(io::Error::other)?;
        let base = format!("{}/webhooks/deployments", config.url.as_str().trim_end_matches('/'));
        let proxy = if direct { None } else { proxy_before(&config.url) };
        Ok(Self { http, base, key, timeout: config.timeout, proxy })
    }

    /// Posts once.
    pub async fn post(&self, deployment: &DeploymentId, post: Post<'_>) -> Answer {
        match post {
            Post::Log(body) => self.send(&format!("{}/{deployment}/logs", self.base), body).await,
            Post::Status(body) => self.send(&format!("{}/{deployment}/status", self.base), body).await,
        }
    }

    /// Who is to blame may be the proxy.
    fn through(&self, why: String) -> String {
        match &self.proxy {
            Some(proxy) => format!("{why} (through the proxy {proxy}; see HTTPS_PROXY, HTTP_PROXY and NO_PROXY)"),
            None => why,
        }
    }

    async fn send(&self, url: &str, body: &impl Serialize) -> Answer {
        let body = match serde_json::to_vec(body) {
            Ok(body) => body,
            Err(e) => return Answer::Away { why: e.to_string(), retry_after: None },
        };
        let request =
            self.http.post(url).header("x-api-key", self.key.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let until = tokio::time::Instant::now() + self.timeout;
        let response = match tokio::time::timeout_at(until, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Answer::Away { why: self.through(cause(&e)), retry_after: None },
            Err(_) => {
                let why = self.through(format!("no answer within {} s", self.timeout.as_secs_f32()));
                return Answer::Away { why, retry_after: None };
            }
        };
        let status = response.status().as_u16();
        let text = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let (retry_after, content_type) = (text(RETRY_AFTER), text(CONTENT_TYPE));
        let mut bytes = Vec::new();
        let read = tokio::time::timeout_at(until, read(response, &mut bytes)).await;
        let body = Body { bytes: &bytes, is_whole: read == Ok(true), content_type: &content_type };
        let retry_after = Some(retry_after.as_str()).filter(|value| !value.is_empty());
        Answer::with_body(status, retry_after, body, OffsetDateTime::now_utc())
    }
}

/// Reads the body as far as it comes. `true`: to its end. One that does not end costs the connection.
async fn read(mut response: reqwest::Response, body: &mut Vec<u8>) -> bool {
    while body.len() < BODY_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(BODY_BYTES - body.len())]),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// The innermost cause: the outer ones say "error sending request for url", with the URL. A certificate that is not believed has a cure
/// of its own.
fn cause(error: &reqwest::Error) -> String {
    if let Some(wrong) = certificate_error(error) {
        let host = error.url().and_then(url::Url::host_str).unwrap_or("this name");
        let CertificateProblem { cause, cure } = CertificateProblem::new(wrong, host, SETTINGS);
        return format!("it {cause} ({})", cure.trim_end_matches('.'));
    }
    let mut cause: Option<&dyn std::error::Error> = error.source();
    while let Some(inner) = cause.and_then(|c| c.source()) {
        cause = Some(inner);
    }
    match cause {
        Some(cause) => cause.to_string(),
        None => "the request failed".to_owned(),
    }
}
