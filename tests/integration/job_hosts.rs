//! A host that only a job names is down: that job fails within a few tries, and meanwhile it is in nobody's way.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{BlackHole, Fault, Job, Proxy, Repository, Rig, parts, unique};

const SOON: Duration = Duration::from_secs(30);
const HELLO: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nRUN echo hello\n")];
/// Nobody listens there.
const REFUSES: &str = "127.0.0.1:1";

fn from(host: &str) -> Repository {
    Repository::public(&[("Dockerfile", &format!("FROM {host}/team/base:1\n"))])
}

fn ended(rig: &Rig, job: &Job) -> bool {
    rig.dashboard.statuses(&job.id).iter().any(|status| status != "BUILDING")
}

#[tokio::test]
async fn good_jobs_are_built_on_two_slots_while_six_jobs_wait_for_dead_hosts_of_their_own() {
    // So many tries that the bad ones outlast the good ones on any machine.
    let mut rig = Rig::with(|options| options.builds(2).set("RETRY_LIMIT", "20")).await;
    let (git, registry) = (BlackHole::open().await, BlackHole::open().await);
    let stalls = Proxy::tcp(&parts().git).await;
    stalls.set(Fault::Stall);
    let hello = Repository::public(HELLO);
    let (hangs, refuses) = (from(&registry.address()), from(REFUSES));
    let dead = [
        Job::of(&hello).git_at(&git.url(), None),
        Job::of(&hello).git_at(&git.url(), None),
        Job::of(&hello).git_at(&format!("http://{REFUSES}"), None),
        Job::of(&hello).git_at(&stalls.url(), None),
        Job::of(&hangs),
        Job::of(&refuses),
    ];
    for job in &dead {
        rig.push(job).await;
    }
    let good = [Job::of(&hello), Job::of_github(&hello), Job::of(&hello)];
    for job in &good {
        rig.push(job).await;
    }
    for job in &good {
        rig.built(job).await;
    }
    for job in &dead {
        assert!(!ended(&rig, job), "it was not in the way, it waits still: {}", rig.dashboard.log(&job.id));
    }
    // A job without a slot is cancelled like any other.
    for job in &dead {
        rig.cancel(job).await;
        rig.cancelled(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_good_job_has_the_only_slot_while_images_of_every_form_wait_for_a_registry_that_stays_silent() {
    let mut rig = Rig::with(|options| options.builds(1).set("RETRY_LIMIT", "20")).await;
    let stalls = Proxy::tcp(&parts().registry).await;
    stalls.set(Fault::Stall);
    let host = stalls.address();
    let digest = "0".repeat(64);
    let others: String = (0..9).map(|n| format!("COPY --from=busybox:{n} /a /b\n")).collect();
    let dead = [
        format!("FROM {host}/team/base:1\n"),
        format!("FROM {host}/team/base@sha256:{digest}\n"),
        format!("FROM busybox:base\nCOPY --from={host}/team/base:1 /a /b\n"),
        format!("FROM busybox:base\nRUN --mount=type=bind,from={host}/team/base:1,target=/m true\n"),
        format!("FROM busybox:base\n{others}COPY --from={host}/team/base:1 /a /b\n"),
    ]
    .map(|dockerfile| Repository::public(&[("Dockerfile", &dockerfile)]));
    let dead = dead.each_ref().map(Job::of);
    for job in &dead {
        rig.push(job).await;
    }
    let hello = Repository::public(HELLO);
    let good = Job::of(&hello);
    rig.push(&good).await;
    rig.built(&good).await;
    for job in &dead {
        assert!(!ended(&rig, job), "it waits still: {}", rig.dashboard.log(&job.id));
        rig.cancel(job).await;
        rig.cancelled(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_base_image_that_the_engine_has_by_its_digest_needs_no_registry() {
    let mut rig = Rig::with(|options| options.set("RETRY_LIMIT", "1")).await;
    let registry = Proxy::tcp(&parts().registry).await;
    let image = rig.engine.push_base(&unique()).await;
    let digest = rig.registry.digest(&image).await.expect("it was pushed");
    let base = rig.engine.pull_through(&registry.address(), &image, &digest).await;
    registry.set(Fault::Stall);
    let repository = Repository::public(&[("Dockerfile", &format!("FROM {base}\nRUN true\n"))]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.engine.docker(&["image", "rm", &base]).await;
    rig.finish().await;
}

#[tokio::test]
async fn thirty_jobs_of_a_dead_git_host_do_not_keep_a_good_one_from_its_slot_until_they_end() {
    // A slot that each of them held for a second would keep the good one waiting until the first of them ends.
    let mut rig = Rig::with(|options| options.builds(1).set("RETRY_LIMIT", "1").set("GIT_IDLE_TIMEOUT", "28")).await;
    let hello = Repository::public(HELLO);
    let stalls = Proxy::tcp(&parts().git).await;
    stalls.set(Fault::Stall);
    let dead: Vec<Job> = (0..30).map(|n| Job::bare(&format!("octo/dead{n}")).git_at(&stalls.url(), None)).collect();
    for job in &dead {
        rig.push(job).await;
    }
    let good = Job::of(&hello);
    rig.push(&good).await;
    rig.built(&good).await;
    for job in &dead {
        assert!(!ended(&rig, job), "{}", rig.dashboard.log(&job.id));
        rig.cancel(job).await;
        rig.cancelled(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_job_that_its_git_host_asks_to_wait_holds_no_slot() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    let hello = Repository::public(HELLO);
    let limited = Proxy::tcp(&parts().git).await;
    limited.set(Fault::Answer429 { retry_after: 120 });
    let waits = Job::of(&hello).git_at(&limited.url(), None);
    rig.push(&waits).await;
    rig.dashboard.wait_for_line(&waits.id, "asks to wait 120", SOON).await;
    let good = Job::of(&hello);
    rig.push(&good).await;
    rig.built(&good).await;
    assert!(!ended(&rig, &waits));
    rig.cancel(&waits).await;
    rig.cancelled(&waits).await;
    rig.finish().await;
}

#[tokio::test]
async fn fetches_that_come_back_to_life_get_a_slot_again() {
    let mut rig = Rig::with(|options| options.builds(1)).await;
    let hello = Repository::public(HELLO);
    let stalls = Proxy::tcp(&parts().git).await;
    stalls.set(Fault::Stall);
    // The second one waits for the first one's fetch, which waits for a slot: neither may hold the slot meanwhile.
    let stalled = [Job::of(&hello), Job::of(&hello)].map(|job| job.git_at(&stalls.url(), None));
    for job in &stalled {
        rig.push(job).await;
    }
    stalls.wait_for_connection(SOON).await;
    let good = Job::of(&hello);
    rig.push(&good).await;
    rig.built(&good).await;
    stalls.set(Fault::Pass);
    for job in &stalled {
        rig.built(job).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_host_that_only_a_job_names_and_that_is_down_has_retry_limit_tries() {
    let mut rig = Rig::with(|options| options.builds(2).set("RETRY_LIMIT", "2")).await;
    let hello = Repository::public(HELLO);
    let by_git = Job::of(&hello).git_at(&format!("http://{REFUSES}"), None);
    let refuses = from(REFUSES);
    let by_base = Job::of(&refuses);
    let frontend = Repository::public(&[("Dockerfile", &format!("# syntax={REFUSES}/team/frontend:1\nFROM busybox:base\n"))]);
    let by_frontend = Job::of(&frontend);
    let added = Repository::public(&[("Dockerfile", &format!("FROM busybox:base\nADD http://{REFUSES}/file /file\n"))]);
    let by_add = Job::of(&added);
    for job in [&by_git, &by_base, &by_frontend, &by_add] {
        rig.push(job).await;
    }
    let error = rig.failed(&by_git, "git.unreachable").await;
    assert!(error.contains(REFUSES), "{error}");
    for job in [&by_base, &by_frontend, &by_add] {
        rig.failed(job, "build.pull_unreachable").await;
    }
    for job in [&by_git, &by_base, &by_frontend, &by_add] {
        let log = rig.dashboard.log(&job.id);
        assert_eq!(log.matches("Trying again in").count(), 1, "two tries: {log}");
        assert!(log.contains(", try 2)"), "it says which try comes: {log}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_the_users_fault_at_once_wherever_the_job_has_it() {
    let mut rig = Rig::with(|options| options.builds(2)).await;
    let hello = Repository::public(HELLO);
    let by_git = Job::of(&hello).git_at("http://nosuch.invalid", None);
    rig.push(&by_git).await;
    let error = rig.failed(&by_git, "git.host_unknown").await;
    assert!(error.contains("nosuch.invalid"), "{error}");
    for dockerfile in [
        "FROM nosuch.invalid/team/base:1\n",
        "ARG HOST=nosuch.invalid\nFROM ${HOST}/team/base:1\n",
        "# syntax=nosuch.invalid/team/frontend:1\nFROM busybox:base\n",
        "FROM busybox:base\nCOPY --from=nosuch.invalid/team/base:1 /a /b\n",
        "FROM busybox:base\nADD http://nosuch.invalid/file /file\n",
    ] {
        let repository = Repository::public(&[("Dockerfile", dockerfile)]);
        let job = Job::of(&repository);
        rig.push(&job).await;
        let error = rig.failed(&job, "dockerfile.host_unknown").await;
        assert!(error.contains("nosuch.invalid"), "{error}");
        let log = rig.dashboard.log(&job.id);
        assert!(!log.contains("Trying again"), "it is tried once: {log}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_git_host_with_a_certificate_that_nobody_trusts_is_the_users_fault_at_once() {
    let mut rig = Rig::start().await;
    let server = TlsServer::start().await;
    let hello = Repository::public(HELLO);
    let job = Job::of(&hello).git_at(&format!("https://{}", server.address), None);
    rig.push(&job).await;
    let error = rig.failed(&job, "git.certificate").await;
    assert!(error.contains(&server.address.to_string()), "{error}");
    assert!(!rig.dashboard.log(&job.id).contains("Trying again"), "it is tried once");
    rig.finish().await;
}

#[tokio::test]
async fn a_git_host_of_the_operators_list_is_waited_for() {
    let git = Proxy::tcp(&parts().git).await;
    git.set(Fault::Refuse);
    let mut rig = Rig::with(|options| options.set("RETRY_LIMIT", "1").set("UPSTREAM_HOSTS", &git.address())).await;
    let hello = Repository::public(HELLO);
    let job = Job::of(&hello).git_at(&git.url(), None);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "Trying again in", SOON).await;
    git.set(Fault::Pass);
    rig.built(&job).await;
    rig.finish().await;
}

/// Speaks TLS with a certificate that it has signed itself. Gone when dropped.
struct TlsServer {
    address: SocketAddr,
    _server: Child,
    _files: TempDir,
}

impl TlsServer {
    async fn start() -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let (key, certificate) = (files.path().join("key.pem"), files.path().join("cert.pem"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]);
        make.args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"]).arg(&key).arg("-out").arg(&certificate);
        assert!(make.stderr(Stdio::null()).status().await.expect("openssl").success());
        let mut serve = Command::new("openssl");
        serve.args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "100", "-key"]).arg(&key).arg("-cert").arg(&certificate);
        let mut server =
            serve.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().expect("openssl");
        let mut lines = BufReader::new(server.stdout.take().expect("piped")).lines();
        let address = loop {
            let line = lines.next_line().await.expect("a line").expect("it says where it listens");
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.trim().parse().expect("an address");
            }
        };
        Self { address, _server: server, _files: files }
    }
}
