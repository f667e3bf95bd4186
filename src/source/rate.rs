//! PURE: whether a server sends fast enough. Only time spent waiting for it counts, not the time in which we work on what it sent.

use std::time::Duration;

/// The span over which the rate is judged.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// A server that counts and compresses a large repository sends little more than signs of life: until the pack itself begins it has so long.
pub(super) const PREPARING: Duration = Duration::from_secs(600);

/// Watches one transfer.
#[derive(Debug)]
pub(super) struct RateWatch {
    min_rate: u64,
    waited: Duration,
    bytes: u64,
    preparing: Duration,
}

/// What the watch says after a piece has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Good,
    TooSlow,
}

impl RateWatch {
    /// `min_rate`: bytes a second, the mean over [`WINDOW`].
    pub(super) fn new(min_rate: u64) -> Self {
        Self { min_rate, waited: Duration::ZERO, bytes: 0, preparing: Duration::ZERO }
    }

    /// `bytes` arrived after `waited`. `preparing`: the pack has been asked for and has not begun.
    pub(super) fn arrived(&mut self, bytes: u64, waited: Duration, preparing: bool) -> Pace {
        if preparing {
            self.preparing += waited;
            return if self.preparing > PREPARING { Pace::TooSlow } else { Pace::Good };
        }
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < WINDOW {
            return Pace::Good;
        }
        let needed = u128::from(self.min_rate) * self.waited.as_millis() / 1000;
        let pace = if u128::from(self.bytes) < needed { Pace::TooSlow } else { Pace::Good };
        self.waited = Duration::ZERO;
        self.bytes = 0;
        pace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds until the watch says "too slow", up to `limit`.
    fn seconds_until_too_slow(bytes_each: u64, preparing: bool, limit: u32) -> Option<u32> {
        let mut watch = RateWatch::new(1024);
        (1..=limit).find(|_| watch.arrived(bytes_each, SECOND, preparing) == Pace::TooSlow)
    }

    #[test]
    fn one_byte_a_second_ends_after_a_minute() {
        assert_eq!(seconds_until_too_slow(1, false, 1000), Some(60));
    }
    #[test]
    fn the_minimum_rate_is_fast_enough() {
        assert_eq!(seconds_until_too_slow(1024, false, 1000), None);
        assert_eq!(seconds_until_too_slow(1023, false, 1000), Some(60));
    }
    #[test]
    fn a_server_that_prepares_a_pack_has_ten_minutes() {
        assert_eq!(seconds_until_too_slow(5, true, 599), None);
        assert_eq!(seconds_until_too_slow(5, true, 1000), Some(601));
    }
    #[test]
    fn a_fast_first_minute_does_not_pay_for_a_slow_second_one() {
        let mut watch = RateWatch::new(1024);
        assert_eq!(watch.arrived(1 << 30, WINDOW, false), Pace::Good);
        assert_eq!(watch.arrived(1, WINDOW, false), Pace::TooSlow);
    }
    #[test]
    fn time_that_we_spend_ourselves_is_not_the_servers_fault() {
        let mut watch = RateWatch::new(1024);
        for _ in 0..1000 {
            assert_eq!(watch.arrived(1, Duration::ZERO, false), Pace::Good);
        }
    }
}
