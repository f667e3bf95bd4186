//! PURE: what the dead letter list keeps of a job: the reason, and the payload with everything masked that may be a secret.

use serde_json::{Value, json};
use url::Url;

use crate::protocol::{DeploymentId, Failure, is_special};

/// Of a payload at most this much is kept.
const HEAD_BYTES: usize = 2048;
/// A run of so many letters and digits in a public value may be a token.
const TOKEN_CHARS: usize = 12;
/// Longer words in something that is not JSON are no words.
const PLAIN_WORD_CHARS: usize = 16;
const MASK: &str = "***";
/// Fields whose values are no secrets. Everything else is masked.
const PUBLIC_FIELDS: &[&str] = &[
    "deploymentId",
    "serviceId",
    "commitSha",
    "branch",
    "repositoryName",
    "runtimeFilePath",
    "type",
    "installationId",
    "username",
    "key",
    "servicePort",
    "containerPort",
];

/// One element of the dead letter list: JSON with `at` (RFC 3339), `deploymentId`, `code`, `reason`, `payload` (masked, cut).
pub fn note(deployment: Option<&DeploymentId>, failure: &Failure, payload: &[u8], at: &str) -> String {
    json!({
        "at": at,
        "deploymentId": deployment.map(DeploymentId::as_str),
        "code": failure.code.as_str(),
        "reason": failure.cause,
        "payload": masked(payload),
    })
    .to_string()
}

fn masked(payload: &[u8]) -> String {
    let text = match serde_json::from_slice::<Value>(payload) {
        Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
            mask_value(&mut value, false);
            value.to_string()
        }
        _ => mask_broken(&String::from_utf8_lossy(&payload[..payload.len().min(HEAD_BYTES)])),
    };
    let text = text.replace(is_special, " ");
    let end = text.floor_char_boundary(HEAD_BYTES);
    let cut = if end < text.len() { "…" } else { "" };
    format!("{}{cut}", &text[..end])
}

fn mask_value(value: &mut Value, public: bool) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "url" => *text = public_url(text),
                    _ => mask_value(value, PUBLIC_FIELDS.contains(&key.as_str())),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| mask_value(v, false)),
        Value::String(text) if public => *text = public_value(text),
        Value::String(text) if !text.is_empty() => *text = MASK.into(),
        Value::Number(_) if !public => *value = MASK.into(),
        _ => {}
    }
}

/// What is no whole JSON: a job that was cut off or has a mistake in it, or something else altogether.
fn mask_broken(text: &str) -> String {
    match text.contains(['{', '[', '"']) {
        true => mask_pieces(text),
        false => mask_words(text),
    }
}

/// What the next string of broken JSON may be, by what stands before it.
#[derive(Clone, Copy, PartialEq)]
enum Expected {
    Key,
    /// After this key and before its colon.
    Colon {
        public: bool,
    },
    Value {
        public: bool,
    },
    Nothing,
}

/// Keeps the marks, the keys where a key can stand, and the values of public fields. Where a quote is missing, strings and what is
/// between them change places: so nothing outside of quotes is kept either.
fn mask_pieces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut expected = Expected::Nothing;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let string = quoted(rest);
                let after = string.map_or("", |inside| rest[inside.len() + 2..].trim_start());
                let kept = match (string, expected) {
                    (Some(key), Expected::Key) if after.starts_with(':') => {
                        expected = Expected::Colon { public: PUBLIC_FIELDS.contains(&key) };
                        Some(mask_text(key))
                    }
                    (value, expected_before) => {
                        expected = Expected::Nothing;
                        value.filter(|_| expected_before == Expected::Value { public: true }).map(public_value)
                    }
                };
                out.push_str(&format!("\"{}\"", kept.as_deref().unwrap_or(MASK)));
                string.map_or(rest.len(), |inside| inside.len() + 2)
            }
            '{' | '}' | '[' | ']' | ',' | ':' => {
                expected = match (first, expected) {
                    ('{' | ',', _) => Expected::Key,
                    (':', Expected::Colon { public }) => Expected::Value { public },
                    _ => Expected::Nothing,
                };
                out.push(first);
                1
            }
            space if space.is_whitespace() => {
                out.push(' ');
                space.len_utf8()
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "{}[],:\"".contains(c)).unwrap_or(rest.len());
                expected = Expected::Nothing;
                out.push_str(if matches!(&rest[..end], "true" | "false" | "null") { &rest[..end] } else { MASK });
                end
            }
        };
        rest = &rest[length..];
    }
    out
}

