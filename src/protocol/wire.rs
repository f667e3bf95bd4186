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
    /// An immutable reference: it has the digest.
    pub container_image_uri: String,
    pub container_registry_type: RegistryType,
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
    use super::*;

    #[test]
    fn the_posts_have_the_dashboards_shape() {
        let image = ImageRef::new("r.example/svc", "dpl-1", &format!("sha256:{}", "0a".repeat(32))).unwrap();
        let post = StatusPost {
            status: DeploymentStatus::Builded,
            error: None,
            data: Some(StatusData { container_image_uri: image.to_string(), container_registry_type: RegistryType::Ecr }),
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
}
