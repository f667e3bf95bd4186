//! A build's files and its image have limits: above them a job fails, and says how large, how large at most, and which key says so.
//! So has its log: above that limit the build goes on, and the log says what is missing.

use crate::support::{Job, Repository, Rig, noise};

const DOCKERFILE: &str = "FROM busybox:base\nCOPY . /app\n";

#[tokio::test]
async fn a_build_whose_files_or_whose_image_are_too_large_fails_with_size_limit_and_key() {
    let mut rig = Rig::with(|o| o.builds(3).set("CONTEXT_MAX", "1MiB").set("IMAGE_MAX", "8MiB")).await;
    let with_much = |files: &[(&str, &str)]| {
        let repository = Repository::public(files);
        let much = noise(1536 * 1024);
        let files = files.iter().map(|(path, content)| (*path, "100644", content.as_bytes()));
        let files: Vec<_> = files.chain([("much", "100644", much.as_slice())]).collect();
        repository.commit_raw("main", &files);
        repository
    };
    let large_context = with_much(&[("Dockerfile", DOCKERFILE)]);
    let large_app = with_much(&[("app.sh", "true\n")]);
    let left_out = with_much(&[("Dockerfile", DOCKERFILE), (".dockerignore", "much\n")]);
    let large_image = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN dd if=/dev/urandom of=/x bs=1M count=9\n")]);
    let app = Repository::public(&[("app.sh", "true\n")]);
    let large_layer = Job::of(&app).env("BP_SHELL_DEPS_MB", "9");
    let (small, small_app) = (Job::of(&left_out), Job::of(&app));
    let cases = [
        (
            Job::of(&large_context),
            "context.too_large",
            "The files of the build have 1.5 MiB together, more than the 1.0 MiB of CONTEXT_MAX",
        ),
        (Job::of(&large_app), "context.too_large", "more than the 1.0 MiB of CONTEXT_MAX"),
        (Job::of(&large_image), "image.too_large", "more than the 8.0 MiB of IMAGE_MAX"),
        (large_layer, "image.too_large", "more than the 8.0 MiB of IMAGE_MAX"),
    ];
    for job in cases.iter().map(|(job, ..)| job).chain([&small, &small_app]) {
        rig.push(job).await;
    }
    for (job, code, words) in &cases {
        let error = rig.failed(job, code).await;
        println!("{error}");
        assert!(error.contains(words), "{words}: {error}");
        let latest = format!("{}/{}:latest", crate::support::parts().registry, job.service);
        assert_eq!(rig.registry.digest(&latest).await, None, "no too large image becomes the service's latest");
    }
    rig.built(&small).await;
    rig.built(&small_app).await;
    rig.finish().await;
}

const ROWS: usize = 20_000;

/// The rows of the log in their order, by their numbers, up to the line that says that it is cut, and behind it.
fn rows(lines: &[(String, String)]) -> (Vec<usize>, Vec<usize>) {
    let end = lines.iter().position(|(_, line)| line.contains("The log has reached")).expect("a line says that the log is cut");
    let of = |lines: &[(String, String)]| {
        let numbers = lines
            .iter()
            .filter(|(kind, _)| kind == "STDOUT")
            .filter_map(|(_, line)| line.split_once("row ")?.1.split(' ').next()?.parse().ok());
        numbers.collect()
    };
    (of(&lines[..end]), of(&lines[end..]))
}

#[tokio::test]
async fn a_build_that_prints_too_much_goes_on_and_its_log_says_where_it_was_cut_and_how_the_build_ended() {
    let mut rig = Rig::with(|o| o.set("LOG_TOTAL_MAX", "256KiB")).await;
    // In bursts: an Engine before version 23 stops telling where more than 1 MiB is printed at once.
    let prints = format!(
        "n=0; while [ $n -lt {ROWS} ]; do seq $n $((n+999)) | sed 's/.*/row & {}/'; n=$((n+1000)); usleep 20000; done",
        "x".repeat(60)
    );
    let with =
        |end: &str| Repository::public(&[("Dockerfile", &format!("FROM busybox:base\nRUN {prints}; {end}\nRUN echo next\n"))]);
    let (breaks, ends) = (with("echo why it br''oke >&2; exit 3"), with("true"));
    let (broken, whole) = (Job::of(&breaks), Job::of(&ends));
    rig.push(&broken).await;
    rig.push(&whole).await;
    rig.failed(&broken, "dockerfile.step_failed").await;
    rig.built(&whole).await;
    for job in [&broken, &whole] {
        let (lines, log) = (rig.dashboard.lines(&job.id), rig.dashboard.log(&job.id));
        assert!(log.len() < 300 * 1024, "{} bytes were told", log.len());
        assert_eq!(log.matches("The log has reached the 262144 bytes of LOG_TOTAL_MAX").count(), 1);
        let (head, tail) = rows(&lines);
        assert!(head.iter().copied().eq(0..head.len()), "the first rows, in their order");
        assert!(tail.iter().copied().eq(ROWS - tail.len()..ROWS) && tail.len() > 100, "the last rows, in their order: {tail:?}");
        let missing = format!("[slipway] {} lines (", ROWS - head.len() - tail.len());
        assert!(
            log.contains(&missing),
            "{missing}: {}",
            log.lines().filter(|line| line.contains("[slipway]")).collect::<String>()
        );
    }
    assert!(rig.dashboard.log(&broken.id).contains("why it broke"), "the last thing that was printed says why");
    let lines = rig.dashboard.lines(&whole.id);
    let at = |what: &str| lines.iter().position(|(_, line)| line.contains(what)).unwrap_or_else(|| panic!("{what} is told"));
    let order = ["are left out here", &format!("row {} ", ROWS - 1), " next", "sha256:"].map(at);
    assert!(order.is_sorted(), "each step's last lines stand before what comes after it: {order:?}");
    let done = lines[order[1]..order[2]].iter().filter(|(kind, line)| kind == "INFO" && line.contains("DONE")).count();
    assert_eq!(done, 1, "the step is done behind its last line and before the next step's");
    rig.finish().await;
}
