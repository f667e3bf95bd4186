//! Repositories whose trees were made to hurt.

use std::collections::BTreeSet;

use slipway::config::GitConfig;
use slipway::protocol::{Code, Failure};
use slipway::source::{EntryKind, Flaw};

use crate::job::{Stage, config, paths, read};
use crate::repo::Repo;
use crate::server::GitServer;

struct World {
    _root: tempfile::TempDir,
    repo: Repo,
    blob: String,
    server: GitServer,
    stage: Stage,
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }
    fn with(config: GitConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let repo = Repo::new(root.path(), "evil/repo");
        let blob = repo.object("blob", b"data");
        let server = GitServer::start(root.path());
        let stage = Stage::with(root.path(), config);
        Self { _root: root, repo, blob, server, stage }
    }
    async fn tip(&self) -> Result<slipway::source::SourceTree, Failure> {
        self.stage.tip(&self.server.url("evil/repo"), "main").await
    }
    async fn refused(&self, tree: &str) -> Failure {
        self.repo.main_is(tree);
        self.tip().await.unwrap_err()
    }
}

#[tokio::test]
async fn names_that_could_leave_the_context_are_refused() {
    let w = World::new();
    // An empty name is not among them: git itself refuses to send it.
    let names: [&[u8]; 11] =
        [b".git", b".GIT", b"..", b".", b"git~1", b".git ", b".g\xe2\x80\x8cit", b"a/b", b"/etc", b".git\\x", b"\xff/\xfe"];
    for name in names {
        let tree = w.repo.tree(&[("100644", name, &w.blob)]);
        let failure = w.refused(&tree).await;
        assert_eq!(failure.code, Code::SourceBadPath, "{name:?}: {failure}");
        let nested = w.repo.tree(&[("40000", b"dir", &tree)]);
        let failure = w.refused(&nested).await;
        assert_eq!(failure.code, Code::SourceBadPath, "dir/{name:?}: {failure}");
    }
}

#[tokio::test]
async fn a_name_with_terminal_escapes_is_data_and_cannot_forge_a_log_line() {
    let w = World::new();
    w.repo.main_is(&w.repo.tree(&[("100644", b"a\n\x1b[2Jb\\c", &w.blob)]));
    assert_eq!(paths(&w.tip().await.unwrap()), ["a\n\u{1b}[2Jb\\c"]);
    let failure = w.refused(&w.repo.tree(&[("100600", b"a\n\x1b[2Jb", &w.blob)])).await;
    assert!(!failure.to_string().contains(['\n', '\x1b']), "{failure}");
}

#[tokio::test]
async fn names_that_are_there_twice_are_refused() {
    let w = World::new();
    let empty = w.repo.tree(&[]);
    for second in [("100644", w.blob.as_str()), ("40000", empty.as_str()), ("120000", w.blob.as_str())] {
        let tree = w.repo.tree(&[("100644", b"a", &w.blob), (second.0, b"a", second.1)]);
        let failure = w.refused(&tree).await;
        assert_eq!(failure.code, Code::SourceBadPath, "{failure}");
        assert!(failure.cause.contains("twice"), "{failure}");
    }
}

#[tokio::test]
async fn modes_and_objects_that_do_not_belong_together_are_refused() {
    let w = World::new();
    let tree = w.repo.tree(&[("100644", b"a", &w.blob)]);
    for (mode, object) in [("40000", &w.blob), ("100644", &tree), ("120000", &tree), ("10", &w.blob)] {
        let failure = w.refused(&w.repo.tree(&[(mode, b"x", object)])).await;
        assert!(matches!(failure.code, Code::SourceBadPath | Code::GitProtocol | Code::GitUnreachable), "{mode}: {failure}");
    }
}

#[tokio::test]
async fn a_tree_that_is_cut_off_is_refused() {
    let w = World::new();
    let torn = w.repo.object("tree", b"100644 a\x00123");
    let failure = w.refused(&torn).await;
    assert!(matches!(failure.code, Code::SourceBadPath | Code::GitProtocol | Code::GitUnreachable), "{failure}");
}

