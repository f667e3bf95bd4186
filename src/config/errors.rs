//! PURE: what is wrong with a configuration, all of it at once. Never holds a secret's value.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// `REDIS_PORT (redis.port)`, a file, or several keys.
    pub subject: String,
    /// Where the value came from, in the words of [`super::Entry::origin`]; `None` where nothing was given.
    pub origin: Option<String>,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)?;
        if let Some(origin) = &self.origin {
            write!(f, ", from {origin}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Everything that is wrong, in the order of the keys. Never empty. The process ends with exit code 78.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "The configuration has {n} error{}:", if n == 1 { "" } else { "s" })?;
        for error in &self.0 {
            write!(f, "\n  - {error}")?;
        }
        Ok(())
    }
}
impl std::error::Error for ConfigErrors {}
