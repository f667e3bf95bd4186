//! Redis in the model: the decisions of the Lua scripts, each an atomic step, and nothing of their bookkeeping.

use std::collections::{HashMap, HashSet, VecDeque};

use super::End;

pub type Job = usize;
pub type Host = usize;
pub type Nonce = u32;

/// Seconds.
pub const LEASE: u64 = 30;
pub const HTTP: u64 = 9;
const CRASHES: u32 = 3;

#[derive(Debug, Clone, Default)]
pub struct Record {
    pub worker: Option<Host>,
    pub attempt: u32,
    pub seq: u64,
    pub cancelled: bool,
    pub superseded_by: Option<Job>,
    pub outcome: Option<End>,
    pub posted: bool,
    /// BUILDED may have been posted, whatever the end became after that.
    pub builded: bool,
    pub after: Vec<Job>,
    pub hold_until: u64,
    pub ended: bool,
    pub resumed: Nonce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Build,
    Cancelled,
    Superseded(Job),
    Ended(End),
    Crashed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    pub job: Job,
    pub attempt: u32,
    pub seq: u64,
    pub fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Stored,
    Cancelled,
    Superseded(Job),
    Lost,
    /// Another end may have been seen.
    Contradicts,
    /// An older job of the service is not closed yet.
    Wait(Host),
}

#[derive(Debug, Default)]
pub struct Redis {
    pub now: u64,
    services: Vec<usize>,
    pub queue: VecDeque<Job>,
    pub incoming: VecDeque<Job>,
    pub claimed: [Vec<Job>; 2],
    leases: [Option<(Nonce, u64)>; 2],
    released: [bool; 2],
    last_claim: [Option<(u32, Job, u32)>; 2],
    pub records: HashMap<Job, Record>,
    tombs: HashSet<Job>,
    crashes: HashMap<Job, u32>,
    newest: HashMap<usize, (u64, Job)>,
    pub dead_letter: Vec<Job>,
    /// How many jobs were taken from dead workers.
    pub taken_over: usize,
}

impl Redis {
    pub fn new(services: &[usize]) -> Self {
        Self { services: services.to_vec(), now: 100, ..Self::default() }
    }

    fn lease(&self, host: Host) -> Option<Nonce> {
        self.leases[host].filter(|(_, until)| *until > self.now).map(|(nonce, _)| nonce)
    }

    /// `before`: the nonce of the process before. `None`: another one holds it. Else whether that one ended in good order.
    pub fn take_lease(&mut self, host: Host, nonce: Nonce, before: Nonce) -> Option<bool> {
        if self.lease(host).is_some_and(|holder| holder != nonce && holder != before) {
            return None;
        }
        self.leases[host] = Some((nonce, self.now + LEASE));
        Some(std::mem::take(&mut self.released[host]))
    }

    /// `false`: another process holds it.
    pub fn renew(&mut self, host: Host, nonce: Nonce) -> bool {
        let ours = self.lease(host).is_none_or(|holder| holder == nonce);
        if ours {
            self.leases[host] = Some((nonce, self.now + LEASE));
        }
        ours
    }

    pub fn release(&mut self, host: Host, nonce: Nonce) {
        if self.lease(host) == Some(nonce) {
            self.last_claim[host] = None;
            self.released[host] = true;
            if self.claimed[host].is_empty() {
                self.leases[host] = None;
            }
        }
    }

    /// The wake-up.
    pub fn wake(&mut self) {
        self.incoming.extend(self.queue.pop_front());
    }

    pub fn holds_lease(&self, host: Host, nonce: Nonce) -> bool {
        self.lease(host) == Some(nonce)
    }

