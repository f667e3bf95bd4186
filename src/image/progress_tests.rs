//! What a user reads of what BuildKit tells.

use super::*;

use bollard_buildkit_proto::moby::buildkit::v1::VertexWarning;
use proptest::prelude::*;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}
fn started(name: &str) -> Vertex {
    Vertex { digest: name.to_owned(), name: name.to_owned(), started: at(100), ..Default::default() }
}
fn completed(name: &str) -> Vertex {
    Vertex { completed: at(103), ..started(name) }
}
fn steps(vertexes: Vec<Vertex>) -> StatusResponse {
    StatusResponse { vertexes, ..Default::default() }
}
fn log(step: &str, stream: i64, text: &[u8]) -> VertexLog {
    VertexLog { vertex: step.to_owned(), stream, msg: text.to_vec(), timestamp: None }
}
fn logs(logs: Vec<VertexLog>) -> StatusResponse {
    StatusResponse { logs, ..Default::default() }
}

/// The lines of a build, typed.
fn told(statuses: Vec<StatusResponse>) -> Vec<(LogType, String)> {
    let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
    let (mut lines, now) = (Vec::new(), Instant::now());
    let mut emit = |kind, text: &str| lines.extend(text.split('\n').map(|line| (kind, line.to_owned())));
    for status in statuses {
        progress.apply(status, now, &mut emit);
    }
    progress.finish(now, &mut emit);
    lines
}
fn texts(statuses: Vec<StatusResponse>) -> Vec<String> {
    told(statuses).into_iter().map(|(_, line)| line).collect()
}

#[test]
fn a_step_is_told_from_its_start_through_its_output_to_its_end() {
    let run = "[2/2] RUN make";
    let all = StatusResponse {
        logs: vec![log(run, 1, b"one\ntw"), log(run, 2, b"bad\n"), log(run, 1, b"o\n")],
        ..steps(vec![completed(run)])
    };
    assert_eq!(
        told(vec![steps(vec![started(run)]), all]),
        [
            (LogType::Info, "#1 [2/2] RUN make".to_owned()),
            (LogType::Stdout, "#1 one".to_owned()),
            (LogType::Stderr, "#1 bad".to_owned()),
            (LogType::Stdout, "#1 two".to_owned()),
            (LogType::Info, "#1 DONE 3.0s".to_owned()),
        ]
    );
}

#[test]
fn what_no_new_line_ended_comes_before_the_steps_end() {
    let run = "[2/2] RUN printf end";
    let lines = texts(vec![steps(vec![started(run)]), logs(vec![log(run, 1, b"end")]), steps(vec![completed(run)])]);
    assert_eq!(lines, ["#1 [2/2] RUN printf end", "#1 end", "#1 DONE 3.0s"]);
}

#[test]
fn a_step_that_buildkit_runs_twice_tells_its_end_once_where_nothing_changed() {
    let from = "[1/2] FROM busybox";
    let twice = vec![steps(vec![completed(from)]), steps(vec![started(from)]), steps(vec![completed(from)])];
    assert_eq!(texts(twice), ["#1 [1/2] FROM busybox", "#1 DONE 3.0s"]);
    let pulled = Vertex { completed: at(109), ..started(from) };
    let longer = vec![steps(vec![completed(from)]), steps(vec![started(from)]), steps(vec![pulled])];
    assert_eq!(texts(longer), ["#1 [1/2] FROM busybox", "#1 DONE 3.0s", "#1 DONE 9.0s"]);
}

#[test]
fn cached_failed_and_cancelled_steps_say_so_and_the_failed_one_is_kept() {
    let error = "executor failed running [/bin/sh -c make]: exit code: 2";
    let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
    let mut lines = Vec::new();
    let vertexes = vec![
        Vertex { cached: true, ..completed("[1/2] FROM x") },
        Vertex { error: "context canceled".into(), ..completed("[b 1/1] RUN other") },
        Vertex { error: error.into(), ..completed("[2/2] RUN make") },
    ];
    progress.apply(steps(vertexes), Instant::now(), &mut |kind, text| lines.push((kind, text.to_owned())));
    let ends: Vec<_> = lines.iter().filter(|(_, line)| !line.contains('[')).cloned().collect();
    assert_eq!(
        ends,
        [
            (LogType::Info, "#1 CACHED".to_owned()),
            (LogType::Info, "#2 CANCELED".to_owned()),
            (LogType::Error, "#3 ERROR: exit code 2".to_owned())
        ]
    );
    assert_eq!(
        progress.failed_step(),
        Some(&FailedStep { name: "[2/2] RUN make".into(), error: error.into(), wanted_git: false })
    );
}

