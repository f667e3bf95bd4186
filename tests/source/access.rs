//! Who may read a repository, and where credentials go.

use slipway::config::GitConfig;
use slipway::protocol::{Code, CommitRef};

use crate::job::{Job, Stage, config, exact, mirrors, private, read};
use crate::repo::Repo;
use crate::server::{Fault, GitServer};

struct World {
    root: tempfile::TempDir,
    tip: String,
    server: GitServer,
    stage: Stage,
}

impl World {
    /// A private repository with one commit.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let tip = Repo::new(root.path(), "octo/hello").commit_and_push("first", &[("a", "1")]);
        let server = GitServer::start(root.path());
        server.require("octo", "s3cret-token");
        let stage = Stage::new(root.path());
        Self { root, tip, server, stage }
    }
    fn url(&self) -> url::Url {
        self.server.url("octo/hello")
    }
}

#[tokio::test]
async fn a_private_repository_opens_with_the_jobs_token() {
    let w = World::new();
    let tree = w.stage.fetch(&private(&w.url(), "octo", "s3cret-token"), "main", CommitRef::Tip).await.unwrap();
    assert_eq!(read(&tree, "a"), "1");
}

#[tokio::test]
async fn a_wrong_token_is_refused_once_and_in_words_that_do_not_hold_it() {
    let w = World::new();
    let failure = w.stage.fetch(&private(&w.url(), "octo", "wrong-token"), "main", CommitRef::Tip).await.unwrap_err();
    assert_eq!(failure.code, Code::GitAuth);
    assert!(failure.way_out.contains("tokens are not refreshed"), "{failure}");
    assert!(!failure.to_string().contains("wrong-token"));
    assert_eq!(w.server.requests().len(), 1, "a refused token is not tried again");
    assert!(mirrors(&w.stage.cache).is_empty(), "nothing is kept of a repository that was never read");
}

#[tokio::test]
async fn a_private_repository_without_a_token_asks_for_one() {
    let w = World::new();
    let failure = w.stage.tip(&w.url(), "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitAuth);
    assert!(failure.cause.contains("the job has none"), "{failure}");
}

#[tokio::test]
async fn a_repository_that_is_not_there_is_told() {
    let w = World::new();
    let url = w.server.url("octo/other");
    let failure = w.stage.fetch(&private(&url, "octo", "s3cret-token"), "main", CommitRef::Tip).await.unwrap_err();
    assert_eq!(failure.code, Code::GitRepositoryNotFound, "{failure}");
}

#[tokio::test]
async fn an_expired_token_does_not_read_the_warm_mirror() {
    let w = World::new();
    let source = private(&w.url(), "octo", "s3cret-token");
    w.stage.fetch(&source, "main", CommitRef::Tip).await.unwrap();
    w.server.require("octo", "renewed-token");
    for commit in [CommitRef::Tip, exact(&w.tip)] {
        let failure = w.stage.fetch(&source, "main", commit).await.unwrap_err();
        assert_eq!(failure.code, Code::GitAuth);
    }
    let failure = w.stage.tip(&w.url(), "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitAuth);
}

#[tokio::test]
async fn a_token_stands_in_no_file_and_no_log_line() {
    let w = World::new();
    let job = Job::new();
    let branch = slipway::protocol::BranchName::parse("main").unwrap();
    let source = private(&w.url(), "octo", "s3cret-token");
    w.stage.stage.fetch(&source, &branch, &CommitRef::Tip, &job.ctx).await.unwrap();
    assert!(!job.log().contains("s3cret"), "{}", job.log());
    let found = std::process::Command::new("grep").args(["-r", "-l", "s3cret"]).arg(&w.stage.cache).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test]
async fn a_redirect_on_the_same_host_is_followed_for_the_whole_fetch() {
    let w = World::new();
    let moved = w.server.url("octo/hello");
    w.server.fail("old.git/info/refs", redirect(format!("{moved}/info/refs?service=git-upload-pack")));
    let source = private(&w.server.url("octo/old"), "octo", "s3cret-token");
    let tree = w.stage.fetch(&source, "main", CommitRef::Tip).await.unwrap();
    assert_eq!(read(&tree, "a"), "1");
}

#[tokio::test]
async fn a_redirect_to_another_server_is_not_followed_and_gets_no_credentials() {
    let w = World::new();
    let other = GitServer::start(w.root.path());
    w.server.fail("info/refs", redirect(format!("{}/info/refs?service=git-upload-pack", other.url("octo/hello"))));
    let failure = w.stage.fetch(&private(&w.url(), "octo", "s3cret-token"), "main", CommitRef::Tip).await.unwrap_err();
    assert_eq!(failure.code, Code::GitHostNotAllowed, "{failure}");
    assert_eq!((other.requests().len(), other.authorizations()), (0, 0));
}

#[tokio::test]
async fn a_redirect_in_the_middle_of_a_fetch_is_not_followed() {
    let w = World::new();
    let other = GitServer::start(w.root.path());
    w.server.fail("git-upload-pack", redirect(format!("{}/git-upload-pack", other.url("octo/hello"))));
    let failure = w.stage.fetch(&private(&w.url(), "octo", "s3cret-token"), "main", CommitRef::Tip).await.unwrap_err();
    assert_eq!(failure.code, Code::GitProtocol, "{failure}");
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let w = World::new();
    w.server.fail("info/refs", redirect("/octo/hello.git/info/refs?service=git-upload-pack".to_owned()));
    let failure = w.stage.tip(&w.url(), "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitProtocol);
    assert!(w.server.requests().len() < 10);
}

#[tokio::test]
async fn hosts_that_are_not_allowed_are_not_asked() {
    let w = World::new();
    let only_github = GitConfig { allowed_hosts: vec!["github.com".to_owned()], ..config() };
    let stage = Stage::with(w.root.path(), only_github);
    let failure = stage.tip(&w.url(), "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitHostNotAllowed);
    assert_eq!(w.server.requests().len(), 0);
    let metadata = "http://169.254.169.254/octo/hello.git".parse().unwrap();
    assert_eq!(w.stage.tip(&metadata, "main").await.unwrap_err().code, Code::GitHostNotAllowed);
}

fn redirect(location: String) -> Fault {
    Fault::Answer(302, vec![("location", location)])
}
