//! What of the context reaches the build, and how much of it is sent again.

use slipway::context::{BuildContext, Content, ContextEntry};
use std::sync::Arc;

use crate::support::*;

/// Files and bytes of the context that BuildKit was sent, by the build's log.
fn sent(log: &Log) -> (u64, u64) {
    let text = log.text();
    let line = text.lines().find(|line| line.starts_with("Context: ")).unwrap_or_else(|| panic!("no transfer in\n{text}"));
    let (_, changed) = line.split_once("new or changed: ").expect("what was sent");
    let numbers: Vec<u64> = changed.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

fn change(context: &mut BuildContext, path: &str, bytes: &[u8]) {
    let entry: &mut ContextEntry = context.entries.iter_mut().find(|entry| entry.path == path).expect("the file");
    entry.mtime_ns += 1_000_000_000;
    entry.size = bytes.len() as u64;
    entry.content = Content::Inline { bytes: Arc::new(bytes.to_vec()), executable: false };
}

#[tokio::test]
async fn a_second_build_is_sent_the_changed_file_and_nothing_else() {
    let _together = together().await;
    let host = Host::new().await;
    let large = vec![b'x'; 300_000];
    let files = || context(&[("Dockerfile", b"FROM scratch\nCOPY . /\n"), ("a/large", &large), ("a/small", b"one"), ("z", b"z")]);
    let mut key = files();
    key.shared_key = unique("incremental");
    let shared_key = key.shared_key.clone();
    let (first, log) = built(&host, "svc-incremental", key).await;
    assert_eq!(sent(&log), (4, 300_000 + 3 + 1 + 22));

    let mut unchanged = files();
    unchanged.shared_key = shared_key.clone();
    let (second, log) = built(&host, "svc-incremental", unchanged).await;
    assert_eq!(sent(&log), (0, 0));

    let mut changed = files();
    changed.shared_key = shared_key;
    change(&mut changed, "a/small", b"two");
    let (third, log) = built(&host, "svc-incremental", changed).await;
    assert_eq!(sent(&log), (1, 3));
    for image in [first, second, third] {
        host.stage.remove(&image).await;
    }
}

#[tokio::test]
async fn a_file_larger_than_a_packet_arrives_whole_beside_many_small_ones() {
    let _together = together().await;
    let host = Host::new().await;
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let names: Vec<String> = (0..500).map(|i| format!("many/{i:03}")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    let text = b"FROM busybox:base\nCOPY . /in\nRUN cd /in && cat many/* | md5sum > /sums && md5sum < large >> /sums\n";
    files.extend([("Dockerfile", text.as_slice()), ("large", large.as_slice()), ("empty", b"".as_slice())]);
    let (image, _) = built(&host, "svc-large", context(&files)).await;
    let sums = run_in(&image, "cat /sums; find /in -type f | wc -l");
    let mut md5 = std::process::Command::new("sh");
    md5.args(["-c", "for i in $(seq -f 'many/%03g' 0 499); do printf %s $i; done | md5sum"]);
    let expected = String::from_utf8(md5.output().expect("md5sum").stdout).expect("hex");
    assert!(sums.starts_with(&expected), "{sums}");
    assert!(sums.trim_end().ends_with("503"), "{sums}");
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn the_repositorys_dockerignore_is_honoured_with_exceptions_and_names_outside_ascii() {
    let _together = together().await;
    let host = Host::new().await;
    let ignore = "*.log\ndocs\n!docs/README.md\ngeheim-ä\n**/日本*\n# comment\n";
    let files = context(&[
        ("Dockerfile", b"FROM busybox:base\nCOPY . /in\nRUN find /in -type f | sort > /list\n"),
        (".dockerignore", ignore.as_bytes()),
        ("a.log", b""),
        ("deep/b.log", b""),
        ("docs/README.md", b""),
        ("docs/x/y", b""),
        ("geheim-ä", b""),
        ("offen-ä", b""),
        ("s/日本語", b""),
        ("s/keep", b""),
    ]);
    let (image, _) = built(&host, "svc-ignore", files).await;
    let expected = "/in/.dockerignore\n/in/Dockerfile\n/in/deep/b.log\n/in/docs/README.md\n/in/offen-ä\n/in/s/keep\n";
    assert_eq!(run_in(&image, "cat /list"), expected);
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn a_dockerfile_that_its_own_dockerignore_excludes_is_built_all_the_same() {
    let _together = together().await;
    let host = Host::new().await;
    let files = context(&[
        ("Dockerfile", b"FROM busybox:base\nCOPY . /in\nRUN find /in -type f | sort > /list\n"),
        (".dockerignore", b"kept\n"),
        ("Dockerfile.dockerignore", b"Dockerfile*\n.dockerignore\n"),
        ("kept", b""),
    ]);
    let (image, _) = built(&host, "svc-own-ignore", files).await;
    assert_eq!(run_in(&image, "cat /list"), "/in/kept\n");
    host.stage.remove(&image).await;
}

#[tokio::test]
async fn a_copied_link_brings_what_it_points_to() {
    let _together = together().await;
    let host = Host::new().await;
    let files = context(&[
        ("Dockerfile", b"FROM busybox:base\nCOPY current/app /app\n"),
        ("current@releases/2", b""),
        ("releases/1/app", b"old"),
        ("releases/2/app", b"new"),
        ("unrelated", &[0; 100_000]),
    ]);
    let (image, log) = built(&host, "svc-link", files).await;
    assert_eq!(run_in(&image, "cat /app"), "new");
    assert_eq!(sent(&log), (1, 3), "only what the Dockerfile copies is sent");
    host.stage.remove(&image).await;
}
