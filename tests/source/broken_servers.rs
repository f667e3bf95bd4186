//! Servers that stall, trickle, break off or answer nonsense, and jobs that are cancelled while they do.

use std::time::{Duration, Instant};

use slipway::config::GitConfig;
use slipway::protocol::{BranchName, Code, CommitRef, Failure};

use crate::job::{Job, Stage, config, names, public, read};
use crate::repo::Repo;
use crate::server::{Fault, GitServer, wait_until};

/// From the cancel to the return of the stage.
const GONE_WITHIN: Duration = Duration::from_millis(250);

struct World {
    root: tempfile::TempDir,
    server: GitServer,
    stage: Stage,
}

impl World {
    fn new() -> Self {
        Self::with(config())
    }
    fn with(config: GitConfig) -> Self {
        let root = tempfile::tempdir().unwrap();
        let noise: String = (0..20_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        Repo::new(root.path(), "octo/hello").commit_and_push("first", &[("a", "1"), ("noise", &noise)]);
        let server = GitServer::start(root.path());
        let stage = Stage::with(root.path(), config);
        Self { root, server, stage }
    }
    async fn tip(&self) -> Result<slipway::source::SourceTree, Failure> {
        self.stage.tip(&self.server.url("octo/hello"), "main").await
    }
    fn mirrors(&self) -> Vec<String> {
        names(&self.stage.cache)
    }
}

/// Fetches, cancels as soon as `reached` is true, and checks that all of it is gone at once.
async fn cancelled_when(w: &World, url: &url::Url, reached: impl Future<Output = ()>) {
    let job = Job::new();
    let main = BranchName::parse("main").unwrap();
    let source = public(url);
    let fetch = w.stage.stage.fetch(&source, &main, &CommitRef::Tip, &job.ctx);
    tokio::pin!(fetch);
    tokio::select! {
        result = &mut fetch => panic!("it ended before it was cancelled: {result:?}"),
        () = reached => {}
    }
    let cancelled = Instant::now();
    job.ctx.cancel.cancel();
    let failure = fetch.await.unwrap_err();
    let took = cancelled.elapsed();
    assert_eq!(failure, Failure::interrupted());
    assert!(took < GONE_WITHIN, "gone after {took:?}");
    assert!(job.ctx.tasks.is_empty(), "a thread is left");
    let idle = w.server.wait_until_idle().await;
    assert!(idle < GONE_WITHIN, "its connection was open for {idle:?} more");
    assert_eq!(w.mirrors(), [""; 0], "a half mirror is left");
}

#[tokio::test]
async fn a_cancel_ends_a_fetch_that_waits_for_headers() {
    for path in ["info/refs", "git-upload-pack"] {
        let w = World::new();
        w.server.fail(path, Fault::StallHeaders);
        let requests = if path == "info/refs" { 1 } else { 2 };
        cancelled_when(&w, &w.server.url("octo/hello"), w.server.wait_for_requests(requests)).await;
    }
}

#[tokio::test]
async fn a_cancel_ends_a_fetch_whose_body_stalls() {
    for (path, good) in [("info/refs", 0), ("info/refs", 40), ("git-upload-pack", 0), ("git-upload-pack", 30_000)] {
        let w = World::new();
        w.server.fail(path, Fault::StallBody(good));
        let requests = if path == "info/refs" { 1 } else { 2 };
        let reached = async {
            w.server.wait_for_requests(requests).await;
            wait_until(|| w.server.sent() >= good).await;
        };
        cancelled_when(&w, &w.server.url("octo/hello"), reached).await;
    }
}

#[tokio::test]
async fn a_cancel_ends_a_fetch_that_trickles() {
    let w = World::new();
    w.server.fail("git-upload-pack", Fault::Trickle(10_000));
    cancelled_when(&w, &w.server.url("octo/hello"), wait_until(|| w.server.sent() >= 10_000)).await;
}

#[tokio::test]
async fn a_cancel_ends_a_fetch_that_cannot_connect() {
    // A listener whose queue is full: the kernel leaves further connections unanswered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(connection);
    }
    let w = World::new();
    let url = format!("http://{address}/octo/hello.git").parse().unwrap();
    let lock = || w.mirrors().len() == 1;
    cancelled_when(&w, &url, wait_until(lock)).await;
}

#[tokio::test]
async fn a_cancel_ends_a_job_that_waits_for_another_ones_fetch() {
    let w = World::new();
    w.server.fail("info/refs", Fault::StallHeaders);
    let (first, second) = (Job::new(), Job::new());
    let main = BranchName::parse("main").unwrap();
    let source = public(&w.server.url("octo/hello"));
    let running = w.stage.stage.fetch(&source, &main, &CommitRef::Tip, &first.ctx);
    let waiting = async {
        w.server.wait_for_requests(1).await;
        let waits = w.stage.stage.fetch(&source, &main, &CommitRef::Tip, &second.ctx);
        let cancel = async {
            second.ctx.cancel.cancel();
            std::future::pending::<()>().await;
        };
        let begun = Instant::now();
        tokio::select! {
            biased;
            result = waits => assert_eq!(result.unwrap_err(), Failure::interrupted()),
            () = cancel => {}
        }
        assert!(begun.elapsed() < GONE_WITHIN);
        assert_eq!(w.server.requests().len(), 1, "the second job asked nothing");
        first.ctx.cancel.cancel();
    };
    let (result, ()) = tokio::join!(running, waiting);
    assert_eq!(result.unwrap_err(), Failure::interrupted());
}

