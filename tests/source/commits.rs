//! Which commit a job gets.

use slipway::protocol::Code;
use slipway::source::EntryKind;

use crate::job::{Job, Stage, exact, paths, public, read};
use crate::repo::{World, git};
use crate::server::GitServer;

#[tokio::test]
async fn a_job_without_a_commit_gets_the_tip_of_its_branch() {
    let w = World::new();
    w.repo.commit("first", &[("a", "old")]);
    let tip = w.repo.commit_and_push("Say hello", &[("a", "new"), ("dir/b", "b"), ("dir.x", "x")]);
    let job = Job::new();
    let branch = slipway::protocol::BranchName::parse("main").unwrap();
    let tree = w.stage.stage.fetch(&public(&w.url()), &branch, &slipway::protocol::CommitRef::Tip, &job.ctx).await.unwrap();
    assert_eq!(tree.commit.sha.as_str(), tip);
    assert_eq!(tree.commit.summary, "Say hello");
    assert_eq!(paths(&tree), ["a", "dir", "dir/b", "dir.x"]);
    assert_eq!(read(&tree, "a"), "new");
    assert_eq!(tree.entry("a").unwrap().size, 3);
    let host = w.server.address;
    assert!(
        job.log().contains(&format!("Fetching octo/hello (branch main) from {host}\nCommit {} “Say hello”, 20", &tip[..7])),
        "{}",
        job.log()
    );
}

#[tokio::test]
async fn an_unchanged_branch_is_asked_for_and_not_fetched() {
    let w = World::new();
    w.repo.commit_and_push("first", &[("a", "1")]);
    w.stage.tip(&w.url(), "main").await.unwrap();
    w.server.requests();
    let tree = w.stage.tip(&w.url(), "main").await.unwrap();
    assert_eq!(read(&tree, "a"), "1");
    assert_eq!(w.server.requests(), ["GET info/refs"]);
}

#[tokio::test]
async fn each_new_commit_of_a_branch_arrives_in_the_warm_mirror() {
    let w = World::new();
    for n in 0..5 {
        let text = n.to_string();
        let tip = w.repo.commit_and_push("next", &[("a", &text), (&format!("d{n}/f"), &text), ("same/g", "same")]);
        let tree = w.stage.tip(&w.url(), "main").await.unwrap();
        assert_eq!(tree.commit.sha.as_str(), tip);
        assert_eq!(read(&tree, "a"), text);
        assert_eq!(read(&tree, "same/g"), "same");
        assert_eq!(tree.entries().len(), 1 + 2 * (n + 1) + 2);
    }
}

#[tokio::test]
async fn a_rewritten_branch_is_followed() {
    let w = World::new();
    w.repo.commit_and_push("first", &[("a", "1")]);
    w.stage.tip(&w.url(), "main").await.unwrap();
    git(&w.repo.work, &["commit", "-q", "--amend", "-m", "rewritten"]);
    w.repo.push(&["HEAD:main"]);
    assert_eq!(w.stage.tip(&w.url(), "main").await.unwrap().commit.summary, "rewritten");
}

#[tokio::test]
async fn branches_with_slashes_come_and_go() {
    let w = World::new();
    w.repo.commit("first", &[("a", "1")]);
    w.repo.push(&["HEAD:refs/heads/feature"]);
    w.stage.tip(&w.url(), "feature").await.unwrap();
    git(&w.repo.bare, &["update-ref", "-d", "refs/heads/feature"]);
    let tip = w.repo.commit("second", &[("a", "2")]);
    w.repo.push(&["HEAD:refs/heads/feature/x"]);
    assert_eq!(w.stage.tip(&w.url(), "feature/x").await.unwrap().commit.sha.as_str(), tip);
}

#[tokio::test]
async fn a_tag_builds_like_a_branch_also_an_annotated_one() {
    let w = World::new();
    let tip = w.repo.commit_and_push("first", &[("a", "1")]);
    git(&w.repo.work, &["tag", "light"]);
    git(&w.repo.work, &["tag", "-a", "-m", "annotated", "v1"]);
    git(&w.repo.work, &["tag", "-a", "-m", "a tag of a tag", "v2", "v1"]);
    w.repo.push(&["--tags"]);
    for tag in ["light", "v1", "v2"] {
        assert_eq!(w.stage.tip(&w.url(), tag).await.unwrap().commit.sha.as_str(), tip, "{tag}");
    }
}

