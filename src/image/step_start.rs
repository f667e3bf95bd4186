//! PURE: whether the process of a failed step ever started. Where it did not, and no line of the Dockerfile is to blame, the Engine is.
//!
//! What tells it, on the Engines 20.10 to 28:
//! 1. A step whose process ran and failed has an exit code. Without one, BuildKit itself failed before the process began.
//! 2. runc's own failures have an exit code too (1): then its message is all that the step has printed.
//! 3. Before both, the file system of the step is made. An errno of the disk or of the kernel at the end of such an error is none that a
//!    Dockerfile can cause.
//!
//! A user's mistakes that end as early (no such program, no such user, a mount on a file) are told by runc and BuildKit in words of
//! their own, which are looked for first.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use super::failure::FailedStep;
use crate::protocol::{Code, Evidence, Failure, safe_line};

/// Of each step's output so many bytes are kept: runc's message is one line.
const KEPT: usize = 2048;
/// BuildKit names steps by digests that it chooses: so many of them are looked at.
const MAX_STEPS: usize = 4096;
/// A step's command and the cause are cut to so many characters, so that both fit into what the dashboard shows.
const COMMAND_CHARS: usize = 40;
const CAUSE_CHARS: usize = 200;

/// How a process is named in an error: until BuildKit 0.8, and since. What follows is why it ended.
const PROCESS: &[(&str, &str)] = &[("executor failed running [", "]: "), ("process \"", "\" did not complete successfully: ")];
/// How runc's own message begins, whatever its version.
const RUNC: &[&str] = &[
    "runc run failed: ",
    "runc create failed: ",
    "container_linux.go:",
    "oci runtime error: ",
    "oci runtime create failed: ",
    "runc did not terminate successfully",
    "crun: ",
    "nsexec",
    "failed to create shim",
];
/// Mistakes of the Dockerfile that end before the process starts. In lower case, as all that follow.
const USERS: &[&str] = &[
    "unable to find user",
    "unable to find group",
    "no matching entries in passwd",
    "no matching entries in group",
    "uids and gids must be in range",
    "invalid user",
    "chdir to cwd",
    "mkdir cwd",
    "cwd must be an absolute path",
    "is not allowed",
    "argument list too long",
    "file name too long",
    "too many levels of symbolic links",
    "not found: not found",
];
/// What a mount of the Dockerfile's can fail with, where its target or its source is of the wrong kind.
const MOUNT_USERS: &[&str] =
    &["not a directory", "is a directory", "no such file or directory", "file exists", "outside of rootfs"];
/// The Engine went away, was stopped, or has no room: told by words of their own elsewhere.
const ELSEWHERE: &[&str] = &[
    "no space left on device",
    "disk quota exceeded",
    "context canceled",
    "context deadline exceeded",
    "no active session",
    "transport is closing",
    "client connection is closing",
    "error reading from server",
    "containerd.sock",
    "daemon is shutting down",
    "no http response from session",
];
/// Errno texts that no Dockerfile causes: the disk, the kernel, or a limit of the host.
const HOST_ERRNO: &[&str] = &[
    "no such device",
    "no such device or address",
    "device or resource busy",
    "input/output error",
    "structure needs cleaning",
    "read-only file system",
    "stale file handle",
    "stale nfs file handle",
    "too many open files",
    "too many open files in system",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "transport endpoint is not connected",
    "function not implemented",
];
/// The Engine's own words where it prepares a step.
const SETUP: &[&str] = &[
    "failed to create endpoint",
    "failed to set up container networking",
    "could not find bridge",
    "oci runtime create failed",
    "failed to create shim",
    "error creating overlay mount",
    "mount callback failed",
    "failed to get layer",
    "parent snapshot",
];

/// The beginning of what each step has printed, and which one failed first.
#[derive(Default)]
pub struct Printed {
    steps: HashMap<String, Vec<u8>>,
    failed: Option<String>,
}

impl Printed {
    pub fn see(&mut self, status: &StatusResponse) {
        for log in &status.logs {
            if self.steps.len() < MAX_STEPS || self.steps.contains_key(&log.vertex) {
                let kept = self.steps.entry(log.vertex.clone()).or_default();
                let room = (KEPT + 1).saturating_sub(kept.len());
                kept.extend_from_slice(&log.msg[..log.msg.len().min(room)]);
            }
        }
        let failed = status.vertexes.iter().find(|step| !step.error.is_empty() && !step.error.ends_with("context canceled"));
        if let (None, Some(step)) = (&self.failed, failed) {
            self.failed = Some(step.digest.clone());
        }
    }

