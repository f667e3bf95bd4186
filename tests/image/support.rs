//! What the tests of the image stage share: the Engine, a job, a context, and the log that the stage wrote.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bollard::Docker;
use slipway::config::{BuildConfig, BuildNetwork, GitConfig, PrivateHosts, PullCredentials};
use slipway::context::{BuildContext, Content, ContextEntry, Excludes};
use slipway::image::{BuiltImage, DockerfileStage, connect_engine};
use slipway::protocol::*;
use slipway::secrets::{Redactor, SecretString};
use slipway::source::{CommitInfo, GitSourceStage, SourceTree};
use slipway::stage::StageContext;
use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub const COMMIT: &str = "1111111111111111111111111111111111111111";

/// Tests that count what is left of builds run alone.
static ALONE: RwLock<()> = RwLock::const_new(());
pub async fn together() -> RwLockReadGuard<'static, ()> {
    ALONE.read().await
}
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    ALONE.write().await
}

pub fn engine_host() -> String {
    #[allow(clippy::disallowed_methods)]
    std::env::var("SLIPWAY_TEST_DOCKER_HOST").expect("no Engine for tests: run \"make test\"")
}

pub fn config() -> BuildConfig {
    BuildConfig {
        engine_socket: PathBuf::from(engine_host().trim_start_matches("unix://")),
        platform: "linux/amd64".to_owned(),
        network: BuildNetwork::Default,
        cache_max_bytes: 20 << 30,
        context_max_bytes: 0,
        image_max_bytes: 0,
        pull_registries: Vec::new(),
    }
}

pub fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

/// The lines of one build, and a way to wait for one.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<(LogType, String)>>,
    news: Notify,
}

impl LogSink for Log {
    fn line(&self, kind: LogType, text: &str) {
        self.lines.lock().unwrap().extend(text.split('\n').map(|line| (kind, line.to_owned())));
        self.news.notify_waiters();
    }
}

impl Log {
    pub fn lines(&self) -> Vec<(LogType, String)> {
        self.lines.lock().unwrap().clone()
    }
    pub fn text(&self) -> String {
        self.lines().into_iter().map(|(_, line)| line + "\n").collect()
    }
    /// Output lines, without their step's number.
    pub fn output(&self, kind: LogType) -> Vec<String> {
        let of_kind = self.lines().into_iter().filter(|(k, _)| *k == kind);
        of_kind.map(|(_, line)| line.split_once(' ').map_or(String::new(), |(_, text)| text.to_owned())).collect()
    }
    pub async fn wait_for(&self, text: &str) {
        let found = async {
            loop {
                let news = self.news.notified();
                if self.lines().iter().any(|(_, line)| line.contains(text)) {
                    return;
                }
                news.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), found).await.is_err() {
            panic!("no line with {text:?} in\n{}", self.text());
        }
    }
}

/// A worker's image stage, and the attempts that are made with it.
pub struct Host {
    pub engine: Docker,
    pub stage: DockerfileStage,
}

impl Host {
    pub async fn new() -> Self {
        Self::with(config()).await
    }
    pub async fn with(config: BuildConfig) -> Self {
        let engine = connect_engine(&config).await.expect("the Engine of the tests");
        let stage = DockerfileStage::new(config, engine.clone(), secret("0123456789abcdef"), "worker-1".to_owned());
        Self { engine, stage }
    }
    pub async fn pulling_from(host: &str, username: &str, password: &str) -> Self {
        let credentials = PullCredentials { host: host.into(), username: username.into(), password: secret(password) };
        Self::with(BuildConfig { pull_registries: vec![credentials], ..config() }).await
    }
}

/// One attempt at a job.
pub struct Attempt {
    pub job: Job,
    pub commit: CommitInfo,
    pub ctx: StageContext,
    pub log: Arc<Log>,
}

impl Attempt {
    pub fn new(service: &str, deployment: &str) -> Self {
        let log = Arc::new(Log::default());
        let sha = CommitSha::parse(COMMIT).unwrap();
        let job = Job {
            deployment: DeploymentId::parse(deployment).unwrap(),
            service: ServiceId::parse(service).unwrap(),
            repository: RepositoryName::parse("octo/hello").unwrap(),
            branch: BranchName::parse("main").unwrap(),
            commit: CommitRef::Exact(sha.clone()),
            git: GitSource { url: "https://github.com/octo/hello.git".parse().unwrap(), credentials: None },
            dockerfile: None,
            env: Vec::new(),
            ports: Vec::new(),
            unsupported: Vec::new(),
            builder: None,
            build_timeout: None,
        };
        let ctx = StageContext {
            deployment: job.deployment.clone(),
            service: job.service.clone(),
            attempt: 1,
            cancel: CancellationToken::new(),
            log: log.clone(),
            redactor: Arc::new(Redactor::new(&[], &[], &[])),
            tasks: TaskTracker::new(),
        };
        Self { job, commit: CommitInfo { sha, time: 1_700_000_000, summary: "a commit".into() }, ctx, log }
    }
    pub async fn build(&self, host: &Host, context: BuildContext) -> Result<BuiltImage, Failure> {
        let result = host.stage.build(context, &self.commit, &self.job, &self.ctx).await;
        assert!(self.ctx.tasks.is_empty(), "tasks of the build are left after it returned");
        result
    }
}

