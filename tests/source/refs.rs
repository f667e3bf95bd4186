//! Names and ids that a job may give besides a branch and a commit: as `git fetch origin X && git checkout FETCH_HEAD` takes them.

use std::fmt::Write as _;

use slipway::protocol::{Code, CommitRef};

use crate::job::{Stage, public, read};
use crate::repo::{World, git};

impl World {
    /// What git itself checks out of a ref or an id, in a clone of its own.
    fn git_checks_out(&self, what: &str) -> String {
        let clone = tempfile::tempdir_in(self.root.path()).unwrap();
        git(clone.path(), &["init", "-q"]);
        git(clone.path(), &["fetch", "-q", self.url().as_str(), what]);
        git(clone.path(), &["rev-parse", "FETCH_HEAD^{commit}"])
    }
    /// The server has so many refs of pull requests, which point to main.
    fn pull_requests(&self, count: usize) {
        let tip = git(&self.repo.bare, &["rev-parse", "main"]);
        git(&self.repo.bare, &["pack-refs", "--all"]);
        let before = std::fs::read_to_string(self.repo.bare.join("packed-refs")).unwrap();
        // Not said to be sorted: git sorts them itself.
        let mut packed = before.replace(" sorted", "");
        (100..100 + count).for_each(|n| writeln!(packed, "{tip} refs/pull/{n}/head").unwrap());
        std::fs::write(self.repo.bare.join("packed-refs"), packed).unwrap();
    }
}

#[tokio::test]
async fn a_name_is_taken_as_git_fetch_takes_it() {
    let w = World::new();
    w.repo.commit("one", &[("v", "1")]);
    git(&w.repo.work, &["tag", "-a", "-m", "first", "v1.0"]);
    w.repo.commit("two", &[("v", "2")]);
    w.repo.push(&["HEAD:refs/heads/main", "HEAD:refs/heads/feature/x", "--tags"]);
    w.repo.commit("three", &[("v", "3")]);
    w.repo.push(&["HEAD:refs/pull/7/head", "HEAD:refs/merge-requests/3/head"]);
    for many in [false, true] {
        if many {
            w.pull_requests(10_000);
        }
        let stage = Stage::new(tempfile::tempdir().unwrap().path());
        for name in [
            "refs/heads/main",
            "heads/main",
            "refs/tags/v1.0",
            "tags/v1.0",
            "refs/heads/feature/x",
            "refs/pull/7/head",
            "pull/7/head",
            "refs/merge-requests/3/head",
            "HEAD",
        ] {
            let tree = stage.tip(&w.url(), name).await.unwrap_or_else(|failure| panic!("{name}: {failure}"));
            assert_eq!(tree.commit.sha.as_str(), w.git_checks_out(name), "{name}");
        }
    }
}

#[tokio::test]
async fn the_id_of_an_annotated_tag_means_the_commit_that_it_points_to() {
    for many in [false, true] {
        let w = World::new();
        let first = w.repo.commit("one", &[("v", "1")]);
        git(&w.repo.work, &["tag", "-a", "-m", "first", "v1.0"]);
        git(&w.repo.work, &["tag", "-a", "-m", "a tag of it", "v1.1", "v1.0"]);
        git(&w.repo.work, &["tag", "-a", "-m", "of a file", "file", "HEAD:v"]);
        w.repo.commit("two", &[("v", "2")]);
        w.repo.push(&["HEAD:main", "--tags"]);
        if many {
            w.pull_requests(10_000);
        }
        for branch in ["v1.0", "main"] {
            for tag in ["v1.0", "v1.1"] {
                let id = git(&w.repo.work, &["rev-parse", tag]);
                let tree = w.commit(branch, &id).await.unwrap_or_else(|failure| panic!("{branch} {tag}: {failure}"));
                assert_eq!((tree.commit.sha.as_str(), read(&tree, "v").as_str()), (first.as_str(), "1"), "{branch} {tag}");
            }
            let file = git(&w.repo.work, &["rev-parse", "file"]);
            let failure = w.commit(branch, &file).await.unwrap_err();
            assert!(!failure.is_retryable() && failure.cause.contains("commit"), "{failure}");
        }
    }
}

