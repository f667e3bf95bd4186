//! A repository on this machine as a source.

use std::fs;

use slipway::protocol::Code;

use crate::job::{Job, Stage, read};
use crate::repo::{Repo, git};

#[tokio::test]
async fn a_clone_is_built_from_its_head_and_says_what_is_not_committed() {
    let root = tempfile::tempdir().unwrap();
    let repo = Repo::new(root.path(), "octo/hello");
    let head = repo.commit("first", &[("a", "1"), ("dir/b", "2")]);
    let stage = Stage::new(root.path());
    let job = Job::new();
    let tree = stage.stage.open_local(&repo.work, None, &job.ctx).await.unwrap();
    assert_eq!((tree.commit.sha.as_str(), read(&tree, "dir/b").as_str()), (head.as_str(), "2"));
    assert!(!job.log().contains("not committed"), "{}", job.log());

    fs::write(repo.work.join("a"), "changed").unwrap();
    fs::write(repo.work.join("new"), "untracked").unwrap();
    let job = Job::new();
    let tree = stage.stage.open_local(&repo.work, None, &job.ctx).await.unwrap();
    assert_eq!(read(&tree, "a"), "1");
    assert!(tree.entry("new").is_none());
    assert!(job.log().contains("files with such changes: 2"), "{}", job.log());
}

#[tokio::test]
async fn an_older_commit_a_branch_and_a_bare_repository_can_be_named() {
    let root = tempfile::tempdir().unwrap();
    let repo = Repo::new(root.path(), "octo/hello");
    let first = repo.commit_and_push("first", &[("a", "1")]);
    repo.commit_and_push("second", &[("a", "2")]);
    git(&repo.work, &["tag", "-a", "-m", "v1", "v1", &first]);
    let stage = Stage::new(root.path());
    for (path, name, text) in [(&repo.work, &first[..9], "1"), (&repo.work, "v1", "1"), (&repo.bare, "main", "2")] {
        let tree = stage.stage.open_local(path, Some(name), &Job::new().ctx).await.unwrap();
        assert_eq!(read(&tree, "a"), text, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_written_into_the_users_repository() {
    let root = tempfile::tempdir().unwrap();
    let repo = Repo::new(root.path(), "octo/hello");
    repo.commit("first", &[("a", "1")]);
    fs::write(repo.work.join("a"), "changed").unwrap();
    let listing = || {
        git(&repo.work, &["ls-files", "--debug"])
            + &format!("{:?}", fs::metadata(repo.work.join(".git/index")).unwrap().modified().unwrap())
    };
    let before = listing();
    Stage::new(root.path()).stage.open_local(&repo.work, None, &Job::new().ctx).await.unwrap();
    assert_eq!(listing(), before);
}

#[tokio::test]
async fn a_path_that_is_no_repository_and_a_name_that_is_no_commit_are_told() {
    let root = tempfile::tempdir().unwrap();
    let repo = Repo::new(root.path(), "octo/hello");
    let stage = Stage::new(root.path());
    let open = async |path: &std::path::Path, name| stage.stage.open_local(path, name, &Job::new().ctx).await.unwrap_err();
    let failure = open(&repo.work, None).await;
    assert!(failure.cause.contains("has no commit yet"), "{failure}");
    repo.commit("first", &[("a", "1")]);
    let failure = open(&repo.work, Some("nope")).await;
    assert_eq!(failure.code, Code::GitBranchNotFound, "{failure}");
    assert!(failure.cause.contains("no branch or tag nope") && failure.way_out.contains("git branch"), "{failure}");
    let failure = open(&repo.work, Some("0123abcd")).await;
    assert_eq!(failure.code, Code::GitCommitGone, "{failure}");
    assert_eq!(open(root.path(), None).await.code, Code::GitRepositoryNotFound);
    let sha256 = root.path().join("sha256");
    git(root.path(), &["init", "-q", "--object-format=sha256", "sha256"]);
    let failure = open(&sha256, None).await;
    assert_eq!(failure.code, Code::GitUnsupported, "{failure}");
}
