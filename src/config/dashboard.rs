//! The dashboard API that status and logs are reported to.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

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
    /// `JOURNAL_MAX_BYTES`: the cap of all undelivered journals together, default 1 GiB; above it nothing is claimed.
    pub journal_max_bytes: u64,
}
