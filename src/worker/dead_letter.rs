//! PURE: what the dead letter list keeps of a job: the reason, and the payload with everything masked that may be a secret.

use serde_json::{Value, json};

use crate::protocol::{DeploymentId, Failure};

/// Of a payload at most this much is kept.
const HEAD_BYTES: usize = 2048;
/// A run of so many letters and digits in something that is not JSON may be a token.
const TOKEN_CHARS: usize = 12;
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
        _ => mask_text(&String::from_utf8_lossy(&payload[..payload.len().min(HEAD_BYTES)])),
    };
    let end = text.floor_char_boundary(HEAD_BYTES);
    let cut = if end < text.len() { "…" } else { "" };
    format!("{}{cut}", &text[..end])
}

fn mask_value(value: &mut Value, public: bool) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                mask_value(value, PUBLIC_FIELDS.contains(&key.as_str()));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|v| mask_value(v, false)),
        Value::String(text) if public => *text = mask_text(text),
        Value::String(text) if !text.is_empty() => *text = "***".into(),
        Value::Number(_) if !public => *value = "***".into(),
        _ => {}
    }
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
        out.push_str(if tokenish { "***" } else { &run });
        run.clear();
        match c {
            '\0' => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
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
    fn a_job_of_megabytes_leaves_two_kilobytes() {
        assert!(kept(&"x ".repeat(3_000_000)).len() <= HEAD_BYTES + 4);
        assert!(kept(&format!("[{}1]", "\"a\",".repeat(500_000))).len() <= HEAD_BYTES + 4);
    }
}
