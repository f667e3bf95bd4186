//! A phase's output: pieces of bytes → redacted lines in the job's log, and the last of them for a failure's words.

use std::collections::VecDeque;
use std::time::Instant;

use crate::image::output::LineSplitter;
use crate::protocol::LogType;
use crate::secrets::StreamRedactor;
use crate::stage::StageContext;

/// How many of the last lines are kept.
const TAIL_LINES: usize = 200;
/// And so much of each.
const TAIL_LINE_BYTES: usize = 500;

/// Takes both streams of one container.
pub struct Lines<'a> {
    ctx: &'a StageContext,
    stdout: Stream,
    stderr: Stream,
    tail: VecDeque<String>,
}

/// A secret is masked before the stream is cut into lines: it may stand across the border of two pieces.
struct Stream {
    kind: LogType,
    redactor: StreamRedactor,
    splitter: LineSplitter,
}

impl<'a> Lines<'a> {
    pub fn new(ctx: &'a StageContext) -> Self {
        let stream = |kind| Stream { kind, redactor: ctx.redactor.stream(), splitter: LineSplitter::default() };
        Self { ctx, stdout: stream(LogType::Stdout), stderr: stream(LogType::Stderr), tail: VecDeque::new() }
    }

    /// To be awaited before the next piece is read.
    pub async fn room(&self) {
        self.ctx.room().await;
    }

    pub fn stdout(&mut self, piece: &[u8]) {
        let masked = self.stdout.redactor.push(piece);
        let Self { ctx, stdout, tail, .. } = self;
        stdout.splitter.push(&masked, Instant::now(), |line| emit(ctx, tail, stdout.kind, line));
    }

    pub fn stderr(&mut self, piece: &[u8]) {
        let masked = self.stderr.redactor.push(piece);
        let Self { ctx, stderr, tail, .. } = self;
        stderr.splitter.push(&masked, Instant::now(), |line| emit(ctx, tail, stderr.kind, line));
    }

    /// The end of both streams: what was still held back. Returns the last lines.
    pub fn finish(&mut self) -> Vec<String> {
        let Self { ctx, stdout, stderr, tail } = self;
        for stream in [stdout, stderr] {
            let rest = stream.redactor.finish();
            stream.splitter.push(&rest, Instant::now(), |line| emit(ctx, tail, stream.kind, line));
            stream.splitter.finish(|line| emit(ctx, tail, stream.kind, line));
        }
        std::mem::take(tail).into()
    }
}

fn emit(ctx: &StageContext, tail: &mut VecDeque<String>, kind: LogType, line: &str) {
    // Every buildpack without a bill of materials earns this one; it says nothing to anybody.
    if line.starts_with("Warning: Did not find SBOM") {
        return;
    }
    ctx.log.line(kind, line);
    if tail.len() == TAIL_LINES {
        tail.pop_front();
    }
    tail.push_back(line[..line.floor_char_boundary(TAIL_LINE_BYTES)].to_owned());
}
