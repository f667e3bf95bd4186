//! The worker's own log.

use std::path::PathBuf;

use super::reader::Reader;

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

impl LoggingConfig {
    pub(super) fn read(r: &mut Reader) -> Option<Self> {
        let level = r.parsed("LOG_LEVEL", level);
        let format = r.parsed("LOG_FORMAT", |text| match text {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            "journald" => Ok(LogFormat::Journald),
            _ => Err("is none of auto, text, json, journald"),
        });
        let dir = r.given_path("LOG_DIR");
        Some(Self { level: level?, format: format?, dir })
    }
}

/// One word is a level. A filter takes any word for a module's name, so a misspelt level would silence everything.
fn level(text: &str) -> Result<String, &'static str> {
    let word = text.to_ascii_lowercase();
    match word.as_str() {
        "trace" | "debug" | "info" | "warn" | "error" | "off" => return Ok(word),
        // the words of Node's loggers
        "silly" => return Ok("trace".into()),
        "verbose" | "http" => return Ok("debug".into()),
        "log" | "notice" => return Ok("info".into()),
        "warning" => return Ok("warn".into()),
        "fatal" | "crit" | "critical" => return Ok("error".into()),
        "silent" => return Ok("off".into()),
        _ => {}
    }
    if !text.contains(['=', ',', '[']) {
        return Err("is none of trace, debug, info, warn, error, off, and no filter such as \"info,slipway::queue=debug\"");
    }
    match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("is no filter such as \"info,slipway::queue=debug\""),
    }
}