    /// All that the failed step has printed; `None`: it has printed more than runc does.
    pub fn of_failed_step(&self) -> Option<String> {
        let Some(printed) = self.failed.as_ref().and_then(|digest| self.steps.get(digest)) else {
            return Some(String::new());
        };
        (printed.len() <= KEPT).then(|| String::from_utf8_lossy(printed).into_owned())
    }
}

/// `Some`: the step's process never started, by the Engine's fault. `printed`: all of its output, where that is little.
pub fn never_started(message: &str, step: Option<&FailedStep>, printed: Option<&str>) -> Option<Failure> {
    let error = step.map_or(message, |step| step.error.as_str());
    let what = step.map_or("a step", |step| step.name.as_str());
    let Some(why) = why_it_ended(error) else {
        return before_the_process(error).then(|| failure(what, error));
    };
    if why.starts_with("exit code: ") {
        // Its output is all there is to go by, and anybody can print the same.
        let told = runcs_message(printed?)?;
        return is_the_hosts(told).then(|| failure(what, told).by(Evidence::Hearsay));
    }
    is_the_hosts(why).then(|| failure(what, why))
}

/// What stands behind the process in its error: `exit code: 3`, or why it never ran. The command may hold any text: the last mark counts.
fn why_it_ended(error: &str) -> Option<&str> {
    PROCESS.iter().find_map(|(before, after)| {
        let (_, rest) = error.split_once(before)?;
        Some(rest.rsplit_once(after)?.1)
    })
}

/// runc prints one line. What else is printed is the process's, so it ran.
fn runcs_message(printed: &str) -> Option<&str> {
    let mut lines = printed.lines().map(str::trim).filter(|line| !line.is_empty());
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    // `time="…" level=error msg="runc run failed: …"`: with its log on standard error
    let told = line.split_once(" level=error msg=").map_or(line, |(_, told)| told.trim_matches('"'));
    let lower = told.to_lowercase();
    RUNC.iter().any(|begin| lower.starts_with(begin)).then_some(told)
}

/// Of a process that never ran.
fn is_the_hosts(why: &str) -> bool {
    let why = why.to_lowercase();
    // `exec: "npm": executable file not found in $PATH` is the Dockerfile's, `exec: "runc": …` the host's.
    let exec = why.split_once("exec: \"").map(|(_, rest)| rest);
    let users_program = exec
        .is_some_and(|rest| !["runc\"", "crun\"", "/usr/bin/runc\"", "/usr/sbin/runc\""].iter().any(|own| rest.starts_with(own)));
    let users_mount = why.contains("error mounting") && MOUNT_USERS.iter().any(|word| why.contains(word));
    !users_program
        && !users_mount
        && !USERS.iter().any(|word| why.contains(word))
        && !ELSEWHERE.iter().any(|word| why.contains(word))
}

/// Of an error that names no process: the step's file system or network was being made.
fn before_the_process(error: &str) -> bool {
    let error = error.to_lowercase();
    if ELSEWHERE.iter().any(|word| error.contains(word)) {
        return false;
    }
    // At its end: names of files, which a Dockerfile chooses, stand before.
    let errno = HOST_ERRNO.iter().any(|errno| error.strip_suffix(errno).is_some_and(|before| before.ends_with(": ")));
    errno || SETUP.iter().any(|words| error.starts_with(words))
}

fn failure(step: &str, why: &str) -> Failure {
    let lower = why.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let cure = if has(&["endpoint", "bridge", "iptables", "networking", "network"]) {
        "Restart the Engine: its bridge or its firewall rules are gone."
    } else if has(&["runc", "exec format", "oci runtime", "shim"]) && !has(&["cgroup"]) {
        "See runc on the build host (runc --version), and the Engine's log."
    } else if has(&["cgroup"]) {
        "See the cgroups of the build host (mount | grep cgroup)."
    } else {
        "See the disk and the Engine's log on the build host (journalctl -u docker)."
    };
    let name = step.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(step, |(_, text)| text);
    Failure::new(
        Code::EngineError,
        format!("The Docker Engine could not start {}: {}", cut(name, COMMAND_CHARS), cut(why, CAUSE_CHARS)),
        cure,
    )
}

fn cut(text: &str, chars: usize) -> String {
    let line = safe_line(text.as_bytes());
    match line.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.into_owned(),
    }
}

#[cfg(test)]
#[path = "step_start_tests.rs"]
mod tests;
