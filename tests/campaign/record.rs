//! PURE: whether what the dashboard was told of one deployment is the truth, told once and in order.
//!
//! A job of the campaign prints `<run> line <n>` for n = 0, 1, 2 …, where `<run>` is new at each execution of its step.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// What the dashboard took, in order.
#[derive(Debug, Clone)]
pub struct Told {
    /// Which host told it.
    pub host: String,
    pub what: What,
    pub at: Instant,
}

#[derive(Debug, Clone, PartialEq)]
pub enum What {
    Status { status: String, error: String, image: String },
    Log(String),
}

/// What may have happened to the deployment, as the campaign knows it.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'c> {
    /// How many lines the job's step prints.
    pub lines: usize,
    pub cancelled: bool,
    /// When answers may have gone unheard: from, to.
    pub disturbances: &'c [(Instant, Instant)],
    /// A worker was frozen: what it was about to send when it froze is sent when it wakes.
    pub frozen: bool,
}

/// How the deployment ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub status: String,
    pub error: String,
    pub image: String,
    /// Posts of the end that came again, and posts of lines that came again.
    pub repeats: usize,
}

/// An answer may arrive, and be written down, so long after the post.
const WRITTEN_DOWN: Duration = Duration::from_secs(5);

pub fn judge(told: &[Told], circumstances: Circumstances<'_>) -> Result<Verdict, String> {
    let is_end =
        |w: &What| matches!(w, What::Status { status, .. } if matches!(status.as_str(), "BUILDED" | "FAILED" | "CANCELLED"));
    let first = told.iter().position(|t| is_end(&t.what)).ok_or_else(|| format!("it has no end: {:?}", statuses(told)))?;
    let (mut last, mut repeats) = (first, 0);
    for (at, post) in told.iter().enumerate().skip(first + 1) {
        let What::Status { status, .. } = &post.what else { continue };
        let cancels = status == "CANCELLED" && status_of(&told[last].what) == "BUILDED";
        if cancels && circumstances.cancelled {
            last = at;
        } else if !is_end(&post.what) || !same_end(&told[last].what, &post.what) {
            return Err(format!("another status came after the end: {:?}", statuses(told)));
        } else {
            if !may_repeat(&circumstances, &told[last], post) {
                return Err(format!("its end came again though it was answered: {:?}", statuses(told)));
            }
            repeats += 1;
        }
    }
    let What::Status { status, error, image } = told[last].what.clone() else { unreachable!("an end is a status") };
    repeats += lines_in_order(told, &circumstances)?;
    if status == "BUILDED" {
        complete(&told[..first], circumstances.lines)?;
    }
    Ok(Verdict { status, error, image, repeats })
}

fn statuses(told: &[Told]) -> Vec<&str> {
    told.iter().map(|t| status_of(&t.what)).filter(|s| !s.is_empty()).collect()
}

fn status_of(what: &What) -> &str {
    match what {
        What::Status { status, .. } => status,
        What::Log(_) => "",
    }
}

/// CANCELLED may be worded by whoever tells it first; any other end is the same to the letter.
fn same_end(one: &What, other: &What) -> bool {
    (status_of(one) == "CANCELLED" && status_of(other) == "CANCELLED") || one == other
}

/// Only a post whose answer may have been lost comes again.
fn may_repeat(circumstances: &Circumstances<'_>, first: &Told, again: &Told) -> bool {
    circumstances.disturbances.iter().any(|(from, to)| *from <= again.at && first.at <= *to + WRITTEN_DOWN)
}

/// Lines of one run come in order and without a gap; a post may come again where its answer was lost. Returns how often.
fn lines_in_order(told: &[Told], circumstances: &Circumstances<'_>) -> Result<usize, String> {
    struct Run {
        next: usize,
        /// The first line of the post before, where the numbers may go back to.
        post: usize,
        post_at: usize,
    }
    let (mut runs, mut repeats) = (HashMap::<&str, Run>::new(), 0);
    for (at, post) in told.iter().enumerate() {
        let What::Log(text) = &post.what else { continue };
        for (run, n) in text.split('\n').filter_map(numbered) {
            let known = runs.entry(run).or_insert(Run { next: 0, post: n, post_at: at });
            if n > known.next {
                return Err(format!("lines {} to {} of a run are missing or out of order", known.next, n - 1));
            }
            if n < known.next {
                let lost_answer = n == known.post && at != known.post_at && may_repeat(circumstances, &told[known.post_at], post);
                if !lost_answer && !circumstances.frozen {
                    return Err(format!("line {n} of a run came again behind line {}", known.next - 1));
                }
                repeats += 1;
            }
            if at != known.post_at {
                (known.post, known.post_at) = (n, at);
            }
            known.next = n + 1;
        }
    }
    Ok(repeats)
}

/// The run and the number of one of its lines.
pub fn numbered(line: &str) -> Option<(&str, usize)> {
    let mut words = step_of(line).1.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some(run), Some("line"), Some(n), None) => Some((run, n.parse().ok()?)),
        _ => None,
    }
}

/// A line of a build begins with its step: `#7 the rest`.
fn step_of(line: &str) -> (&str, &str) {
    match line.split_once(' ') {
        Some((step, rest)) if step.starts_with('#') => (step, rest),
        _ => ("", line),
    }
}

/// The attempt that is reported has all its lines: those of its last run, or the word that the step came from the cache.
/// `told`: everything before the end.
fn complete(told: &[Told], lines: usize) -> Result<(), String> {
    let begin = told.iter().rposition(|t| status_of(&t.what) == "BUILDING").ok_or("it was never told as BUILDING")?;
    let mut last: Option<(&str, usize)> = None;
    let (mut whole, mut running) = (false, "");
    for post in &told[begin..] {
        let What::Log(text) = &post.what else { continue };
        for line in text.split('\n') {
            if let Some(numbered) = numbered(line) {
                last = Some(numbered);
                whole = numbered.1 + 1 == lines;
            }
            // An end that an attempt on a lost host had stored is told by another host, which says whose lines are missing.
            let (step, rest) = step_of(line);
            if rest.contains("RUN run=") {
                running = step;
            }
            whole |= rest == "CACHED" && step == running && !running.is_empty() || line.contains(OF_LOST_HOST);
        }
    }
    match last {
        _ if whole => Ok(()),
        // BuildKit says nothing of a step that it had just finished for a killed attempt: neither its lines nor CACHED.
        None if running.is_empty() && told.iter().filter(|t| status_of(&t.what) == "BUILDING").count() > 1 => Ok(()),
        Some((_, n)) => Err(format!("the reported attempt has lines up to {n} of {lines}")),
        None => Err("the reported attempt has none of its lines".to_owned()),
    }
}

/// What a worker says that tells an end for one that died.
pub const OF_LOST_HOST: &str = "may be missing here";