#[test]
fn a_failed_step_that_misses_a_git_repository_is_kept_as_such() {
    let said = "fatal: not a git repository (or any of the parent directories): .git";
    for output in [format!("{said}\n"), said.to_owned()] {
        let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
        let run = "[2/2] RUN make";
        let failed = Vertex { error: "exit code: 128".into(), ..completed(run) };
        for status in [steps(vec![started(run)]), logs(vec![log(run, 2, output.as_bytes())]), steps(vec![failed])] {
            progress.apply(status, Instant::now(), &mut |_, _| {});
        }
        assert!(progress.failed_step().is_some_and(|step| step.wanted_git), "{output:?}");
    }
}

#[test]
fn buildkits_own_steps_are_quiet_and_the_export_is_noticed() {
    let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
    let mut lines = Vec::new();
    let internal = completed("[internal] load build definition from Dockerfile");
    progress.apply(steps(vec![internal]), Instant::now(), &mut |_, text| lines.push(text.to_owned()));
    assert!(lines.is_empty() && !progress.is_exporting());
    progress.apply(steps(vec![started("exporting to image")]), Instant::now(), &mut |_, text| lines.push(text.to_owned()));
    assert!(progress.is_exporting());
    assert_eq!(lines, ["#1 exporting to image"]);
}

#[test]
fn a_long_transfer_tells_how_far_it_is_and_not_more_than_once_in_five_seconds() {
    let name = "[internal] load build context";
    let status = |current: i64| VertexStatus { vertex: name.into(), id: "transferring".into(), current, ..Default::default() };
    let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
    let (mut lines, start) = (Vec::new(), Instant::now());
    for second in 0..12u64 {
        let message = StatusResponse { statuses: vec![status(second as i64 * 1_000_000)], ..steps(vec![started(name)]) };
        progress.apply(message, start + Duration::from_secs(second), &mut |_, text| lines.push(text.to_owned()));
    }
    assert_eq!(lines, ["#1 [internal] load build context", "#1 6.0 MB", "#1 11.0 MB"]);
}

#[test]
fn the_layers_of_a_base_image_are_added_up() {
    let name = "[1/2] FROM x";
    let layer = |id: &str| VertexStatus {
        vertex: name.into(),
        id: id.into(),
        current: 1_000_000,
        total: 4_000_000,
        ..Default::default()
    };
    let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
    let (mut lines, start) = (Vec::new(), Instant::now());
    for second in [0, 6] {
        let message = StatusResponse { statuses: vec![layer("a"), layer("b")], ..steps(vec![started(name)]) };
        progress.apply(message, start + Duration::from_secs(second), &mut |_, text| lines.push(text.to_owned()));
    }
    assert_eq!(lines.last().map(String::as_str), Some("#1 2.0 MB of 8.0 MB"));
}

#[test]
fn layers_of_impossible_sizes_do_not_end_the_build() {
    let name = "[1/2] FROM x";
    let layer =
        |id: &str| VertexStatus { vertex: name.into(), id: id.into(), current: i64::MAX, total: i64::MAX, ..Default::default() };
    let mut progress = Progress::new(Arc::new(Redactor::new(&[], &[], &[])));
    let (mut lines, start) = (Vec::new(), Instant::now());
    for second in [0, 6] {
        let message = StatusResponse { statuses: vec![layer("a"), layer("b")], ..steps(vec![started(name)]) };
        progress.apply(message, start + Duration::from_secs(second), &mut |_, text| lines.push(text.to_owned()));
    }
    assert!(lines.last().is_some_and(|line| line.contains(" MB of ")), "{lines:?}");
}

