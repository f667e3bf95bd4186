//! PURE: .dockerignore, to the letter of moby's patternmatcher.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}: {reason}")]
pub struct IgnoreError {
    pub pattern: String,
    pub reason: &'static str,
}

/// Ordered patterns with `!` exceptions.
pub struct PatternMatcher {}

impl PatternMatcher {
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, IgnoreError> {
        let _ = patterns.len();
        Ok(Self {})
    }
    /// Whether `path` (relative, `/`-separated) or one of its parents is excluded, exceptions applied in order.
    pub fn matches(&self, path: &str) -> bool {
        let _ = path;
        false
    }
    pub fn has_exceptions(&self) -> bool {
        false
    }
}