/// What is between the quote that the text begins with and the one that ends it. `None`: none ends it.
fn quoted(text: &str) -> Option<&str> {
    let mut escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    Some(&text[1..=end])
}

/// Plain words of a text without any marks of JSON; everything else in it may be a secret.
fn mask_words(text: &str) -> String {
    let plain = |word: &str| {
        let word = word.trim_end_matches(['.', ',', ':', ';', '!', '?']);
        word.chars().count() <= PLAIN_WORD_CHARS && word.chars().all(char::is_alphabetic)
    };
    text.split_whitespace().map(|word| if plain(word) { word } else { MASK }).collect::<Vec<_>>().join(" ")
}

/// A value of a public field; not where it may be an address with a password in it.
fn public_value(text: &str) -> String {
    if text.contains('@') && text.contains(':') { MASK.into() } else { mask_text(text) }
}

/// The address of a CUSTOM git server: no secret but for a login in it, which does not belong there, and a query.
fn public_url(text: &str) -> String {
    let Some((url, host)) = Url::parse(text).ok().and_then(|url| Some((url.clone(), url.host_str()?.to_owned()))) else {
        return if text.is_empty() { String::new() } else { MASK.into() };
    };
    let has_login = !url.username().is_empty() || url.password().is_some();
    let login = if has_login { format!("{MASK}@") } else { String::new() };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let rest = if url.query().is_some() || url.fragment().is_some() { MASK } else { "" };
    format!("{}://{login}{host}{port}{}{rest}", url.scheme(), mask_text(url.path()))
}

