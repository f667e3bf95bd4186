//! Redis: where the jobs come from. `REDIS_URL` and the single keys say one thing: where they contradict each other, both are named.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};

use super::reader::{Reader, flag, whole};
use super::redis_tls::TlsTrust;
use super::redis_url::{RedisUrl, database};

/// `REDIS_HOST` of `config/default.toml`.
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 6379;

/// `REDIS_MODE`: what stands in Redis while a job is in work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueMode {
    /// The job, under a lease: when its worker dies another one builds it.
    Leases,
    /// Nothing: jobs are popped, and one whose worker is killed is lost. For a Redis or a user that can do no more than that.
    Plain,
}

#[derive(Debug, Clone)]
pub struct QueueConfig {
    /// `REDIS_URL` or `REDIS_HOST`, default 127.0.0.1. An IPv6 address stands without brackets.
    pub host: String,
    /// `REDIS_URL` or `REDIS_PORT`, default 6379.
    pub port: u16,
    /// `REDIS_URL` or `REDIS_USERNAME`, empty = none.
    pub username: Option<String>,
    /// `REDIS_URL`, `REDIS_PASSWORD` or `REDIS_PASSWORD_FILE`.
    pub password: Option<SecretString>,
    /// `REDIS_URL` or `REDIS_DB`, default 0.
    pub database: u32,
    /// `rediss://` in `REDIS_URL`, or `REDIS_TLS`; whom to trust by `REDIS_TLS_CA_FILE`. `None`: no TLS.
    pub tls: Option<TlsTrust>,
    /// `REDIS_MODE`, default leases.
    pub mode: QueueMode,
    /// `REDIS_QUEUE_NAME`, default builder-queue.
    pub queue_name: String,
    /// `REDIS_CANCEL_CHANNEL_NAME`, default builder:cancel.
    pub cancel_channel: String,
    /// `MAX_JOB_BYTES`, default 4 MiB.
    pub max_job_bytes: usize,
}

impl QueueConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let server = Server::read(r);
        let mode = r.parsed("REDIS_MODE", mode);
        let queue_name = r.parsed("REDIS_QUEUE_NAME", queue_name);
        let cancel_channel = r.parsed("REDIS_CANCEL_CHANNEL_NAME", whole);
        let max_job_bytes = r.size("MAX_JOB_BYTES", 1024, "is less than 1 KiB; no job would fit");
        let server = server?;
        Some(Self {
            host: server.host,
            port: server.port,
            username: server.username,
            password: server.password,
            database: server.database,
            tls: server.tls,
            mode: mode?,
            queue_name: queue_name?,
            cancel_channel: cancel_channel?,
            max_job_bytes: usize::try_from(max_job_bytes?).unwrap_or(usize::MAX),
        })
    }

    /// For people: host and port, with the database and TLS where they are not the default.
    pub fn address(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let database = if self.database == 0 { String::new() } else { format!("/{}", self.database) };
        let tls = if self.tls.is_some() { " (TLS)" } else { "" };
        format!("{host}:{}{database}{tls}", self.port)
    }
}

/// Where Redis is and how to log in.
struct Server {
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<SecretString>,
    database: u32,
    tls: Option<TlsTrust>,
}

impl Server {
    fn read(r: &mut Reader) -> Option<Self> {
        r.given_secret("REDIS_URL");
        let url = r.given_parsed("REDIS_URL", RedisUrl::parse);
        let host = r.parsed("REDIS_HOST", redis_host);
        let port = r.number("REDIS_PORT", 1..=65535);
        let username = r.given_parsed("REDIS_USERNAME", whole);
        let password = r.given_secret("REDIS_PASSWORD");
        let number = r.parsed("REDIS_DB", database);
        let tls = r.parsed("REDIS_TLS", |text| if text == "auto" { Ok(None) } else { flag(text).map(Some) });
        let (host, port, number) = (host?, port?, number?);
        let keys = Keys {
            host: Chosen { is: r.is_chosen("REDIS_HOST", host == DEFAULT_HOST), value: host },
            port: Chosen { is: r.is_chosen("REDIS_PORT", port == DEFAULT_PORT), value: port },
            username: username?,
            password,
            database: Chosen { is: r.is_chosen("REDIS_DB", number == 0), value: number },
            tls: tls?,
        };
        let (mut server, uses_tls) = match keys.joined(url?) {
            Ok(joined) => joined,
            Err(contradictions) => {
                for (key, problem) in contradictions {
                    r.reject_together(&["REDIS_URL", key], format!("{problem}. Keep one of the two"));
                }
                return None;
            }
        };
        if server.username.is_some() && server.password.is_none() {
            let problem =
                "a user is given, but no password. (In REDIS_URL a password alone stands behind a colon: redis://:password@host)";
            r.reject_together(&["REDIS_USERNAME", "REDIS_PASSWORD"], problem);
            return None;
        }
        server.tls = trust(r, uses_tls)?;
        Some(server)
    }
}

/// What the single keys say.
struct Keys {
    host: Chosen<String>,
    port: Chosen<u16>,
    username: Option<String>,
    password: Option<SecretString>,
    database: Chosen<u32>,
    tls: Option<bool>,
}

