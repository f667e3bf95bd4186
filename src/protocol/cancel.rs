//! PURE: what a message on the cancel channel says.

use serde::Deserialize;

use super::id::DeploymentId;

/// Longer messages are not read: an id has at most 64 characters.
const MAX_BYTES: usize = 4096;

/// `{"deploymentId":"dpl_8f3k2"}` or a bare id, with or without quotes and space around it. `None` where it is neither.
pub fn parse_cancel(message: &[u8]) -> Option<DeploymentId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Message {
        deployment_id: String,
    }

    if message.len() > MAX_BYTES {
        return None;
    }
    let text = std::str::from_utf8(message).ok()?.trim();
    if text.starts_with('{') {
        let message: Message = serde_json::from_str(text).ok()?;
        return DeploymentId::parse(message.deployment_id.trim()).ok();
    }
    let bare = ['"', '\''].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q)).unwrap_or(text);
    DeploymentId::parse(bare.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &str) -> Option<String> {
        parse_cancel(message.as_bytes()).map(String::from)
    }

    #[test]
    fn a_cancel_is_understood_as_json_and_as_people_type_it() {
        for message in [
            r#"{"deploymentId":"dpl_8f3k2"}"#,
            " {\"deploymentId\": \"dpl_8f3k2\", \"by\": {\"user\": [1]}}\n",
            "dpl_8f3k2",
            "  dpl_8f3k2\r\n",
            "\"dpl_8f3k2\"",
            "'dpl_8f3k2'",
        ] {
            assert_eq!(read(message).as_deref(), Some("dpl_8f3k2"), "{message}");
        }
    }

    #[test]
    fn what_is_no_cancel_is_ignored() {
        for message in ["", "{}", r#"{"deploymentId":7}"#, r#"{"deploymentId":"../x"}"#, "\"dpl", "a b", "-rf", "[\"dpl\"]"] {
            assert_eq!(read(message), None, "{message}");
        }
        assert_eq!(read(&format!("{}dpl", " ".repeat(5000))), None);
        assert_eq!(parse_cancel(b"\xff\xfe"), None);
        assert_eq!(read(&"{\"a\":".repeat(800)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_message_brings_the_worker_down(message: Vec<u8>) {
            let _ = parse_cancel(&message);
        }
    }
}
