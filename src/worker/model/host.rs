//! A worker in the model: its attempts led by the product's own lifecycle, its gate, its journals.

use std::collections::BTreeMap;

use super::redis::{Answer, Claimed, Fate, Host, Job, Nonce, Redis};
use super::{End, Message, Network, What};
use crate::protocol::Outcome;
use crate::queue::Fenced;
use crate::report::Delivery;
use crate::worker::lifecycle::{self, Action, Close, Event, State, Stop};

/// Seconds after the last proof of the lease for which something may leave the host.
const GATE: u64 = 20;
const LINES: u32 = 2;

/// What stays on disk over a kill.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    attempt: u32,
    items: Vec<What>,
    told: usize,
    end: Option<End>,
    /// Of the end that stands in it.
    delivered: bool,
}

impl Journal {
    /// Records of another attempt follow; an end of the earlier one is void.
    fn begin(&mut self, attempt: u32) {
        if self.attempt != attempt {
            self.attempt = attempt;
            self.end = None;
        }
    }

    /// `Some`: nothing is to be sent for it.
    fn end(&mut self, end: End) -> Option<Delivery> {
        match self.end {
            Some(old) if old == end => return self.delivered.then_some(Delivery::Delivered),
            Some(End::Cancelled) => return Some(Delivery::Cancelled),
            Some(_) if self.delivered && end != End::Cancelled => return Some(Delivery::Delivered),
            _ => {}
        }
        self.items.push(What::End(end));
        (self.end, self.delivered) = (Some(end), false);
        None
    }
}

#[derive(Debug)]
pub struct Attempt {
    pub claim: Claimed,
    state: State,
    action: Action,
    printed: u32,
    /// What the fence said of the item that is to be sent next.
    fence: Option<Option<Answer>>,
    /// The post under way.
    post: Option<u64>,
    knows_cancelled: bool,
    noticed: bool,
    suspect: Option<Host>,
    /// The end is in the journal and waited for.
    armed: bool,
    /// The answer of the outcome script, on its way.
    reply: Option<Answer>,
}

#[derive(Debug, Default)]
pub struct Worker {
    pub host: Host,
    pub nonce: Nonce,
    pub up: bool,
    pub frozen: bool,
    /// Redis can be reached.
    pub linked: bool,
    pub draining: bool,
    proved: Option<u64>,
    /// Since when the session with Redis holds.
    session: u64,
    token: u32,
    asked: bool,
    pub attempts: BTreeMap<Job, Attempt>,
    pub journals: BTreeMap<Job, Journal>,
}

/// What one call of the model's chance may do to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Luck {
    Good,
    /// Redis has done it, the caller does not hear of it.
    ReplyLost,
    RequestLost,
}

impl Worker {
    pub fn new(host: Host) -> Self {
        Self { host, nonce: 1000 * host as Nonce, linked: true, ..Self::default() }
    }

    pub fn can_act(&self) -> bool {
        self.up && !self.frozen
    }

    fn gate_is_open(&self, redis: &Redis) -> bool {
        self.proved.is_some_and(|at| redis.now < at + GATE)
    }

    pub fn kill(&mut self) {
        self.up = false;
        self.frozen = false;
        self.draining = false;
        self.attempts.clear();
        self.proved = None;
    }

    pub fn restart(&mut self, redis: &mut Redis) {
        let before = self.nonce;
        if !self.linked || self.up {
            return;
        }
        let nonce = before + 1;
        let Some(orderly) = redis.take_lease(self.host, nonce, before) else { return };
        (self.nonce, self.up, self.asked) = (nonce, true, false);
        self.token += 1;
        (self.proved, self.session) = (Some(redis.now), redis.now);
        let resumed = redis.resume(self.host, nonce, orderly);
        self.journals.retain(|job, _| resumed.iter().any(|c| c.job == *job));
        for claim in resumed {
            self.begin(claim);
        }
    }

    pub fn renew(&mut self, redis: &mut Redis) {
        if self.linked && redis.renew(self.host, self.nonce) {
            self.proved = Some(redis.now);
            self.look(redis);
        }
    }

    pub fn unlink(&mut self) {
        self.linked = false;
    }

    pub fn link(&mut self, now: u64) {
        (self.linked, self.session) = (true, now);
    }

    /// Whether it has been calm for so long that leases which are gone are those of dead workers.
    pub fn may_reap(&self, now: u64) -> bool {
        self.linked && now >= self.session + super::redis::LEASE
    }

    pub fn claim(&mut self, redis: &mut Redis, luck: Luck) {
        let building = self.attempts.values().filter(|a| matches!(a.state, State::Building { .. })).count();
        if !self.linked || self.draining || building >= 2 || luck == Luck::RequestLost {
            return;
        }
        redis.wake();
        // The same token until its answer was heard.
        if !self.asked {
            self.token += 1;
            self.asked = true;
        }
        // Refused for its lease it has heard nothing of the token.
        if !redis.holds_lease(self.host, self.nonce) {
            return;
        }
        let claimed = redis.claim(self.host, self.token);
        if luck == Luck::ReplyLost {
            return;
        }
        self.asked = false;
        if let Some(claim) = claimed {
            self.begin(claim);
        }
    }

