//! PURE: validated identifiers. A value of one of these types is safe in a path segment, an argument and a log line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a string is not an identifier. `Display` names the rule that it breaks, never the value (it may be hostile).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {rule}")]
pub struct InvalidId {
    pub what: &'static str,
    pub rule: &'static str,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn parse(value: &str) -> Result<Self, InvalidId> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                match check(value) {
                    Ok(()) => Ok(Self(value.to_owned())),
                    Err(rule) => Err(InvalidId { what: $what, rule }),
                }
            }
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::parse(&value)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }
    };
}

identifier!(
    /// A deployment's id: 1 to 64 of `[A-Za-z0-9_-]`, beginning with a letter or digit.
    /// (The producer makes 20 of `[a-z0-9]`; people type others.)
    DeploymentId, "deploymentId", plain_id
);
identifier!(
    /// A service's id, by the same rule. It names the repository in the registry, where capitals are written in another way.
    ServiceId, "serviceId", plain_id
);
identifier!(
    /// 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits, not all zero.
    CommitSha, "commitSha", commit_sha
);
identifier!(
    /// A branch or tag name by git's own rules (`git check-ref-format`), without a leading dash, at most 255 bytes, and without
    /// characters that would forge what stands around it in a log.
    BranchName, "branch", branch_name
);
identifier!(
    /// `owner/name`, or more segments (GitLab groups): each of `[A-Za-z0-9._-]`, none `.` or `..`, none beginning with a dash.
    RepositoryName, "repositoryName", repository_name
);

fn plain_id(v: &str) -> Result<(), &'static str> {
    let Some(first) = v.bytes().next() else {
        return Err("is empty");
    };
    if v.len() > 64 {
        return Err("is longer than 64 characters");
    }
    if !first.is_ascii_alphanumeric() {
        return Err("does not begin with a letter or digit");
    }
    if !v.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        return Err("has a character other than letters, digits, '_' and '-'");
    }
    Ok(())
}

fn commit_sha(v: &str) -> Result<(), &'static str> {
    if v.len() != 40 && v.len() != 64 {
        return Err("is not 40 or 64 hexadecimal digits");
    }
    if !v.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("has a character that is not a lower-case hexadecimal digit");
    }
    if v.bytes().all(|b| b == b'0') {
        return Err("is all zeros: the branch was deleted, there is nothing to build");
    }
    Ok(())
}

fn branch_name(v: &str) -> Result<(), &'static str> {
    if v.is_empty() {
        return Err("is empty");
    }
    if v.len() > 255 {
        return Err("is longer than 255 bytes");
    }
    if v.starts_with('-') {
        return Err("begins with a dash");
    }
    if v.chars().any(|c| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\')) {
        return Err("has a control character, a space or one of ~ ^ : ? * [ \\");
    }
    if v.chars().any(|c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        return Err("has a character that ends a line or turns the direction of text");
    }
    if v == "@" || v.contains("..") || v.contains("@{") || v.ends_with('.') {
        return Err("is not a name git allows (\"..\", \"@{\", a dot at the end, or \"@\")");
    }
    if v.split('/').any(|s| s.is_empty() || s.starts_with('.') || s.ends_with(".lock")) {
        return Err("has an empty segment, or one that begins with a dot or ends with .lock");
    }
    Ok(())
}

fn repository_name(v: &str) -> Result<(), &'static str> {
    if v.is_empty() {
        return Err("is empty");
    }
    if v.len() > 255 {
        return Err("is longer than 255 bytes");
    }
    let segments: Vec<&str> = v.split('/').collect();
    if segments.len() < 2 {
        return Err("is not of the form owner/name");
    }
    for s in segments {
        if s.is_empty() || s == "." || s == ".." {
            return Err("has an empty segment, \".\" or \"..\"");
        }
        if s.starts_with('-') {
            return Err("has a segment that begins with a dash");
        }
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Err("has a character other than letters, digits, '.', '_', '-' and '/'");
        }
    }
    Ok(())
}