#[tokio::test]
async fn of_a_repository_with_very_many_refs_only_what_is_meant_is_listed() {
    let w = World::new();
    let first = w.repo.commit("one", &[("v", "1")]);
    let tip = w.repo.commit_and_push("two", &[("v", "2")]);
    w.pull_requests(20_000);
    assert_eq!(w.tip("main").await.unwrap().commit.sha.as_str(), tip);
    // Once it is known, the long list is not begun again: v2's greeting, its list, and nothing to fetch.
    w.server.requests();
    assert_eq!(w.tip("main").await.unwrap().commit.sha.as_str(), tip);
    assert_eq!(w.server.requests(), ["GET info/refs", "POST git-upload-pack"]);
    assert_eq!(w.commit("main", &tip).await.unwrap().commit.sha.as_str(), tip);
    let failure = w.tip("mian").await.unwrap_err();
    assert_eq!((failure.code, failure.way_out.as_str()), (Code::GitBranchNotFound, "Did you mean main?"));
    let failure = w.tip("refs/pull/30000/head").await.unwrap_err();
    assert_eq!(failure.code, Code::GitBranchNotFound, "{failure}");
    // A commit that is not the tip: whether the server gives it out by its name or with its branch.
    for permission in ["true", "false"] {
        w.repo.set("uploadpack.allowReachableSHA1InWant", permission);
        let stage = Stage::new(tempfile::tempdir().unwrap().path());
        let tree = stage.commit(&w.url(), &first).await.unwrap_or_else(|failure| panic!("{permission}: {failure}"));
        assert_eq!(read(&tree, "v"), "1");
        let failure = stage.commit(&w.url(), &"ab".repeat(20)).await.unwrap_err();
        assert_eq!(failure.code, Code::GitCommitGone, "{permission}: {failure}");
    }
}

#[tokio::test]
async fn very_many_refs_are_read_to_the_end_where_the_server_speaks_no_other_protocol() {
    let w = World::new();
    w.server.know_only_v0();
    let tip = w.repo.commit_and_push("one", &[("v", "1")]);
    w.pull_requests(30_000);
    assert_eq!(w.tip("main").await.unwrap().commit.sha.as_str(), tip);
    assert_eq!(w.tip("refs/pull/29999/head").await.unwrap().commit.sha.as_str(), tip);
    let failure = w.tip("mian").await.unwrap_err();
    assert_eq!(failure.way_out, "Did you mean main?");
}

#[tokio::test]
async fn a_commit_is_built_whatever_stands_in_its_author_and_its_other_lines() {
    let w = World::new();
    w.repo.commit("one", &[("v", "1")]);
    let tree = git(&w.repo.work, &["rev-parse", "HEAD^{tree}"]);
    w.repo.push(&["HEAD:main"]);
    let parent = w.repo.head();
    let lines = [
        "author Ann <ab@office.example\n> 1334833756 -0700\ncommitter Ann <ab@office.example\n> 1334833756 -0700",
        "author Ann\ncommitter Ann",
        "author Ann <a@b>\ncommitter Ann <a@b>",
        "author <> 0 +0000\ncommitter <> 99999999999999999999999999 +0000",
        "author Ann <a@b> 1 +99999999\ncommitter Ann <a@b> yesterday",
        "author Ann <a> b> 1 +0000\nauthor Bob <b@c> 1 +0000\ncommitter Ann <a> b> 1 +0000",
        "author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\nencoding no-such\ngpgsig -----BEGIN\n x\nmergetag object 1\nodd",
    ];
    for line in lines {
        let odd = w.repo.object("commit", format!("tree {tree}\nparent {parent}\n{line}\n\nsay hello\n").as_bytes());
        git(&w.repo.bare, &["update-ref", "refs/heads/main", &odd]);
        // The second time on the warm mirror, the third by its id, and then another commit on top of it.
        let fetched = w.tip("main").await.unwrap_or_else(|failure| panic!("{line}: {failure}"));
        assert_eq!((fetched.commit.summary.as_str(), read(&fetched, "v").as_str()), ("say hello", "1"), "{line}");
        assert_eq!(w.tip("main").await.unwrap().commit.sha.as_str(), odd);
        assert_eq!(w.commit("main", &odd).await.unwrap().commit.sha.as_str(), odd);
        let child = w.repo.object(
            "commit",
            format!("tree {tree}\nparent {odd}\nauthor A <a@b> 2 +0000\ncommitter A <a@b> 2 +0000\n\nnext\n").as_bytes(),
        );
        git(&w.repo.bare, &["update-ref", "refs/heads/main", &child]);
        assert_eq!(w.tip("main").await.unwrap().commit.sha.as_str(), child, "{line}");
        // Not the tip: dug out with its branch.
        assert_eq!(w.commit("main", &odd).await.unwrap().commit.sha.as_str(), odd, "{line}");
    }
}

#[tokio::test]
async fn a_branch_goes_before_a_tag_of_its_name_and_the_tags_full_name_means_the_tag() {
    let w = World::new();
    let tagged = w.repo.commit("one", &[("v", "1")]);
    git(&w.repo.work, &["tag", "v1"]);
    let branch = w.repo.commit("two", &[("v", "2")]);
    w.repo.push(&["HEAD:refs/heads/v1", "refs/tags/v1:refs/tags/v1"]);
    let url = w.url();
    let fetch = async |name| w.stage.fetch(&public(&url), name, CommitRef::Tip).await;
    assert_eq!(fetch("v1").await.unwrap().commit.sha.as_str(), branch);
    assert_eq!(fetch("refs/tags/v1").await.unwrap().commit.sha.as_str(), tagged);
}
