//! PURE: which jobs are known to wait behind the one that is claimed next.
//!
//! Reading the next 64 elements with each claim would cost more than the claim itself; so a window of twice that is read, and
//! read again when it is used up, or when the queue is not what it was. A newer job that it names is looked up in Redis before
//! anything is decided by it: an outdated window misses a job, it never invents one.

use std::collections::VecDeque;

/// How far behind a claimed job a newer one of its service is looked for.
const LOOK_AHEAD: usize = 64;
/// How many elements are read at once.
pub(super) const READ: usize = 2 * LOOK_AHEAD;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Id and service of the waiting elements, in order; both "" for what is no job.
    waiting: VecDeque<(String, String)>,
    /// The window ends with the queue: what was pushed since is not in it.
    whole: bool,
}

/// What the window says of a claimed job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The window does not show what waits behind this job: read it again.
    Unknown,
    Nothing,
    /// A later job of the same service, nearest first, as far as the window knows.
    Newer(Vec<String>),
}

impl Window {
    /// As read from Redis just now.
    pub(super) fn new(waiting: VecDeque<(String, String)>, whole: bool) -> Self {
        Self { waiting, whole }
    }
    /// `id` was claimed and is not in the queue any more; `behind` elements are.
    pub(super) fn claimed(&mut self, id: &str, service: &str, behind: usize) -> Seen {
        // Other workers may have taken some in between.
        match self.waiting.iter().position(|(waits, _)| waits == id) {
            Some(at) => drop(self.waiting.drain(..=at)),
            None => self.waiting.clear(),
        }
        let known = if self.whole { self.waiting.len() == behind } else { self.waiting.len() >= LOOK_AHEAD };
        if !known {
            self.waiting.clear();
            return if behind == 0 { Seen::Nothing } else { Seen::Unknown };
        }
        self.behind(id, service)
    }
    /// The same for a window that was read after `id` was claimed.
    pub(super) fn behind(&self, id: &str, service: &str) -> Seen {
        let next = self.waiting.iter().take(LOOK_AHEAD);
        let newer: Vec<String> = next
            .filter(|(other, its)| its == service && other != id && !other.is_empty())
            .map(|(other, _)| other.clone())
            .collect();
        if newer.is_empty() { Seen::Nothing } else { Seen::Newer(newer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(jobs: &[(&str, &str)], whole: bool) -> Window {
        Window::new(jobs.iter().map(|(i, s)| ((*i).to_owned(), (*s).to_owned())).collect(), whole)
    }
    fn many(n: usize) -> Window {
        Window::new((0..n).map(|i| (format!("d{i}"), format!("s{i}"))).collect(), false)
    }

    #[test]
    fn a_newer_job_of_the_service_is_seen_among_the_next_64_only() {
        let mut near = many(READ);
        near.waiting[64].1 = "s0".into();
        assert_eq!(near.claimed("d0", "s0", 500), Seen::Newer(vec!["d64".into()]));
        let mut far = many(READ);
        far.waiting[65].1 = "s0".into();
        assert_eq!(far.claimed("d0", "s0", 500), Seen::Nothing);
    }

    #[test]
    fn a_window_serves_until_fewer_than_64_are_left() {
        let mut window = many(READ);
        for n in 0..64 {
            assert_eq!(window.claimed(&format!("d{n}"), "x", 500), Seen::Nothing, "{n}");
        }
        assert_eq!(window.claimed("d64", "x", 500), Seen::Unknown);
    }

    #[test]
    fn a_job_that_other_workers_left_over_is_found_further_back() {
        assert_eq!(many(READ).claimed("d30", "x", 500), Seen::Nothing);
    }

    #[test]
    fn a_job_pushed_behind_a_short_queue_makes_the_window_unknown() {
        let jobs = [("a", "s1"), ("b", "s2")];
        assert_eq!(window(&jobs, true).claimed("a", "s1", 1), Seen::Nothing);
        assert_eq!(window(&jobs, true).claimed("a", "s1", 2), Seen::Unknown);
        assert_eq!(window(&jobs, true).claimed("pushed in front", "s1", 2), Seen::Unknown);
    }

    #[test]
    fn an_empty_queue_needs_no_look() {
        assert_eq!(Window::default().claimed("a", "s", 0), Seen::Nothing);
    }

    #[test]
    fn the_same_deployment_again_supersedes_nothing() {
        assert_eq!(window(&[("a", "s")], true).behind("a", "s"), Seen::Nothing);
    }
}
