//! One HTTP post to the dashboard, and what was answered. No retry, no state.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use serde::Serialize;
use time::OffsetDateTime;

use super::answer::Answer;
use crate::config::DashboardConfig;
use crate::protocol::{DeploymentId, LogPost, StatusPost};

/// No connection is established for longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Below the five seconds after which a Node server closes an idle connection: a post on one that is just being closed is a post
/// whose answer is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// What is read of an answer's body (to use the connection again), and for how long.
const BODY_BYTES: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(2);

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
}

impl Client {
    pub fn new(config: &DashboardConfig, connections: usize) -> io::Result<Self> {
        let invalid = |why: &'static str| io::Error::new(io::ErrorKind::InvalidInput, why);
        // The error would not show the key, but says nothing either.
        let mut key = HeaderValue::from_str(config.key.expose_secret())
            .map_err(|_| invalid("API_KEY has a character that cannot be in an HTTP header"))?;
        key.set_sensitive(true);
        let http = reqwest::Client::builder()
            // The key goes to no other host than API_URL's: not to a redirect's, not to a proxy that the environment names.
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(config.timeout.min(CONNECT_TIMEOUT))
            .pool_max_idle_per_host(connections)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .user_agent(concat!("slipway/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(io::Error::other)?;
        let base = format!("{}/webhooks/deployments", config.url.as_str().trim_end_matches('/'));
        Ok(Self { http, base, key, timeout: config.timeout })
    }

    /// Posts once. The status line is the answer: what is cut after it was stored all the same.
    pub async fn post(&self, deployment: &DeploymentId, post: Post<'_>) -> Answer {
        match post {
            Post::Log(body) => self.send(&format!("{}/{deployment}/logs", self.base), body).await,
            Post::Status(body) => self.send(&format!("{}/{deployment}/status", self.base), body).await,
        }
    }

    async fn send(&self, url: &str, body: &impl Serialize) -> Answer {
        let body = match serde_json::to_vec(body) {
            Ok(body) => body,
            Err(e) => return Answer::Away { why: e.to_string(), retry_after: None },
        };
        let request =
            self.http.post(url).header("x-api-key", self.key.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let response = match tokio::time::timeout(self.timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => return Answer::Away { why: cause(&e), retry_after: None },
            Err(_) => {
                return Answer::Away { why: format!("no answer within {} s", self.timeout.as_secs_f32()), retry_after: None };
            }
        };
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let answer = Answer::of(response.status().as_u16(), retry_after, OffsetDateTime::now_utc());
        // Whether it comes whole does not matter; a body that does not end costs the connection.
        let _whole = tokio::time::timeout(BODY_TIMEOUT, drain(response)).await;
        answer
    }
}

async fn drain(mut response: reqwest::Response) -> bool {
    let mut read = 0;
    while read < BODY_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
}

/// The innermost cause: the outer ones say "error sending request for url", with the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: Option<&dyn std::error::Error> = error.source();
    while let Some(inner) = cause.and_then(|c| c.source()) {
        cause = Some(inner);
    }
    match cause {
        Some(cause) => cause.to_string(),
        None => "the request failed".to_owned(),
    }
}