#[tokio::test]
async fn a_link_is_data_and_never_followed() {
    let w = World::new();
    let target = w.repo.object("blob", b"/etc/passwd");
    w.repo.main_is(&w.repo.tree(&[("120000", b"passwd", &target)]));
    assert_eq!(read(&w.tip().await.unwrap(), "passwd"), "/etc/passwd");
    for target in [&b""[..], &[b'a'; 5000], b"\xff"] {
        let target = w.repo.object("blob", target);
        w.repo.main_is(&w.repo.tree(&[("120000", b"x", &target)]));
        let tree = w.tip().await.unwrap();
        assert_eq!(tree.entry("x").unwrap().kind, EntryKind::Unsendable(Flaw::LinkTarget));
    }
}

#[tokio::test]
async fn a_tree_that_is_nested_too_deep_is_refused() {
    let w = World::new();
    let mut tree = w.repo.tree(&[("100644", b"a", &w.blob)]);
    for _ in 0..250 {
        tree = w.repo.tree(&[("40000", b"d", &tree)]);
    }
    let failure = w.refused(&tree).await;
    assert_eq!(failure.code, Code::SourceBadPath);
    assert!(failure.cause.contains("deeper than 200"), "{failure}");
}

#[tokio::test]
async fn paths_that_linux_cannot_open_are_refused_where_a_build_asks_for_them() {
    let w = World::new();
    let mut tree = w.repo.tree(&[("100644", b"a", &w.blob)]);
    for _ in 0..25 {
        tree = w.repo.tree(&[("40000", &[b'n'; 200], &tree)]);
    }
    w.repo.main_is(&tree);
    let tree = w.tip().await.unwrap();
    let deepest = tree.entries().last().unwrap();
    assert_eq!(deepest.kind, EntryKind::Unsendable(Flaw::PathTooLong));
    let failure = tree.read(deepest).unwrap_err();
    assert_eq!(failure.code, Code::SourceBadPath);
    assert!(failure.cause.contains("longer than 4095"), "{failure}");
}

#[tokio::test]
async fn a_name_that_is_no_utf8_is_shown_by_its_bytes_also_from_a_warm_mirror() {
    let w = World::new();
    let inner = w.repo.tree(&[("100644", b"plain", &w.blob)]);
    w.repo.main_is(&w.repo.tree(&[("100644", b"a", &w.blob), ("40000", b"d\xe9", &inner), ("100644", b"z\xff.txt", &w.blob)]));
    for _ in 0..2 {
        let tree = w.tip().await.unwrap();
        assert_eq!(paths(&tree), ["a", "d\\xe9", "d\\xe9/plain", "z\\xff.txt"]);
        assert_eq!(read(&tree, "a"), "data");
        for entry in &tree.entries()[1..] {
            assert_eq!(entry.kind, EntryKind::Unsendable(Flaw::NotUtf8), "{}", entry.path);
            assert_eq!(tree.read(entry).unwrap_err().code, Code::SourceBadPath);
        }
    }
}

#[tokio::test]
async fn a_tree_that_unfolds_to_billions_of_files_ends_at_the_limit() {
    let w = World::with(GitConfig { max_files: 10_000, ..config() });
    let names: BTreeSet<String> = (0..10).map(|n| format!("f{n}")).collect();
    let mut entry = ("100644", w.blob.clone());
    let mut tree = String::new();
    for _ in 0..10 {
        tree = w.repo.tree(&names.iter().map(|n| (entry.0, n.as_bytes(), entry.1.as_str())).collect::<Vec<_>>());
        entry = ("40000", tree.clone());
    }
    let failure = w.refused(&tree).await;
    assert_eq!(failure.code, Code::SourceTooLarge);
    assert!(failure.cause.contains("MAX_FILES"), "{failure}");
}

