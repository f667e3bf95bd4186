//! PURE: one circuit for one peer. While it is open one try at a time goes out, by whoever's turn it is, not one per job.

use std::time::{Duration, Instant};

/// So many different ids in a row refused, and none taken between, are the peer's trouble, not the ids'.
const DOUBTS: u32 = 3;

/// The health of one peer. `Default`: closed, it answers.
#[derive(Debug, Default)]
pub struct Circuit {
    open: Option<Open>,
    doubts: u32,
    last_doubted: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    until: Instant,
    /// Failures in a row.
    failures: u32,
    /// The peer itself asked for this wait (`Retry-After`).
    asked: bool,
}

/// What a change of the circuit is worth saying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Opened,
    Closed,
    Same,
}

impl Circuit {
    /// `None`: go. Else nobody tries before that, and then one.
    pub fn shut_until(&self) -> Option<Instant> {
        self.open.map(|o| o.until)
    }

    /// An answer that shows a healthy peer. One to a try that was under way before does not shorten a wait that it asked for.
    pub fn passed(&mut self, probe: bool) -> Change {
        self.doubts = 0;
        self.last_doubted = None;
        if self.open.is_some_and(|open| open.asked && !probe) {
            return Change::Same;
        }
        if self.open.take().is_some() { Change::Closed } else { Change::Same }
    }

    /// No answer, or "later". `wait` is given the number of failures before this one. A failure of a try that was already under
    /// way when the circuit opened does not count again, unless the peer asks for a longer wait (`at_least`).
    pub fn failed(
        &mut self,
        now: Instant,
        probe: bool,
        at_least: Option<Duration>,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Change {
        let failures = match self.open {
            Some(open) if !probe => {
                let until = open.until.max(now + at_least.unwrap_or_default());
                self.open = Some(Open { until, asked: open.asked || at_least.is_some(), ..open });
                return Change::Same;
            }
            Some(open) => open.failures,
            None => 0,
        };
        let until = now + wait(failures).max(at_least.unwrap_or_default());
        let change = if self.open.is_some() { Change::Same } else { Change::Opened };
        self.open = Some(Open { until, failures: failures.saturating_add(1), asked: at_least.is_some() });
        change
    }

    /// A refusal: this id's trouble, or the peer's. `id`: anything that tells ids apart.
    pub fn doubted(&mut self, now: Instant, probe: bool, id: u64, wait: impl FnOnce(u32) -> Duration) -> Change {
        if self.open.is_some() {
            return if probe { self.failed(now, true, None, wait) } else { Change::Same };
        }
        if self.last_doubted.replace(id) != Some(id) {
            self.doubts += 1;
        }
        if self.doubts < DOUBTS { Change::Same } else { self.failed(now, probe, None, wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_opens_at_the_first_failure_and_waits_longer_with_each_probe_that_fails() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        assert_eq!(circuit.shut_until(), None);
        assert_eq!(circuit.failed(now, false, None, |n| SECOND * (n + 1)), Change::Opened);
        assert_eq!(circuit.shut_until(), Some(now + SECOND));
        assert_eq!(circuit.failed(now, true, None, |n| SECOND * (n + 1)), Change::Same);
        assert_eq!(circuit.shut_until(), Some(now + SECOND * 2));
        assert_eq!(circuit.passed(true), Change::Closed);
        assert_eq!(circuit.shut_until(), None);
    }

    #[test]
    fn posts_that_were_under_way_when_it_opened_do_not_lengthen_the_wait_but_a_retry_after_does() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        circuit.failed(now, false, None, |_| SECOND);
        circuit.failed(now, false, None, |_| SECOND * 100);
        assert_eq!(circuit.shut_until(), Some(now + SECOND));
        circuit.failed(now, false, Some(SECOND * 9), |_| SECOND);
        assert_eq!(circuit.shut_until(), Some(now + SECOND * 9));
        assert_eq!(circuit.passed(false), Change::Same);
        assert_eq!(circuit.passed(true), Change::Closed);
    }

    #[test]
    fn one_unknown_id_never_opens_it_three_in_a_row_do() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(circuit.doubted(now, false, 1, |_| SECOND), Change::Same);
        }
        circuit.doubted(now, false, 2, |_| SECOND);
        circuit.passed(false);
        for id in [1, 2] {
            assert_eq!(circuit.doubted(now, false, id, |_| SECOND), Change::Same);
        }
        assert_eq!(circuit.doubted(now, false, 3, |_| SECOND), Change::Opened);
    }
}
