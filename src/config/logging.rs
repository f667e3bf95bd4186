//! The worker's own log.

use std::path::PathBuf;

#[derive(Debug, Clone)]
pub struct LoggingConfig {
    /// `LOG_LEVEL`: trace, debug, info, warn, error, or an EnvFilter expression. Default info.
    pub level: String,
    /// `LOG_FORMAT`: auto (journald under systemd, else text), text, json, journald.
    pub format: LogFormat,
    /// `LOG_DIR`: also write daily files there.
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Text,
    Json,
    Journald,
}