    /// For a holder of the lease. `token` makes a lost reply repeatable.
    pub fn claim(&mut self, host: Host, token: u32) -> Option<Claimed> {
        if let Some((_, job, attempt)) = self.last_claim[host].filter(|(last, _, _)| *last == token) {
            let record = self.records.get(&job)?;
            return self.is_ours(record, host, attempt, record.seq).then(|| self.described(job));
        }
        let waits = self.incoming.front().or(self.queue.front()).copied()?;
        // The same deployment again while it is in work is parked: the model pushes each once.
        let source = if self.incoming.is_empty() { &mut self.queue } else { &mut self.incoming };
        source.pop_front();
        self.claimed[host].push(waits);
        let now_us = self.now * 1_000_000;
        let service = self.services[waits];
        let newest = self.newest.get(&service).copied();
        let mut record = self.records.get(&waits).cloned().unwrap_or_default();
        record.worker = Some(host);
        record.attempt += 1;
        record.cancelled |= self.tombs.contains(&waits);
        if record.seq == 0 {
            record.seq = newest.map_or(0, |(seq, _)| seq + 1).max(now_us);
        }
        if !record.cancelled && record.outcome.is_none() {
            match newest.filter(|(_, id)| *id != waits) {
                Some((seq, newer)) if seq > record.seq => record.superseded_by = record.superseded_by.or(Some(newer)),
                older => {
                    if let Some((_, older)) = older {
                        let mut after: Vec<Job> = vec![older];
                        after.extend(self.records.get(&older).iter().flat_map(|r| r.after.clone()));
                        after.retain(|other| *other != waits && self.may_still_post(*other));
                        record.after = after;
                        if let Some(older) = self.records.get_mut(&older).filter(|r| !r.ended) {
                            older.superseded_by = older.superseded_by.or(Some(waits));
                        }
                    }
                    self.newest.insert(service, (record.seq, waits));
                }
            }
        }
        self.last_claim[host] = Some((token, waits, record.attempt));
        self.records.insert(waits, record);
        Some(self.described(waits))
    }

    fn may_still_post(&self, job: Job) -> bool {
        self.records.get(&job).is_some_and(|r| !r.ended || r.hold_until > self.now)
    }

    fn described(&self, job: Job) -> Claimed {
        let record = &self.records[&job];
        let fate = match (voided(record), record.outcome) {
            (Some(Void::Cancelled), _) => Fate::Cancelled,
            (Some(Void::Superseded(by)), _) => Fate::Superseded(by),
            (None, Some(end)) => Fate::Ended(end),
            (None, None) if self.crashes.get(&job).is_some_and(|n| *n >= CRASHES) => Fate::Crashed,
            (None, None) => Fate::Build,
        };
        Claimed { job, attempt: record.attempt, seq: record.seq, fate }
    }

    fn is_ours(&self, record: &Record, host: Host, attempt: u32, seq: u64) -> bool {
        !record.ended && record.worker == Some(host) && record.attempt == attempt && record.seq == seq
    }

    fn ours(&mut self, claim: Claimed, host: Host) -> Option<Record> {
        let record = self.records.get(&claim.job)?;
        self.is_ours(record, host, claim.attempt, claim.seq).then(|| record.clone())
    }

    /// Stores an end. `suspect`: who is believed to hold it up.
    pub fn store(&mut self, host: Host, claim: Claimed, end: End, suspect: Option<Host>) -> Answer {
        let Some(mut record) = self.ours(claim, host) else { return Answer::Lost };
        let why = voided(&record);
        let cancels = end == End::Cancelled;
        if let Some(why) = why.filter(|_| !cancels) {
            record.outcome = Some(End::Cancelled);
            record.posted = false;
            self.records.insert(claim.job, record);
            return why.answer();
        }
        if record.outcome == Some(end) {
            return Answer::Stored;
        }
        if record.outcome == Some(End::Cancelled) && !cancels {
            return told_before(&record);
        }
        let follows = cancels && !matches!(record.outcome, Some(End::Failed | End::GivenUp));
        if record.posted && !follows {
            return Answer::Contradicts;
        }
        if matches!(end, End::Builded(_)) {
            for other in record.after.clone() {
                let gone = suspect.is_some_and(|s| self.lease(s).is_none());
                let now = self.now;
                let Some(older) = self.records.get_mut(&other) else { continue };
                if matches!(older.outcome, Some(end) if !matches!(end, End::Builded(_))) && !older.builded {
                    continue;
                }
                let mut waits = older.hold_until > now;
                if let (false, Some(worker)) = (older.ended, older.worker) {
                    waits = true;
                    if Some(worker) == suspect && gone {
                        if older.hold_until == 0 {
                            older.hold_until = now + HTTP;
                        }
                        waits = older.hold_until > now;
                    }
                }
                if waits {
                    return Answer::Wait(older.worker.unwrap_or(host));
                }
            }
            record.after.clear();
        }
        record.outcome = Some(end);
        record.posted = false;
        self.records.insert(claim.job, record);
        Answer::Stored
    }

    /// `knows`: the caller knows that its end is CANCELLED. `None`: no end is stored; a status on the way may be told.
    pub fn may_post(&mut self, host: Host, claim: Claimed, knows: bool, ends: bool) -> Option<Answer> {
        let Some(mut record) = self.ours(claim, host) else { return Some(Answer::Lost) };
        if let Some(why) = voided(&record) {
            record.outcome = Some(End::Cancelled);
            record.posted = false;
            self.records.insert(claim.job, record);
            return Some(why.answer());
        }
        record.outcome?;
        if record.outcome == Some(End::Cancelled) && !(ends && knows) {
            return Some(told_before(&record));
        }
        if !ends {
            return Some(if record.posted { Answer::Contradicts } else { Answer::Stored });
        }
        record.posted = true;
        record.builded |= matches!(record.outcome, Some(End::Builded(_)));
        self.records.insert(claim.job, record);
        Some(Answer::Stored)
    }

