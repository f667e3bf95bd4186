//! The attempts that this process has, in memory: what is looked after at each renewal, and written again into an empty Redis.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::attempt::{Claim, ClaimFate};
use crate::protocol::{DeploymentId, Outcome};

/// Lost elements that are remembered; a worker never has so many attempts.
const LOST_KEPT: usize = 2000;

/// One attempt that goes on.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) claim: Claim,
    /// The end that was stored last.
    pub(super) outcome: Option<Outcome>,
    /// The caller was told, or said itself, that the end is CANCELLED.
    pub(super) knows_cancelled: bool,
    /// The notice that was delivered last, so that each is delivered once.
    noticed: Option<Word>,
}

/// What a record says about an attempt that does not simply go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Cancelled,
    Superseded,
}

#[derive(Debug, Default)]
pub(super) struct Live {
    attempts: Mutex<HashMap<DeploymentId, Attempt>>,
    /// Elements that name no job: they have no record, and nobody is told of them. Equal ones are interchangeable.
    nameless: Mutex<HashMap<Element, usize>>,
    /// The elements of attempts that were lost, by their sha1: a crash may have been counted against this process for each.
    lost: Mutex<Vec<String>>,
}

/// Length of an element and a checksum of what was read of it.
type Element = (u64, u32);

fn element(claim: &Claim) -> Element {
    (claim.size(), crc32fast::hash(&claim.payload))
}

impl Live {
    fn map(&self) -> MutexGuard<'_, HashMap<DeploymentId, Attempt>> {
        // Nothing panics with the lock held, and a map is whole between two calls.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn nameless(&self) -> MutexGuard<'_, HashMap<Element, usize>> {
        self.nameless.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn lost(&self) -> MutexGuard<'_, Vec<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn begin(&self, claim: &Claim) {
        let Some(id) = &claim.deployment else {
            *self.nameless().entry(element(claim)).or_default() += 1;
            return;
        };
        let outcome = match &claim.fate {
            ClaimFate::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        };
        let knows_cancelled = matches!(outcome, Some(Outcome::Cancelled { .. }));
        let noticed = match claim.fate {
            ClaimFate::Cancelled => Some(Word::Cancelled),
            ClaimFate::Superseded { .. } => Some(Word::Superseded),
            _ => None,
        };
        self.map().insert(id.clone(), Attempt { claim: claim.clone(), outcome, knows_cancelled, noticed });
    }
    /// Forgets this attempt, not a later one of the same deployment.
    pub(super) fn end(&self, claim: &Claim) {
        let Some(id) = &claim.deployment else {
            if let Entry::Occupied(mut held) = self.nameless().entry(element(claim)) {
                *held.get_mut() -= 1;
                if *held.get() == 0 {
                    held.remove();
                }
            }
            return;
        };
        let mut map = self.map();
        if map.get(id).is_some_and(|a| is_same(a, claim)) {
            map.remove(id);
        }
    }
    /// Forgets an attempt that is another worker's by now.
    pub(super) fn lose(&self, claim: &Claim) {
        if self.get(claim).is_none() {
            return;
        }
        self.end(claim);
        let sha = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &claim.payload);
        let mut lost = self.lost();
        if lost.len() < LOST_KEPT {
            lost.push(hex::encode(sha));
        }
    }
    /// One of the elements that were lost and not [`Self::settle`]d yet.
    pub(super) fn next_lost(&self) -> Option<String> {
        self.lost().last().cloned()
    }
    pub(super) fn settle(&self, sha: &str) {
        self.lost().retain(|other| other != sha);
    }
    pub(super) fn get(&self, claim: &Claim) -> Option<Attempt> {
        let id = claim.deployment.as_ref()?;
        self.map().get(id).filter(|a| is_same(a, claim)).cloned()
    }
    pub(super) fn update(&self, claim: &Claim, change: impl FnOnce(&mut Attempt)) {
        let Some(id) = &claim.deployment else { return };
        if let Some(attempt) = self.map().get_mut(id).filter(|a| is_same(a, claim)) {
            change(attempt);
        }
    }
    /// How many elements it has in hand.
    pub(super) fn len(&self) -> usize {
        self.map().len() + self.nameless().values().sum::<usize>()
    }
    /// Of the elements of this worker's list that name no job, those that are not in hand.
    pub(super) fn unknown_nameless<'a>(&self, claims: impl Iterator<Item = &'a Claim>) -> Vec<&'a Claim> {
        let mut held = self.nameless().clone();
        let is_unknown = |claim: &&Claim| match held.get_mut(&element(claim)) {
            Some(n @ 1..) => {
                *n -= 1;
                false
            }
            _ => true,
        };
        claims.filter(|c| c.deployment.is_none()).filter(is_unknown).collect()
    }
    pub(super) fn ids(&self) -> HashSet<String> {
        self.map().keys().map(|id| id.as_str().to_owned()).collect()
    }
    pub(super) fn all(&self) -> Vec<Attempt> {
        self.map().values().cloned().collect()
    }
    /// Notes that the owner hears of `word` if `deliver` succeeds, and has not heard of it before.
    pub(super) fn notice(&self, claim: &Claim, word: Word, deliver: impl FnOnce() -> bool) {
        self.update(claim, |attempt| {
            // A cancel comes after a supersede as news; not the other way round: CANCELLED it is already.
            let news = attempt.noticed.is_none() || (attempt.noticed == Some(Word::Superseded) && word == Word::Cancelled);
            if news && deliver() {
                attempt.noticed = Some(word);
            }
        });
    }
}

fn is_same(attempt: &Attempt, claim: &Claim) -> bool {
    attempt.claim.attempt == claim.attempt && attempt.claim.seq == claim.seq
}
