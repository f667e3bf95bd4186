//! The `Retry-After` header, by which a peer asks for patience.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The most that a `Retry-After` is honoured for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// How long a response asks for patience, counted from now.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    parse_retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, OffsetDateTime::now_utc())
}

/// Seconds, or a date (RFC 9110, 10.2.3). A date that has passed is no wait. `None`: neither of them.
pub fn parse_retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some((date - now).try_into().unwrap_or(Duration::ZERO))
}