    fn begin(&mut self, claim: Claimed) {
        let journal = self.journals.entry(claim.job).or_default();
        journal.begin(claim.attempt);
        let (state, action) = match claim.fate {
            Fate::Build => {
                if !matches!(journal.end, Some(End::Cancelled)) {
                    journal.items.push(What::Building(claim.attempt));
                }
                (State::Building { stop: None }, Action::Nothing)
            }
            Fate::Cancelled => lifecycle::begin_known(Outcome::Cancelled { failure: lifecycle::cancelled() }),
            Fate::Superseded(by) => lifecycle::begin_known(Outcome::Cancelled { failure: lifecycle::superseded(&super::id(by)) }),
            Fate::Ended(end) => lifecycle::begin_known(super::outcome(end)),
            Fate::Crashed => lifecycle::begin_known(super::outcome(End::GivenUp)),
        };
        let attempt = Attempt {
            claim,
            state,
            action,
            printed: 0,
            fence: None,
            post: None,
            knows_cancelled: claim.fate == Fate::Ended(End::Cancelled),
            noticed: matches!(claim.fate, Fate::Cancelled | Fate::Superseded(_)),
            suspect: None,
            armed: false,
            reply: None,
        };
        self.attempts.insert(claim.job, attempt);
    }

    /// What the records say reaches the attempts.
    pub fn look(&mut self, redis: &Redis) {
        if !self.linked {
            return;
        }
        let jobs: Vec<Job> = self.attempts.keys().copied().collect();
        for job in jobs {
            let Some(attempt) = self.attempts.get_mut(&job) else { continue };
            let stop = match redis.look(self.host, attempt.claim) {
                Some(Answer::Lost) => Stop::Lost,
                Some(Answer::Cancelled) if !attempt.noticed => Stop::Cancelled(lifecycle::cancelled()),
                Some(Answer::Superseded(by)) if !attempt.noticed => Stop::Cancelled(lifecycle::superseded(&super::id(by))),
                _ => continue,
            };
            attempt.noticed = true;
            self.event(job, Event::Stop(stop));
        }
    }

    /// SIGTERM without a drain time.
    pub fn drain(&mut self) {
        self.draining = true;
        let jobs: Vec<Job> = self.attempts.keys().copied().collect();
        for job in jobs {
            self.event(job, Event::Stop(Stop::Drained));
        }
    }

    /// The drain is over: what could not be told stays on disk.
    pub fn end_of_drain(&mut self, redis: &mut Redis) {
        if !self.attempts.values().all(|a| matches!(a.state, State::Delivering { .. } | State::Closing)) {
            return;
        }
        if self.linked {
            if self.asked && redis.holds_lease(self.host, self.nonce) {
                // A claim whose answer was lost goes back first.
                if let Some(claim) = redis.claim(self.host, self.token) {
                    redis.give_back(self.host, claim);
                }
                self.asked = false;
            }
            redis.release(self.host, self.nonce);
        }
        self.kill();
    }

    /// The build of an attempt goes on by a line, or comes to its end.
    pub fn build(&mut self, job: Job, succeeds: bool) {
        let Some(attempt) = self.attempts.get_mut(&job) else { return };
        let State::Building { stop } = &attempt.state else { return };
        if attempt.printed < LINES && stop.is_none() {
            if let Some(journal) = self.journals.get_mut(&job) {
                journal.items.push(What::Line(attempt.claim.attempt, attempt.printed));
            }
            attempt.printed += 1;
            return;
        }
        let result = match (stop, succeeds) {
            (None, true) => Ok(super::outcome(End::Builded(attempt.claim.attempt))),
            (None, false) => Err(super::failure()),
            (Some(_), _) => Err(crate::protocol::Failure::interrupted()),
        };
        self.event(job, Event::PipelineEnded(result));
    }

    fn event(&mut self, job: Job, event: Event) {
        let Some(attempt) = self.attempts.get_mut(&job) else { return };
        let (state, action) = lifecycle::step(attempt.state.clone(), event);
        let replaced = action != Action::Nothing;
        attempt.state = state;
        if replaced {
            (attempt.action, attempt.reply, attempt.suspect, attempt.armed) = (action, None, None, false);
        }
        if attempt.state == State::Done {
            self.attempts.remove(&job);
        }
    }

