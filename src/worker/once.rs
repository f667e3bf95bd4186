//! `slipway build`: the same stages once, without Redis and dashboard, for a look at why a build fails.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use super::health::HostHealth;
use super::pipeline::{Pipeline, Stages};
use super::retry::RetryPolicy;
use super::signals::Signals;
use super::single_build::{BuildFrom, SingleBuild};
use super::slots::Place;
use super::step::Step;
use crate::context::ContextStage;
use crate::exit::Exit;
use crate::image::{self, BuildpacksStage, BuiltImage, DockerfileStage, Owner, SharedProbe};
use crate::peer::{KnownHosts, OperatorHosts, Peers};
use crate::protocol::{
    BranchName, Code, CommitRef, Failure, GitSource, ImageRef, Job, LogSink, LogType, RepositoryName, safe_text,
};
use crate::queue::{Gate, GateState, WorkerIdentity};
use crate::registry::{RegistryStage, STALL_TIMEOUT};
use crate::secrets::{ActiveSecrets, Redactor};
use crate::source::{GitSourceStage, SourceTree};
use crate::stage::StageContext;

/// What came out.
enum Made {
    /// In the Engine, by its id, without a name.
    Image(BuiltImage),
    Pushed(ImageRef),
}

/// One build without Redis and dashboard: lines to standard error, the image's reference to standard output. Ctrl-C ends it.
pub async fn build_once(request: SingleBuild, secrets: Arc<ActiveSecrets>) -> Exit {
    let cancel = CancellationToken::new();
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return said(Exit::Temporary, &format!("cannot listen for signals: {error}")),
    };
    let build = run(request, secrets, cancel.clone());
    tokio::pin!(build);
    let made = loop {
        tokio::select! {
            made = &mut build => break made,
            () = signals.next() => cancel.cancel(),
        }
    };
    match made {
        Ok(Made::Image(image)) => result(&image.id),
        Ok(Made::Pushed(reference)) => result(&reference.to_string()),
        Err(_) if cancel.is_cancelled() => said(Exit::Temporary, "interrupted; nothing is left of the build"),
        Err(failure) => {
            let exit = match failure.code {
                Code::EngineUnreachable | Code::WorkerInternal => Exit::Unavailable,
                _ => Exit::BuildFailed,
            };
            said(exit, &failure.to_string())
        }
    }
}

fn said(exit: Exit, text: &str) -> Exit {
    // Where standard error is gone there is nobody left to tell.
    let _unheard = writeln!(std::io::stderr(), "slipway: {text}");
    exit
}

fn result(text: &str) -> Exit {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => Exit::Ok,
        Err(error) => said(Exit::Temporary, &format!("standard output cannot be written to: {error}")),
    }
}

async fn run(request: SingleBuild, known: Arc<ActiveSecrets>, cancel: CancellationToken) -> Result<Made, Failure> {
    // Beside a daemon, not in its place: an identity, caches and a lock of its own.
    let work_dir = request.config.worker.work_dir.join("single");
    let unusable = |error: crate::queue::IdentityError| {
        Failure::new(Code::WorkerInternal, error.to_string(), "Set WORK_DIR to a folder that you may write to.")
    };
    let (identity, _lock) = WorkerIdentity::open(&work_dir).map_err(unusable)?;
    let host_key = identity.host_key().map_err(unusable)?;
    let engine = image::connect_engine(&request.config.build).await?;
    let cache = work_dir.join("cache");
    let source = GitSourceStage::new(request.config.git.clone(), cache.join("git"))?;
    let context = ContextStage::new(cache.join("context"), identity.id.clone());
    let config = &request.config;
    let dockerfile = DockerfileStage::new(config.build.clone(), engine.clone(), host_key.clone(), identity.id.clone());
    let owner = Owner { worker_id: identity.id, host_key };
    let buildpacks =
        BuildpacksStage::new(config.buildpacks.clone(), &config.build, engine.clone(), owner, cache.join("buildpacks"));
    let image_max = config.build.image_max_bytes;
    let operator_hosts =
        OperatorHosts::new(&config.worker, &config.git, &config.build, &config.buildpacks, config.registry.as_ref());
    let registry = config
        .registry
        .clone()
        .map(|config| RegistryStage::new(config, engine, STALL_TIMEOUT, &known.fetched()).with_image_max(image_max));

    let job = job(&request)?;
    let mut secrets: Vec<_> = config.build.pull_registries.iter().map(|p| p.password.clone()).collect();
    secrets.extend(registry.iter().flat_map(RegistryStage::secrets));
    secrets.extend(job.git.credentials.iter().map(|c| c.password.clone()));
    let values: Vec<_> = job.env.iter().map(|v| v.value.clone()).collect();
    let redactor = Redactor::new(&secrets, &values, &[job.service.as_str(), job.repository.as_str()]);
    let redactor = Arc::new(redactor.with_fetched(&known.fetched()));
    known.add(&redactor);
    let ctx = StageContext {
        deployment: job.deployment.clone(),
        service: job.service.clone(),
        attempt: 1,
        cancel,
        log: Arc::new(Terminal { redactor: redactor.clone() }),
        redactor,
        tasks: TaskTracker::new(),
    };
    if let Some(warning) = ctx.redactor.warning() {
        ctx.warn(warning);
    }
    let stages = Stages {
        source,
        context,
        dockerfile,
        buildpacks,
        registry,
        peers: Peers::default(),
        operator_hosts,
        known_hosts: KnownHosts::default(),
        health: HostHealth::new(SharedProbe::new(request.config.build.clone())),
    };
    let made = build(&stages, &request, &job, &ctx).await;
    ctx.tasks.close();
    if tokio::time::timeout(Duration::from_secs(30), ctx.tasks.wait()).await.is_err() {
        said(Exit::Temporary, "parts of the build did not end in time");
    }
    made
}

