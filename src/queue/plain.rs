//! `REDIS_MODE=plain`, for a Redis or a user that can do no more: jobs are popped (`BLPOP`), and nothing stands in Redis while they are
//! in work. What is lost by that is logged once, at the start.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::attempt::{Claim, ClaimFate, Fenced, Notice, Telling};
use super::cancel_log::{CancelLog, Kind};
use super::dial::{ANSWER, Dial, Line};
use super::error::QueueError;
use super::gate::{GateKeeper, boot_time};
use super::keys::Keys;
use super::link::Link;
use super::resp::Reply;
use super::shared::{GATE_SPAN, RENEW_EVERY};
use super::trouble::Trouble;
use crate::protocol::{DeploymentId, Outcome, ServiceId};

/// What a user has to know who works this way.
pub(super) const LOST: &str = "REDIS_MODE is plain (BLPOP): a job whose worker is killed is lost, a second worker's end may contradict the \
     first one's, and a cancel reaches a job only if this worker hears it.";

const BLOCK: Duration = Duration::from_secs(1);
/// Cancels of jobs that have not come yet, remembered while the process lives.
const CANCELS: usize = 10_000;

pub(super) struct Plain {
    dial: Dial,
    link: Link,
    keys: Keys,
    max_job_bytes: usize,
    pop: tokio::sync::Mutex<Pop>,
    state: Mutex<State>,
    pub(super) cancels: CancelLog,
}

/// The connection that jobs are popped on. A reply that is on its way is waited for by the next call: it holds a job.
#[derive(Default)]
struct Pop {
    line: Option<Line>,
    asked: bool,
    popped: u64,
}

