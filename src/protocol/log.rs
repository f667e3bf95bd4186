//! PURE: what a log line is.

use futures_util::future::BoxFuture;
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
/// `text` is one line or several joined by `\n`, not redacted yet: the sink redacts. In the daemon the call waits for nothing, neither
/// for the network nor for a disk. Whoever passes on what a build prints awaits [`LogSink::room`] before the next chunk of it: lines that
/// a disk does not take yet are held in memory.
pub trait LogSink: Send + Sync {
    fn line(&self, kind: LogType, text: &str);

    /// Whether the sink takes more right now.
    fn has_room(&self) -> bool {
        true
    }

    /// Waits until the sink takes more.
    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
