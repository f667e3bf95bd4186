//! What every command begins with: configuration, log, runtime; and how it says what is wrong.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ConfigErrors, Loaded, LoggingConfig, QueueConfig, Settings, Surroundings};
use crate::exit::Exit;
use crate::secrets::{ActiveSecrets, Redactor, SecretString};
use crate::telemetry;

/// The runtime only passes bytes on; git, trees, files and hashes have threads of their own. A host with 64 cores would pay for 64 stacks
/// and as many arenas of the allocator.
const MAX_THREADS: usize = 4;
/// Threads that may wait for disks and names at once. They are started as they are needed and end when they are not; a disk that stalls must
/// not use them up: it holds a few for each build and each journal that is sent.
const MAX_WAITING_THREADS: usize = 2048;
/// How long threads that are stuck in a file or a terminal may hold up the end.
const STUCK_THREADS: Duration = Duration::from_secs(1);

/// Reads all layers; nothing is understood yet.
pub(super) fn settings(config_file: Option<PathBuf>) -> Result<Settings, Exit> {
    match Surroundings::of_process(config_file) {
        Ok(surroundings) => Ok(Settings::read(&surroundings)),
        Err(e) => Err(fail(Exit::Config, format!("the working directory cannot be read: {e}"))),
    }
}

/// As [`settings`], and all of it understood.
pub(super) fn config(config_file: Option<PathBuf>) -> Result<Loaded, Exit> {
    let settings = settings(config_file)?;
    let warnings = settings.warnings().to_vec();
    settings.into_config().map_err(|errors| refuse(&warnings, errors))
}

/// As [`settings`], and the queue's part understood: for commands that need no more of it.
pub(super) fn with_queue(config_file: Option<PathBuf>) -> Result<(Settings, QueueConfig), Exit> {
    let settings = settings(config_file)?;
    let queue = settings.queue().map_err(|errors| refuse(settings.warnings(), errors))?;
    Ok((settings, queue))
}

/// What is wrong, behind what may be the reason: a slip in a name leaves another one unset.
fn refuse(warnings: &[String], errors: ConfigErrors) -> Exit {
    tell(warnings);
    fail(Exit::Config, errors)
}

/// Warnings where there is no log to tell them in.
pub(super) fn tell(warnings: &[String]) {
    for warning in warnings {
        eprintln!("slipway: {warning}");
    }
}

/// The log, with every secret of the configuration masked in it.
pub(super) struct Log {
    pub(super) secrets: Arc<ActiveSecrets>,
    pub(super) guard: telemetry::Guard,
}

pub(super) fn log(config: &LoggingConfig, secrets: &[SecretString], warnings: &[String]) -> Result<Log, Exit> {
    let secrets = ActiveSecrets::new(Redactor::new(secrets, &[], &[]));
    let active = Arc::clone(&secrets);
    let guard = telemetry::init(config, Arc::new(move |text| active.redact(text))).map_err(|e| fail(Exit::Config, e))?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(Log { secrets, guard })
}

/// As [`log()`], for commands that need only a part of the configuration.
pub(super) fn log_of(settings: &Settings) -> Result<Log, Exit> {
    let config = settings.logging().map_err(|e| fail(Exit::Config, e))?;
    log(&config, &settings.secrets(), settings.warnings())
}

pub(super) fn block_on(command: impl Future<Output = Exit>) -> Exit {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(MAX_THREADS))
        .max_blocking_threads(MAX_WAITING_THREADS)
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            runtime.shutdown_timeout(STUCK_THREADS);
            exit
        }
        Err(e) => fail(Exit::Temporary, format!("the threads to work with cannot be started: {e}")),
    }
}

/// Says what is wrong on standard error, in the form of every command.
pub(super) fn fail(exit: Exit, problem: impl Display) -> Exit {
    eprintln!("slipway: {problem}");
    exit
}

/// Writes a command's result to standard output. A reader that went away (`| head`) is no error.
pub(super) fn output(text: impl Display) -> Exit {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => Exit::Ok,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(e) => fail(Exit::Temporary, format!("standard output cannot be written to: {e}")),
    }
}
