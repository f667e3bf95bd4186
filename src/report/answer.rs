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
    /// 401, 403: the key is not accepted, unless a test post passes: then something before the API refuses this one post.
    Denied(u16),
    /// 404: no such id, or its database is down; it says the same for both.
    UnknownId,
    /// 413.
    TooLarge,
    /// 500 and its kin: this post will never be taken, or the dashboard is in trouble; it says the same for both.
    Failed(u16),
    /// No answer, or one that says "later".
    Away { why: String, retry_after: Option<Duration> },
    /// Whatever answers, it is not the dashboard's API.
    NotTheApi { status: u16, why: String },
}

/// What was read of an answer's body.
#[derive(Debug, Clone, Copy)]
pub struct Body<'b> {
    pub bytes: &'b [u8],
    /// It was read to its end.
    pub is_whole: bool,
    /// The value of `Content-Type`.
    pub content_type: &'b str,
}

impl Body<'_> {
    /// Why it is not what the API says when it has stored a post: a JSON object that tells no error.
    fn is_no_acknowledgement(&self) -> Option<&'static str> {
        if self.is_page() {
            return Some("a web page");
        }
        let text = self.bytes.trim_ascii();
        if !self.is_whole {
            // Stored all the same: what was cut behind the status line and the beginning of the object changes nothing.
            return None;
        }
        if text.is_empty() {
            return Some("an empty body");
        }
        match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(text) {
            Err(_) => Some("something else than a JSON object"),
            Ok(object) if tells_an_error(&object) => Some("an error"),
            Ok(_) => None,
        }
    }

    /// Nothing came of it that would tell whose answer it is.
    fn is_cut_before_it_says(&self) -> bool {
        !self.is_whole && !self.is_page() && !self.bytes.trim_ascii().starts_with(b"{")
    }

    fn is_page(&self) -> bool {
        let is_html = self.content_type.trim().to_ascii_lowercase().starts_with("text/html");
        is_html || self.bytes.trim_ascii().starts_with(b"<")
    }
}

fn tells_an_error(object: &serde_json::Map<String, serde_json::Value>) -> bool {
    object.get("success") == Some(&serde_json::Value::Bool(false)) || object.get("error").is_some_and(|error| !error.is_null())
}

impl Answer {
    /// From the status line and the body. A 2xx without the API's own JSON is a page of something else: a sign-in page, a proxy, an
    /// address that answers everything. So is a refusal of one post that comes as a web page.
    pub fn with_body(status: u16, retry_after: Option<&str>, body: Body<'_>, now: OffsetDateTime) -> Self {
        let answer = Self::of(status, retry_after, now);
        if answer == Answer::Taken && body.is_cut_before_it_says() {
            // As with an answer that does not come at all: it may have been stored.
            let why = format!("its answer {status} broke off before its body came");
            return Answer::Away { why, retry_after: None };
        }
        let found = match answer {
            Answer::Taken => body.is_no_acknowledgement(),
            Answer::Invalid(_) => body.is_page().then_some("a web page"),
            _ => None,
        };
        match found {
            None => answer,
            Some(found) => Answer::NotTheApi {
                status,
                why: format!(
                    "it answers {status} with {found}, which is not the dashboard's API: check API_URL, and what stands before it (a proxy, a sign-in page)"
                ),
            },
        }
    }

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

    fn with_body(status: u16, content_type: &str, bytes: &str, is_whole: bool) -> Answer {
        let body = Body { bytes: bytes.as_bytes(), is_whole, content_type };
        Answer::with_body(status, None, body, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_2xx_is_an_acknowledgement_only_with_the_apis_json() {
        for body in ["{}", r#"{"success":true}"#, " {\"ok\": 1}\n", r#"{"error":null}"#] {
            assert_eq!(with_body(200, "application/json", body, true), Answer::Taken, "{body}");
            assert_eq!(with_body(201, "", body, true), Answer::Taken, "{body}");
        }
        for body in ["", "ok", "[]", "true", "<!DOCTYPE html><p>Sign in</p>", r#"{"success":false}"#, r#"{"error":"login"}"#, "{"]
        {
            assert!(matches!(with_body(200, "text/plain", body, true), Answer::NotTheApi { .. }), "{body}");
        }
        assert!(matches!(with_body(200, "Text/HTML; charset=utf-8", "{}", true), Answer::NotTheApi { .. }));
    }

    #[test]
    fn an_acknowledgement_that_was_cut_off_behind_its_beginning_is_one() {
        assert_eq!(with_body(200, "application/json", r#"{"succ"#, false), Answer::Taken);
        assert!(matches!(with_body(200, "application/json", "", false), Answer::Away { .. }), "it may have been stored");
        assert!(matches!(with_body(200, "", "<html", false), Answer::NotTheApi { .. }));
    }

    #[test]
    fn a_400_that_comes_as_a_page_refuses_no_post() {
        assert!(matches!(with_body(400, "text/html", "<h1>plain HTTP to an HTTPS port</h1>", true), Answer::NotTheApi { .. }));
        assert_eq!(with_body(400, "application/json", r#"{"error":"empty"}"#, true), Answer::Invalid(400));
        assert_eq!(
            with_body(413, "text/html", "<h1>too large</h1>", true),
            Answer::TooLarge,
            "a server before the API says so too"
        );
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
