//! PURE: whether and when a stage is tried again after a failure.

use std::time::Duration;

use crate::protocol::{Code, Failure};

/// How often and how long stages are tried again.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Tries of one stage when the peer answered with an error, the first included.
    pub limit: u32,
    /// How long a stage keeps trying while its peer cannot be reached at all, from the first failure on.
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
            // A second push of a layer hangs on the dead connection of the first: only an Engine restart helps.
            Code::RegistryStalled => false,
            Code::WorkerInternal => false,
            code if away(code) => since < self.window,
            _ => failure.is_retryable() && tries < self.limit,
        };
        let doubled = FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(16));
        again.then(|| doubled.min(LONGEST_WAIT))
    }
}

/// The peer was not there at all: it comes back in its own time.
fn away(code: Code) -> bool {
    matches!(
        code,
        Code::GitUnreachable
            | Code::GitStalled
            | Code::EngineUnreachable
            | Code::EngineLost
            | Code::RegistryUnreachable
            | Code::BuildPullUnreachable
    )
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
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        let waits: Vec<_> = (1..60).map(|n| wait(Code::GitUnreachable, n, 0).unwrap()).collect();
        assert!(waits.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(waits[0], FIRST_WAIT);
        assert_eq!(*waits.last().unwrap(), LONGEST_WAIT);
    }
}