/// A value, and whether somebody chose it: a default contradicts no URL.
struct Chosen<T> {
    value: T,
    is: bool,
}

impl<T: PartialEq> Chosen<T> {
    fn contradicts(&self, other: &T) -> bool {
        self.is && self.value != *other
    }
}

impl Keys {
    /// Joined with the URL: each may say what the other leaves out (a password in a file of its own). Returns also whether TLS is
    /// wanted; or the keys that contradict the URL, each with the contradiction.
    fn joined(self, url: Option<RedisUrl>) -> Result<(Server, bool), Vec<(&'static str, String)>> {
        let Some(url) = url else {
            let Self { host, port, username, password, database, tls } = self;
            let (host, port, database) = (host.value, port.value, database.value);
            return Ok((Server { host, port, username, password, database, tls: None }, tls.unwrap_or_default()));
        };
        let mut wrong = Vec::new();
        let port = url.port.unwrap_or(self.port.value);
        if self.host.contradicts(&url.host) {
            wrong.push(("REDIS_HOST", format!("REDIS_URL names the host {}, REDIS_HOST is {}", url.host, self.host.value)));
        }
        if self.port.contradicts(&port) {
            wrong.push(("REDIS_PORT", format!("REDIS_URL names port {port}, REDIS_PORT is {}", self.port.value)));
        }
        if both_and_different(url.username.as_ref(), self.username.as_ref()) {
            wrong.push(("REDIS_USERNAME", "REDIS_URL names another user than REDIS_USERNAME".to_owned()));
        }
        let text = SecretString::expose_secret;
        if both_and_different(url.password.as_ref().map(text), self.password.as_ref().map(text)) {
            wrong.push(("REDIS_PASSWORD", "REDIS_URL holds another password than REDIS_PASSWORD".to_owned()));
        }
        let number = url.database.unwrap_or(self.database.value);
        if self.database.contradicts(&number) {
            wrong.push(("REDIS_DB", format!("REDIS_URL names database {number}, REDIS_DB is {}", self.database.value)));
        }
        if self.tls.is_some_and(|tls| tls != url.tls) {
            let scheme = if url.tls { "rediss:// (TLS)" } else { "redis:// (no TLS)" };
            wrong.push(("REDIS_TLS", format!("REDIS_URL begins with {scheme}, REDIS_TLS is {}", !url.tls)));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (username, password) = (url.username.or(self.username), url.password.or(self.password));
        Ok((Server { host: url.host, port, username, password, database: number, tls: None }, url.tls))
    }
}

fn both_and_different<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
    a.is_some() && b.is_some() && a != b
}

/// `Some(None)`: no TLS.
fn trust(r: &mut Reader, uses_tls: bool) -> Option<Option<TlsTrust>> {
    match (uses_tls, r.given_path("REDIS_TLS_CA_FILE")) {
        (false, None) => Some(None),
        (true, None) => Some(Some(TlsTrust::System)),
        // Whoever names an authority wants TLS: passwords and jobs must not cross the network in clear by an oversight.
        (false, Some(_)) => {
            r.reject(
                "REDIS_TLS_CA_FILE",
                "is set, but the connection uses no TLS. Write rediss:// in REDIS_URL, or set REDIS_TLS=true",
            );
            None
        }
        (true, Some(path)) => match TlsTrust::of_file(&path) {
            Ok(trust) => Some(Some(trust)),
            Err(problem) => {
                r.reject("REDIS_TLS_CA_FILE", &format!("is no file of certificates: {problem}"));
                None
            }
        },
    }
}

/// A host name or an address; everything else that people write there is refused with its cure.
pub(super) fn redis_host(text: &str) -> Result<String, &'static str> {
    whole(text)?;
    if text.contains("://") || text.contains('@') {
        return Err("is a URL; set REDIS_URL to it, or write the host alone, and user, password and port in keys of their own");
    }
    if text.starts_with('[') {
        return Err("has brackets; write an IPv6 address without them (::1), and a port in REDIS_PORT");
    }
    let zoned = text.split_once('%').map_or(text, |(address, _)| address);
    if zoned.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.contains(':') {
        return Err("has a port; write the host alone, and the port in REDIS_PORT");
    }
    if text.starts_with('/') {
        return Err("is a path; Unix sockets are not supported. Let Redis listen on 127.0.0.1 too");
    }
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if !plain {
        return Err("is not a host name or address");
    }
    Ok(text.to_owned())
}

fn mode(text: &str) -> Result<QueueMode, &'static str> {
    match text {
        "leases" => Ok(QueueMode::Leases),
        "plain" => Ok(QueueMode::Plain),
        _ => Err("is neither leases nor plain"),
    }
}

/// All other keys carry the queue's hash tag. A name with one tag of its own lends it; other braces would put the keys in different slots.
fn queue_name(text: &str) -> Result<String, &'static str> {
    whole(text)?;
    let braces: String = text.chars().filter(|c| matches!(c, '{' | '}')).collect();
    match braces.as_str() {
        "" => Ok(text.to_owned()),
        "{}" if !text.contains("{}") => Ok(text.to_owned()),
        _ => Err("has braces that are not one hash tag such as {prod}:queue"),
    }
}
