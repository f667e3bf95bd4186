//! JOB IN: all of Redis. Claim, lease, outcome, acknowledgement, requeue, dead letter, cancel notices.

mod access;
mod adopt;
mod attempt;
mod cancel_log;
mod claim;
mod dial;
mod ending;
mod error;
mod gate;
mod identity;
mod keys;
mod lease;
mod link;
mod listen;
mod live;
mod memory;
mod plain;
mod producer;
mod reap;
mod resp;
mod restore;
mod script;
mod server;
mod shared;
mod stream;
mod subscription;
mod sweep;
mod tally;
mod tls;
mod trouble;
mod unknown;
mod wake;
mod window;

pub use access::{COMMANDS, rule};
pub use attempt::{
    Acknowledged, Adopted, CancelFound, Claim, ClaimFate, Fenced, HostFaults, Notice, Standing, TakenOver, Telling,
};
pub use error::QueueError;
pub use gate::{Gate, GateState};
pub use identity::{IdentityError, IdentityLock, WorkerIdentity, host_key};
pub use keys::Keys;
pub use producer::Producer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use self::dial::Dial;
use self::link::Link;
use self::memory::Memory;
use self::plain::Plain;
use self::shared::{Shared, SharedRef};
use crate::config::{QueueConfig, QueueMode};
use crate::protocol::{DeploymentId, Outcome};

/// Notices that wait for the worker. Where there is no room they are given at the next look: none is lost.
const NOTICES: usize = 64;

/// The worker's side of the queue.
pub struct Queue {
    mode: Mode,
    dial: Dial,
    cancel_channel: String,
}

enum Mode {
    Scripts(SharedRef),
    /// `REDIS_MODE=plain`.
    Plain(Arc<Plain>),
}

/// What `slipway check` tells of a Redis.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Commands that the server does not have or the user may not use, and that the queue works without.
    pub lacking: Vec<String>,
    /// The ACL rule that grants all that is needed.
    pub rule: String,
    /// What else should be changed, each with its cure.
    pub advice: Vec<String>,
}