#[tokio::test]
async fn a_tag_of_something_else_than_a_commit_is_told() {
    let w = World::new();
    w.repo.commit_and_push("first", &[("a", "1")]);
    git(&w.repo.work, &["tag", "-a", "-m", "a file", "blob", "HEAD:a"]);
    w.repo.push(&["--tags"]);
    let failure = w.stage.tip(&w.url(), "blob").await.unwrap_err();
    assert_eq!(failure.code, Code::GitBranchNotFound);
    assert!(failure.cause.contains("does not point to a commit"), "{failure}");
}

#[tokio::test]
async fn a_missing_branch_is_named_with_its_nearest() {
    let w = World::new();
    w.repo.commit_and_push("first", &[("a", "1")]);
    let failure = w.stage.tip(&w.url(), "mian").await.unwrap_err();
    assert_eq!(failure.code, Code::GitBranchNotFound);
    assert!(failure.cause.contains("mian") && failure.way_out.contains("main"), "{failure}");
}

#[tokio::test]
async fn an_empty_repository_is_told() {
    let w = World::new();
    let failure = w.stage.tip(&w.url(), "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitBranchNotFound);
    assert!(failure.cause.contains("is empty"), "{failure}");
}

#[tokio::test]
async fn a_commit_that_is_not_the_tip_is_given_where_the_server_permits_it() {
    let w = World::new();
    w.repo.set("uploadpack.allowReachableSHA1InWant", "true");
    let first = w.repo.commit("first", &[("a", "1")]);
    for n in 0..60 {
        w.repo.commit(&format!("{n}"), &[]);
    }
    w.repo.commit_and_push("last", &[("a", "2")]);
    let tree = w.stage.commit(&w.url(), &first).await.unwrap();
    assert_eq!((tree.commit.sha.as_str(), read(&tree, "a").as_str()), (first.as_str(), "1"));
    let objects = git(&w.stage.repository(), &["count-objects", "-v"]);
    assert!(objects.contains("in-pack: 3"), "only the commit itself was fetched: {objects}");
}

#[tokio::test]
async fn a_commit_that_is_not_the_tip_is_dug_out_where_the_server_does_not_permit_it() {
    let w = World::new();
    let first = w.repo.commit("first", &[("a", "1")]);
    for n in 0..60 {
        w.repo.commit(&format!("{n}"), &[]);
    }
    w.repo.commit_and_push("last", &[("a", "2")]);
    let tree = w.stage.commit(&w.url(), &first).await.unwrap();
    assert_eq!((tree.commit.sha.as_str(), read(&tree, "a").as_str()), (first.as_str(), "1"));
    // It is known now that main leads there.
    w.server.requests();
    w.stage.commit(&w.url(), &first).await.unwrap();
    assert_eq!(w.server.requests(), ["GET info/refs"]);
}

#[tokio::test]
async fn the_tip_by_its_own_name_is_fetched_like_the_branch() {
    let w = World::new();
    w.repo.commit("first", &[("a", "1")]);
    let tip = w.repo.commit_and_push("second", &[("a", "2")]);
    assert_eq!(w.stage.commit(&w.url(), &tip).await.unwrap().commit.sha.as_str(), tip);
    assert_eq!(w.server.requests().iter().filter(|r| r.starts_with("GET")).count(), 1);
}

#[tokio::test]
async fn a_commit_that_was_never_there_is_gone() {
    for permission in ["true", "false"] {
        let w = World::new();
        w.repo.set("uploadpack.allowAnySHA1InWant", permission);
        w.repo.commit_and_push("first", &[("a", "1")]);
        let failure = w.stage.commit(&w.url(), &"ab".repeat(20)).await.unwrap_err();
        assert_eq!(failure.code, Code::GitCommitGone, "permission {permission}: {failure}");
    }
}

#[tokio::test]
async fn a_commit_that_was_force_pushed_away_is_not_served_from_the_mirror() {
    for permission in ["true", "false"] {
        let w = World::new();
        w.repo.set("uploadpack.allowReachableSHA1InWant", permission);
        w.repo.commit_and_push("first", &[("a", "1")]);
        let secret = w.repo.commit_and_push("oops", &[("key", "secret")]);
        w.stage.commit(&w.url(), &secret).await.unwrap();
        git(&w.repo.work, &["reset", "-q", "--hard", "HEAD~1"]);
        w.repo.commit_and_push("without", &[("a", "2")]);
        assert!(git(&w.stage.repository(), &["cat-file", "-t", &secret]) == "commit", "the mirror has it");
        let failure = w.stage.commit(&w.url(), &secret).await.unwrap_err();
        assert_eq!(failure.code, Code::GitCommitGone, "permission {permission}: {failure}");
    }
}

#[tokio::test]
async fn a_commit_that_no_ref_reaches_is_asked_of_a_server_that_permits_it_each_time() {
    let w = World::new();
    w.repo.set("uploadpack.allowAnySHA1InWant", "true");
    w.repo.commit_and_push("first", &[("a", "1")]);
    let away = w.repo.commit_and_push("away", &[("a", "2")]);
    git(&w.repo.work, &["reset", "-q", "--hard", "HEAD~1"]);
    w.repo.push(&["HEAD:main"]);
    for _ in 0..3 {
        w.server.requests();
        let tree = w.stage.commit(&w.url(), &away).await.unwrap();
        assert_eq!(read(&tree, "a"), "2");
        assert!(w.server.requests().iter().any(|r| r == "POST git-upload-pack"), "it was asked for");
    }
}

#[tokio::test]
async fn modes_links_and_submodules_are_told_apart() {
    let w = World::new();
    w.repo.commit("files", &[("run.sh", "#!/bin/sh"), ("data", "x")]);
    git(&w.repo.work, &["update-index", "--chmod=+x", "run.sh"]);
    std::os::unix::fs::symlink("../../etc/passwd", w.repo.work.join("link")).unwrap();
    git(&w.repo.work, &["add", "link"]);
    git(&w.repo.work, &["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", "1".repeat(40))]);
    git(&w.repo.work, &["commit", "-q", "-m", "more"]);
    w.repo.push(&["HEAD:main"]);
    let tree = w.stage.tip(&w.url(), "main").await.unwrap();
    let kind = |path: &str| tree.entry(path).unwrap().kind;
    assert_eq!(kind("run.sh"), EntryKind::File { executable: true });
    assert_eq!(kind("data"), EntryKind::File { executable: false });
    assert_eq!(kind("sub"), EntryKind::Submodule);
    assert_eq!((kind("link"), read(&tree, "link").as_str()), (EntryKind::Symlink, "../../etc/passwd"));
}

#[tokio::test]
async fn a_commit_that_does_not_exist_at_all_in_an_unknown_branch_is_gone_too() {
    let w = World::new();
    w.repo.commit_and_push("first", &[("a", "1")]);
    let failure = w.stage.fetch(&public(&w.url()), "gone", exact(&"cd".repeat(20))).await.unwrap_err();
    assert_eq!(failure.code, Code::GitCommitGone, "{failure}");
}

#[tokio::test]
async fn a_repository_with_sha256_names_is_refused_in_clear_words() {
    let root = tempfile::tempdir().unwrap();
    let bare = root.path().join("octo/hello.git");
    std::fs::create_dir_all(&bare).unwrap();
    git(&bare, &["init", "-q", "--bare", "-b", "main", "--object-format=sha256"]);
    let tree = git(&bare, &["hash-object", "-w", "-t", "tree", "/dev/null"]);
    let commit = git(&bare, &["commit-tree", "-m", "x", &tree]);
    git(&bare, &["update-ref", "refs/heads/main", &commit]);
    let server = GitServer::start(root.path());
    let failure = Stage::new(root.path()).tip(&server.url("octo/hello"), "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitUnsupported, "{failure}");
}
