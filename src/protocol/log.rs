//! PURE: what a log line is.

use serde::{Deserialize, Serialize};

/// The log types that the dashboard knows. Any other name is answered with 500 for ever (contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LogType {
    Stdout,
    Stderr,
    Info,
    Warning,
    Error,
}

/// Where a job's log lines go: the journal in the daemon, the terminal in `slipway build`.
///
/// `text` is one line or several joined by `\n`, not redacted yet: the sink redacts. The call may
/// write to a local file and is therefore short but not free; it never waits for the network.
pub trait LogSink: Send + Sync {
    fn line(&self, kind: LogType, text: &str);
}
