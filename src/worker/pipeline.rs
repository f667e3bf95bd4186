//! The order of the stages and their retries: a job in, a pushed image out. Nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Mutex, watch};

use super::health::HostHealth;
use super::retry::{RetryPolicy, longest_wait};
use super::slots::Place;
use super::way::{self, Way};
use crate::context::{BuildContext, ContextStage};
use crate::image::{BuildpacksStage, BuiltImage, DockerfileStage, images_of};
use crate::peer::{OperatorHosts, Peer, Peers, RETRY_AFTER_MAX, Turn, blames_a_host, image_host, settle};
use crate::protocol::{Blame, Code, Evidence, Failure, Job};
use crate::queue::{Gate, GateState};
use crate::registry::{PushedImage, RegistryStage, attempt_tag};
use crate::source::{GitSourceStage, SourceTree, Traffic, host_of};
use crate::stage::StageContext;

/// A host that a job names is watched at this interval: where it lets the job wait, the slot goes to another job.
const HOST_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that such a host has to send in that time, or the job counts as waiting for it.
const LEAST_RATE: u64 = 64 * 1024;

/// Where a job is on its way. `Display` is what a time-out names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waiting for a slot.
    Turn,
    Source,
    /// Asking the registries of its base images.
    Images,
    Context,
    Build,
    /// The buildpacks' phases up to the export.
    Buildpacks,
    /// The lifecycle writes to the registry.
    Export,
    /// Waiting until this worker can prove its lease again: silence here is not the job's fault.
    Gate,
    /// Waiting because other jobs found that a peer does not answer, or because it asked for time. Not the job's fault either.
    Peer,
    Push,
}

