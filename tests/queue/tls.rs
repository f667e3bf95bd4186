//! Redis by TLS and by URL: every connection uses it, and a certificate that cannot be believed is named with its cure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use slipway::config::{QueueConfig, Settings, Surroundings};
use slipway::queue::{CancelFound, Fenced, Keys, Notice, Producer, Queue, QueueError, Telling, rule};
use tempfile::TempDir;

use crate::rig::*;

/// An authority of the test's own.
struct Authority {
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        openssl(
            this.dir.path(),
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj /CN=test-authority",
        );
        this
    }
    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
    /// A certificate for `names` (`DNS:…,IP:…`), and its key, as options of a server.
    fn signs(&self, name: &str, names: &str, more: &str) -> Vec<String> {
        let at = self.dir.path();
        std::fs::write(at.join("ext"), format!("subjectAltName={names}\n")).unwrap();
        openssl(at, &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN=redis"));
        let sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -extfile ext";
        openssl(at, &format!("{sign} {more} -in {name}.csr -out {name}.pem"));
        self.options(name)
    }
    fn options(&self, name: &str) -> Vec<String> {
        let path = |end: &str| self.dir.path().join(format!("{name}.{end}")).display().to_string();
        let ca = self.file().display().to_string();
        ["--tls-cert-file", &path("pem"), "--tls-key-file", &path("key"), "--tls-ca-cert-file", &ca].map(str::to_owned).to_vec()
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let done = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).stderr(Stdio::null()).status().unwrap();
    assert!(done.success(), "openssl {arguments}");
}

/// A server with a port in clear, for the test, and one by TLS.
async fn server(options: &[String], clients: &str) -> (Redis, u16) {
    let port = free_port();
    let text = port.to_string();
    let mut all: Vec<&str> = vec!["--tls-port", &text, "--tls-auth-clients", clients];
    all.extend(options.iter().map(String::as_str));
    (Redis::with(&all).await, port)
}

/// As the program understands it.
fn by_url(url: &str, authority: Option<&Path>) -> QueueConfig {
    let dir = tempfile::tempdir().unwrap();
    let mut environment: BTreeMap<_, _> =
        [("REDIS_URL", url), ("REDIS_QUEUE_NAME", "q")].map(|(n, v)| (n.into(), v.into())).into();
    if let Some(file) = authority {
        environment.insert("REDIS_TLS_CA_FILE".into(), file.into());
    }
    let (chosen_file, system_file) = (None, dir.path().join("none"));
    let surroundings = Surroundings { chosen_file, system_file, working_dir: dir.path().to_owned(), environment };
    QueueConfig { max_job_bytes: 64 << 10, ..Settings::read(&surroundings).queue().unwrap_or_else(|e| panic!("{e}")) }
}

async fn refused(config: &QueueConfig) -> String {
    let error = within(20, Producer::connect(config)).await.err().expect("it is refused");
    // Both sides of the queue ask the same way.
    let also = within(20, Queue::check(config)).await.expect_err("it is refused");
    assert_eq!(std::mem::discriminant(&error), std::mem::discriminant(&also), "{error} / {also}");
    error.to_string()
}

#[tokio::test]
pub async fn a_job_goes_all_its_way_by_tls_with_user_password_and_database_of_the_url() {
    let authority = Authority::new();
    let (redis, port) = server(&authority.signs("good", "DNS:localhost,IP:127.0.0.1", "-days 30"), "no").await;
    let granted = rule(&Keys::of("q").unwrap(), "builder:cancel");
    let words =
        [&["ACL", "SETUSER", "slip:way", "reset", "on", ">p@ss/w%rd"], &granted.split(' ').collect::<Vec<_>>()[..]].concat();
    let _: () = redis.cmd(&words).await;
    for host in ["localhost", "127.0.0.1"] {
        let config = by_url(&format!("rediss://slip%3Away:p%40ss%2Fw%25rd@{host}:{port}/2"), Some(&authority.file()));
        let findings = Queue::check(&config).await.unwrap();
        assert!(findings.lacking.is_empty(), "{findings:?}");
        let mut worker = Worker::start(&config, tempfile::tempdir().unwrap(), Duration::from_secs(60)).await;
        let producer = Producer::connect(&config).await.unwrap();
        let (claim, ()) = tokio::join!(worker.claim(), async {
            let waits = async || redis.cmd::<String>(&["CLIENT", "LIST"]).await.contains("cmd=blmove");
            until(10, "the worker waits in a blocking move", waits).await;
            producer.enqueue(job("d1", "s1").as_bytes(), &id("d1"), false).await.unwrap();
        });
        assert_eq!(claim.payload, job("d1", "s1"));
        until(10, "it listens", async || redis.cmd::<i64>(&["PUBLISH", "builder:cancel", "nobody"]).await > 0).await;
        assert_eq!(producer.cancel(&id("d1")).await.unwrap(), CancelFound::Running { worker: worker.id.clone() });
        assert!(matches!(worker.notice(10).await, Notice::Cancelled(d) if d == id("d1")));
        assert_eq!(worker.queue.store_outcome(&claim, &cancelled()).await.unwrap(), Fenced::Stored);
        assert_eq!(worker.queue.may_post(&claim, Telling::End).await.unwrap(), Fenced::Stored);
        worker.queue.acknowledge(&claim).await.unwrap();
        let clients: String = redis.cmd(&["CLIENT", "LIST"]).await;
        let of_the_worker: Vec<&str> = clients.lines().filter(|line| line.contains("user=slip:way")).collect();
        assert!(of_the_worker.len() >= 4, "scripts, the blocking move, the subscription, the producer: {clients}");
        assert!(of_the_worker.iter().all(|line| line.contains(" db=2 ")), "{clients}");
        worker.queue.release().await.unwrap();
        worker.die().await;
    }
    assert_eq!(redis.cmd::<i64>(&["DBSIZE"]).await, 0, "nothing lies in database 0");
}

