//! What real users pushed, in the shapes in which it once went wrong: each right value is a test.

mod build_arguments;
mod context_files;
mod docker_build;
mod env_file;
mod missing_files;
mod newer_syntax;

use crate::support::Rig;

/// What the dashboard shows of an error, with its way out.
const SHOWN: usize = 191;

/// The error is shown whole: nothing of it was cut.
fn assert_whole(error: &str) {
    assert!(error.chars().count() <= SHOWN && !error.ends_with('…'), "the way out is cut: {error}");
}

/// The lines of one type of a job's log.
fn lines(rig: &Rig, job: &crate::support::Job, kind: &str) -> Vec<String> {
    let all = rig.dashboard.lines(&job.id);
    all.into_iter().filter(|(of, _)| of == kind).map(|(_, line)| line).collect()
}

fn warnings(rig: &Rig, job: &crate::support::Job) -> Vec<String> {
    lines(rig, job, "WARNING")
}