impl Step {
    /// Whether the job may not go on, for no fault of its own: that time is not the build's.
    pub fn is_waiting(self) -> bool {
        matches!(self, Step::Turn | Step::Gate | Step::Peer)
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Step::Turn => "waiting for its turn",
            Step::Source => "fetching the commit",
            Step::Images => "asking the registries of its images",
            Step::Context => "preparing the build context",
            Step::Build => "building the image",
            Step::Buildpacks => "building with buildpacks",
            Step::Export => "exporting the image to the registry",
            Step::Gate => "waiting for Redis",
            Step::Peer => "waiting for a part that does not answer",
            Step::Push => "pushing the image",
        })
    }
}

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
        Ok(Arc::new(self.retrying(Step::Source, fetch).await?))
    }

    /// Makes sure that the registries that only this job names answer: a build that waits for one would hold its slot for nothing.
    async fn reach_images(&self, tree: Arc<SourceTree>) -> Result<(), Failure> {
        let Some(dockerfile) = self.stages.context.dockerfile(tree, self.job, self.ctx).await else { return Ok(()) };
        let mut images = images_of(&dockerfile);
        images.retain(|image| self.stages.operator_hosts.of_host(&image_host(image)) == Blame::Job);
        if images.is_empty() {
            return Ok(());
        }
        let images = images.as_slice();
        self.retrying(Step::Images, || self.stages.dockerfile.registries_answer(images, self.ctx)).await
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

    /// As [`Pipeline::retrying`], for a stage whose work leaves the host: each try waits until the lease is proved, because tries
    /// can lie minutes apart.
    async fn retrying_behind<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        gate: &Gate,
        step: Step,
        mut stage: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        self.retrying(step, || {
            let (mut gate, tried) = (gate.clone(), Box::pin(stage()));
            async move {
                if gate.state() == GateState::Shut {
                    self.ctx.warn("Redis does not answer, so this worker cannot prove that the job is still its own: nothing leaves the host until it does.");
                    self.wait_at(&mut gate).await?;
                    self.step.send_replace(step);
                }
                tried.await
            }
        })
        .await
    }

    /// Waits at the gate without a slot, and comes back through it with one.
    async fn wait_at(&self, gate: &mut Gate) -> Result<(), Failure> {
        while gate.state() == GateState::Shut {
            self.step.send_replace(Step::Gate);
            self.place.release();
            self.unless_stopped(gate.open()).await?;
            self.take_a_slot().await?;
        }
        Ok(())
    }

    /// Waits for a slot, unless the job holds one.
    async fn take_a_slot(&self) -> Result<(), Failure> {
        if self.place.holds_a_slot() {
            return Ok(());
        }
        self.step.send_replace(Step::Turn);
        self.unless_stopped(self.place.regain()).await
    }

    /// Tries a stage again as the policy says. Each new try is told in the job's log with the reason. No slot is held in between.
    async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        step: Step,
        mut stage: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let peers = self.peers_of(step);
        let asks_host_of_job = self.asks_host_of_job(step);
        let mut first_failure: Option<Instant> = None;
        let mut tries = 0;
        loop {
            let turn = self.turn(&peers, &mut first_failure, tries).await?;
            if !asks_host_of_job {
                self.take_a_slot().await?;
            }
            self.step.send_replace(step);
            // Boxed, as a stage's future is large and lies below several others.
            let trying = Box::pin(stage());
            let mut result = if asks_host_of_job { self.unless_it_waits(step, trying).await } else { trying.await };
            tries += 1;
            if let Err(failure) = &mut result {
                self.settle_blame(step, failure);
                self.check_hearsay(failure).await;
            }
            let of_peer = self.stages.peers.ended(turn, &peers, result.as_ref().err(), |n| full_jitter(longest_wait(n)));
            let failure = match result {
                Ok(value) => {
                    self.build_succeeded(step);
                    self.place.waits_for(None);
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            if self.stages.health.build_failed(&failure) {
                // Further tries here are worth nothing; another host may do better.
                return Err(failure);
            }
            let since = first_failure.get_or_insert_with(Instant::now).elapsed();
            let again = self.policy.next(&failure, tries, since);
            let Some(longest) = again.filter(|_| failure.blame == Blame::Operator || !self.place.is_crowded()) else {
                if again.is_some() {
                    self.ctx.warn("It is not tried again: many jobs of this host wait for servers that do not answer.");
                }
                return Err(failure);
            };
            // Where a peer is to blame its wait counts, for all jobs together, as long as this one is patient.
            let of_peer = of_peer.filter(|_| since < self.policy.patience());
            let asked = failure.retry_after.map(|asked| asked.min(RETRY_AFTER_MAX));
            let wait = of_peer.unwrap_or_else(|| full_jitter(longest).max(asked.unwrap_or_default()));
            self.ctx.warn(format!(
                "{failure} Trying again in {:.1} s on {} ({step}, try {}).",
                wait.as_secs_f32(),
                self.host,
                tries + 1
            ));
            self.place.release();
            self.place.waits_for(of_peer.and_then(|_| self.stages.peers.away(&peers)).filter(Peer::is_needed_by_all));
            if of_peer.is_none() {
                if asked.is_some() {
                    self.step.send_replace(Step::Peer);
                }
                self.unless_stopped(tokio::time::sleep(wait)).await?;
            }
        }
    }

    fn build_succeeded(&self, step: Step) {
        if matches!(step, Step::Build | Step::Buildpacks) {
            self.stages.health.build_succeeded();
        }
    }

    /// Follows what asks a host that the job names: where that host lets it wait, the job's slot is free meanwhile.
    async fn unless_it_waits<T>(&self, step: Step, asking: impl Future<Output = T>) -> T {
        tokio::pin!(asking);
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + HOST_PATIENCE, HOST_PATIENCE);
        let mut before = 0;
        loop {
            tokio::select! {
                biased;
                done = &mut asking => return done,
                _ = look.tick() => {
                    let received = self.traffic.received();
                    if step != Step::Source || !self.traffic.is_working_since(before, LEAST_RATE) {
                        self.place.release();
                    }
                    before = received;
                }
            }
        }
    }

    /// Whose part failed: decided here, where it is known which host was asked.
    fn settle_blame(&self, step: Step, failure: &mut Failure) {
        if !blames_a_host(failure.code) {
            return;
        }
        let hosts = &self.stages.operator_hosts;
        let blame = match (step, &failure.host) {
            (Step::Source, _) => hosts.of_git(&self.job.git.url),
            (_, Some(host)) => hosts.of_host(host),
            (_, None) => Blame::Operator,
        };
        *failure = settle(failure.clone(), blame);
    }

    fn asks_host_of_job(&self, step: Step) -> bool {
        match step {
            Step::Source => self.stages.operator_hosts.of_git(&self.job.git.url) == Blame::Job,
            Step::Images => true,
            _ => false,
        }
    }

    /// Asks the peer that a failure's words blame. Where it does not answer, or an Engine runs no step of ours, they were true.
    async fn check_hearsay(&self, failure: &mut Failure) {
        if failure.code == Code::EngineError {
            if let Ok(runs) = self.unless_stopped(self.stages.health.runs_a_step()).await {
                failure.evidence = if runs { Evidence::Hearsay } else { Evidence::Seen };
            }
            return;
        }
        if failure.evidence != Evidence::Hearsay {
            return;
        }
        let asking = async {
            match (failure.code, &self.stages.registry) {
                (Code::EngineLost, _) => self.stages.dockerfile.engine_answers(self.ctx).await,
                (Code::RegistryUnreachable, Some(registry)) => registry.answers(self.ctx).await,
                _ => true,
            }
        };
        if let Ok(false) = self.unless_stopped(asking).await {
            failure.evidence = Evidence::Seen;
        }
    }

    /// Waits until the stage may be tried: at once, unless one of its peers does not answer.
    async fn turn(&self, peers: &[Peer], first_failure: &mut Option<Instant>, tries: u32) -> Result<Turn, Failure> {
        if self.ctx.cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        let Some(away) = self.stages.peers.away(peers) else {
            return Ok(Turn::default());
        };
        self.place.release();
        self.place.waits_for(Some(away.clone()).filter(Peer::is_needed_by_all));
        if tries == 0 {
            // What others found is not this job's time.
            self.step.send_replace(Step::Peer);
            self.ctx.warn(format!("Other jobs found that {away} does not answer; this one goes on as soon as it does."));
        }
        let until = *first_failure.get_or_insert_with(Instant::now) + self.policy.patience();
        let turn = self.unless_stopped(self.stages.peers.turn(peers, until)).await?;
        if tries == 0 && Instant::now() < until {
            // That others had to wait for the peer is no failure of this job's.
            *first_failure = None;
        }
        Ok(turn)
    }

    async fn unless_stopped<T>(&self, waiting: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            waited = waiting => Ok(waited),
            () = self.ctx.cancel.cancelled() => Err(Failure::interrupted()),
        }
    }

    /// Whom a stage talks to.
    fn peers_of(&self, step: Step) -> Vec<Peer> {
        match step {
            // A host that the job names is its own affair: its tries are few, and no other job waits for what comes of them.
            Step::Source if self.asks_host_of_job(step) => Vec::new(),
            Step::Source => vec![Peer::Git(host_of(&self.job.git.url))],
            Step::Build => vec![Peer::Engine],
            Step::Buildpacks | Step::Export | Step::Push => vec![Peer::Engine, Peer::Registry],
            Step::Turn | Step::Images | Step::Context | Step::Gate | Step::Peer => Vec::new(),
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
