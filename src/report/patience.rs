//! PURE: when a 404 is believed. The dashboard says it for an unknown id, and for every id while its database is down.

use std::time::{Duration, Instant};

/// So many times this id must have been unknown with another id taken since the time before.
const WITNESSED: u32 = 3;

/// One deployment's 404s in a row.
#[derive(Debug, Default)]
pub struct Patience {
    row: Option<Row>,
}

#[derive(Debug)]
struct Row {
    /// Posts that the dashboard had taken, of any id, at the last 404.
    taken: u64,
    witnessed: u32,
    /// Since when other ids pass while this one does not.
    since: Option<Instant>,
}

impl Patience {
    /// Another 404. `taken`: posts that the dashboard took so far, of any id (none of them of this one since its first 404).
    /// `true`: believe it.
    pub fn unknown(&mut self, now: Instant, taken: u64, refuse_after: Duration) -> bool {
        let Some(row) = &mut self.row else {
            self.row = Some(Row { taken, witnessed: 0, since: None });
            return false;
        };
        if taken > row.taken {
            row.taken = taken;
            row.witnessed += 1;
            row.since.get_or_insert(now);
        }
        row.witnessed >= WITNESSED && row.since.is_some_and(|since| now.duration_since(since) >= refuse_after)
    }

    /// Any other answer: the dashboard knows the id, or something else is wrong.
    pub fn over(&mut self) {
        self.row = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_404_is_never_believed_while_nobody_else_passes() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        assert!((0..1000).all(|n| !patience.unknown(now + MINUTE * n, 7, MINUTE * 5)));
    }

    #[test]
    fn it_is_believed_after_five_minutes_of_it_while_others_pass_not_before() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        let at = |patience: &mut Patience, minute| patience.unknown(now + MINUTE * minute, u64::from(minute), MINUTE * 5);
        assert!((0..6).all(|m| !at(&mut patience, m)));
        assert!(at(&mut patience, 6));
    }

    #[test]
    fn the_first_minutes_after_an_outage_do_not_count_for_it() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        for minute in 0..10 {
            assert!(!patience.unknown(now + MINUTE * minute, 0, MINUTE * 5));
        }
        assert!(!patience.unknown(now + MINUTE * 10, 50, MINUTE * 5));
        assert!(!patience.unknown(now + MINUTE * 11, 60, MINUTE * 5));
        patience.over();
        assert!(!patience.unknown(now + MINUTE * 20, 90, MINUTE * 5));
    }
}