#[test]
fn a_clipped_output_is_a_warning_with_its_cure_told_once() {
    let run = "[2/2] RUN noisy";
    let clip = log(run, 2, b"\n[output clipped, log limit 200KiB/s reached]\n");
    let lines = told(vec![steps(vec![started(run)]), logs(vec![clip.clone(), clip])]);
    let warnings: Vec<_> = lines.iter().filter(|(kind, _)| *kind == LogType::Warning).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].1.contains("BUILDKIT_STEP_LOG_MAX_SPEED=2147483647"), "{}", warnings[0].1);
}

#[test]
fn buildkits_warnings_are_warnings() {
    let warning = VertexWarning {
        short: b"FromAsCasing: 'as' and 'FROM' differ".to_vec(),
        url: "https://docs".into(),
        ..Default::default()
    };
    let status = StatusResponse { warnings: vec![warning], ..Default::default() };
    assert_eq!(told(vec![status]), [(LogType::Warning, "FromAsCasing: 'as' and 'FROM' differ (https://docs)".to_owned())]);
}

#[test]
fn a_name_or_an_error_can_forge_no_line() {
    let mut vertex = completed("[2/2] RUN echo\n#9 DONE");
    vertex.error = "bad\n#9 DONE\x1b[2K".into();
    assert_eq!(texts(vec![steps(vec![vertex])]), ["#1 [2/2] RUN echo #9 DONE", "#1 ERROR: bad #9 DONE"]);
}

#[test]
fn steps_keep_their_numbers_while_they_print_by_turns() {
    let (a, b) = ("[a 1/1] RUN a", "[b 1/1] RUN b");
    let lines = texts(vec![
        steps(vec![started(a), started(b)]),
        logs(vec![log(a, 1, b"a1\na"), log(b, 1, b"b1\n"), log(a, 1, b"2\n")]),
        steps(vec![completed(b), completed(a)]),
    ]);
    assert_eq!(lines, ["#1 [a 1/1] RUN a", "#2 [b 1/1] RUN b", "#1 a1", "#2 b1", "#1 a2", "#2 DONE 3.0s", "#1 DONE 3.0s"]);
}

proptest! {
    /// Whatever an Engine (or a frontend through it) says of a build, a line moves no cursor and forges no other.
    #[test]
    fn no_status_brings_the_worker_down_or_forges_a_line(
        names in proptest::collection::vec(("[ab]", "(\\[internal\\] |\\[1/2\\] |\x1b\\[2J|\n|\r|\u{202e}|\\PC){0,6}", any::<Option<i64>>(), any::<Option<i64>>()), 0..6),
        printed in proptest::collection::vec(("[ab]", any::<i64>(), any::<Vec<u8>>()), 0..6),
        errors in proptest::collection::vec("(\x1b\\[2J|\n|context canceled|\\PC){0,4}", 0..3),
    ) {
        let time = |at: Option<i64>| at.map(|seconds| Timestamp { seconds, nanos: (seconds >> 32) as i32 });
        let vertexes = names.into_iter().zip(errors.into_iter().chain(std::iter::repeat(String::new())));
        let vertexes = vertexes.map(|((digest, name, from, to), error)| Vertex { digest, name, started: time(from), completed: time(to), error, ..Default::default() });
        let output = printed.into_iter().map(|(step, stream, text)| log(&step, stream, &text)).collect();
        let colours = regex::Regex::new("\x1b\\[[0-9;:]*m").expect("a regex");
        for (_, line) in told(vec![steps(vertexes.collect()), logs(output)]) {
            prop_assert!(!colours.replace_all(&line, "").chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
        }
    }

    #[test]
    fn every_line_of_a_step_comes_out_once_in_order_however_buildkit_cuts_it(
        lines in proptest::collection::vec("[a-z ]{0,12}", 1..40),
        size in 1usize..30,
    ) {
        let run = "[2/2] RUN x";
        let bytes = lines.join("\n") + "\n";
        let parts = bytes.as_bytes().chunks(size).map(|part| logs(vec![log(run, 1, part)]));
        let mut statuses = vec![steps(vec![started(run)])];
        statuses.extend(parts);
        let out = told(statuses).into_iter().filter(|(kind, _)| *kind == LogType::Stdout);
        let out: Vec<String> = out.map(|(_, line)| line.trim_start_matches("#1 ").to_owned()).collect();
        prop_assert_eq!(out, lines);
    }
}
