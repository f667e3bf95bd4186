//! PURE: log lines of one kind that come in floods: the first ones are written, the rest is counted, and nothing is left out of the sum.

use std::time::Duration;

/// Lines of one kind that are written one by one within [`SPAN`].
const ONE_BY_ONE: u32 = 10;
/// The time between two sums.
const SPAN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Tally {
    began: Duration,
    written: u32,
    held: u64,
    total: u64,
}

/// What was not written one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) held: u64,
    /// Since the start, those included that were written.
    pub(super) total: u64,
}

impl Tally {
    /// Counts one at `now`. `true`: write it.
    pub(super) fn count(&mut self, now: Duration) -> bool {
        self.total += 1;
        if self.held == 0 && now.saturating_sub(self.began) >= SPAN {
            (self.began, self.written) = (now, 0);
        }
        if self.written < ONE_BY_ONE {
            self.written += 1;
            return true;
        }
        self.held += 1;
        false
    }
    /// What was held back, once its time is over.
    pub(super) fn due(&mut self, now: Duration) -> Option<Sum> {
        if self.held == 0 || now.saturating_sub(self.began) < SPAN {
            return None;
        }
        let sum = Sum { held: std::mem::take(&mut self.held), total: self.total };
        // In a flood that goes on a sum is all that is written.
        self.began = now;
        Some(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_the_first_lines_and_one_sum_a_minute_are_written_and_none_is_uncounted() {
        let (mut tally, mut lines, mut counted) = (Tally::default(), 0, 0);
        for n in 0..200_000u64 {
            // Ten minutes of it.
            let now = Duration::from_millis(100_000 + 3 * n);
            if tally.count(now) {
                (lines, counted) = (lines + 1, counted + 1);
            }
            if let Some(sum) = tally.due(now) {
                (lines, counted) = (lines + 1, counted + sum.held);
            }
        }
        let last = tally.due(Duration::from_secs(10_000)).expect("the rest of it");
        assert_eq!((counted + last.held, last.total), (200_000, 200_000));
        assert!(lines <= 10 + 10, "{lines} lines");
        assert!(tally.count(Duration::from_secs(20_000)), "when it is calm each is written again");
    }

    #[test]
    fn a_few_are_written_one_by_one_and_have_no_sum() {
        let mut tally = Tally::default();
        for n in 0..100 {
            let now = Duration::from_secs(1000 + 10 * n);
            assert!(tally.count(now) && tally.due(now).is_none(), "{n}");
        }
    }
}
