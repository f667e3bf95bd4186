//! How the hosts that jobs name have done lately: a job that asks one waits the less for it with a slot in its hands.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long what a host did last stands for what it does.
const LATELY: Duration = Duration::from_secs(600);
/// Above so many all are forgotten.
const MOST_HOSTS: usize = 10_000;

/// What is known of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has answered the last job that asked it.
    Answers,
    /// Nobody has asked it lately.
    Unknown,
    /// It has failed the last job that asked it.
    Fails,
}

/// The hosts that jobs have asked, `host` or `host:port`.
#[derive(Debug, Default)]
pub struct KnownHosts(Mutex<HashMap<String, (Standing, Instant)>>);

impl KnownHosts {
    pub fn standing(&self, host: &str, now: Instant) -> Standing {
        match self.hosts().get(host) {
            Some((standing, since)) if now.saturating_duration_since(*since) < LATELY => *standing,
            _ => Standing::Unknown,
        }
    }

    pub fn note(&self, host: &str, standing: Standing, now: Instant) {
        let mut hosts = self.hosts();
        if hosts.len() >= MOST_HOSTS {
            hosts.clear();
        }
        hosts.insert(host.to_owned(), (standing, now));
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<String, (Standing, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_did_last_counts_and_not_for_ever() {
        let (hosts, now) = (KnownHosts::default(), Instant::now());
        assert_eq!(hosts.standing("git.example", now), Standing::Unknown);
        for standing in [Standing::Answers, Standing::Fails, Standing::Answers] {
            hosts.note("git.example", standing, now);
            assert_eq!(hosts.standing("git.example", now), standing);
        }
        assert_eq!(hosts.standing("git.example:8443", now), Standing::Unknown, "another port is another server");
        assert_eq!(hosts.standing("git.example", now + LATELY), Standing::Unknown);
    }

    #[test]
    fn the_number_of_hosts_is_bounded() {
        let (hosts, now) = (KnownHosts::default(), Instant::now());
        (0..MOST_HOSTS * 2 + 1).for_each(|n| hosts.note(&n.to_string(), Standing::Answers, now));
        assert!(hosts.hosts().len() <= MOST_HOSTS);
    }
}
