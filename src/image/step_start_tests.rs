//! Which failed steps are the Engine's, by the words that Engines were seen to say.

use super::*;
use bollard_buildkit_proto::moby::buildkit::v1::{Vertex, VertexLog};

const ECHO: &str = "executor failed running [/bin/sh -c echo]: ";
const ENDPOINT: &str = "failed to create endpoint v1ha9v on network bridge: adding interface vethbbcc6ee to bridge docker0 failed: could not find bridge docker0: route ip+net: no such network interface";
const MOUNT_ON_A_FILE: &str = "runc run failed: unable to start container process: error during container init: error mounting \"tmpfs\" to rootfs at \"/bin/busybox\": mount tmpfs:/bin/busybox (via /proc/self/fd/6), flags: 0x2: not a directory";

fn whose(error: &str, printed: &str) -> Option<Failure> {
    let step = FailedStep { name: "[2/2] RUN echo".to_owned(), error: error.to_owned(), wanted_git: false };
    never_started(&format!("failed to solve: {error}"), Some(&step), Some(printed))
}

#[test]
fn what_the_engine_cannot_set_up_is_the_engines_fault() {
    let old = |why: &str| format!("{ECHO}{why}");
    let new = |why: &str| format!("process \"/bin/sh -c echo\" did not complete successfully: {why}");
    for error in [
        old(ENDPOINT),
        new(ENDPOINT),
        old("fork/exec /usr/sbin/runc: exec format error"),
        old("exec: \"runc\": executable file not found in $PATH"),
        new("failed to set up container networking: driver failed programming external connectivity: iptables failed: exit status 1"),
        new("runc did not terminate successfully: signal: killed"),
        old("failed to create shim task: OCI runtime create failed: unable to retrieve OCI runtime error: unknown"),
        // Of the command's own text nothing is taken for the end.
        "executor failed running [/bin/sh -c echo ]: exit code: 3]: failed to create endpoint x on network bridge: no such device".to_owned(),
        "failed to mount /var/lib/docker/tmp/buildkit-mount1: no such device".to_owned(),
        "error creating overlay mount to /var/lib/docker/overlay2/x/merged: device or resource busy".to_owned(),
        "failed to prepare x as y: mkdir /var/lib/docker/overlay2/x: read-only file system".to_owned(),
        "failed to copy files: open /var/lib/docker/overlay2/x/diff/a: too many open files".to_owned(),
        "parent snapshot sha256:1 does not exist: not found".to_owned(),
    ] {
        let failure = whose(&error, "").unwrap_or_else(|| panic!("{error}"));
        assert_eq!((failure.code, failure.evidence), (Code::EngineError, Evidence::Seen), "{error}");
        assert!(failure.within(191).contains("could not start RUN echo") && failure.within(191).contains("[engine.error]"));
    }
}

#[test]
fn runcs_own_failure_is_the_engines_where_nothing_else_was_printed() {
    let runc = "runc run failed: unable to start container process: unable to apply cgroup configuration: mkdir /sys/fs/cgroup/devices/x: read-only file system";
    let ended = format!("{ECHO}exit code: 1");
    for printed in [
        format!("{runc}\n"),
        "runc run failed: mountpoint for devices not found".to_owned(),
        "container_linux.go:380: starting container process caused: process_linux.go:385: applying cgroup configuration for process caused: cannot enter cgroupv2".to_owned(),
        "time=\"2026-01-01T00:00:00Z\" level=error msg=\"runc create failed: unable to start container process: error during container init: write sysctl: permission denied\"".to_owned(),
    ] {
        let failure = whose(&ended, &printed).unwrap_or_else(|| panic!("{printed}"));
        assert_eq!((failure.code, failure.evidence), (Code::EngineError, Evidence::Hearsay), "{printed}");
    }
    assert_eq!(whose(&ended, &format!("installing\n{runc}\n")), None, "the process ran: it has printed");
    assert_eq!(whose(&ended, ""), None, "a process that says nothing");
}

#[test]
fn a_users_mistake_that_ends_before_the_process_starts_stays_the_users() {
    for (error, printed) in [
        (
            format!("{ECHO}exit code: 1"),
            "runc run failed: unable to start container process: exec: \"nosuch\": executable file not found in $PATH\n",
        ),
        (
            format!("{ECHO}exit code: 126"),
            "runc run failed: unable to start container process: exec: \"/bin/sh\": permission denied",
        ),
        (format!("{ECHO}exit code: 1"), "exec /f: exec format error"),
        (format!("{ECHO}exit code: 1"), MOUNT_ON_A_FILE),
        (
            format!("{ECHO}exit code: 1"),
            "runc run failed: unable to start container process: chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory",
        ),
        (format!("{ECHO}unable to find user nobodyhere: no matching entries in passwd file"), ""),
        (format!("{ECHO}uids and gids must be in range 0-2147483647"), ""),
        ("process \"npm\" did not complete successfully: exec: \"npm\": executable file not found in $PATH".to_owned(), ""),
        ("process \"/bin/sh -c echo\" did not complete successfully: exit code: 127".to_owned(), "sh: npm: not found"),
        ("mkdir /var/lib/docker/overlay2/x/merged/etc/passwd: not a directory".to_owned(), ""),
        ("failed to compute cache key: \"/no such device\": not found".to_owned(), ""),
        // Another cause's words: no room, an Engine that stops.
        (format!("{ECHO}mkdir /var/lib/docker/x: no space left on device"), ""),
        (format!("{ECHO}context canceled"), ""),
    ] {
        assert_eq!(whose(&error, printed), None, "{error} {printed}");
    }
}

#[test]
fn only_the_failed_steps_output_is_looked_at_and_a_long_one_is_no_message_of_runcs() {
    let log = |vertex: &str, msg: &[u8]| VertexLog { vertex: vertex.into(), msg: msg.to_vec(), ..Default::default() };
    let failed = Vertex { digest: "b".into(), error: format!("{ECHO}exit code: 1"), ..Default::default() };
    let mut printed = Printed::default();
    printed.see(&StatusResponse { logs: vec![log("a", b"hello\n"), log("b", b"runc run ")], ..Default::default() });
    printed.see(&StatusResponse { vertexes: vec![failed], logs: vec![log("b", b"failed: x\n")], ..Default::default() });
    assert_eq!(printed.of_failed_step().as_deref(), Some("runc run failed: x\n"));
    printed.see(&StatusResponse { logs: vec![log("b", &[b'x'; 3 * KEPT])], ..Default::default() });
    assert_eq!(printed.of_failed_step(), None);
}