impl Queue {
    /// Connects, checks version and rights (unless `REDIS_MODE` is plain), takes the lease (takes it over at once when it
    /// is the own earlier one), requeues nothing yet. `post_timeout`: how long one post to the dashboard may take (`API_TIMEOUT`);
    /// so long after an older attempt's lease is gone a newer one's BUILDED waits.
    ///
    /// # Errors
    /// When Redis cannot be reached or refuses; it may be called again. [`QueueError::Lacking`] when its version or its user's rights
    /// do not suffice: it names the ACL rule, or the version. [`QueueError::IdentityTaken`] when another process
    /// renews this worker's lease, [`QueueError::Name`] for a queue name that cannot be used: calling again does not help.
    pub async fn connect(config: &QueueConfig, identity: WorkerIdentity, post_timeout: Duration) -> Result<Queue, QueueError> {
        let keys = Keys::of(&config.queue_name)?;
        let dial = Dial::new(config, rule(&keys, &config.cancel_channel))?;
        let cancel_channel = config.cancel_channel.clone();
        let findings = inspect(config.mode, &keys, &dial).await?;
        for advice in &findings.advice {
            warn!("{advice}");
        }
        if config.mode == QueueMode::Plain {
            let plain = Plain::new(dial.clone(), keys, config.max_job_bytes);
            return Ok(Queue { mode: Mode::Plain(Arc::new(plain)), dial, cancel_channel });
        }
        if !findings.lacking.is_empty() {
            warn!(
                "{} does not have these commands, or its user may not use them: {}. The queue works without them. Grant: {}",
                dial.address,
                losses(&findings.lacking),
                dial.rule
            );
        }
        let memory = remember(&identity).await;
        let mut shared = Shared::new(config, keys, &dial, identity, memory, post_timeout);
        shared.take_lease().await?;
        let shared = Arc::new(shared);
        // Before anything is claimed: a process that dies soon has to be told which Redis it spoke to.
        shared.save_memory().await;
        Ok(Queue { mode: Mode::Scripts(shared), dial, cancel_channel })
    }
    /// Looks at version, rights and settings, for `slipway check`. Changes nothing but a key of its own, which is removed again.
    ///
    /// # Errors
    /// When Redis cannot be reached, refuses the login, or lacks what the queue needs.
    pub async fn check(config: &QueueConfig) -> Result<Findings, QueueError> {
        let keys = Keys::of(&config.queue_name)?;
        let dial = Dial::new(config, rule(&keys, &config.cancel_channel))?;
        inspect(config.mode, &keys, &dial).await
    }
    /// Starts the lease keeper, the cancel subscription and the reaper on `control`, tracked by `tasks`; they end with `stop`, the lease
    /// is released by `release`. The daemon's `control` is a runtime of its own, so that no build holds a renewal up. What touches a disk
    /// stays on the caller's runtime. `notices` has a bounded capacity. To be called once.
    pub fn run(&self, control: &Handle, tasks: &TaskTracker, stop: CancellationToken) -> (Gate, mpsc::Receiver<Notice>) {
        let (keeper, gate) = Gate::kept();
        let (notices, receiver) = mpsc::channel(NOTICES);
        let (dial, channel) = (self.dial.clone(), self.cancel_channel.clone());
        match &self.mode {
            Mode::Scripts(shared) => {
                let (this, tx, token) = (shared.clone(), notices.clone(), stop.clone());
                tasks.spawn_on(async move { this.keep_lease(&keeper, &tx, &token).await }, control);
                let (this, tx, token) = (shared.clone(), notices.clone(), stop.clone());
                tasks.spawn_on(async move { this.keep_looking(&tx, &token).await }, control);
                let (this, token) = (shared.clone(), stop.clone());
                tasks.spawn_on(async move { this.keep_reaping(&token).await }, control);
                let (this, token) = (shared.clone(), stop.clone());
                tasks.spawn(async move { this.keep_memory(&token).await });
                let this = shared.clone();
                tasks.spawn_on(async move { this.listen(&dial, &notices, &stop).await }, control);
            }
            Mode::Plain(plain) => {
                let (this, token) = (plain.clone(), stop.clone());
                tasks.spawn_on(async move { this.keep_gate(&keeper, &token).await }, control);
                let this = plain.clone();
                tasks.spawn_on(async move { this.listen(&dial, &channel, &notices, &stop).await }, control);
            }
        }
        (gate, receiver)
    }
    /// What this worker had claimed before it was restarted, oldest first; each is a new attempt unless its outcome is stored.
    /// To be called before the first [`Queue::claim`]; after an error it may be called again.
    ///
    /// # Errors
    /// When Redis does not answer or refuses.
    pub async fn resume(&self) -> Result<Vec<Claim>, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.resume().await,
            Mode::Plain(_) => Ok(Vec::new()),
        }
    }
    /// Waits for a job and claims it. Cancel-safe: dropping the future loses no job. Reconnects with back-off by itself.
    pub async fn claim(&self) -> Claim {
        match &self.mode {
            Mode::Scripts(shared) => shared.claim().await,
            Mode::Plain(plain) => plain.claim().await,
        }
    }
    /// Whether this worker takes on more jobs: not before it has said so. Those that are to be built come by [`Queue::claim`], which its caller awaits or does not;
    /// those that were cancelled in the queue come by themselves, and stay there meanwhile.
    pub fn allow_claims(&self, may: bool) {
        if let Mode::Scripts(shared) = &self.mode {
            shared.may_claim.store(may, Ordering::Relaxed);
        }
    }
    /// To be called when no [`Queue::claim`] is awaited any more (a drain): nothing waits for jobs at the server from here on, so that
    /// what is given back stays at the head of the list.
    pub async fn stop_claiming(&self) {
        match &self.mode {
            Mode::Scripts(shared) => shared.wake.lock().await.hang_up(),
            Mode::Plain(plain) => plain.stop_claiming().await,
        }
    }
    /// What Redis knows of a deployment: asked by a restarted worker before it sends anything of an old journal.
    ///
    /// # Errors
    /// When Redis does not answer or refuses: then nothing may be sent.
    pub async fn standing(&self, id: &DeploymentId) -> Result<Standing, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.standing(id).await,
            // Nobody else can tell: the journal is all there is.
            Mode::Plain(_) => Ok(Standing::Forgotten),
        }
    }
    /// Where Redis came back empty ([`Standing::Forgotten`]): writes the end that a journal still holds into the record, so that it
    /// may be delivered and acknowledged like any other. `None`: somebody else has the deployment by now.
    ///
    /// # Errors
    /// When Redis does not answer or refuses; it may be repeated.
    pub async fn restore_end(&self, id: &DeploymentId, attempt: u32, outcome: &Outcome) -> Result<Option<Claim>, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.restore_end(id, attempt, outcome).await,
            Mode::Plain(_) => Ok(Some(Claim::of_journal(id, attempt, outcome))),
        }
    }
    /// Stores the outcome if the attempt is still this worker's and no cancel came first. Idempotent. A BUILDED waits here until
    /// every older attempt of the same service is closed in Redis, or its lease is gone plus one HTTP time-out; a cancel ends the
    /// wait. The outcome's texts have passed the redactor: they are kept in Redis.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn store_outcome(&self, claim: &Claim, outcome: &Outcome) -> Result<Fenced, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.store_outcome(claim, outcome).await,
            Mode::Plain(plain) => Ok(plain.store_outcome(claim, outcome)),
        }
    }
    /// Gives a claim that Redis could not read a record under the id that the caller read from it, so that its end is fenced like any
    /// other's. [`Adopted::Taken`] where the deployment has a record, or a whole element in the queue: its end is not this element's
    /// to tell. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn adopt(&self, claim: &Claim, id: &DeploymentId) -> Result<Adopted, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.adopt(claim, id).await,
            Mode::Plain(_) => Ok(Adopted::Ours(Box::new(claim.clone()))),
        }
    }
    /// The end that this process has stored for the attempt, if any. Asks nobody.
    pub fn stored_end(&self, claim: &Claim) -> Option<Outcome> {
        match &self.mode {
            Mode::Scripts(shared) => shared.live.get(claim)?.outcome,
            Mode::Plain(_) => None,
        }
    }
    /// Asked before each post of a status: Redis answers, the attempt is still ours, no cancel came. Asked for an end, the one that is
    /// stored counts as seen by the dashboard from here on; asked for a status on the way, nothing changes.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses: then nothing may be posted.
    pub async fn may_post(&self, claim: &Claim, telling: Telling) -> Result<Fenced, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.may_post(claim, telling).await,
            Mode::Plain(plain) => plain.may_post(claim, telling).await,
        }
    }
    /// Removes the job: its end was delivered (or refused for good). A second push of the same deployment that came meanwhile goes
    /// to the head of the queue if the end was an infrastructure failure, else it is dropped. Idempotent. A BUILDED that a cancel
    /// met on its way is not the end yet: [`Acknowledged::Cancelled`].
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn acknowledge(&self, claim: &Claim) -> Result<Acknowledged, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.finish(claim, "").await,
            Mode::Plain(plain) => {
                plain.finish(claim);
                Ok(Acknowledged::Removed)
            }
        }
    }
    /// Puts the job back to the head of the queue (drain). `false`: it was not ours any more. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn give_back(&self, claim: &Claim) -> Result<bool, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.give_back(claim).await,
            Mode::Plain(plain) => plain.give_back(claim).await,
        }
    }
    /// Counts an attempt that failed by its host's fault. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn count_host_fault(&self, claim: &Claim) -> Result<HostFaults, QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.count_host_fault(claim).await,
            // Without records nothing can be counted.
            Mode::Plain(_) => Ok(HostFaults::NotOurs),
        }
    }
    /// Removes the claim and notes it in the dead letter list (the last 1,000 stay): `note` is JSON (reason, redacted head of the
    /// payload), not empty. Idempotent.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses; it may be repeated.
    pub async fn dead_letter(&self, claim: &Claim, note: &str) -> Result<(), QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.finish(claim, note).await.map(drop),
            Mode::Plain(plain) => plain.dead_letter(claim, note).await,
        }
    }
    /// Releases the lease (end of a drain). What is still claimed counts as no crash.
    ///
    /// # Errors
    /// When Redis does not answer within 5 s, or refuses: the lease then runs out by itself.
    pub async fn release(&self) -> Result<(), QueueError> {
        match &self.mode {
            Mode::Scripts(shared) => shared.release().await,
            Mode::Plain(_) => Ok(()),
        }
    }
}