/// Long runs that look like tokens become `***`; ids, words and paths stay readable.
fn mask_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '=' | '%') {
            run.push(c);
            continue;
        }
        let tokenish = run.len() >= TOKEN_CHARS && run.bytes().any(|b| b.is_ascii_digit());
        out.push_str(if tokenish { MASK } else { &run });
        run.clear();
        match c {
            '\0' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Code;

    fn kept(payload: &str) -> String {
        let failure = Failure::new(Code::JobMalformed, "branch is empty", "");
        let note = note(None, &failure, payload.as_bytes(), "2026-01-01T00:00:00Z");
        let value: Value = serde_json::from_str(&note).unwrap();
        value["payload"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_a_person_typed_by_mistake_stays_readable() {
        assert_eq!(kept("not json"), "not json");
    }

    #[test]
    fn tokens_and_environment_values_are_masked_and_names_stay() {
        let payload = r#"{"serviceId":"svc_91","gitProvider":{"type":"GITHUB","githubAccount":{"username":"octo","accessToken":"ghs_tokentoken"}},
            "environmentVariables":[{"key":"FOO","value":"hunter2"}]}"#;
        let kept = kept(payload);
        assert!(!kept.contains("ghs_tokentoken") && !kept.contains("hunter2"), "{kept}");
        assert!(kept.contains("svc_91") && kept.contains("FOO") && kept.contains("octo"), "{kept}");
    }

    #[test]
    fn a_token_in_a_job_that_was_cut_off_is_masked() {
        let kept = kept(r#"{"serviceId":"svc_91","gitProvider":{"accessToken":"ghs_16C7e42F292c6912E7710c838347Ae178B4a"#);
        assert!(!kept.contains("16C7e42F"), "{kept}");
        assert!(kept.contains("svc_91"), "{kept}");
    }

    #[test]
    fn nothing_in_it_ends_a_line_or_turns_the_writing_around() {
        let forged = "a\u{2028}b\u{202e}c\u{9b}d";
        for job in [json!({ "branch": forged, forged: 1 }).to_string(), format!("{{{forged} \"branch\":\"{forged}\",")] {
            let kept = kept(&job);
            assert!(!kept.contains(is_special), "{kept:?}");
        }
    }

    #[test]
    fn a_job_of_megabytes_leaves_two_kilobytes() {
        assert!(kept(&"x ".repeat(3_000_000)).len() <= HEAD_BYTES + 4);
        assert!(kept(&format!("[{}1]", "\"a\",".repeat(500_000))).len() <= HEAD_BYTES + 4);
    }

    #[test]
    fn passwords_and_values_of_a_broken_job_are_masked_however_short() {
        for secret in ["hunter2!Pass", "correct-horse", "Tr0ub4dor&3x!", "postgres://app:s3cr3t@db/x", r#"a\"b,\"key\":\"c"#] {
            for job in [
                format!(r#"{{"serviceId":"svc_91",,"environmentVariables":[{{"key":"FOO","value":"{secret}"}}]}}"#),
                format!(r#"{{"serviceId":"svc_91","environmentVariables":[{{"key":"FOO","value":"{secret}"#),
                format!(r#"{{"serviceId":"svc_91","x":{{"username":"FOO","password":"{secret}"}},}}"#),
                format!(r#"{{"serviceId":"svc_91","key":"FOO","value:"{secret}"}}"#),
                format!(r#"{{"serviceId":"svc_91","key":"FOO","value":{secret}}}"#),
            ] {
                let kept = kept(&job);
                assert!(!kept.contains(&secret[..6]) && !kept.contains("s3cr3t"), "{kept}");
                assert!(kept.contains("svc_91") && kept.contains("FOO"), "{kept}");
            }
        }
    }

    #[test]
    fn a_secret_that_was_pushed_by_itself_is_masked() {
        for secret in ["hunter2!Pass", "correct-horse", "Tr0ub4dor&3x!", "postgres://app:s3cr3t@db/x", "\"hunter2!Pass\""] {
            assert!(!kept(&format!("oops {secret}")).contains(&secret[1..5]), "{secret}");
            assert!(!kept(secret).contains(&secret[1..5]), "{secret}");
        }
    }

    #[test]
    fn an_address_with_a_password_in_a_public_field_is_masked() {
        for end in ["", ","] {
            let kept = kept(&format!(r#"{{"repositoryName":"https://octo:hunter2@git.example/x","branch":"main"{end}}}"#));
            assert!(!kept.contains("hunter2") && kept.contains("main"), "{kept}");
        }
    }

    #[test]
    fn the_address_of_a_custom_git_server_stays_readable_without_a_login_in_it() {
        let url = |url: &str| {
            let kept = kept(&json!({ "gitProvider": { "type": "CUSTOM", "url": url, "password": "hunter22" } }).to_string());
            let job: Value = serde_json::from_str(&kept).unwrap();
            assert_eq!(job["gitProvider"]["password"], MASK);
            job["gitProvider"]["url"].as_str().unwrap().to_owned()
        };
        assert_eq!(url("https://git-eu1-prod2.example:8443/team"), "https://git-eu1-prod2.example:8443/team");
        assert_eq!(url("https://octo:hunter22@git.example/team"), "https://***@git.example/team");
        assert_eq!(url("https://git.example/team?token=hunter22"), "https://git.example/team***");
        assert_eq!(url("git.example hunter22"), MASK);
    }

    proptest! {
        #[test]
        fn no_secret_of_a_job_cut_or_damaged_at_any_byte_is_kept(
            secret in "[ -~é]{6,24}", other in "[ -~]{6,24}", at in any::<prop::sample::Index>(),
        ) {
            let job = json!({
                "deploymentId": "d1",
                "gitProvider": { "type": "GITHUB", "githubAccount": { "username": "octo", "accessToken": secret } },
                "branch": "main",
                "registry": { "username": "u", "password": other },
                "environmentVariables": [{ "key": "FOO", "value": secret }, { "value": other, "key": "BAR" }],
                "servicePort": 80,
            });
            let whole = job.to_string().into_bytes();
            let at = at.index(whole.len());
            let without = [&whole[..at], &whole[at + 1..]].concat();
            let doubled = [&whole[..at], b",", &whole[at..]].concat();
            // what is kept of a job without any secrets is no part of one
            let names = job.to_string().replace(&json!(secret).to_string(), "").replace(&json!(other).to_string(), "");
            for broken in [&whole[..at], &whole[at..], &without, &doubled] {
                let failure = Failure::new(Code::JobMalformed, "", "");
                let kept = note(None, &failure, broken, "");
                let kept: Value = serde_json::from_str(&kept).unwrap();
                let kept = kept["payload"].as_str().unwrap();
                for secret in [&secret, &other] {
                    let chars: Vec<char> = secret.chars().collect();
                    for part in chars.windows(6) {
                        let part: String = part.iter().collect();
                        // marks alone tell nothing
                        let marks = part.chars().all(|c| "{}[],:\"* ".contains(c));
                        prop_assert!(marks || names.contains(&part) || !kept.contains(&part), "{part:?} of {secret:?} in {kept}");
                    }
                }
            }
        }
    }
}