#[tokio::test]
pub async fn a_server_that_wants_tls_and_one_that_has_none_are_told_apart_with_the_way_out() {
    let authority = Authority::new();
    let (redis, port) = server(&authority.signs("good", "IP:127.0.0.1", "-days 30"), "no").await;
    for url in [format!("redis://127.0.0.1:{port}"), format!("redis://:pw@127.0.0.1:{port}/1")] {
        let told = refused(&by_url(&url, None)).await;
        assert!(told.contains("Does it want TLS?") && told.contains("rediss://") && told.contains("REDIS_TLS=true"), "{told}");
    }
    let told = refused(&by_url(&format!("rediss://127.0.0.1:{}", redis.port), Some(&authority.file()))).await;
    assert!(
        told.contains("TLS") && told.contains("write redis:// in REDIS_URL") || told.contains("Write redis:// in REDIS_URL"),
        "{told}"
    );
}

#[tokio::test]
async fn a_certificate_that_cannot_be_believed_is_named_with_its_cure() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (_redis, port) = server(&authority.signs("good", "DNS:cache.internal", "-days 30"), "no").await;
    let url = format!("rediss://127.0.0.1:{port}");
    let told = refused(&by_url(&url, None)).await;
    assert!(told.contains("no authority that this host trusts") && told.contains("Set REDIS_TLS_CA_FILE"), "{told}");
    let told = refused(&by_url(&url, Some(&other.file()))).await;
    assert!(told.contains("no authority in REDIS_TLS_CA_FILE has signed"), "{told}");
    let told = refused(&by_url(&url, Some(&authority.file()))).await;
    assert!(told.contains("not for 127.0.0.1") && told.contains("cache.internal"), "{told}");

    let expired = authority.signs("old", "IP:127.0.0.1", "-days -1");
    let (_redis, port) = server(&expired, "no").await;
    let told = refused(&by_url(&format!("rediss://127.0.0.1:{port}"), Some(&authority.file()))).await;
    assert!(told.contains("has expired") && told.contains("clock"), "{told}");

    // As `openssl req -x509` makes it, without more.
    let (_redis, port) = server(&authority.options("ca"), "no").await;
    let told = refused(&by_url(&format!("rediss://127.0.0.1:{port}"), Some(&authority.file()))).await;
    assert!(told.contains("certificate of an authority as its own") && told.contains("CA:FALSE"), "{told}");
}

#[tokio::test]
async fn a_server_that_wants_certificates_of_its_clients_is_named_with_the_setting_that_says_so() {
    let authority = Authority::new();
    let (_redis, port) = server(&authority.signs("good", "IP:127.0.0.1", "-days 30"), "yes").await;
    let told = refused(&by_url(&format!("rediss://127.0.0.1:{port}"), Some(&authority.file()))).await;
    assert!(told.contains("certificate of its clients") && told.contains("tls-auth-clients"), "{told}");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    let redis = Redis::with(&["--databases", "2"]).await;
    let config = by_url(&format!("redis://127.0.0.1:{}/7", redis.port), None);
    let error = Producer::connect(&config).await.err().unwrap();
    assert!(matches!(error, QueueError::Trouble { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains("has no database 7") && told.contains("REDIS_DB"), "{told}");
}