    /// `false`: a cancel met the BUILDED on its way, and nothing was removed.
    pub fn finish(&mut self, host: Host, claim: Claimed, dead: bool) -> bool {
        let Some(mut record) = self.ours(claim, host) else { return true };
        if !dead && record.cancelled && matches!(record.outcome, Some(End::Builded(_))) {
            return false;
        }
        self.claimed[host].retain(|j| *j != claim.job);
        self.crashes.remove(&claim.job);
        if dead {
            self.dead_letter.push(claim.job);
        }
        let service = self.services[claim.job];
        if self.newest.get(&service) == Some(&(record.seq, claim.job)) {
            let open = record.after.iter().find_map(|other| Some((self.records.get(other).filter(|o| !o.ended)?.seq, *other)));
            match open {
                Some(older) => self.newest.insert(service, older),
                None => self.newest.remove(&service),
            };
        }
        record.ended = true;
        self.records.insert(claim.job, record);
        true
    }

    pub fn give_back(&mut self, host: Host, claim: Claimed) {
        let Some(mut record) = self.ours(claim, host) else { return };
        self.claimed[host].retain(|j| *j != claim.job);
        self.queue.push_front(claim.job);
        record.worker = None;
        self.records.insert(claim.job, record);
    }

    pub fn reap(&mut self, dead: Host) {
        if self.lease(dead).is_some() {
            return;
        }
        while let Some(job) = self.claimed[dead].pop() {
            let Some(record) = self.records.get_mut(&job).filter(|r| r.worker == Some(dead) && !r.ended) else { continue };
            if !self.released[dead] && record.outcome.is_none() {
                *self.crashes.entry(job).or_default() += 1;
            }
            record.worker = None;
            record.hold_until = self.now + HTTP;
            self.taken_over += 1;
            self.queue.push_front(job);
        }
    }

    /// What this worker had claimed before its restart.
    pub fn resume(&mut self, host: Host, nonce: Nonce, orderly: bool) -> Vec<Claimed> {
        let mut found = Vec::new();
        for job in self.claimed[host].clone() {
            let tomb = self.tombs.contains(&job);
            let Some(record) = self.records.get_mut(&job) else { continue };
            if record.resumed != nonce {
                if record.outcome.is_none() {
                    record.attempt += 1;
                    if !orderly {
                        *self.crashes.entry(job).or_default() += 1;
                    }
                }
                (record.worker, record.resumed) = (Some(host), nonce);
                record.cancelled |= tomb;
            }
            found.push(self.described(job));
        }
        found
    }

    pub fn cancel(&mut self, job: Job) {
        match self.records.get_mut(&job) {
            Some(record) if record.ended => {}
            Some(record) => record.cancelled = true,
            None => drop(self.tombs.insert(job)),
        }
    }

    /// What the record says of an attempt that does not simply go on.
    pub fn look(&self, host: Host, claim: Claimed) -> Option<Answer> {
        let Some(record) = self.records.get(&claim.job) else { return Some(Answer::Lost) };
        if !self.is_ours(record, host, claim.attempt, claim.seq) {
            return Some(Answer::Lost);
        }
        match (record.cancelled, record.superseded_by) {
            (true, _) => Some(Answer::Cancelled),
            (false, Some(by)) => Some(Answer::Superseded(by)),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Void {
    Cancelled,
    Superseded(Job),
}

impl Void {
    fn answer(self) -> Answer {
        match self {
            Void::Cancelled => Answer::Cancelled,
            Void::Superseded(by) => Answer::Superseded(by),
        }
    }
}

fn told_before(record: &Record) -> Answer {
    match record.superseded_by.filter(|_| !record.cancelled) {
        Some(by) => Answer::Superseded(by),
        None => Answer::Cancelled,
    }
}

/// What takes the place of what is stored.
fn voided(record: &Record) -> Option<Void> {
    match record.outcome {
        Some(End::Cancelled) => None,
        Some(End::Failed | End::GivenUp) if record.posted => None,
        _ if record.cancelled => Some(Void::Cancelled),
        _ => record.superseded_by.map(Void::Superseded),
    }
}
