//! How a stage is tried: its turn at a peer, its slot, its tries, and whose part failed.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::pipeline::Pipeline;
use super::retry::longest_wait;
use super::step::Step;
use crate::peer::{Peer, RETRY_AFTER_MAX, Standing, Turn, blames_a_host, registry_host, settle};
use crate::protocol::{Blame, Code, Evidence, Failure};
use crate::queue::{Gate, GateState};
use crate::source::host_of;

/// A host that a job names is watched at this interval: where it lets the job wait, the slot goes to another job.
const HOST_PATIENCE: Duration = Duration::from_secs(1);
/// The same for the first look at a host that nobody has asked lately. It is enough for most that answer, and a dead one costs little.
const STRANGER_PATIENCE: Duration = Duration::from_millis(250);
/// Bytes that such a host has to send in that time, or the job counts as waiting for it.
const LEAST_RATE: u64 = 64 * 1024;

impl Pipeline<'_> {
    /// As [`Pipeline::retrying`], for a stage whose work leaves the host: each try waits until the lease is proved, because tries
    /// can lie minutes apart.
    pub(super) async fn retrying_behind<T, F: Future<Output = Result<T, Failure>>>(
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
    pub(super) async fn retrying<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        step: Step,
        stage: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        self.retrying_at(step, &[], stage).await
    }

    /// As [`Pipeline::retrying`]. `asked`: the hosts that only the job names and the stage asks. Where one of them has failed lately, it
    /// asks without a slot.
    pub(super) async fn retrying_at<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        step: Step,
        asked: &[String],
        mut stage: impl FnMut() -> F,
    ) -> Result<T, Failure> {
        let peers = self.peers_of(step);
        let mut first_failure: Option<Instant> = None;
        let mut tries = 0;
        loop {
            let turn = self.turn(&peers, &mut first_failure, tries).await?;
            if asked.is_empty() {
                self.take_a_slot().await?;
            }
            let patience = self.patience_with(asked);
            if !asked.is_empty() && patience.is_zero() {
                self.place.release();
            }
            self.traffic.set_slot(self.place.holds_a_slot());
            self.step.send_replace(step);
            // Boxed, as a stage's future is large and lies below several others.
            let trying = Box::pin(stage());
            let mut result = match step {
                _ if asked.is_empty() => trying.await,
                Step::Source => self.fetching(trying, patience).await,
                _ => self.asking(trying, patience).await,
            };
            tries += 1;
            self.note_standing(asked, result.as_ref().err());
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

    /// Follows a fetch from a host that the job names. While that host lets it wait the job's slot is free; before the fetch works on what has
    /// come, the job takes a slot again.
    async fn fetching<T>(&self, fetch: impl Future<Output = T>, patience: Duration) -> T {
        tokio::pin!(fetch);
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + patience, HOST_PATIENCE);
        let (mut before, mut least) = (self.traffic.received(), LEAST_RATE * patience.as_millis() as u64 / 1000);
        let mut slot = None::<BoxFuture<'_, ()>>;
        loop {
            tokio::select! {
                biased;
                done = &mut fetch => return done,
                () = self.traffic.asks_for_slot(), if slot.is_none() => {
                    let mut waiting = self.place.regain().boxed();
                    if waiting.as_mut().now_or_never().is_some() {
                        self.traffic.set_slot(true);
                    } else {
                        self.step.send_replace(Step::FetchTurn);
                        slot = Some(waiting);
                    }
                }
                () = async { match &mut slot { Some(waiting) => waiting.await, None => std::future::pending().await } } => {
                    slot = None;
                    self.step.send_replace(Step::Source);
                    self.traffic.set_slot(true);
                }
                _ = look.tick() => {
                    if self.traffic.take_slot_if_it_waits(before, least) {
                        self.place.release();
                    }
                    (before, least) = (self.traffic.received(), LEAST_RATE);
                }
            }
        }
    }

    /// Follows what only asks hosts that the job names: after a moment the job's slot is free.
    async fn asking<T>(&self, asking: impl Future<Output = T>, patience: Duration) -> T {
        tokio::pin!(asking);
        tokio::select! {
            biased;
            done = &mut asking => return done,
            () = tokio::time::sleep(patience) => self.place.release(),
        }
        asking.await
    }

    /// How long a job that asks these hosts keeps its slot while nothing comes.
    fn patience_with(&self, asked: &[String]) -> Duration {
        let of_one = |host: &String| match self.stages.known_hosts.standing(host, Instant::now()) {
            Standing::Answers => HOST_PATIENCE,
            Standing::Unknown => STRANGER_PATIENCE,
            Standing::Fails => Duration::ZERO,
        };
        asked.iter().map(of_one).min().unwrap_or(HOST_PATIENCE)
    }

    fn note_standing(&self, asked: &[String], failure: Option<&Failure>) {
        let standing = match failure {
            None => Standing::Answers,
            Some(failure) if blames_a_host(failure.code) => Standing::Fails,
            Some(_) => return,
        };
        let named = failure.and_then(|failure| failure.host.as_deref()).map(registry_host);
        for host in asked.iter().filter(|host| named.as_ref().is_none_or(|named| named == *host)) {
            self.stages.known_hosts.note(host, standing, Instant::now());
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

    /// Whether the job's git server is one that only the job names.
    pub(super) fn asks_git_of_job(&self) -> bool {
        self.stages.operator_hosts.of_git(&self.job.git.url) == Blame::Job
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
            Step::Source if self.asks_git_of_job() => Vec::new(),
            Step::Source => vec![Peer::Git(host_of(&self.job.git.url))],
            Step::Build => vec![Peer::Engine],
            Step::Buildpacks | Step::Export | Step::Push => vec![Peer::Engine, Peer::Registry],
            Step::Turn | Step::FetchTurn | Step::Images | Step::Context | Step::Gate | Step::Peer => Vec::new(),
        }
    }
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
