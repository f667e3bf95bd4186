//! PURE: the JSON that the dashboard takes (contract, "Reports out").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::log::LogType;

/// The statuses that a worker sends. `Builded` is the dashboard's own spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeploymentStatus {
    Pending,
    Building,
    Builded,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistryType {
    Ecr,
    Ghcr,
    Docker,
}

/// An immutable image reference: `<repository>:<tag>@sha256:<64 hex>`. Typed and never redacted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    repository: String,
    tag: String,
    digest: String,
}

impl ImageRef {
    /// `repository` with the registry's host, no scheme; `digest` as `sha256:` and 64 lower-case hexadecimal digits.
    /// `None` where one of them has not that shape.
    pub fn new(repository: &str, tag: &str, digest: &str) -> Option<Self> {
        let hex = digest.strip_prefix("sha256:")?;
        let hex_ok = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let tag_ok = !tag.is_empty()
            && tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        let repo_ok = !repository.is_empty() && !repository.contains('@') && repository.bytes().all(|b| b.is_ascii_graphic());
        (hex_ok && tag_ok && repo_ok).then(|| Self { repository: repository.into(), tag: tag.into(), digest: digest.into() })
    }
    pub fn repository(&self) -> &str {
        &self.repository
    }
    pub fn tag(&self) -> &str {
        &self.tag
    }
    pub fn digest(&self) -> &str {
        &self.digest
    }
}
impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.repository, self.tag, self.digest)
    }
}
impl From<ImageRef> for String {
    fn from(r: ImageRef) -> String {
        r.to_string()
    }
}
impl TryFrom<String> for ImageRef {
    type Error = &'static str;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let err = "not an image reference with tag and digest";
        let (name, digest) = s.split_once('@').ok_or(err)?;
        let (repository, tag) = name.rsplit_once(':').ok_or(err)?;
        ImageRef::new(repository, tag, digest).ok_or(err)
    }
}

/// `POST {API_URL}/webhooks/deployments/{id}/status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusPost {
    pub status: DeploymentStatus,
    /// At most 191 characters, or the server loses the event silently.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<StatusData>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusData {
    pub container_image_uri: ImageRef,
    pub container_registry_type: RegistryType,
}

/// The server loses the whole event, silently, of a longer `error`.
pub const ERROR_MAX_CHARS: usize = 191;

/// `text` cut to [`ERROR_MAX_CHARS`] characters, the last of them "…" where something is missing.
pub fn cut_error(text: &str) -> String {
    match text.char_indices().nth(ERROR_MAX_CHARS) {
        None => text.to_owned(),
        Some(_) => text.chars().take(ERROR_MAX_CHARS - 1).chain(['…']).collect(),
    }
}

/// One log post carries at most so many bytes of UTF-8 (the server takes 65,535 and answers 500 for ever to one more).
pub const LOG_TEXT_MAX_BYTES: usize = 60 * 1024;

/// Cuts `text` into pieces of 1 to [`LOG_TEXT_MAX_BYTES`] bytes, each as long as possible: at the end of a line, whose `\n` is then
/// left out (each post is shown as rows of its own), or between two characters of a line that is longer than that.
pub fn split_log_text(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.len() <= LOG_TEXT_MAX_BYTES {
            return Some(std::mem::take(&mut rest)).filter(|last| !last.is_empty());
        }
        let limit = rest.floor_char_boundary(LOG_TEXT_MAX_BYTES);
        // A line end right after the limit still fits: it is not sent.
        let window = rest.floor_char_boundary(LOG_TEXT_MAX_BYTES + 1);
        let (piece, after) = match rest[..window].rfind('\n') {
            Some(end) if end > 0 => (&rest[..end], &rest[end + 1..]),
            _ => rest.split_at(limit),
        };
        rest = after;
        Some(piece)
    })
}

/// `POST {API_URL}/webhooks/deployments/{id}/logs`. `text` is 1 to 65,535 bytes; we stay below 60 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPost {
    pub text: String,
    #[serde(rename = "type")]
    pub kind: LogType,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_error_is_cut_by_characters_not_bytes() {
        assert_eq!(cut_error("short"), "short");
        let exact = "é".repeat(191);
        assert_eq!(cut_error(&exact), exact);
        let cut = cut_error(&"é".repeat(192));
        assert_eq!(cut.chars().count(), 191);
        assert!(cut.ends_with("é…"));
    }

    #[test]
    fn a_long_log_is_cut_at_line_ends() {
        let line = "x".repeat(40_000);
        let text = format!("{line}\n{line}\n{line}");
        assert_eq!(split_log_text(&text).collect::<Vec<_>>(), [line.as_str(); 3]);
        let full = "y".repeat(LOG_TEXT_MAX_BYTES);
        assert_eq!(split_log_text(&format!("{full}\n{full}\n")).collect::<Vec<_>>(), [full.as_str(); 2]);
        assert_eq!(split_log_text("").count(), 0);
    }

    #[test]
    fn the_posts_have_the_dashboards_shape() {
        let image = ImageRef::new("r.example/svc", "dpl-1", &format!("sha256:{}", "0a".repeat(32))).unwrap();
        let post = StatusPost {
            status: DeploymentStatus::Builded,
            error: None,
            data: Some(StatusData { container_image_uri: image.clone(), container_registry_type: RegistryType::Ecr }),
        };
        let json = serde_json::to_value(&post).unwrap();
        let uri = image.to_string();
        assert_eq!(
            json,
            serde_json::json!({"status": "BUILDED", "data": {"containerImageUri": uri, "containerRegistryType": "ecr"}})
        );
        let log = LogPost { text: "hi".into(), kind: LogType::Stdout };
        assert_eq!(serde_json::to_string(&log).unwrap(), r#"{"text":"hi","type":"STDOUT"}"#);
    }

    proptest! {
        #[test]
        fn no_byte_of_a_log_is_lost_by_cutting(lines in prop::collection::vec(("[a-zé☺]{0,3}", 1usize..30_000), 0..12)) {
            let text = lines.iter().map(|(unit, n)| unit.repeat(*n)).collect::<Vec<_>>().join("\n");
            let mut rest = text.as_str();
            for piece in split_log_text(&text) {
                prop_assert!(!piece.is_empty() && piece.len() <= LOG_TEXT_MAX_BYTES);
                rest = rest.strip_prefix(piece).unwrap();
                rest = rest.strip_prefix('\n').unwrap_or(rest);
            }
            prop_assert_eq!(rest, "");
        }

        #[test]
        fn a_cut_error_is_a_beginning_of_the_whole(text in "\\PC{0,400}") {
            let cut = cut_error(&text);
            prop_assert!(cut.chars().count() <= ERROR_MAX_CHARS);
            prop_assert!(text.starts_with(cut.strip_suffix('…').unwrap_or(&cut)) || text == cut);
        }
    }
}
