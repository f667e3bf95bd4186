//! tracing set-up: terminal, journald, JSON, files. Knows no domain logic.
//!
//! Every byte passes the mask before it leaves; nothing blocks the caller: lines go through bounded queues to a thread per sink, and
//! what does not fit there is counted and told at the end.

mod files;
mod filter;
mod journald;
#[cfg(test)]
mod screen;
mod writer;

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogFormat, LoggingConfig, TerminalHints};
use files::LogFiles;
use writer::{Lines, MaskingWriter};

pub use files::Reopen;

/// Lines that wait for a sink; more are dropped and counted.
const QUEUED_LINES: usize = 4096;

/// Lets text out without its secrets.
pub type Mask = Arc<dyn for<'t> Fn(&'t str) -> Cow<'t, str> + Send + Sync>;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("log files cannot be written to {dir} (LOG_DIR): {cause}")]
    Files { dir: PathBuf, cause: String },
    #[error("journald cannot be reached at {path} (LOG_FORMAT=journald): {cause}")]
    Journald { path: PathBuf, cause: std::io::Error },
    #[error("LOG_LEVEL is no filter: {0}")]
    Filter(String),
    #[error("logging was set up before")]
    Twice,
}

/// Keep it until the process ends: dropping it writes what is still queued.
pub struct Guard {
    sinks: Vec<(&'static str, WorkerGuard, ErrorCounter)>,
    /// Opens LOG_DIR's files again.
    pub reopen: Reopen,
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (sink, guard, counter) in self.sinks.drain(..) {
            drop(guard);
            let lost = counter.dropped_lines();
            if lost > 0 {
                // The log itself is closed by now, and so may the terminal be.
                let _closed = writeln!(
                    std::io::stderr(),
                    "slipway: {lost} log lines did not fit into the queue of the {sink} and are missing there"
                );
            }
        }
    }
}

impl Guard {
    fn sink(&mut self, name: &'static str, writer: impl std::io::Write + Send + 'static) -> NonBlocking {
        let builder = NonBlockingBuilder::default().buffered_lines_limit(QUEUED_LINES).lossy(true).thread_name("log");
        let (queue, guard) = builder.finish(writer);
        self.sinks.push((name, guard, queue.error_counter()));
        queue
    }
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Sets up logging for the whole process, once. Log lines go to standard error, so that a command's own output stays clean.
pub fn init(config: &LoggingConfig, mask: Mask) -> Result<Guard, TelemetryError> {
    let hints = TerminalHints::of_process();
    let mut guard = Guard { sinks: Vec::new(), reopen: Reopen::default() };
    let mut layers = vec![main_layer(config, hints, &mask, &mut guard)?];
    if let Some(dir) = &config.dir {
        let queue = guard.sink("log file", LogFiles::open(dir, guard.reopen.clone())?);
        layers.push(lines_layer(config.format == LogFormat::Json, false, MaskingWriter::new(queue, mask)));
    }
    let filter = filter::of_level(&config.level).map_err(|e| TelemetryError::Filter(e.to_string()))?;
    tracing_subscriber::registry().with(layers.with_filter(filter)).try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(guard)
}

/// Journald's fields, JSON, or text on standard error.
fn main_layer(
    config: &LoggingConfig,
    hints: TerminalHints,
    mask: &Mask,
    guard: &mut Guard,
) -> Result<BoxedLayer, TelemetryError> {
    let journald = match (config.format, hints.under_journald) {
        (LogFormat::Journald, _) => Some(journald::Socket::connect(journald::SOCKET)?),
        // Standard error goes to the journal too, only without fields: good enough where the socket is out of reach.
        (LogFormat::Auto, true) => journald::Socket::connect(journald::SOCKET).ok(),
        _ => None,
    };
    if let Some(socket) = journald {
        let queue = guard.sink("journal", socket);
        return Ok(Box::new(journald::JournaldLayer::new(queue, Arc::clone(mask))));
    }
    let colours = std::io::stderr().is_terminal() && !hints.no_color;
    let queue = guard.sink("terminal", std::io::stderr());
    Ok(lines_layer(config.format == LogFormat::Json, colours, MaskingWriter::new(queue, Arc::clone(mask))))
}

/// One event, one line.
fn lines_layer<W: Lines>(json: bool, colours: bool, writer: MaskingWriter<W>) -> BoxedLayer {
    if json {
        Box::new(fmt::layer().json().flatten_event(true).with_span_list(false).with_current_span(true).with_writer(writer))
    } else {
        Box::new(text(fmt::layer()).with_ansi(colours).with_writer(writer))
    }
}

fn text<S>(layer: fmt::Layer<S>) -> fmt::Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    layer.with_target(false)
}
