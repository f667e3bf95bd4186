//! What a mirror survives, and when it goes.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::process::Stdio;

use slipway::config::GitConfig;
use slipway::protocol::Code;
use slipway::source::SourceTree;

use crate::job::{Stage, config, mirrors, names, paths, read};
use crate::repo::{Repo, World, git};
use crate::server::{Fault, wait_until};

/// A world whose repository has one commit.
fn world() -> World {
    let world = World::new();
    world.repo.commit_and_push("first", &[("a", "1"), ("dir/b", "2")]);
    world
}

impl World {
    async fn main(&self) -> SourceTree {
        self.tip("main").await.unwrap()
    }
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_fetch_leaves_a_mirror_that_works() {
    // What a kill leaves: half a pack, an index without its pack, locks, the draft of a mirror.
    let w = world();
    w.main().await;
    let repository = w.stage.repository();
    let packs = repository.join("objects/pack");
    fs::write(packs.join("pack_git2_12ab"), b"PACK half").unwrap();
    fs::write(packs.join("pack-0123.idx"), b"torn").unwrap();
    fs::write(packs.join("pack-4567.pack"), b"torn").unwrap();
    fs::write(repository.join("shallow.lock"), b"").unwrap();
    fs::create_dir_all(repository.join("refs/slipway")).unwrap();
    fs::write(repository.join("refs/slipway/x.lock"), b"").unwrap();
    let draft = w.stage.mirror().join("new-0000000000000001");
    fs::create_dir_all(draft.join("repo.git")).unwrap();
    w.repo.commit_and_push("second", &[("a", "2")]);
    let tree = w.main().await;
    assert_eq!((tree.commit.summary.as_str(), read(&tree, "a").as_str()), ("second", "2"));
    assert!(!draft.exists());
    assert!(names(&packs).iter().all(|n| !n.starts_with("pack_git2")), "{:?}", names(&packs));
}

/// Also run as a process of its own by the next test, which tells it where to fetch from and kills it.
#[tokio::test]
async fn a_fetch_gives_the_tip_to_a_process_that_begins_with_an_empty_cache() {
    let arguments: Vec<String> = std::env::args().collect();
    let told = arguments.iter().position(|a| a == "--skip").and_then(|at| arguments[at + 1].split_once(' '));
    let Some((url, root)) = told else {
        let w = world();
        assert_eq!(w.main().await.commit.sha.as_str(), w.repo.head());
        return;
    };
    Stage::new(std::path::Path::new(root)).tip(&url.parse().unwrap(), "main").await.unwrap();
}

#[tokio::test]
async fn kill_9_at_any_moment_of_a_fetch_leaves_a_cache_that_works() {
    let w = world();
    let noise: String = (0..200_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
    w.repo.commit_and_push("large", &[("noise", &noise)]);
    for good in [0, 100, 5_000, 50_000] {
        w.server.fail("git-upload-pack", Fault::StallBody(good));
        let before = w.server.sent();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mirrors::a_fetch_gives_the_tip_to_a_process_that_begins_with_an_empty_cache", "--skip"])
            .arg(format!("{} {}", w.server.url("octo/hello"), w.root.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_until(|| w.server.sent() - before >= good && w.stage.cache.exists() && !mirrors(&w.stage.cache).is_empty()).await;
        child.kill().unwrap();
        child.wait().unwrap();
        w.server.heal();
        assert_eq!(read(&w.main().await, "noise").len(), noise.len());
        assert!(names(&w.stage.mirror()).iter().all(|n| !n.starts_with("new-")));
        fs::remove_dir_all(&w.stage.cache).unwrap();
        fs::create_dir(&w.stage.cache).unwrap();
    }
}

#[tokio::test]
async fn a_mirror_whose_pack_is_damaged_is_fetched_anew_once() {
    let w = world();
    w.main().await;
    let packs = w.stage.repository().join("objects/pack");
    let pack = names(&packs).into_iter().find(|n| n.ends_with(".pack")).unwrap();
    git(&packs, &["--version"]);
    let path = packs.join(pack);
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false)]
    permissions.set_readonly(false);
    fs::set_permissions(&path, permissions).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(12)).unwrap();
    file.write_all(&[0x5a; 400]).unwrap();
    let tree = w.main().await;
    assert_eq!((read(&tree, "a").as_str(), read(&tree, "dir/b").as_str()), ("1", "2"));
}

#[tokio::test]
async fn a_blob_that_is_damaged_fails_clearly_and_the_next_job_gets_it() {
    let w = world();
    let tree = w.main().await;
    let packs = w.stage.repository().join("objects/pack");
    for name in names(&packs) {
        fs::remove_file(packs.join(name)).unwrap();
    }
    let failure = tree.read(tree.entry("a").unwrap()).unwrap_err();
    assert_eq!(failure.code, Code::WorkerInternal);
    assert!(failure.is_retryable());
    assert_eq!(read(&w.main().await, "a"), "1");
}

#[tokio::test]
async fn a_mirror_of_many_packs_is_fetched_anew_while_old_trees_stay_readable() {
    let w = world();
    let first = w.main().await;
    for n in 0..52 {
        w.repo.commit_and_push("next", &[("a", &n.to_string())]);
        w.main().await;
    }
    let packs = |w: &World| {
        let newest = names(&w.stage.mirror()).into_iter().filter(|n| n.starts_with("gen-")).max().unwrap();
        let packs = names(&w.stage.mirror().join(newest).join("repo.git/objects/pack"));
        packs.iter().filter(|n| n.ends_with(".pack")).count()
    };
    assert!(packs(&w) < 10, "{}", packs(&w));
    assert_eq!(read(&first, "dir/b"), "2");
    drop(first);
    w.main().await;
    w.stage.repository();
}

#[tokio::test]
async fn a_walk_that_is_kept_is_read_as_it_was_and_a_damaged_one_is_made_again() {
    let w = world();
    let before: Vec<_> = w.main().await.entries().to_vec();
    let walks = w.stage.repository().parent().unwrap().join("walks");
    for name in names(&walks) {
        fs::write(walks.join(name), b"slipwlk1 nonsense").unwrap();
    }
    assert_eq!(w.main().await.entries(), before);
    assert_eq!(w.main().await.entries(), before);
}

#[tokio::test]
async fn subtrees_that_did_not_change_are_the_same_after_any_edit() {
    let w = world();
    w.repo.commit_and_push("many", &[("x/1", "1"), ("x/y/2", "2"), ("x/y.z", "3"), ("z/1", "1"), ("x-y/1", "4")]);
    w.main().await;
    for (path, text) in [("x/y/2", "changed"), ("x/y/3", "new"), ("z", ""), ("new/deep/er", "n")] {
        if path == "z" {
            git(&w.repo.work, &["rm", "-rq", "z"]);
        } else {
            w.repo.commit("edit", &[(path, text)]);
        }
        w.repo.commit_and_push("edit", &[]);
        let warm = w.main().await;
        let fresh_root = tempfile::tempdir().unwrap();
        let fresh = Stage::new(fresh_root.path()).tip(&w.server.url("octo/hello"), "main").await.unwrap();
        assert_eq!(warm.entries(), fresh.entries(), "{:?}", paths(&warm));
    }
}

#[tokio::test]
async fn eviction_removes_the_least_recently_used_and_never_one_in_use() {
    let w = world();
    Repo::new(w.root.path(), "octo/two").commit_and_push("two", &[("a", "2")]);
    Repo::new(w.root.path(), "octo/three").commit_and_push("three", &[("a", "3")]);
    let stage = Stage::with(w.root.path(), GitConfig { cache_max_bytes: 0, ..config() });
    let held = stage.tip(&w.server.url("octo/hello"), "main").await.unwrap();
    let two = stage.tip(&w.server.url("octo/two"), "main").await.unwrap();
    drop(stage.tip(&w.server.url("octo/three"), "main").await.unwrap());
    assert_eq!(mirrors(&stage.cache).len(), 3);
    assert!(stage.stage.evict().await.unwrap() > 0);
    assert_eq!(mirrors(&stage.cache).len(), 2);
    assert_eq!((read(&held, "a").as_str(), read(&two, "a").as_str()), ("1", "2"));
    drop((held, two));
    stage.stage.evict().await.unwrap();
    assert_eq!(mirrors(&stage.cache).len(), 0);
    assert_eq!(read(&stage.tip(&w.server.url("octo/hello"), "main").await.unwrap(), "a"), "1");
}

#[tokio::test]
async fn eviction_keeps_what_fits_and_was_used_last() {
    let w = world();
    Repo::new(w.root.path(), "octo/two").commit_and_push("two", &[("a", "2")]);
    w.main().await;
    w.stage.tip(&w.server.url("octo/two"), "main").await.unwrap();
    w.main().await;
    assert_eq!(w.stage.stage.evict().await.unwrap(), 0, "both fit");
    let total: u64 = mirrors(&w.stage.cache).iter().map(|m| size(m)).sum();
    let tight = Stage::with(w.root.path(), GitConfig { cache_max_bytes: total - 1, ..config() });
    assert!(tight.stage.evict().await.unwrap() > 0);
    assert!(fs::read_to_string(tight.mirror().join("url")).unwrap().contains("octo/hello"));
}

fn size(dir: &std::path::Path) -> u64 {
    fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| if e.file_type().unwrap().is_dir() { size(&e.path()) } else { e.metadata().unwrap().len() })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_read_by_many_threads_at_once() {
    let w = world();
    let files: Vec<(String, String)> =
        (0..500).map(|n| (format!("d{}/f{n}", n % 7), format!("text {n} {}", "x".repeat(n)))).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    w.repo.commit_and_push("many", &files);
    let tree = w.main().await;
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                for (path, text) in &files {
                    assert_eq!(read(&tree, path), *text);
                }
            });
        }
    });
}
