//! PURE: what the dashboard's answer to one post means for the worker (contract, "Reports out", the table).

use std::time::Duration;

use time::OffsetDateTime;

use crate::peer::parse_retry_after;

/// The meaning of one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 2xx: stored.
    Taken,
    /// 400 and its kin: this post is wrong and will never be right. A defect of ours.
    Invalid(u16),
    /// 401, 403: the key is not accepted.
    Denied(u16),
    /// 404: no such id, or its database is down; it says the same for both.
    UnknownId,
    /// 413.
    TooLarge,
    /// 500 and its kin: this post will never be taken, or the dashboard is in trouble; it says the same for both.
    Failed(u16),
    /// No answer, or one that says "later".
    Away { why: String, retry_after: Option<Duration> },
}

impl Answer {
    /// From the status line. `retry_after`: that header's value.
    pub fn of(status: u16, retry_after: Option<&str>, now: OffsetDateTime) -> Self {
        match status {
            200..=299 => Answer::Taken,
            401 | 403 => Answer::Denied(status),
            404 => Answer::UnknownId,
            413 => Answer::TooLarge,
            408 | 425 | 429 | 502..=504 => Answer::Away {
                why: format!("it answers {status}"),
                retry_after: retry_after.and_then(|value| parse_retry_after(value, now)),
            },
            400..=499 => Answer::Invalid(status),
            500..=599 => Answer::Failed(status),
            300..=399 => Answer::Away {
                why: format!("it answers {status}, a redirect, which is not followed: check API_URL"),
                retry_after: None,
            },
            _ => Answer::Away { why: format!("it answers {status}"), retry_after: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        Answer::of(status, retry_after, OffsetDateTime::from_unix_timestamp(784_111_777).unwrap())
    }

    #[test]
    fn the_measured_answers_mean_what_the_contract_says() {
        assert_eq!(answer(200, None), Answer::Taken);
        assert_eq!(answer(400, None), Answer::Invalid(400));
        assert_eq!(answer(401, None), Answer::Denied(401));
        assert_eq!(answer(404, None), Answer::UnknownId);
        assert_eq!(answer(413, None), Answer::TooLarge);
        assert_eq!(answer(500, None), Answer::Failed(500));
        assert!(matches!(answer(503, None), Answer::Away { retry_after: None, .. }));
        assert!(matches!(answer(301, None), Answer::Away { .. }));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let wait = |value| match answer(429, Some(value)) {
            Answer::Away { retry_after, .. } => retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
    }
}
