//! The daily files in LOG_DIR, opened again on request: logrotate moves a file away, and asks for a new one with SIGHUP.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_appender::rolling::{RollingFileAppender, Rotation};

use super::TelemetryError;

/// Daily files that are kept.
const KEPT_FILES: usize = 14;

/// Asks for the log files to be opened again with the next line. Without LOG_DIR it does nothing.
#[derive(Clone, Default)]
pub struct Reopen {
    wanted: Arc<AtomicBool>,
    /// LOG_DIR is set, and its file was opened.
    has_files: Arc<AtomicBool>,
}

impl Reopen {
    /// `false`: there are no files.
    pub fn ask(&self) -> bool {
        self.wanted.store(true, Ordering::Release);
        self.has_files.load(Ordering::Acquire)
    }
}

/// Written to by the log's own thread alone: it is the one that waits for the disk.
pub(super) struct LogFiles {
    dir: PathBuf,
    appender: RollingFileAppender,
    reopen: Reopen,
}

impl LogFiles {
    pub(super) fn open(dir: &Path, reopen: Reopen) -> Result<Self, TelemetryError> {
        let appender = appender(dir)?;
        reopen.has_files.store(true, Ordering::Release);
        Ok(Self { appender, dir: dir.to_owned(), reopen })
    }
}

impl Write for LogFiles {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.reopen.wanted.load(Ordering::Acquire) {
            // Where that fails the lines go to the file that is open, and the next line tries again.
            if let Ok(appender) = appender(&self.dir) {
                self.appender = appender;
                self.reopen.wanted.store(false, Ordering::Release);
            }
        }
        self.appender.write(line)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.appender.flush()
    }
}

fn appender(dir: &Path) -> Result<RollingFileAppender, TelemetryError> {
    let failed = |cause: String| TelemetryError::Files { dir: dir.to_owned(), cause };
    std::fs::create_dir_all(dir).map_err(|e| failed(e.to_string()))?;
    RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("slipway")
        .filename_suffix("log")
        .max_log_files(KEPT_FILES)
        .build(dir)
        .map_err(|e| failed(std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string)))
}
