//! The dashboard as all senders share it: the circuit, the bound of posts under way, whether the key is accepted.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};

use super::answer::Answer;
use super::client::{Client, Post};
use super::pace::{Pace, jittered, random};
use super::refusals::Health;
use super::test_post::{TestPost, takes_everything};
use crate::config::DashboardConfig;
use crate::peer::{Change, Circuit};
use crate::protocol::DeploymentId;

/// Posts under way at once, all deployments together; one of each deployment.
const POSTS: usize = 8;

/// The right to post once. Dropped unused it changes nothing.
pub struct Pass {
    _slot: OwnedSemaphorePermit,
    /// Held by the one that tries while the circuit is open; the others queue for it.
    turn: Option<OwnedMutexGuard<()>>,
}

/// What an answer is the fault of.
enum Cause {
    /// The one post that was answered; the dashboard is well.
    ThisPost,
    AsAnswered,
}

pub struct Dashboard {
    client: Client,
    /// For people: API_URL without a login.
    address: String,
    pace: Pace,
    circuit: Mutex<Circuit>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Wakes the one whose turn it is when the circuit closes before its try.
    closed: Notify,
    slots: Arc<Semaphore>,
    taken: AtomicU64,
    taken_statuses: AtomicU64,
    /// Something was taken since the start and since the last outage.
    has_taken: AtomicBool,
    /// Deployments whose last post was refused.
    refused: Mutex<HashSet<DeploymentId>>,
    denied: watch::Sender<Option<u16>>,
    test: TestPost,
}

impl Dashboard {
    pub fn new(config: &DashboardConfig, pace: Pace) -> io::Result<Self> {
        Ok(Self {
            client: Client::new(config, POSTS)?,
            address: format!("{}{}", config.url.origin().ascii_serialization(), config.url.path().trim_end_matches('/')),
            pace,
            circuit: Mutex::default(),
            turn: Arc::default(),
            closed: Notify::new(),
            slots: Arc::new(Semaphore::new(POSTS)),
            taken: AtomicU64::new(0),
            taken_statuses: AtomicU64::new(0),
            has_taken: AtomicBool::new(false),
            refused: Mutex::default(),
            denied: watch::Sender::new(None),
            test: TestPost::default(),
        })
    }

    fn circuit(&self) -> std::sync::MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts that were taken so far, of any deployment.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn refused(&self) -> std::sync::MutexGuard<'_, HashSet<DeploymentId>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it beside a refusal of this deployment. Posts of several deployments that are refused are an outage, whatever
    /// the test post says: the API refuses an empty line before it asks its database.
    pub async fn health_beside(&self, deployment: &DeploymentId) -> Health {
        let others_are_refused = self.refused().iter().any(|id| id != deployment);
        Health {
            statuses: self.taken_statuses.load(Ordering::Relaxed),
            has_taken: self.has_taken.load(Ordering::Relaxed),
            refuses_nobody_else: !others_are_refused && self.answers_test_post().await,
        }
    }

    /// The deployment posts nothing more.
    pub fn leave(&self, deployment: &DeploymentId) {
        self.refused().remove(deployment);
    }

