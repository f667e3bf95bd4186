//! Redis: where the jobs come from.

use secrecy::SecretString;

use super::reader::Reader;

#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// `REDIS_HOST`, default 127.0.0.1.
    pub host: String,
    /// `REDIS_PORT`, default 6379.
    pub port: u16,
    /// `REDIS_USERNAME`, empty = none.
    pub username: Option<String>,
    /// `REDIS_PASSWORD` or `REDIS_PASSWORD_FILE`.
    pub password: Option<SecretString>,
    /// `REDIS_QUEUE_NAME`, default builder-queue.
    pub queue_name: String,
    /// `REDIS_CANCEL_CHANNEL_NAME`, default builder:cancel.
    pub cancel_channel: String,
    /// `MAX_JOB_BYTES`, default 4 MiB.
    pub max_job_bytes: usize,
}

impl QueueConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let host = r.parsed("REDIS_HOST", redis_host);
        let port = r.number("REDIS_PORT", 1..=65535);
        let username = r.given("REDIS_USERNAME").map(str::to_owned);
        let password = r.given_secret("REDIS_PASSWORD");
        let queue_name = r.parsed("REDIS_QUEUE_NAME", queue_name);
        let cancel_channel = r.text("REDIS_CANCEL_CHANNEL_NAME");
        let max_job_bytes = r.size("MAX_JOB_BYTES", 1024, "is less than 1 KiB; no job would fit");
        if username.is_some() && password.is_none() {
            r.reject_together(&["REDIS_USERNAME", "REDIS_PASSWORD"], "a user is given, but no password");
            return None;
        }
        Some(Self {
            host: host?,
            port: port?,
            username,
            password,
            queue_name: queue_name?,
            cancel_channel: cancel_channel?,
            max_job_bytes: usize::try_from(max_job_bytes?).unwrap_or(usize::MAX),
        })
    }
}

fn redis_host(text: &str) -> Result<String, &'static str> {
    if text.contains("://") || text.contains('@') {
        return Err("is a URL; write the host alone, and user, password and port in keys of their own");
    }
    if text.contains(['/', ' ']) {
        return Err("is not a host name or address");
    }
    Ok(text.to_owned())
}

/// All other keys carry the queue's hash tag. A name with one tag of its own lends it; other braces would put the keys in different slots.
fn queue_name(text: &str) -> Result<String, &'static str> {
    let braces: String = text.chars().filter(|c| matches!(c, '{' | '}')).collect();
    match braces.as_str() {
        "" => Ok(text.to_owned()),
        "{}" if !text.contains("{}") => Ok(text.to_owned()),
        _ => Err("has braces that are not one hash tag such as {prod}:queue"),
    }
}
