//! The order of the stages: a job in, a pushed image out. How each is tried is said in [`super::tries`].

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{Mutex, watch};

use super::health::HostHealth;
use super::retry::RetryPolicy;
use super::slots::Place;
use super::step::Step;
use super::way::{self, Way};
use crate::context::{BuildContext, ContextStage};
use crate::image::{BuildpacksStage, BuiltImage, DockerfileStage, registries_of};
use crate::peer::{KnownHosts, OperatorHosts, Peers};
use crate::protocol::{Blame, Code, Failure, Job};
use crate::queue::Gate;
use crate::registry::{PushedImage, RegistryStage, attempt_tag};
use crate::source::{GitSourceStage, SourceTree, Traffic, host_of};
use crate::stage::StageContext;

/// The stages of this worker, shared by all its jobs.
pub struct Stages {
    pub source: GitSourceStage,
    pub context: ContextStage,
    pub dockerfile: DockerfileStage,
    pub buildpacks: BuildpacksStage,
    /// `None` only in `slipway build` without `--push`.
    pub registry: Option<RegistryStage>,
    /// Which of those that the stages talk to do not answer at present.
    pub peers: Peers,
    /// Whether this host can build at all.
    pub health: HostHealth,
    /// Tells the operator's hosts from those that a job names.
    pub operator_hosts: OperatorHosts,
    /// How the hosts that jobs name have done lately.
    pub known_hosts: KnownHosts,
}

/// One run of the stages for one attempt.
pub struct Pipeline<'a> {
    pub stages: &'a Stages,
    pub job: &'a Job,
    pub ctx: &'a StageContext,
    pub policy: RetryPolicy,
    /// Told where the job is.
    pub step: &'a watch::Sender<Step>,
    /// Its slot, while it holds one.
    pub place: &'a Place,
    /// What its fetch receives.
    pub traffic: Arc<Traffic>,
    /// This build host, in the words of the log.
    pub host: &'a str,
}

impl Pipeline<'_> {
    /// Commit → image → registry. `gate` is waited for before anything leaves the host.
    pub async fn run(&self, gate: &Gate) -> Result<PushedImage, Failure> {
        let tree = self.fetch().await?;
        self.deliver(tree, gate).await
    }

    /// A tree that is already here → image → registry.
    pub async fn deliver(&self, tree: Arc<SourceTree>, gate: &Gate) -> Result<PushedImage, Failure> {
        let registry = self.stages.registry.as_ref().ok_or_else(no_registry)?;
        match self.choose(&tree) {
            Way::Dockerfile => {
                let image = Box::pin(self.build_tree(tree)).await?;
                let pushed = Box::pin(self.push(registry, &image, gate)).await;
                self.discard(&image).await;
                pushed
            }
            // Boxed: the future of both ways in one is too deep for the compiler.
            Way::Buildpacks => self.build_app(tree, registry, gate).boxed().await,
        }
    }

    /// Tree → image in the Engine, without a registry. The caller removes it.
    pub async fn build(&self, tree: Arc<SourceTree>) -> Result<BuiltImage, Failure> {
        match self.choose(&tree) {
            Way::Dockerfile => self.build_tree(tree).await,
            Way::Buildpacks => Err(Failure::new(
                Code::ContextNoDockerfile,
                "There is no Dockerfile, and buildpacks write their image straight to a registry.",
                "Build with --push and a registry (REGISTRY_HOST, or AWS_REGION), or add a Dockerfile.",
            )),
        }
    }

    fn choose(&self, tree: &SourceTree) -> Way {
        let (way, said) = way::choose(tree, self.job);
        if let Some(line) = said {
            self.ctx.info(line);
        }
        way
    }

    /// Tree → registry, by buildpacks. A failed export is tried again by itself: what was built is still there.
    async fn build_app(&self, tree: Arc<SourceTree>, registry: &RegistryStage, gate: &Gate) -> Result<PushedImage, Failure> {
        let tag = attempt_tag(&self.ctx.deployment, self.ctx.attempt);
        let (tree, tag) = (&tree, tag.as_str());
        let build = || async move {
            let to = registry.export_target(self.ctx).await?;
            self.stages.buildpacks.build(tree.clone(), self.job, &to, tag, self.ctx).await
        };
        // The first phase already logs in to the registry.
        let app = Mutex::new(self.retrying_behind(gate, Step::Buildpacks, build).await?);
        let export = || async {
            let to = registry.export_target(self.ctx).await?;
            let digest = app.lock().await.export(&to).await?;
            registry.confirm(&to, tag, &digest, self.ctx).await
        };
        let exported = self.retrying_behind(gate, Step::Export, export).await;
        app.into_inner().remove().await;
        exported
    }

    /// Whatever became of the push: the layers stay in BuildKit's cache, the image itself goes.
    async fn discard(&self, image: &BuiltImage) {
        if let Some(registry) = &self.stages.registry {
            registry.release(image).await;
        }
        self.stages.dockerfile.remove(image).await;
    }

    /// The commit's tree.
    pub async fn fetch(&self) -> Result<Arc<SourceTree>, Failure> {
        if let Some(warning) = self.job.unsupported_warning() {
            self.ctx.warn(warning);
        }
        let Job { git, branch, commit, .. } = self.job;
        let fetch = || self.stages.source.fetch_watched(git, branch, commit, self.ctx, &self.traffic);
        let asked: Vec<String> = self.asks_git_of_job().then(|| host_of(&git.url)).into_iter().collect();
        Ok(Arc::new(self.retrying_at(Step::Source, &asked, fetch).await?))
    }

    /// Makes sure that the registries that only this job names answer: a build that waits for one would hold its slot for nothing.
    async fn reach_images(&self, tree: Arc<SourceTree>) -> Result<(), Failure> {
        let Some(dockerfile) = self.stages.context.dockerfile(tree, self.job, self.ctx).await else { return Ok(()) };
        let mut registries = registries_of(&dockerfile);
        registries.retain(|registry| self.stages.operator_hosts.of_host(&registry.host) == Blame::Job);
        if registries.is_empty() {
            return Ok(());
        }
        let (asked, registries): (Vec<String>, _) =
            (registries.iter().map(|registry| registry.host.clone()).collect(), registries.as_slice());
        self.retrying_at(Step::Images, &asked, || self.stages.dockerfile.registries_answer(registries, self.ctx)).await
    }

    async fn build_tree(&self, tree: Arc<SourceTree>) -> Result<BuiltImage, Failure> {
        self.reach_images(tree.clone()).await?;
        self.retrying(Step::Build, || {
            let tree = tree.clone();
            async move {
                let context = self.context(tree.clone()).await?;
                self.step.send_replace(Step::Build);
                self.stages.dockerfile.build(context, &tree.commit, self.job, self.ctx).await
            }
        })
        .await
    }

    async fn context(&self, tree: Arc<SourceTree>) -> Result<BuildContext, Failure> {
        self.step.send_replace(Step::Context);
        self.stages.context.assemble(tree, self.job, self.ctx).await
    }

    /// Image in the Engine → registry, behind the gate.
    async fn push(&self, registry: &RegistryStage, image: &BuiltImage, gate: &Gate) -> Result<PushedImage, Failure> {
        self.retrying_behind(gate, Step::Push, || registry.push(image, self.ctx)).await
    }
}

fn no_registry() -> Failure {
    Failure::new(Code::WorkerInternal, "No registry is configured.", "Set AWS_REGION or REGISTRY_HOST.")
}
