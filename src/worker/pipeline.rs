//! The order of the stages and their retries: a job in, a pushed image out. Nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::retry::RetryPolicy;
use crate::context::{BuildContext, ContextStage};
use crate::image::{BuiltImage, DockerfileStage};
use crate::protocol::{Code, Failure, Job};
use crate::queue::Gate;
use crate::registry::{PushedImage, RegistryStage};
use crate::source::{GitSourceStage, SourceTree};
use crate::stage::StageContext;

/// Where a job is on its way. `Display` is what a time-out names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Source,
    Context,
    Build,
    /// Waiting until this worker can prove its lease again: silence here is not the job's fault.
    Gate,
    Push,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Source => "fetching the commit",
            Step::Context => "preparing the build context",
            Step::Build => "building the image",
            Step::Gate => "waiting for Redis",
            Step::Push => "pushing the image",
        })
    }
}

/// The stages of this worker, shared by all its jobs.
pub struct Stages {
    pub source: GitSourceStage,
    pub context: ContextStage,
    pub dockerfile: DockerfileStage,
    /// `None` only in `slipway build` without `--push`.
    pub registry: Option<RegistryStage>,
}

/// One run of the stages for one attempt.
pub struct Pipeline<'a> {
    pub stages: &'a Stages,
    pub job: &'a Job,
    pub ctx: &'a StageContext,
    pub policy: RetryPolicy,
    /// Told where the job is.
    pub step: &'a watch::Sender<Step>,
}

impl Pipeline<'_> {
    /// Commit → image → registry. `gate` is waited for between build and push.
    pub async fn run(&self, gate: &mut Gate) -> Result<PushedImage, Failure> {
        let registry = self.stages.registry.as_ref().ok_or_else(no_registry)?;
        let image = self.build().await?;
        let pushed = self.push(registry, &image, gate).await;
        self.discard(&image).await;
        pushed
    }

    /// Whatever became of the push: the layers stay in BuildKit's cache, the image itself goes.
    pub async fn discard(&self, image: &BuiltImage) {
        if let Some(registry) = &self.stages.registry {
            registry.release(image).await;
        }
        self.stages.dockerfile.remove(image).await;
    }

    /// Commit → image in the Engine. The caller removes it.
    pub async fn build(&self) -> Result<BuiltImage, Failure> {
        let source = self.job.git.clone();
        let fetch = || self.stages.source.fetch(&source, &self.job.branch, &self.job.commit, self.ctx);
        let tree = Arc::new(self.retrying(Step::Source, fetch).await?);
        self.build_tree(tree).await
    }

    /// A tree that is already here → image in the Engine.
    pub async fn build_tree(&self, tree: Arc<SourceTree>) -> Result<BuiltImage, Failure> {
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
    pub async fn push(&self, registry: &RegistryStage, image: &BuiltImage, gate: &mut Gate) -> Result<PushedImage, Failure> {
        self.step.send_replace(Step::Gate);
        tokio::select! {
            () = gate.open() => {}
            () = self.ctx.cancel.cancelled() => return Err(Failure::interrupted()),
        }
        self.retrying(Step::Push, || registry.push(image, self.ctx)).await
    }

    /// Tries a stage again as the policy says. Each new try is told in the job's log with the reason.
    async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        step: Step,
        mut stage: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let mut first_failure: Option<Instant> = None;
        let mut tries = 0;
        loop {
            if self.ctx.cancel.is_cancelled() {
                return Err(Failure::interrupted());
            }
            self.step.send_replace(step);
            let failure = match stage().await {
                Ok(value) => return Ok(value),
                Err(failure) => failure,
            };
            tries += 1;
            let since = first_failure.get_or_insert_with(Instant::now).elapsed();
            let Some(longest) = self.policy.next(&failure, tries, since) else {
                return Err(failure);
            };
            let wait = full_jitter(longest);
            self.ctx.warn(format!("{failure} Trying again in {:.1} s ({step}, try {}).", wait.as_secs_f32(), tries + 1));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.ctx.cancel.cancelled() => return Err(Failure::interrupted()),
            }
        }
    }
}

fn no_registry() -> Failure {
    Failure::new(Code::WorkerInternal, "No registry is configured.", "Set AWS_REGION or REGISTRY_HOST.")
}

/// A random part of `longest`, at least a tenth of it.
pub(super) fn full_jitter(longest: Duration) -> Duration {
    let mut random = [0u8; 4];
    // Without randomness the wait is the longest one: later, never wrong.
    let part = match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    };
    longest.mul_f64(0.1 + 0.9 * part)
}
