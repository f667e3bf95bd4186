//! A git stage and jobs for it, as the worker would run them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use slipway::config::{GitConfig, PrivateHosts};
use slipway::protocol::{
    BranchName, CommitRef, CommitSha, DeploymentId, Failure, GitCredentials, GitSource, LogSink, LogType, ServiceId,
};
use slipway::secrets::{Redactor, SecretString};
use slipway::source::{GitSourceStage, SourceTree};
use slipway::stage::StageContext;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub fn config() -> GitConfig {
    GitConfig {
        allowed_hosts: Vec::new(),
        private_hosts: PrivateHosts::All,
        github_url: "https://github.com".parse().unwrap(),
        idle_timeout: Duration::from_secs(30),
        min_rate: 1024,
        max_fetch_bytes: 4 << 30,
        max_files: 500_000,
        max_file_bytes: 50_000_000,
        cache_max_bytes: 10 << 30,
    }
}

/// The lines of one job.
#[derive(Default)]
pub struct Lines(Mutex<Vec<String>>);
impl LogSink for Lines {
    fn line(&self, _: LogType, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// One attempt at a job: what the worker hands to a stage.
pub struct Job {
    pub ctx: StageContext,
    lines: Arc<Lines>,
}

impl Job {
    pub fn new() -> Self {
        let lines = Arc::new(Lines::default());
        let ctx = StageContext {
            deployment: DeploymentId::parse("dpl1").unwrap(),
            service: ServiceId::parse("svc1").unwrap(),
            attempt: 1,
            cancel: CancellationToken::new(),
            log: Arc::clone(&lines) as Arc<dyn LogSink>,
            redactor: Arc::new(Redactor::new(&[], &[], &[])),
            tasks: TaskTracker::new(),
        };
        Self { ctx, lines }
    }
    pub fn log(&self) -> String {
        self.lines.0.lock().unwrap().join("\n")
    }
}

/// A stage with a cache of its own.
pub struct Stage {
    pub stage: GitSourceStage,
    pub cache: PathBuf,
}

impl Stage {
    pub fn new(root: &Path) -> Self {
        Self::with(root, config())
    }
    pub fn with(root: &Path, config: GitConfig) -> Self {
        let cache = root.join("cache");
        Self { stage: GitSourceStage::new(config, cache.clone()).unwrap(), cache }
    }
    pub async fn fetch(&self, source: &GitSource, branch: &str, commit: CommitRef) -> Result<SourceTree, Failure> {
        let job = Job::new();
        let result = self.stage.fetch(source, &BranchName::parse(branch).unwrap(), &commit, &job.ctx).await;
        assert!(job.ctx.tasks.is_empty(), "the stage returned while something of it still ran");
        result
    }
    pub async fn tip(&self, url: &url::Url, branch: &str) -> Result<SourceTree, Failure> {
        self.fetch(&public(url), branch, CommitRef::Tip).await
    }
    pub async fn commit(&self, url: &url::Url, sha: &str) -> Result<SourceTree, Failure> {
        self.fetch(&public(url), "main", exact(sha)).await
    }
    /// The folder of the only mirror.
    pub fn mirror(&self) -> PathBuf {
        let mut all = mirrors(&self.cache);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }
    /// The repository of its only generation.
    pub fn repository(&self) -> PathBuf {
        let generations: Vec<_> = names(&self.mirror()).into_iter().filter(|n| n.starts_with("gen-")).collect();
        assert_eq!(generations.len(), 1, "{generations:?}");
        self.mirror().join(&generations[0]).join("repo.git")
    }
}

pub fn mirrors(cache: &Path) -> Vec<PathBuf> {
    names(cache).into_iter().map(|n| cache.join(n)).collect()
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut all: Vec<String> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    all.sort();
    all
}

pub fn public(url: &url::Url) -> GitSource {
    GitSource { url: url.clone(), credentials: None }
}
pub fn private(url: &url::Url, user: &str, password: &str) -> GitSource {
    let credentials = GitCredentials { username: user.into(), password: SecretString::from(password.to_owned()) };
    GitSource { url: url.clone(), credentials: Some(credentials) }
}
pub fn exact(sha: &str) -> CommitRef {
    CommitRef::Exact(CommitSha::parse(sha).unwrap())
}
pub fn read(tree: &SourceTree, path: &str) -> String {
    let entry = tree.entry(path).unwrap_or_else(|| panic!("no {path}"));
    String::from_utf8(tree.read(entry).unwrap()).unwrap()
}
pub fn paths(tree: &SourceTree) -> Vec<&str> {
    tree.entries().iter().map(|e| e.path.as_str()).collect()
}
