//! What real users pushed, in the shapes in which it once went wrong: each right value is a test.

mod env_file;

use crate::support::Rig;

/// The lines of one type of a job's log.
fn lines(rig: &Rig, job: &crate::support::Job, kind: &str) -> Vec<String> {
    let all = rig.dashboard.lines(&job.id);
    all.into_iter().filter(|(of, _)| of == kind).map(|(_, line)| line).collect()
}

fn warnings(rig: &Rig, job: &crate::support::Job) -> Vec<String> {
    lines(rig, job, "WARNING")
}
