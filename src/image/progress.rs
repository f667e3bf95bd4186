//! PURE: BuildKit's status events → the build's log lines, and what the failing step was.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus};

use super::failure::{FailedStep, exit_code};
use super::output::LineSplitter;
use crate::protocol::{LogType, safe_line};
use crate::secrets::{Redactor, StreamRedactor};

/// A long transfer (a base image, the context) says how far it is once in this time.
const TRANSFER_EVERY: Duration = Duration::from_secs(5);
/// Output lines of one kind leave together, in texts of about this many bytes.
const BATCH: usize = 32 * 1024;
/// Steps' names and errors are cut to so many characters.
const MAX_NAME: usize = 500;
/// How many transfers of one step are added up; a base image has as many as layers.
const MAX_TRANSFERS: usize = 1000;

/// Where lines go: their type, and one line or several joined by `\n`.
pub type Emit<'a> = &'a mut dyn FnMut(LogType, &str);

/// One build's steps, in the words of its log: `#2 [1/3] FROM …`, `#2 output`, `#2 DONE 1.2s`.
pub struct Progress {
    redactor: Arc<Redactor>,
    /// By BuildKit's digest of the step.
    steps: HashMap<String, Step>,
    numbered: u32,
    failed: Option<FailedStep>,
    exporting: bool,
}

#[derive(Default)]
struct Step {
    /// Given when it is first shown. BuildKit's own steps are not, unless they take long.
    number: Option<u32>,
    name: String,
    ended: bool,
    /// The last word about its end.
    end_told: String,
    output: [Option<Stream>; 2],
    transfers: HashMap<String, (i64, i64)>,
    transfer_told: Option<Instant>,
    clip_told: bool,
    /// Its output misses a Git repository.
    wanted_git: bool,
}

struct Stream {
    redactor: StreamRedactor,
    lines: LineSplitter,
}

/// Lines of one type, joined.
#[derive(Default)]
struct Batch {
    kind: Option<LogType>,
    text: String,
}

impl Batch {
    fn line(&mut self, kind: LogType, number: u32, line: &str, emit: Emit) {
        if self.kind != Some(kind) || self.text.len() > BATCH {
            self.flush(emit);
            self.kind = Some(kind);
        } else {
            self.text.push('\n');
        }
        use std::fmt::Write;
        let _ = write!(self.text, "#{number} ");
        self.text.push_str(line);
    }
    fn flush(&mut self, emit: Emit) {
        if let Some(kind) = self.kind.take() {
            emit(kind, &self.text);
            self.text.clear();
        }
    }
}

impl Progress {
    pub fn new(redactor: Arc<Redactor>) -> Self {
        Self { redactor, steps: HashMap::new(), numbered: 0, failed: None, exporting: false }
    }
    /// Whether BuildKit writes the image already: from here on ending the request does not end its work.
    pub fn is_exporting(&self) -> bool {
        self.exporting
    }
    /// The first step that failed of itself.
    pub fn failed_step(&self) -> Option<&FailedStep> {
        self.failed.as_ref()
    }

    /// Takes one status message. A step's output stands between its start and its end, whatever the order in the message.
    pub fn apply(&mut self, status: StatusResponse, now: Instant, emit: Emit) {
        for vertex in &status.vertexes {
            self.start(vertex, emit);
        }
        for transfer in status.statuses {
            self.transfer(transfer, now, emit);
        }
        let mut batch = Batch::default();
        for log in status.logs {
            self.output(log, now, &mut batch, emit);
        }
        batch.flush(emit);
        for warning in status.warnings {
            let text = safe_line(&warning.short);
            let place = if warning.url.is_empty() { String::new() } else { format!(" ({})", warning.url) };
            emit(LogType::Warning, &format!("{text}{place}"));
        }
        for vertex in &status.vertexes {
            self.end(vertex, now, emit);
        }
    }

    /// The end of the build: what no new line has ended.
    pub fn finish(&mut self, now: Instant, emit: Emit) {
        let mut steps: Vec<&mut Step> = self.steps.values_mut().collect();
        steps.sort_by_key(|step| step.number);
        for step in steps {
            step.flush_output(now, emit);
        }
    }

    fn start(&mut self, vertex: &Vertex, emit: Emit) {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        if step.name.is_empty() {
            step.name = one_line(&vertex.name);
        }
        if vertex.started.is_none() {
            return;
        }
        if vertex.completed.is_none() {
            // BuildKit starts some steps again (a base image: first looked up, then pulled)
            step.ended = false;
        }
        self.exporting |= step.name.starts_with("exporting to ");
        if step.number.is_none() && !is_internal(&step.name) {
            let number = next(&mut self.numbered);
            step.number = Some(number);
            emit(LogType::Info, &format!("#{number} {}", step.name));
        }
    }