    /// One small step of the effect that runs.
    pub fn act(&mut self, job: Job, redis: &mut Redis, network: &mut Network, luck: Luck) {
        let host = self.host;
        let Some(attempt) = self.attempts.get_mut(&job) else { return };
        let claim = attempt.claim;
        let reached = self.linked && luck != Luck::RequestLost;
        let heard = reached && luck == Luck::Good;
        match attempt.action.clone() {
            Action::Nothing | Action::TripToken => {}
            Action::Store(outcome) => match attempt.reply.take() {
                None if reached => {
                    let answer = redis.store(host, claim, super::end_of(&outcome), attempt.suspect);
                    attempt.reply = heard.then_some(answer);
                }
                None => {}
                Some(Answer::Wait(worker)) => attempt.suspect = Some(worker),
                // Only a Redis that lost something brings this about: here it must never come to it.
                Some(Answer::Contradicts) => network.contradicted = true,
                Some(answer) => {
                    attempt.knows_cancelled |= !matches!(answer, Answer::Stored | Answer::Lost)
                        || (answer == Answer::Stored && super::end_of(&outcome) == End::Cancelled);
                    self.event(job, Event::Stored(fenced(answer)));
                }
            },
            Action::Deliver(outcome) => {
                if !attempt.armed {
                    attempt.armed = true;
                    let journal = self.journals.entry(job).or_default();
                    if let Some(delivery) = journal.end(super::end_of(&outcome)) {
                        self.event(job, Event::Delivered(delivery));
                    }
                }
            }
            Action::Close(close) => {
                let finished = reached && redis.finish(host, claim, matches!(close, Close::DeadLetter(_)));
                if heard && !finished {
                    self.event(job, Event::CancelledBeforeClose);
                } else if heard {
                    self.journals.remove(&job);
                    self.event(job, Event::Closed);
                }
            }
            Action::GiveBack | Action::Requeue => {
                // PENDING has one second: it arrives before the job is back, or never.
                if attempt.post.is_none() && self.proved.is_some_and(|at| redis.now < at + GATE) && luck == Luck::Good {
                    network.arrive_now(job, What::Pending(claim.attempt));
                }
                attempt.post = Some(u64::MAX);
                if reached {
                    redis.give_back(host, claim);
                }
                if heard {
                    self.journals.remove(&job);
                    self.event(job, Event::Returned);
                }
            }
            Action::Abandon => {
                self.journals.remove(&job);
                self.event(job, Event::Abandoned);
            }
        }
    }

    /// One small step of the sender: ask the fence, post, or hear the answer.
    pub fn send(&mut self, job: Job, redis: &mut Redis, network: &mut Network, luck: Luck) {
        let open = self.gate_is_open(redis);
        let (Some(attempt), Some(journal)) = (self.attempts.get_mut(&job), self.journals.get_mut(&job)) else { return };
        if matches!(attempt.action, Action::GiveBack | Action::Requeue | Action::Abandon | Action::Close(_)) {
            return;
        }
        let Some(item) = journal.items.get(journal.told).copied() else { return };
        if let Some(post) = attempt.post {
            let Some(answered) = network.answer(post) else { return };
            attempt.post = None;
            // Without an answer the same is posted again.
            if answered && luck == Luck::Good {
                journal.told += 1;
                if let What::End(end) = item
                    && journal.end == Some(end)
                {
                    journal.delivered = true;
                    self.event(job, Event::Delivered(Delivery::Delivered));
                }
            }
            return;
        }
        let is_current = |end: End| journal.end == Some(end);
        match item {
            What::Line(..) | What::Pending(_) => {}
            What::Building(_) if journal.end == Some(End::Cancelled) => {
                journal.told += 1;
                return;
            }
            What::End(end) if !is_current(end) => {
                journal.told += 1;
                return;
            }
            What::End(_) if !attempt.armed => return,
            What::Building(_) | What::End(_) => match attempt.fence.take() {
                None => {
                    if self.linked && luck != Luck::RequestLost {
                        let said =
                            redis.may_post(self.host, attempt.claim, attempt.knows_cancelled, matches!(item, What::End(_)));
                        attempt.fence = (luck == Luck::Good).then_some(said);
                    }
                    return;
                }
                Some(_) if !open => return,
                Some(None) if matches!(item, What::End(_)) => return,
                Some(Some(Answer::Stored) | None) => {}
                Some(Some(answer)) => {
                    if let What::End(end) = item {
                        let cancels = end == End::Cancelled;
                        if answer == Answer::Lost || !cancels {
                            let delivery = if answer == Answer::Lost { Delivery::Lost } else { Delivery::Cancelled };
                            if delivery == Delivery::Cancelled {
                                journal.told += 1;
                                journal.end = None;
                            }
                            self.event(job, Event::Delivered(delivery));
                            return;
                        }
                    } else {
                        journal.told += 1;
                        return;
                    }
                }
            },
        }
        if open {
            attempt.post = Some(network.post(Message { job, host: self.host, what: item, sent: redis.now }));
        }
    }
}

fn fenced(answer: Answer) -> Fenced {
    match answer {
        Answer::Stored | Answer::Wait(_) | Answer::Contradicts => Fenced::Stored,
        Answer::Cancelled => Fenced::Cancelled,
        Answer::Superseded(by) => Fenced::Superseded { by: super::id(by) },
        Answer::Lost => Fenced::Lost,
    }
}
