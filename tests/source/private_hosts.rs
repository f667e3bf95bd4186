//! Which addresses a job's git host may have, and what its user is told of a private one.

use slipway::config::{GitConfig, PrivateHosts};
use slipway::protocol::{Code, CommitRef, Failure};

use crate::job::{Stage, config, private, read};
use crate::lan;
use crate::repo::Repo;
use crate::server::GitServer;

fn only(private_hosts: PrivateHosts) -> GitConfig {
    GitConfig { private_hosts, ..config() }
}

#[tokio::test]
async fn by_default_no_spelling_of_this_host_is_asked() {
    let root = tempfile::tempdir().unwrap();
    Repo::new(root.path(), "octo/hello").commit_and_push("first", &[("a", "1")]);
    let server = GitServer::start(root.path());
    let port = server.address.port();
    let stage = Stage::with(root.path(), only(PrivateHosts::Lan));
    let mut hosts: Vec<String> =
        ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "127.0.0.2", "0", "0.0.0.0", "[::1]", "[::]"]
            .map(str::to_owned)
            .to_vec();
    hosts.extend(["[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "0177.0.0.1"].map(str::to_owned));
    hosts.extend(addresses_of_this_host());
    for host in hosts {
        let url = format!("http://{host}:{port}/octo/hello.git").parse().unwrap();
        let failure = stage.fetch(&private(&url, "octo", "s3cret"), "main", CommitRef::Tip).await.unwrap_err();
        assert_eq!(failure.code, Code::GitHostNotAllowed, "{host}: {failure}");
        assert!(failure.cause.contains("own host"), "{host}: {failure}");
    }
    assert_eq!(server.requests().len(), 0);
}

/// IPv4, as the kernel's table of local routes has them.
fn addresses_of_this_host() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap();
    let lines: Vec<&str> = table.lines().collect();
    let local = lines.windows(2).filter(|pair| pair[1].trim() == "/32 host LOCAL");
    let found: Vec<String> = local.map(|pair| pair[0].trim().trim_start_matches("|-- ").to_owned()).collect();
    assert!(found.contains(&"127.0.0.1".to_owned()), "{found:?}");
    found
}

#[tokio::test]
async fn this_host_is_asked_where_the_operator_names_it() {
    let root = tempfile::tempdir().unwrap();
    Repo::new(root.path(), "octo/hello").commit_and_push("first", &[("a", "1")]);
    let server = GitServer::start(root.path());
    let listed = GitConfig { allowed_hosts: vec![server.address.to_string()], ..only(PrivateHosts::None) };
    let github = GitConfig { github_url: format!("http://{}", server.address).parse().unwrap(), ..only(PrivateHosts::None) };
    for config in [listed, github, only(PrivateHosts::All)] {
        let stage = Stage::with(tempfile::tempdir().unwrap().path(), config);
        assert_eq!(read(&stage.tip(&server.url("octo/hello"), "main").await.unwrap(), "a"), "1");
    }
}

#[tokio::test]
async fn of_a_private_host_that_is_no_git_server_nothing_is_told_but_that() {
    const NAME: &str = "private_hosts::of_a_private_host_that_is_no_git_server_nothing_is_told_but_that";
    let root = tempfile::tempdir().unwrap();
    if !lan::is_inside(NAME, root.path()) {
        return;
    }
    let stage = Stage::with(root.path(), only(PrivateHosts::Lan));
    let mut told = Vec::new();
    for host in ["10.99.0.2:8000", "10.99.0.2:8001", "10.99.0.2:8003", "10.99.0.2:8004", "10.99.0.3:8000"] {
        let url = format!("http://{host}/octo/hello.git").parse().unwrap();
        let failure = stage.fetch(&private(&url, "octo", "s3cret"), "main", CommitRef::Tip).await.unwrap_err();
        let words = format!("{failure} {:?} {:?}", failure.retry_after, failure.evidence);
        told.push(words.replace(host, "HOST"));
    }
    assert!(told.iter().all(|words| *words == told[0]), "{told:#?}");
    assert!(told[0].contains("does not answer as a git server"), "{}", told[0]);
}

#[tokio::test]
async fn a_git_server_in_a_private_network_is_asked_by_default_and_not_where_the_operator_says_none() {
    const NAME: &str =
        "private_hosts::a_git_server_in_a_private_network_is_asked_by_default_and_not_where_the_operator_says_none";
    let root = tempfile::tempdir().unwrap();
    let repo = Repo::new(root.path(), "octo/hello");
    repo.commit_and_push("first", &[("a", "1")]);
    if !lan::is_inside(NAME, root.path()) {
        return;
    }
    let url: url::Url = "http://10.99.0.2:8002/octo/hello.git".parse().unwrap();
    let none = Stage::with(root.path(), only(PrivateHosts::None));
    let failure = none.tip(&url, "main").await.unwrap_err();
    assert_eq!(failure.code, Code::GitHostNotAllowed, "{failure}");
    let here: url::Url = "http://10.99.0.1:8002/octo/hello.git".parse().unwrap();
    let lan = Stage::with(root.path(), only(PrivateHosts::Lan));
    assert_eq!(code_of(lan.tip(&here, "main").await), Code::GitHostNotAllowed);
    assert_eq!(read(&lan.tip(&url, "main").await.unwrap(), "a"), "1");
    // It is known now for a git server: the rest is told as of any other.
    assert_eq!(code_of(lan.tip(&url, "mian").await), Code::GitBranchNotFound);
}

fn code_of<T>(result: Result<T, Failure>) -> Code {
    result.err().map(|failure| failure.code).unwrap()
}
