//! PURE: whether and when a stage is tried again after a failure.

use std::time::Duration;

use crate::peer::blames_a_peer;
use crate::protocol::{Blame, Code, Evidence, Failure};

/// How often and how long stages are tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries of one stage when the peer answered with an error, the first included.
    pub limit: u32,
    /// How long a stage keeps trying while a part of the operator's cannot be reached at all, from the first failure on.
    pub window: Duration,
}

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

impl RetryPolicy {
    /// The longest time to wait before the next try, `None` when there is none. `tries` were made, the first `since` ago.
    /// The caller waits a random part of it (full jitter), so that many jobs do not come back at one moment.
    pub fn next(&self, failure: &Failure, tries: u32, since: Duration) -> Option<Duration> {
        let again = match failure.code {
            // A refusal stays a refusal; the registry stage has renewed its token already.
            Code::RegistryDenied => false,
            // Somebody has to change a setting first.
            Code::RegistrySettings => false,
            Code::WorkerInternal => false,
            // A host that a job names may be down for good: it has no window, whoever waits for it.
            code if away(code)
                && failure.blame == Blame::Operator
                && failure.evidence != Evidence::Hearsay
                && since < self.window =>
            {
                true
            }
            _ => failure.is_retryable() && tries < self.limit,
        };
        again.then(|| longest_wait(tries.saturating_sub(1)))
    }
}

impl RetryPolicy {
    /// How long a job waits for a peer that does not answer before it tries by itself, from its first failure on.
    pub fn patience(&self) -> Duration {
        self.window.max(LONGEST_WAIT)
    }
}

/// The longest time to wait after so many failures before this one: of one job, or of all that asked a peer.
pub fn longest_wait(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.min(16)).min(LONGEST_WAIT)
}

/// The peer was not there at all: it comes back in its own time. (A registry whose push stalled too: the Engine holds on to the dead
/// connection until the registry lets go of it, and a later push then goes on.)
fn away(code: Code) -> bool {
    blames_a_peer(code) || code == Code::BuildPullUnreachable
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy { limit: 4, window: Duration::from_secs(900) };

    fn wait(code: Code, tries: u32, since: u64) -> Option<Duration> {
        POLICY.next(&Failure::new(code, "", ""), tries, Duration::from_secs(since))
    }

    #[test]
    fn what_the_user_did_wrong_is_never_tried_again() {
        for &code in Code::ALL.iter().filter(|c| c.kind() != crate::protocol::FailureKind::Infrastructure) {
            assert_eq!(wait(code, 1, 0), None, "{code}");
        }
    }

    #[test]
    fn a_peer_that_answers_with_errors_is_given_a_bounded_number_of_tries() {
        assert!(wait(Code::EngineError, 3, 5).is_some());
        assert_eq!(wait(Code::EngineError, 4, 5), None);
    }

    #[test]
    fn a_peer_that_is_away_is_waited_for_by_time_not_by_number() {
        assert!(wait(Code::RegistryUnreachable, 40, 600).is_some());
        assert!(wait(Code::GitStalled, 20, 600).is_some(), "a server that hangs is as far away as one that refuses");
        assert_eq!(wait(Code::RegistryUnreachable, 40, 901), None);
        assert!(wait(Code::RegistryStalled, 9, 600).is_some());
    }

    #[test]
    fn a_host_that_the_job_names_has_a_bounded_number_of_tries() {
        let again = |code, tries| {
            let failure = Failure { blame: Blame::Job, ..Failure::new(code, "", "") };
            POLICY.next(&failure, tries, Duration::ZERO).is_some()
        };
        for code in [Code::GitUnreachable, Code::GitStalled, Code::BuildPullUnreachable] {
            assert_eq!([again(code, 3), again(code, 4)], [true, false], "{code}");
        }
    }

    #[test]
    fn what_only_words_say_of_a_peer_has_a_bounded_number_of_tries() {
        let heard = |tries| {
            let failure = Failure::new(Code::EngineLost, "", "").by(Evidence::Hearsay);
            POLICY.next(&failure, tries, Duration::ZERO).is_some()
        };
        assert_eq!([heard(3), heard(4)], [true, false]);
    }

    #[test]
    fn without_a_window_a_peer_that_is_away_has_a_bounded_number_of_tries() {
        let policy = RetryPolicy { window: Duration::ZERO, ..POLICY };
        let again = |tries| policy.next(&Failure::new(Code::GitUnreachable, "", ""), tries, Duration::ZERO).is_some();
        assert_eq!([again(1), again(3), again(4)], [true, true, false]);
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        let waits: Vec<_> = (1..60).map(|n| wait(Code::GitUnreachable, n, 0).unwrap()).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(waits[0], FIRST_WAIT);
        assert_eq!(*waits.last().unwrap(), LONGEST_WAIT);
    }
}
