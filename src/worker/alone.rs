//! PURE: what becomes of a claim that has to build alone while its host is busy.
//!
//! It goes back to the queue first, and this host claims nothing for a moment: an idle host takes it. Where none does, this host gets it
//! again and keeps it without a slot, while other jobs are claimed and built beside it; from time to time it is offered anew. A host that
//! is never idle by itself claims nothing more once the claim has waited for [`PATIENCE`]: the running builds end, and it begins.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long nothing is claimed after a claim was offered to the other hosts. An idle host is woken by it and takes it within milliseconds.
pub const OFFERED_FOR: Duration = Duration::from_millis(500);
/// From one offer to the next.
const OFFERED_EVERY: Duration = Duration::from_secs(20);
/// After so much waiting it gets this host.
const PATIENCE: Duration = Duration::from_secs(300);
/// The most claims that are kept waiting.
const MOST_KEPT: usize = 8;
/// A claim that was not seen here for so long is another host's.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What is done with such a claim now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes back to the queue.
    Offer,
    /// It stays here, and other jobs are claimed.
    Keep,
    /// It stays here, and nothing is claimed until it has begun.
    Reserve,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    last: Instant,
    offered: Option<Instant>,
}

/// The claims that wait to build alone, by deployment. They are remembered while they are offered.
#[derive(Debug, Default)]
pub struct WaitingAlone {
    seen: HashMap<String, Seen>,
}

impl WaitingAlone {
    /// To be asked for each such claim that cannot begin, each time that something changes.
    pub fn decide(&mut self, deployment: &str, now: Instant) -> Verdict {
        self.seen.retain(|_, seen| now.saturating_duration_since(seen.last) < FORGOTTEN_AFTER);
        let kept = self.seen.len();
        let seen = self.seen.entry(deployment.to_owned()).or_insert(Seen { first: now, last: now, offered: None });
        seen.last = now;
        if now.saturating_duration_since(seen.first) >= PATIENCE || kept > MOST_KEPT {
            return Verdict::Reserve;
        }
        if seen.offered.is_none_or(|offered| now.saturating_duration_since(offered) >= OFFERED_EVERY) {
            seen.offered = Some(now);
            return Verdict::Offer;
        }
        Verdict::Keep
    }

    /// It has begun, or has ended.
    pub fn forget(&mut self, deployment: &str) {
        self.seen.remove(deployment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_claim_is_offered_first_then_kept_and_offered_from_time_to_time() {
        let (mut waiting, start) = (WaitingAlone::default(), Instant::now());
        let mut at = |seconds: u32| waiting.decide("d", start + SECOND * seconds);
        assert_eq!([at(0), at(2), at(19), at(20), at(21)].map(|v| v == Verdict::Offer), [true, false, false, true, false]);
    }

    #[test]
    fn on_a_host_that_is_never_idle_its_wait_is_bounded() {
        let (mut waiting, start) = (WaitingAlone::default(), Instant::now());
        let verdicts: Vec<_> = (0..400).map(|seconds| waiting.decide("d", start + SECOND * seconds)).collect();
        assert!(verdicts[..300].iter().all(|verdict| *verdict != Verdict::Reserve));
        assert!(verdicts[300..].iter().all(|verdict| *verdict == Verdict::Reserve), "and it stays here from then on");
    }

    #[test]
    fn one_that_another_host_has_taken_is_forgotten() {
        let (mut waiting, start) = (WaitingAlone::default(), Instant::now());
        waiting.decide("d", start);
        assert_eq!(waiting.decide("d", start + SECOND * 700), Verdict::Offer);
        waiting.forget("d");
        assert_eq!(waiting.decide("d", start + SECOND * 701), Verdict::Offer);
    }

    #[test]
    fn the_number_of_claims_that_wait_is_bounded() {
        let (mut waiting, now) = (WaitingAlone::default(), Instant::now());
        let last = (0..=MOST_KEPT + 1).map(|n| waiting.decide(&n.to_string(), now)).last();
        assert_eq!(last, Some(Verdict::Reserve));
    }
}