#[derive(Default)]
struct State {
    /// Jobs in work: whether a cancel came.
    running: HashMap<DeploymentId, bool>,
    /// Heard before the job came.
    cancelled: HashSet<DeploymentId>,
    order: VecDeque<DeploymentId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids {
    deployment_id: Option<String>,
    service_id: Option<String>,
}

impl Plain {
    pub(super) fn new(dial: Dial, keys: Keys, max_job_bytes: usize) -> Self {
        let link = Link::new(dial.clone());
        Self { dial, link, keys, max_job_bytes, pop: Default::default(), state: Mutex::default(), cancels: CancelLog::default() }
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn claim(&self) -> Claim {
        let mut trouble = Trouble::new(&self.dial.board);
        loop {
            match self.pop.lock().await.next(&self.dial, &self.keys.queue, self.max_job_bytes).await {
                Ok(Some((payload, length, number))) => return self.begin(payload, length, number),
                Ok(None) => trouble.over(),
                Err(e) => {
                    let pause = trouble.told(&e);
                    sleep(pause).await;
                }
            }
        }
    }

    /// Waits for the answer of a pop that is under way: the job that it took goes back.
    pub(super) async fn stop_claiming(&self) {
        let mut pop = self.pop.lock().await;
        if !pop.asked {
            return;
        }
        let taken = pop.next(&self.dial, &self.keys.queue, self.max_job_bytes).await;
        let returned = match taken {
            Ok(Some((payload, length, number))) => self.give_back(&self.begin(payload, length, number)).await.map(|_| ()),
            Ok(None) => Ok(()),
            Err(e) => Err(e),
        };
        if let Err(e) = returned {
            warn!("A job that was taken in the moment of the stop may be lost: {e}");
        }
    }

    fn begin(&self, payload: Vec<u8>, length: u64, number: u64) -> Claim {
        let ids = serde_json::from_slice::<Ids>(&payload).ok();
        let deployment = ids.as_ref().and_then(|i| DeploymentId::parse(i.deployment_id.as_deref()?).ok());
        let service = ids.as_ref().and_then(|i| ServiceId::parse(i.service_id.as_deref()?).ok());
        let mut fate = ClaimFate::Build;
        if length > payload.len() as u64 {
            fate = ClaimFate::TooLarge { bytes: length };
        } else if let Some(id) = &deployment {
            let mut state = self.state();
            let cancelled = state.cancelled.remove(id);
            state.running.insert(id.clone(), cancelled);
            if cancelled {
                fate = ClaimFate::Cancelled;
            }
        }
        Claim {
            payload: Bytes::from(payload),
            deployment,
            service,
            attempt: 1,
            seq: number,
            fate,
            taken_over: None,
            requeued_by: None,
        }
    }

    /// Only what this process knows can void an end.
    pub(super) fn store_outcome(&self, claim: &Claim, outcome: &Outcome) -> Fenced {
        let Some(id) = &claim.deployment else { return Fenced::Stored };
        let mut state = self.state();
        let cancelled = state.running.get(id).copied().unwrap_or_default();
        if cancelled && !matches!(outcome, Outcome::Cancelled { .. }) {
            return Fenced::Cancelled;
        }
        // CANCELLED is the end now: it is not voided again.
        state.running.insert(id.clone(), false);
        Fenced::Stored
    }
    /// The dashboard loses a BUILDED while its Redis is down, so Redis has to answer first.
    pub(super) async fn may_post(&self, claim: &Claim, telling: Telling) -> Result<Fenced, QueueError> {
        self.link.command(&redis::cmd("PING")).await?;
        let Some(id) = &claim.deployment else { return Ok(Fenced::Stored) };
        let mut state = self.state();
        match state.running.get_mut(id) {
            Some(cancelled) if *cancelled => {
                // What a status is told says nothing for the end behind it.
                *cancelled = telling != Telling::End;
                Ok(Fenced::Cancelled)
            }
            _ => Ok(Fenced::Stored),
        }
    }
    pub(super) fn finish(&self, claim: &Claim) {
        if let Some(id) = &claim.deployment {
            self.state().running.remove(id);
        }
    }
    pub(super) async fn give_back(&self, claim: &Claim) -> Result<bool, QueueError> {
        if matches!(claim.fate, ClaimFate::TooLarge { .. }) {
            return Ok(false);
        }
        self.link.command(redis::cmd("LPUSH").arg(&self.keys.queue).arg(&claim.payload[..])).await?;
        self.finish(claim);
        Ok(true)
    }
    pub(super) async fn dead_letter(&self, claim: &Claim, note: &str) -> Result<(), QueueError> {
        let noted = self.link.command(redis::cmd("LPUSH").arg(&self.keys.dead).arg(note)).await;
        match noted {
            Ok(_) => {}
            Err(e) if e.is_rights() => warn!("A job is refused, and there is no right to write the dead letter list: {note}"),
            Err(e) => return Err(e),
        }
        self.finish(claim);
        Ok(())
    }

    /// The gate follows whether Redis answers: there is no lease to prove.
    pub(super) async fn keep_gate(&self, gate: &GateKeeper, stop: &CancellationToken) {
        let mut trouble = Trouble::new(&self.dial.board);
        let mut proved = boot_time();
        loop {
            let asked = boot_time();
            let pause = match self.link.command(&redis::cmd("PING")).await {
                Ok(_) => {
                    trouble.over();
                    proved = asked;
                    gate.hold(proved, GATE_SPAN);
                    RENEW_EVERY
                }
                Err(e) => {
                    if boot_time().saturating_sub(proved) >= GATE_SPAN {
                        gate.shut();
                    }
                    trouble.told(&e)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// A cancel that was heard.
    pub(super) async fn heard(&self, id: DeploymentId, notices: &Sender<Notice>) {
        let running = {
            let mut state = self.state();
            let running = state.running.get_mut(&id).map(|cancelled| std::mem::replace(cancelled, true));
            if running.is_none() && state.cancelled.insert(id.clone()) {
                state.order.push_back(id.clone());
                if state.order.len() > CANCELS
                    && let Some(oldest) = state.order.pop_front()
                {
                    state.cancelled.remove(&oldest);
                }
            }
            running
        };
        match running {
            Some(false) => {
                if self.cancels.count(Kind::Running) {
                    info!(deployment_id = %id, "A cancel came: the deployment is in work.");
                }
                if notices.send(Notice::Cancelled(id)).await.is_err() {
                    warn!("A cancel came while the worker stops.");
                }
            }
            Some(true) => {}
            None if self.cancels.count(Kind::Unknown) => {
                info!(deployment_id = %id, "A cancel came for a deployment that is not in work here; it is kept in memory.");
            }
            None => {}
        }
    }
}

impl Pop {
    /// The next element (its first `keep` bytes, its length, its number), or `None` after a second. Cancel-safe.
    async fn next(&mut self, dial: &Dial, queue: &str, keep: usize) -> Result<Option<(Vec<u8>, u64, u64)>, QueueError> {
        let result = self.ask(dial, queue, keep).await;
        if result.is_err() {
            self.line = None;
        }
        let Some((payload, length)) = result? else { return Ok(None) };
        self.popped += 1;
        Ok(Some((payload, length, self.popped)))
    }
    async fn ask(&mut self, dial: &Dial, queue: &str, keep: usize) -> Result<Option<(Vec<u8>, u64)>, QueueError> {
        let line = match &mut self.line {
            Some(line) if !line.is_torn() => line,
            _ => {
                self.asked = false;
                self.line.insert(dial.line(keep).await?)
            }
        };
        if !self.asked {
            let block = BLOCK.as_secs().to_string();
            let parts: [&[u8]; 3] = [b"BLPOP", queue.as_bytes(), block.as_bytes()];
            timeout(ANSWER, line.send(dial, &parts)).await.unwrap_or_else(|_| Err(dial.unreachable("it takes no commands")))?;
            self.asked = true;
        }
        let reply = timeout(BLOCK + ANSWER, line.receive(dial))
            .await
            .unwrap_or_else(|_| Err(dial.unreachable("no answer within 6 s to a command that blocks for 1 s")))?;
        self.asked = false;
        match reply {
            Reply::Error(text) => Err(dial.said(&text)),
            Reply::Array(parts) => match parts.into_iter().nth(1) {
                Some(Reply::Bulk { head, length }) => Ok(Some((head, length))),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}
