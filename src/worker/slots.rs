//! Build slots: how many jobs may build at once, and who gets the next free slot.
//!
//! A job holds a slot while it works on its own build. It gives the slot up while it waits for anything else: another try, a part that
//! does not answer, the gate, or a host of its own that sends nothing or has failed lately. Three rules follow from that:
//! 1. A job that comes back from such a wait goes before a new claim, so that what was begun ends.
//! 2. The number of jobs that have begun and hold no slot is bounded. At [`MOST_WITHOUT`] nothing more is claimed; from half of it on,
//!    a job whose own host fails gets no further try, so that jobs of one tenant cannot fill the host.
//! 3. While a job waits for a part that every job needs (the Engine, the registry), nothing more is claimed: it could not go on.
//!
//! A job that has ended with dead workers before builds alone: it begins where no other job has begun, and nothing begins beside it. One that
//! comes back from a wait goes on where no other job holds a slot.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::peer::Peer;

/// The most jobs that have begun and hold no slot.
pub const MOST_WITHOUT: usize = 32;
/// From here on a job whose own host fails is not tried again.
const MANY_WITHOUT: usize = MOST_WITHOUT / 2;

/// Beside which others a job may build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    Beside,
    Alone,
}

/// What is known of all jobs of this worker that have begun and whose build has not ended. Decides; nothing here waits.
#[derive(Debug)]
struct State {
    total: usize,
    /// Jobs that have begun.
    jobs: usize,
    /// Slots that are held.
    held: usize,
    /// One of the slots is held by a job that builds alone.
    alone: bool,
    /// Jobs that wait for a slot to go on, oldest first.
    returning: VecDeque<(u64, Company)>,
    /// The parts that jobs wait for.
    away: Vec<Peer>,
    tickets: u64,
}

impl State {
    fn new(total: usize) -> Self {
        Self { total, jobs: 0, held: 0, alone: false, returning: VecDeque::new(), away: Vec::new(), tickets: 0 }
    }

    fn without(&self) -> usize {
        self.jobs - self.held
    }

    fn returning_as(&self, company: Company) -> impl Iterator<Item = u64> {
        self.returning.iter().filter(move |(_, waits)| *waits == company).map(|(ticket, _)| *ticket)
    }

    /// Whether a new job may begin now.
    fn may_begin(&self, company: Company) -> bool {
        match company {
            Company::Beside => {
                let free = !self.alone && self.held < self.total && self.returning.is_empty();
                free && self.without() < MOST_WITHOUT && self.away.is_empty()
            }
            Company::Alone => self.jobs == 0,
        }
    }

    /// Whether the job that waits with `ticket` may go on now.
    fn may_return(&self, ticket: u64, company: Company) -> bool {
        let first = self.returning_as(company).next() == Some(ticket);
        match company {
            Company::Beside => first && !self.alone && self.held < self.total,
            // Others that have begun meanwhile and hold no slot do nothing but wait; some wait for the repository that this job has locked.
            Company::Alone => first && self.held == 0,
        }
    }

    /// Why nothing is claimed though the queue may have jobs. `None` too where only every slot is taken: that is no news.
    fn why_not(&self) -> Option<String> {
        if self.alone {
            return Some("No job is claimed: one that has ended with dead workers before builds alone on this host.".to_owned());
        }
        if let Some(part) = self.away.first() {
            return Some(format!("No job is claimed: {part} does not answer, and jobs wait for it."));
        }
        (self.without() >= MOST_WITHOUT)
            .then(|| format!("No job is claimed: {} jobs wait for hosts that do not answer; {MOST_WITHOUT} may.", self.without()))
    }
}

/// The slots of one worker.
pub struct Slots {
    state: Mutex<State>,
    changed: Notify,
}