    fn end(&mut self, vertex: &Vertex, now: Instant, emit: Emit) {
        let Some(step) = self.steps.get_mut(&vertex.digest) else { return };
        let is_end = vertex.completed.is_some() || !vertex.error.is_empty();
        if !is_end || std::mem::replace(&mut step.ended, true) {
            return;
        }
        step.flush_output(now, emit);
        let (number, end_told) = (step.number, &mut step.end_told);
        let mut tell = |kind, text: String| {
            // A step that was started again and ended in the same way has nothing new to say.
            if let Some(number) = number
                && *end_told != text
            {
                emit(kind, &format!("#{number} {text}"));
                *end_told = text;
            }
        };
        if !vertex.error.is_empty() {
            if is_cancellation(&vertex.error) {
                return tell(LogType::Info, "CANCELED".to_owned());
            }
            let short = exit_code(&vertex.error).map(|code| format!("exit code {code}"));
            tell(LogType::Error, format!("ERROR: {}", short.unwrap_or_else(|| one_line(&vertex.error))));
            if self.failed.is_none() {
                let (name, error) = (step.name.clone(), vertex.error.clone());
                self.failed = Some(FailedStep { name, error, wanted_git: step.wanted_git });
            }
        } else if vertex.cached {
            tell(LogType::Info, "CACHED".to_owned());
        } else {
            tell(LogType::Info, format!("DONE {:.1}s", seconds(vertex)));
        }
    }

    fn transfer(&mut self, status: VertexStatus, now: Instant, emit: Emit) {
        let Some(step) = self.steps.get_mut(&status.vertex) else { return };
        if status.current == 0 && status.total == 0 {
            return;
        }
        if step.transfers.len() < MAX_TRANSFERS || step.transfers.contains_key(&status.id) {
            step.transfers.insert(status.id, (status.current, status.total));
        }
        let since = *step.transfer_told.get_or_insert(now);
        if now.saturating_duration_since(since) < TRANSFER_EVERY {
            return;
        }
        step.transfer_told = Some(now);
        let number = match step.number {
            Some(number) => number,
            None => {
                let number = next(&mut self.numbered);
                step.number = Some(number);
                emit(LogType::Info, &format!("#{number} {}", step.name));
                number
            }
        };
        let (current, total) = step
            .transfers
            .values()
            .fold((0, 0), |sum: (i64, i64), one| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1)));
        let of = if total >= current { format!(" of {}", megabytes(total)) } else { String::new() };
        emit(LogType::Info, &format!("#{number} {}{of}", megabytes(current)));
    }

    fn output(&mut self, log: VertexLog, now: Instant, batch: &mut Batch, emit: Emit) {
        let step = self.steps.entry(log.vertex).or_default();
        let number = *step.number.get_or_insert_with(|| next(&mut self.numbered));
        let is_stderr = log.stream == 2;
        let kind = if is_stderr { LogType::Stderr } else { LogType::Stdout };
        let stream = step.output[is_stderr as usize]
            .get_or_insert_with(|| Stream { redactor: self.redactor.stream(), lines: LineSplitter::default() });
        let (clip_told, wanted_git) = (&mut step.clip_told, &mut step.wanted_git);
        let text = stream.redactor.push(&log.msg);
        stream.lines.push(&text, now, |line| {
            *wanted_git |= misses_git(line);
            if !is_clip(line) {
                return batch.line(kind, number, line, emit);
            }
            if !std::mem::replace(clip_told, true) {
                batch.flush(emit);
                emit(LogType::Warning, &format!("#{number} {line} {CLIP_CURE}"));
            }
        });
    }
}

impl Step {
    fn flush_output(&mut self, now: Instant, emit: Emit) {
        let number = self.number.unwrap_or_default();
        for (kind, stream) in [LogType::Stdout, LogType::Stderr].into_iter().zip(&mut self.output) {
            // a step can print after its end was told: a new stream begins then
            if let Some(mut stream) = stream.take() {
                let rest = stream.redactor.finish();
                let mut tell = |line: &str| {
                    self.wanted_git |= misses_git(line);
                    emit(kind, &format!("#{number} {line}"));
                };
                stream.lines.push(&rest, now, &mut tell);
                stream.lines.finish(&mut tell);
            }
        }
    }
}

const CLIP_CURE: &str = "- the Engine cuts the output of a step: start it with BUILDKIT_STEP_LOG_MAX_SIZE=2147483647 and \
                         BUILDKIT_STEP_LOG_MAX_SPEED=2147483647 in its environment to see all of it.";

/// BuildKit's own words where it cuts a step's output.
fn is_clip(line: &str) -> bool {
    line.starts_with("[output clipped, log limit")
}

/// What git, husky and setuptools-scm say where there is no repository.
fn misses_git(line: &str) -> bool {
    ["not a git repository", ".git can't be found", "setuptools-scm was unable to detect version"]
        .iter()
        .any(|words| line.contains(words))
}

/// Work of BuildKit's own, said only where it takes long.
fn is_internal(name: &str) -> bool {
    name.starts_with("[internal]") || name.starts_with("[auth]")
}

fn is_cancellation(error: &str) -> bool {
    error.ends_with("context canceled")
}

fn next(numbered: &mut u32) -> u32 {
    *numbered += 1;
    *numbered
}

fn one_line(text: &str) -> String {
    safe_line(text.as_bytes()).chars().take(MAX_NAME).collect()
}

fn seconds(vertex: &Vertex) -> f64 {
    let at = |time: &Option<Timestamp>| time.as_ref().map(|t| t.seconds as f64 + f64::from(t.nanos) / 1e9);
    match (at(&vertex.started), at(&vertex.completed)) {
        (Some(started), Some(completed)) => (completed - started).max(0.0),
        _ => 0.0,
    }
}

fn megabytes(bytes: i64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