#[tokio::test]
async fn two_jobs_of_one_repository_both_get_it() {
    let w = World::new();
    let (one, two) = tokio::join!(w.tip(), w.tip());
    assert_eq!((read(&one.unwrap(), "a").as_str(), read(&two.unwrap(), "a").as_str()), ("1", "1"));
    let posts = w.server.requests().iter().filter(|r| r.starts_with("POST")).count();
    assert!(posts <= 2, "the second job found what the first had fetched: {posts}");
}

#[tokio::test]
async fn a_server_that_stalls_is_given_up_after_the_idle_timeout() {
    for (path, fault) in [
        ("info/refs", Fault::StallHeaders),
        ("info/refs", Fault::StallBody(40)),
        ("git-upload-pack", Fault::StallHeaders),
        ("git-upload-pack", Fault::StallBody(30_000)),
    ] {
        let w = World::with(GitConfig { idle_timeout: Duration::from_millis(300), ..config() });
        w.server.fail(path, fault.clone());
        let failure = w.tip().await.unwrap_err();
        assert_eq!(failure.code, Code::GitStalled, "{path} {fault:?}: {failure}");
        assert!(failure.is_retryable());
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_later_and_leaves_a_mirror_that_works() {
    for (path, good) in [("info/refs", 0), ("info/refs", 100), ("git-upload-pack", 0), ("git-upload-pack", 30_000)] {
        let w = World::new();
        w.server.fail(path, Fault::Cut(good));
        let failure = w.tip().await.unwrap_err();
        assert_eq!(failure.code, Code::GitUnreachable, "{path} {good}: {failure}");
        assert!(failure.is_retryable());
        w.server.heal();
        assert_eq!(read(&w.tip().await.unwrap(), "a"), "1");
    }
}

#[tokio::test]
async fn a_warm_mirror_survives_a_fetch_that_breaks() {
    let w = World::new();
    w.tip().await.unwrap();
    let next = w.root.path().join("octo/hello.work");
    std::fs::write(next.join("noise"), "n".repeat(100) + &"0123456789abcdef".repeat(4000)).unwrap();
    crate::repo::git(&next, &["commit", "-qam", "second"]);
    crate::repo::git(&next, &["push", "-q", "../hello.git", "HEAD:main"]);
    w.server.fail("git-upload-pack", Fault::Cut(200));
    assert_eq!(w.tip().await.unwrap_err().code, Code::GitUnreachable);
    w.server.heal();
    let tree = w.tip().await.unwrap();
    assert_eq!((tree.commit.summary.as_str(), read(&tree, "a").as_str()), ("second", "1"));
}

#[tokio::test]
async fn statuses_become_words() {
    for (status, headers, code) in [
        (403, vec![], Code::GitAuth),
        (404, vec![], Code::GitRepositoryNotFound),
        (403, vec![("x-ratelimit-remaining", "0".to_owned())], Code::GitUnreachable),
        (429, vec![("retry-after", "30".to_owned())], Code::GitUnreachable),
        (500, vec![], Code::GitUnreachable),
        (503, vec![], Code::GitUnreachable),
        (302, vec![("location", "/login".to_owned())], Code::GitRepositoryNotFound),
        (418, vec![], Code::GitProtocol),
        (200, vec![("content-type", "text/html".to_owned())], Code::GitProtocol),
        (200, vec![("content-type", "application/x-git-upload-pack-advertisement".to_owned())], Code::GitProtocol),
    ] {
        let w = World::new();
        w.server.fail("info/refs", Fault::Answer(status, headers));
        let failure = w.tip().await.unwrap_err();
        assert_eq!(failure.code, code, "{status}: {failure}");
        assert!(failure.cause.contains(&w.server.address.to_string()), "{failure}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_and_a_name_that_does_not_exist_are_told_apart() {
    let w = World::new();
    let url = "http://127.0.0.1:1/octo/hello.git".parse().unwrap();
    let failure = w.stage.tip(&url, "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitUnreachable);
    assert!(failure.cause.contains("cannot be reached") && failure.cause.contains("refused"), "{failure}");
    let url = "http://no-such-host.invalid/octo/hello.git".parse().unwrap();
    let failure = w.stage.tip(&url, "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitHostUnknown);
    assert!(failure.cause.contains("no-such-host.invalid") && failure.cause.contains("cannot be resolved"), "{failure}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told() {
    let w = World::new();
    let url = format!("https://{}/octo/hello.git", w.server.address).parse().unwrap();
    let failure = w.stage.tip(&url, "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitUnreachable);
    assert!(failure.cause.contains("TLS"), "{failure}");
}

#[tokio::test]
async fn a_server_that_sends_more_than_the_limit_is_cut_off() {
    let w = World::with(GitConfig { max_fetch_bytes: 20_000, ..config() });
    let failure = w.tip().await.unwrap_err();
    assert_eq!(failure.code, Code::SourceTooLarge);
    assert!(failure.way_out.contains("MAX_FETCH_BYTES"), "{failure}");
    assert_eq!(w.mirrors(), [""; 0]);
}