impl Slots {
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::new(total)), changed: Notify::new() })
    }

    /// A place for a job that is about to build, with a slot. `None`: it cannot begin now.
    pub fn begin(self: &Arc<Self>, company: Company) -> Option<Place> {
        let mut state = self.state();
        if !state.may_begin(company) {
            return None;
        }
        state.jobs += 1;
        state.held += 1;
        state.alone = company == Company::Alone;
        drop(state);
        Some(Place { slots: Some(self.clone()), company, mine: Mutex::new(Mine { holds: true, waits_for: None }) })
    }

    /// Whether a job that is claimed now could begin.
    pub fn has_room(&self) -> bool {
        self.state().may_begin(Company::Beside)
    }

    /// Why nothing is claimed, where that is worth saying.
    pub fn why_not(&self) -> Option<String> {
        self.state().why_not()
    }

    /// Ends with the next change. What changes after this call is not missed, if the future was enabled.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_waiters();
        changed
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a job among those that have begun, until its build has ended. Dropped, its slot is free.
pub struct Place {
    /// `None`: a build by itself, which nobody waits for.
    slots: Option<Arc<Slots>>,
    company: Company,
    mine: Mutex<Mine>,
}

struct Mine {
    holds: bool,
    waits_for: Option<Peer>,
}

impl Place {
    /// For one build without a worker around it.
    pub fn of_its_own() -> Self {
        Self { slots: None, company: Company::Beside, mine: Mutex::new(Mine { holds: true, waits_for: None }) }
    }

    pub fn holds_a_slot(&self) -> bool {
        self.slots.is_none() || self.mine().holds
    }

    /// Gives the slot to somebody else, until [`Place::regain`].
    pub fn release(&self) {
        let Some(slots) = &self.slots else { return };
        if std::mem::replace(&mut self.mine().holds, false) {
            slots.change(|state| {
                state.held -= 1;
                state.alone &= self.company == Company::Beside;
            });
        }
    }

    /// Waits for a slot, unless the job holds one. Dropping the future gives its place in the line away.
    pub async fn regain(&self) {
        let Some(slots) = &self.slots else { return };
        if self.mine().holds {
            return;
        }
        let line = slots.change(|state| {
            state.tickets += 1;
            state.returning.push_back((state.tickets, self.company));
            InLine { slots, ticket: state.tickets }
        });
        loop {
            let changed = slots.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.takes_one(slots, line.ticket) {
                return;
            }
            changed.await;
        }
    }

    fn takes_one(&self, slots: &Slots, ticket: u64) -> bool {
        let mut state = slots.state();
        let may = state.may_return(ticket, self.company);
        if may {
            state.held += 1;
            state.alone |= self.company == Company::Alone;
            self.mine().holds = true;
        }
        may
    }

    /// The part that this job waits for, or tries while nobody knows whether it is back. `None`: none any more.
    pub fn waits_for(&self, part: Option<Peer>) {
        let Some(slots) = &self.slots else { return };
        let before = std::mem::replace(&mut self.mine().waits_for, part.clone());
        if before == part {
            return;
        }
        slots.change(|state| {
            remove(&mut state.away, before.as_ref());
            state.away.extend(part);
        });
    }

    /// Whether so many jobs wait that one whose own host fails is not tried again.
    pub fn is_crowded(&self) -> bool {
        self.slots.as_ref().is_some_and(|slots| slots.state().without() >= MANY_WITHOUT)
    }

    fn mine(&self) -> MutexGuard<'_, Mine> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waits_for(None);
        self.release();
        if let Some(slots) = &self.slots {
            slots.change(|state| state.jobs -= 1);
        }
    }
}

/// A job's place in the line for a slot.
struct InLine<'s> {
    slots: &'s Slots,
    ticket: u64,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.slots.change(|state| state.returning.retain(|(ticket, _)| *ticket != self.ticket));
    }
}

fn remove(parts: &mut Vec<Peer>, one: Option<&Peer>) {
    if let Some(at) = parts.iter().position(|part| Some(part) == one) {
        parts.swap_remove(at);
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