async fn build(stages: &Stages, request: &SingleBuild, job: &Job, ctx: &StageContext) -> Result<Made, Failure> {
    let (step, _at) = watch::channel(Step::Source);
    let policy = RetryPolicy { limit: request.config.worker.retry_limit, window: Duration::ZERO };
    let place = Place::of_its_own();
    let pipeline =
        Pipeline { stages, job, ctx, policy, step: &step, place: &place, traffic: Arc::default(), host: "this machine" };
    let tree = match &request.from {
        BuildFrom::Url { .. } => pipeline.fetch().await?,
        BuildFrom::Folder(path) => Arc::new(local_tree(stages, path, request, ctx).await?),
    };
    if stages.registry.is_none() {
        return pipeline.build(tree).await.map(Made::Image);
    }
    let (_keeper, gate) = Gate::new(GateState::Open);
    pipeline.deliver(tree, &gate).await.map(|pushed| Made::Pushed(pushed.reference))
}

async fn local_tree(stages: &Stages, path: &Path, request: &SingleBuild, ctx: &StageContext) -> Result<SourceTree, Failure> {
    let wanted = match &request.commit {
        CommitRef::Exact(sha) => Some(sha.as_str()),
        CommitRef::Tip => request.branch.as_ref().map(BranchName::as_str),
    };
    stages.source.open_local(path, wanted, ctx).await
}

/// The request in a job's words.
fn job(request: &SingleBuild) -> Result<Job, Failure> {
    let internal = |what: &str| Failure::new(Code::WorkerInternal, format!("{what} cannot be named in a job."), "");
    let (url, credentials) = match &request.from {
        BuildFrom::Url { url, credentials } => (url.clone(), credentials.clone()),
        BuildFrom::Folder(_) => (Url::parse("https://localhost/local/folder.git").map_err(|_| internal("The folder"))?, None),
    };
    let path = url.path().trim_matches('/').trim_end_matches(".git");
    let repository = RepositoryName::parse(path).or_else(|_| RepositoryName::parse("local/repository"));
    let branch = request.branch.clone().map_or_else(|| BranchName::parse("main"), Ok);
    Ok(Job {
        deployment: request.deployment.clone(),
        service: request.service.clone(),
        repository: repository.map_err(|_| internal("The repository"))?,
        branch: branch.map_err(|_| internal("The branch"))?,
        commit: request.commit.clone(),
        git: GitSource { url, credentials },
        dockerfile: request.dockerfile.clone(),
        builder: None,
        build_timeout: None,
        env: request.env.clone(),
        ports: Vec::new(),
        unsupported: Vec::new(),
    })
}

/// The job's log on standard error, redacted.
struct Terminal {
    redactor: Arc<Redactor>,
}

impl LogSink for Terminal {
    fn line(&self, kind: LogType, text: &str) {
        let mark = match kind {
            LogType::Stdout | LogType::Stderr => "  ",
            LogType::Info => "- ",
            LogType::Warning => "! ",
            LogType::Error => "x ",
        };
        let mut out = std::io::stderr().lock();
        for line in self.redactor.redact(&safe_text(text)).split('\n') {
            // A reader that went away does not end the build.
            let _unheard = writeln!(out, "{mark}{line}");
        }
    }
}