#[tokio::test]
async fn a_file_above_the_limit_is_refused_where_it_is_read_and_named_with_the_limit() {
    let w = World::with(GitConfig { max_file_bytes: 1000, ..config() });
    let big = w.repo.object("blob", &[b'x'; 1001]);
    let fits = w.repo.object("blob", &[b'x'; 1000]);
    w.repo.main_is(&w.repo.tree(&[("100644", b"fits", &fits)]));
    assert_eq!(read(&w.tip().await.unwrap(), "fits").len(), 1000);
    w.repo.main_is(&w.repo.tree(&[("100644", b"big.iso", &big), ("100644", b"fits", &fits)]));
    let tree = w.tip().await.unwrap();
    assert_eq!(read(&tree, "fits").len(), 1000);
    let failure = tree.read(tree.entry("big.iso").unwrap()).unwrap_err();
    assert_eq!(failure.code, Code::SourceTooLarge);
    assert!(failure.cause.contains("big.iso") && failure.cause.contains("MAX_FILE_BYTES"), "{failure}");
}

#[tokio::test]
async fn a_limit_that_was_lowered_counts_for_a_warm_mirror_too() {
    let w = World::new();
    w.repo.main_is(&w.repo.tree(&[("100644", b"a", &w.blob), ("100644", b"b", &w.blob)]));
    w.tip().await.unwrap();
    let url = w.server.url("evil/repo");
    let fewer = Stage::with(w.stage.cache.parent().unwrap(), GitConfig { max_files: 1, ..config() });
    assert_eq!(fewer.tip(&url, "main").await.unwrap_err().code, Code::SourceTooLarge);
    let smaller = Stage::with(w.stage.cache.parent().unwrap(), GitConfig { max_file_bytes: 3, ..config() });
    let tree = smaller.tip(&url, "main").await.unwrap();
    assert_eq!(tree.read(tree.entry("a").unwrap()).unwrap_err().code, Code::SourceTooLarge);
}

#[tokio::test]
async fn a_message_with_terminal_escapes_becomes_one_clean_line() {
    let w = World::new();
    let tree = w.repo.tree(&[]);
    let text =
        format!("tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1700000000 +0000\n\n\x1b[31m{}\x07\nmore", "x".repeat(400));
    let commit = w.repo.object("commit", text.as_bytes());
    crate::repo::git(&w.repo.bare, &["update-ref", "refs/heads/main", &commit]);
    let info = w.tip().await.unwrap().commit.clone();
    assert_eq!(info.time, 1_700_000_000);
    assert!(info.summary.chars().count() <= 200 && !info.summary.contains(char::is_control), "{:?}", info.summary);
}

#[tokio::test]
async fn a_pack_that_unfolds_to_more_than_memory_ends_with_a_clear_word() {
    let w = World::new();
    w.repo.set("core.bigFileThreshold", "1g");
    let mut zeros = vec![0u8; 140 << 20];
    let first = w.repo.object("blob", &zeros);
    zeros.push(1);
    let second = w.repo.object("blob", &zeros);
    drop(zeros);
    w.repo.main_is(&w.repo.tree(&[("100644", b"a", &first), ("100644", b"b", &second)]));
    crate::repo::git(&w.repo.bare, &["repack", "-adfq", "--window=2"]);
    let failure = w.tip().await.unwrap_err();
    assert_eq!(failure.code, Code::SourceTooLarge);
    assert!(failure.cause.contains("memory"), "{failure}");
}

#[tokio::test]
async fn of_a_server_with_very_many_branches_the_one_that_is_meant_is_built() {
    let w = World::new();
    let commit = w.repo.main_is(&w.repo.tree(&[]));
    let mut packed = String::from("# pack-refs with: peeled fully-peeled sorted \n");
    for n in 0..600_000 {
        packed.push_str(&format!("{commit} refs/heads/b{n:07}\n"));
    }
    std::fs::write(w.repo.bare.join("packed-refs"), packed).unwrap();
    for knows_v2 in [true, false] {
        if !knows_v2 {
            w.server.know_only_v0();
        }
        let stage = Stage::new(tempfile::tempdir().unwrap().path());
        let url = w.server.url("evil/repo");
        for name in ["main", "b0599999"] {
            assert_eq!(stage.tip(&url, name).await.unwrap().commit.sha.as_str(), commit, "{name}, v2: {knows_v2}");
        }
        let failure = stage.tip(&url, "nowhere").await.unwrap_err();
        assert_eq!(failure.code, Code::GitBranchNotFound, "v2: {knows_v2}: {failure}");
    }
}