/// Builds `context` for `service` and gives the image, or panics with the log.
pub async fn built(host: &Host, service: &str, context: BuildContext) -> (BuiltImage, Arc<Log>) {
    let attempt = Attempt::new(service, &unique("dpl"));
    match attempt.build(host, context).await {
        Ok(image) => (image, attempt.log),
        Err(failure) => panic!("{failure}\n{}", attempt.log.text()),
    }
}

/// Builds `context` and gives the failure.
pub async fn failed(host: &Host, context: BuildContext) -> (Failure, Arc<Log>) {
    let attempt = Attempt::new(&unique("svc"), &unique("dpl"));
    match attempt.build(host, context).await {
        Ok(image) => panic!("{image:?} was built\n{}", attempt.log.text()),
        Err(failure) => (failure, attempt.log),
    }
}

pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{prefix}-{now:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A context of files given as (path, bytes). A path that ends in `@target` is a symlink, one that ends in `*` executable.
pub fn context(files: &[(&str, &[u8])]) -> BuildContext {
    let mut entries: Vec<ContextEntry> = Vec::new();
    let mut folders = BTreeSet::new();
    for (spec, bytes) in files {
        let entry = |path: &str, content: Content, size: usize| ContextEntry {
            path: path.to_owned(),
            size: size as u64,
            mtime_ns: 1_700_000_000_000_000_000,
            content,
        };
        let path = match spec.split_once('@') {
            Some((path, target)) => {
                entries.push(entry(path, Content::Symlink { target: target.to_owned() }, target.len()));
                path
            }
            None => {
                let path = spec.trim_end_matches('*');
                let content = Content::Inline { bytes: Arc::new(bytes.to_vec()), executable: spec.ends_with('*') };
                entries.push(entry(path, content, bytes.len()));
                path
            }
        };
        for (at, _) in path.match_indices('/') {
            if folders.insert(path[..at].to_owned()) {
                entries.push(entry(&path[..at], Content::Directory, 0));
            }
        }
    }
    entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
    let dockerfile = files.iter().find(|(path, _)| *path == "Dockerfile" || path.ends_with("/Dockerfile"));
    let ignore = files.iter().find(|(path, _)| path.ends_with("Dockerfile.dockerignore"));
    BuildContext {
        dockerfile: dockerfile.map_or("Dockerfile", |(path, _)| path).to_owned(),
        dockerfile_bytes: dockerfile.map_or_else(Vec::new, |(_, bytes)| bytes.to_vec()),
        excludes: ignore.map_or_else(Excludes::default, |(path, bytes)| {
            Excludes::of(path, bytes.to_vec(), true).expect("patterns that can be read")
        }),
        entries,
        secrets: Vec::new(),
        shared_key: unique("key"),
        mounts_secrets: false,
        tree: tree(),
    }
}

/// A tree that no entry of these contexts reads from: an empty commit, opened once.
fn tree() -> Arc<SourceTree> {
    static TREE: OnceLock<Arc<SourceTree>> = OnceLock::new();
    // A thread of its own: the tests call this from inside their runtimes.
    TREE.get_or_init(|| std::thread::spawn(open_empty_commit).join().expect("an empty commit")).clone()
}

fn open_empty_commit() -> Arc<SourceTree> {
    let home = tempfile::tempdir().expect("a folder");
    let repository = home.path().join("repository");
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=T", "-c", "user.email=t@example.com", "-C"];
        let status = Command::new("git").args(identity).arg(&repository).args(arguments).status().expect("git");
        assert!(status.success(), "git {arguments:?}");
    };
    std::fs::create_dir(&repository).expect("a folder");
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "empty"]);
    let config = GitConfig {
        allowed_hosts: Vec::new(),
        private_hosts: PrivateHosts::All,
        github_url: "https://github.com".parse().expect("a URL"),
        idle_timeout: Duration::from_secs(30),
        min_rate: 0,
        max_fetch_bytes: 1 << 20,
        max_files: 10,
        max_file_bytes: 1 << 20,
        cache_max_bytes: 1 << 20,
    };
    let ctx = StageContext {
        deployment: DeploymentId::parse("tree").expect("an id"),
        service: ServiceId::parse("tree").expect("an id"),
        attempt: 1,
        cancel: CancellationToken::new(),
        log: Arc::new(Log::default()),
        redactor: Arc::new(Redactor::none()),
        tasks: TaskTracker::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stage = GitSourceStage::new(config, home.path().join("cache")).expect("the source stage");
    Arc::new(runtime.block_on(stage.open_local(&repository, None, &ctx)).expect("the commit's tree"))
}

pub fn dockerfile(text: &str) -> BuildContext {
    context(&[("Dockerfile", text.as_bytes())])
}

pub fn with_secrets(mut context: BuildContext, secrets: &[(&str, &str)]) -> BuildContext {
    context.secrets = secrets.iter().map(|(id, value)| ((*id).to_owned(), secret(value))).collect();
    context.mounts_secrets = true;
    context
}

/// The Docker CLI against the Engine of the tests.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(["-H", &engine_host()]).args(arguments).output().expect("the docker CLI");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command prints in a container of the image.
pub fn run_in(image: &BuiltImage, command: &str) -> String {
    docker(&["run", "--rm", "--network", "none", &image.id, "/bin/sh", "-c", command])
}

/// Containers and images of an attempt that the Engine still has.
pub fn left_of(deployment: &DeploymentId) -> String {
    let label = format!("label=dev.slipway.deployment={deployment}");
    docker(&["ps", "-aq", "--filter", &label]) + &docker(&["images", "-aq", "--filter", &label])
}
