//! The dashboard API that status and logs are reported to.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::reader::Reader;

#[derive(Debug, Clone)]
pub struct DashboardConfig {
    /// `API_URL`, default http://127.0.0.1:3000/api. Without a slash at the end.
    pub url: Url,
    /// `API_KEY` or `API_KEY_FILE`.
    pub key: SecretString,
    /// `API_TIMEOUT`, seconds, default 60: one post, connect to answer (its database was seen frozen for 12 s).
    pub timeout: Duration,
    /// `LOG_MAX_BYTES`: the cap of one deployment's journal, default 32 MiB; head and tail are kept.
    pub log_max_bytes: u64,
    /// `LOG_TOTAL_MAX` bytes, default 64 MiB: all that is told of one attempt's log. 0: no limit.
    pub log_total_max: u64,
    /// `JOURNAL_MAX_BYTES`: the cap of all undelivered journals together, default 1 GiB; above it nothing is claimed.
    pub journal_max_bytes: u64,
}

impl DashboardConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let url = r.url("API_URL");
        let key = key(r);
        let timeout = r.duration("API_TIMEOUT");
        let log_max_bytes = r.size("LOG_MAX_BYTES", 64 * 1024, "is less than 64 KiB; not even one post would fit");
        let log_total_max = r.size("LOG_TOTAL_MAX", 0, "");
        let journal_max_bytes = r.size("JOURNAL_MAX_BYTES", 64 * 1024, "is less than 64 KiB; not even one post would fit");
        if let (Some(one), Some(all)) = (log_max_bytes, journal_max_bytes)
            && all < one
        {
            r.reject("JOURNAL_MAX_BYTES", "is less than LOG_MAX_BYTES; a single chatty build would stop all claims");
            return None;
        }
        Some(Self {
            url: url?,
            key: key?,
            timeout: timeout?,
            log_max_bytes: log_max_bytes?,
            log_total_max: log_total_max?,
            journal_max_bytes: journal_max_bytes?,
        })
    }
}

/// The key travels in a header: it has to be visible ASCII.
fn key(r: &mut Reader) -> Option<SecretString> {
    let key = r.secret("API_KEY")?;
    if key.expose_secret().bytes().all(|b| b.is_ascii_graphic()) {
        return Some(key);
    }
    let text = key.expose_secret();
    if text.trim() != text {
        // The reader has noted that already.
        return None;
    }
    r.reject("API_KEY", "has a character that cannot stand in an HTTP header (a space, a new line, or one outside ASCII)");
    None
}

/// Where a dashboard is, for commands that ask it or stand in for it. There the key may be missing.
#[derive(Debug, Clone)]
pub struct DashboardAddress {
    /// `API_URL`, as in [`DashboardConfig`].
    pub url: Url,
    /// `API_KEY`, if there is one.
    pub key: Option<SecretString>,
}

impl DashboardAddress {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let url = r.url("API_URL");
        let key = if r.given("API_KEY").is_some() { key(r).map(Some) } else { Some(None) };
        Some(Self { url: url?, key: key? })
    }
}