    /// 401 or 403, if that was the last word about the key.
    pub fn denied(&self) -> Option<u16> {
        *self.denied.borrow()
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until this caller may post once, and it is known who answers. Dropping the future gives its turn away.
    pub async fn enter(&self) -> Pass {
        loop {
            let pass = self.turn().await;
            // Here and not in `post`: a caller asks Redis after this whether it may still speak, and that has to be fresh.
            match self.test.precede(&self.client).await {
                Ok(()) => return pass,
                Err(answer) => self.note(pass.turn.is_some(), 0, &answer),
            }
        }
    }

    async fn turn(&self) -> Pass {
        loop {
            if self.circuit().shut_until().is_none() {
                let slot = slot(&self.slots).await;
                if self.circuit().shut_until().is_none() {
                    return Pass { _slot: slot, turn: None };
                }
            }
            let turn = Arc::clone(&self.turn).lock_owned().await;
            loop {
                let shut_until = self.circuit().shut_until();
                match shut_until {
                    None => break,
                    Some(until) if until > Instant::now() => tokio::select! {
                        () = tokio::time::sleep_until(until.into()) => {}
                        () = self.closed.notified() => {}
                    },
                    Some(_) => return Pass { _slot: slot(&self.slots).await, turn: Some(turn) },
                }
            }
        }
    }

    /// Posts once and tells the circuit what was answered.
    pub async fn post(&self, pass: Pass, deployment: &DeploymentId, post: Post<'_>) -> Answer {
        let is_status = matches!(post, Post::Status(_));
        let probe = pass.turn.is_some();
        let answered = self.client.post(deployment, post).await;
        let (answer, cause) = self.find_cause(answered).await;
        match &answer {
            Answer::Taken => {
                self.refused().remove(deployment);
                if is_status {
                    self.taken_statuses.fetch_add(1, Ordering::Relaxed);
                }
            }
            Answer::Invalid(_) | Answer::TooLarge | Answer::Failed(_) | Answer::UnknownId => {
                self.refused().insert(deployment.clone());
            }
            Answer::Away { .. } | Answer::NotTheApi { .. } => {
                self.has_taken.store(false, Ordering::Relaxed);
                self.test.forget();
            }
            Answer::Denied(_) => {}
        }
        match cause {
            Cause::ThisPost => {
                let change = self.circuit().passed(probe);
                self.tell(change, "");
            }
            Cause::AsAnswered => self.note(probe, hash(deployment), &answer),
        }
        answer
    }

    /// An answer that speaks for the whole dashboard (the key is refused, a web page) may be to this post alone: a firewall before the
    /// dashboard may dislike one log line. The test post tells the two apart. Of a 500 it shows nothing.
    async fn find_cause(&self, answer: Answer) -> (Answer, Cause) {
        let status = match &answer {
            // A key that is known to be refused is asked about by `watch_key`.
            Answer::Denied(status) if self.denied().is_none() => *status,
            Answer::NotTheApi { status, .. } => *status,
            _ => return (answer, Cause::AsAnswered),
        };
        match (answer, self.test.send(&self.client).await) {
            (_, Answer::Invalid(400)) => (Answer::Failed(status), Cause::ThisPost),
            (Answer::Denied(_), Answer::Taken) => (takes_everything(), Cause::AsAnswered),
            (Answer::Denied(_), shown @ (Answer::Denied(_) | Answer::Away { .. } | Answer::NotTheApi { .. })) => {
                (shown, Cause::AsAnswered)
            }
            (Answer::Denied(_), _) => {
                let why = format!("it answers {status}, and does not refuse an empty line as the API does");
                (Answer::Away { why, retry_after: None }, Cause::AsAnswered)
            }
            (answer, _) => (answer, Cause::AsAnswered),
        }
    }

    /// Whether the dashboard answers as its API does: it refuses an empty line with 400, and stores nothing of it.
    async fn answers_test_post(&self) -> bool {
        matches!(self.test.send(&self.client).await, Answer::Invalid(400))
    }

    /// Past circuit, bound and turn: PENDING on the way out has one try, now.
    pub async fn post_once(&self, deployment: &DeploymentId, post: Post<'_>) -> Answer {
        self.client.post(deployment, post).await
    }

    /// Asks whether the dashboard is there and takes the key, by a log post with an empty text, which it refuses with 400 and
    /// stores nothing of. `Err` is for people: address, cause and cure.
    pub async fn check(&self) -> Result<(), String> {
        let answer = self.test.send(&self.client).await;
        match &answer {
            Answer::Denied(status) => self.set_denied(Some(*status)),
            Answer::Invalid(400) | Answer::UnknownId => self.set_denied(None),
            _ => {}
        }
        let address = &self.address;
        let not_the_api = |found: &str| {
            format!(
                "What answers at {address} is not the dashboard's API: {found} Check API_URL (its path too: the default ends in /api), and what stands before it (a proxy, a sign-in page)."
            )
        };
        match answer {
            Answer::Invalid(400) => Ok(()),
            Answer::Taken => Err(not_the_api("it takes an empty line, which the API refuses with 400.")),
            Answer::Invalid(status) => Err(not_the_api(&format!("it answers {status} where an empty line is refused with 400."))),
            Answer::TooLarge => Err(not_the_api("it answers 413 where an empty line is refused with 400.")),
            Answer::UnknownId => Err(not_the_api("it answers 404 where it should refuse an empty line with 400.")),
            Answer::NotTheApi { why, .. } => Err(format!("The dashboard at {address} cannot be used: {why}.")),
            Answer::Denied(status) => Err(self.denied_words(status)),
            Answer::Failed(status) => Err(format!("The dashboard at {address} answers {status}. See its own log.")),
            Answer::Away { why, .. } => {
                Err(format!("The dashboard at {address} cannot be reached: {why}. Check API_URL, and that it runs."))
            }
        }
    }

    /// While the key is refused nothing is claimed, so that perhaps nobody posts: somebody has to ask whether it is taken again.
    pub async fn watch_key(&self) {
        let mut denied = self.denied.subscribe();
        loop {
            if denied.wait_for(|d| d.is_some()).await.is_err() {
                return;
            }
            tokio::time::sleep(self.pace.cap).await;
            if self.denied().is_some() && self.check().await.is_ok() {
                let change = self.circuit().passed(true);
                self.tell(change, "");
            }
        }
    }

    pub fn denied_words(&self, status: u16) -> String {
        format!("the dashboard at {} answers {status}: it does not accept API_KEY. Check API_KEY and API_URL.", self.address)
    }

    /// `id`: tells deployments apart.
    fn note(&self, probe: bool, id: u64, answer: &Answer) {
        let (now, pace) = (Instant::now(), &self.pace);
        let (change, why) = match answer {
            Answer::Taken => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                self.has_taken.store(true, Ordering::Relaxed);
                self.set_denied(None);
                (self.circuit().passed(probe), String::new())
            }
            Answer::Invalid(_) | Answer::TooLarge => {
                self.set_denied(None);
                let wait = |n| jittered(pace.base, pace.doubt_cap, n, random());
                let change = match self.has_taken.load(Ordering::Relaxed) {
                    true => self.circuit().doubted(now, probe, id, wait),
                    false => self.circuit().failed(now, probe, None, wait),
                };
                let status = if let Answer::Invalid(status) = answer { *status } else { 413 };
                (change, format!("it answers {status} and takes nothing; check API_URL, and what answers there"))
            }
            Answer::Denied(status) => {
                self.set_denied(Some(*status));
                let wait = |n| pace.denied_base / 2 + jittered(pace.denied_base, pace.cap, n, random());
                (self.circuit().failed(now, probe, None, wait), self.denied_words(*status))
            }
            Answer::UnknownId | Answer::Failed(_) => {
                if *answer == Answer::UnknownId {
                    self.set_denied(None);
                }
                let wait = |n| jittered(pace.base, pace.doubt_cap, n, random());
                (
                    self.circuit().doubted(now, probe, id, wait),
                    "it answers 404 or 500 to everything; check API_URL's path, and the dashboard's own log".to_owned(),
                )
            }
            Answer::NotTheApi { why, .. } => {
                let wait = |n| jittered(pace.base, pace.cap, n, random());
                (self.circuit().failed(now, probe, None, wait), why.clone())
            }
            Answer::Away { why, retry_after } => {
                let at_least = retry_after.map(|r| r.min(pace.retry_after_max));
                let wait = |n| jittered(pace.base, pace.cap, n, random());
                (self.circuit().failed(now, probe, at_least, wait), why.clone())
            }
        };
        self.tell(change, &why);
    }

    fn tell(&self, change: Change, why: &str) {
        match change {
            Change::Opened => {
                self.has_taken.store(false, Ordering::Relaxed);
                tracing::warn!(dashboard = %self.address, why, "the dashboard does not take reports; they wait on disk and are tried again");
            }
            Change::Closed => {
                self.closed.notify_one();
                tracing::info!(dashboard = %self.address, "the dashboard takes reports again");
            }
            Change::Same => {}
        }
    }

    fn set_denied(&self, status: Option<u16>) {
        self.denied.send_if_modified(|d| std::mem::replace(d, status) != status);
    }
}

fn hash(deployment: &DeploymentId) -> u64 {
    let mut id = DefaultHasher::new();
    deployment.hash(&mut id);
    id.finish()
}

async fn slot(slots: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    match Arc::clone(slots).acquire_owned().await {
        Ok(permit) => permit,
        // The semaphore is never closed.
        Err(_) => std::future::pending().await,
    }
}
