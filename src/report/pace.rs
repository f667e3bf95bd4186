//! PURE: how patient the reporter is, and how long it waits between tries.

use std::time::Duration;

use crate::peer::RETRY_AFTER_MAX;

/// The reporter's patience. `Default` is what the daemon runs with.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Wait after the first failure, and the most a wait grows to; each wait is a random part of it (full jitter).
    pub base: Duration,
    pub cap: Duration,
    /// First wait after 401 or 403: nothing gets better by itself there.
    pub denied_base: Duration,
    /// The most that a `Retry-After` is honoured for.
    pub retry_after_max: Duration,
    /// The most between two tries while 404 or 500 is all that anybody gets. Shorter than `cap`: an id that is unknown for good
    /// must not make the others wait.
    pub doubt_cap: Duration,
    /// A 404 is believed when it went on for so long while other ids passed.
    pub refuse_after: Duration,
    /// A refusal of a status or an end is believed when it went on for so long while statuses of other deployments were taken.
    pub refuse_beside_after: Duration,
    /// The same where no other deployment posts at all, so that a test post is all that shows that the dashboard is well.
    pub refuse_alone_after: Duration,
    /// How long the fence may take to answer.
    pub fence_timeout: Duration,
    /// The one try of PENDING.
    pub give_back: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(250),
            cap: Duration::from_secs(30),
            denied_base: Duration::from_secs(5),
            retry_after_max: RETRY_AFTER_MAX,
            doubt_cap: Duration::from_secs(5),
            refuse_after: Duration::from_secs(5 * 60),
            refuse_beside_after: Duration::from_secs(3 * 60),
            refuse_alone_after: Duration::from_secs(15 * 60),
            fence_timeout: Duration::from_secs(3),
            give_back: Duration::from_secs(1),
        }
    }
}

/// Exponential with full jitter: a random part of `base · 2^tries`, at most of `cap`. `random`: any number.
pub fn jittered(base: Duration, cap: Duration, tries: u32, random: u64) -> Duration {
    let most = base.saturating_mul(2u32.saturating_pow(tries)).min(cap);
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(((u128::from(nanos) * u128::from(random)) >> 64) as u64)
}

/// A random number, for jitter and for names that must differ.
pub fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Each `RandomState` has keys of its own, seeded by the operating system.
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_is_never_above_the_cap(tries in any::<u32>(), random in any::<u64>()) {
            let pace = Pace::default();
            prop_assert!(jittered(pace.base, pace.cap, tries, random) <= pace.cap);
        }
    }

    #[test]
    fn waits_double_until_the_cap_and_cover_their_whole_range() {
        let pace = Pace::default();
        let most = |tries| jittered(pace.base, pace.cap, tries, u64::MAX).as_millis() + 1;
        assert_eq!([most(0), most(1), most(2), most(7), most(40)], [250, 500, 1000, 30_000, 30_000]);
        assert_eq!(jittered(pace.base, pace.cap, 9, 0), Duration::ZERO);
    }
}