/// Commands that are done without, each with what is lost.
fn losses(commands: &[String]) -> String {
    let each = |name: &String| format!("{name} ({})", access::lost_without(name).unwrap_or("unknown"));
    commands.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// What is to be said of this Redis. An error where the worker cannot work with it.
async fn inspect(mode: QueueMode, keys: &Keys, dial: &Dial) -> Result<Findings, QueueError> {
    let link = Link::new(dial.clone());
    let (server, _) = link.session().await?;
    if server.is_replica {
        return Err(dial.said("READONLY: its role is replica"));
    }
    let mut findings = Findings { rule: dial.rule.clone(), advice: server.advice(&dial.address), lacking: Vec::new() };
    let lacks = |lacking: String, cure: String| Err(QueueError::Lacking { address: dial.address.clone(), lacking, cure });
    if mode == QueueMode::Plain {
        findings.advice.push(plain::LOST.to_owned());
    } else if server.is_too_old() {
        return lacks("LMOVE and BLMOVE".to_owned(), "Use Redis 6.2 or newer, or Valkey.".to_owned());
    } else {
        let lacking = access::lacking(&link, keys).await?;
        let (needed, dispensable): (Vec<_>, Vec<_>) = lacking.into_iter().partition(|l| access::lost_without(l).is_none());
        if !needed.is_empty() {
            return lacks(needed.join(", "), format!("Grant it: {}", dial.rule));
        }
        findings.lacking = dispensable;
    }
    Ok(findings)
}

/// A memory that cannot be read is begun anew: it guards against an old snapshot, and nothing else depends on it.
async fn remember(identity: &WorkerIdentity) -> Memory {
    let dir = identity.dir.clone();
    match tokio::task::spawn_blocking(move || Memory::load(&dir)).await {
        Ok(Ok(memory)) => memory,
        Ok(Err(e)) => {
            warn!("What was delivered before cannot be read from {}: {e}", identity.dir.display());
            Memory::empty(&identity.dir)
        }
        Err(_) => Memory::empty(&identity.dir),
    }
}
