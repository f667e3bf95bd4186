//! Whether this host can build at all. One that fails by its own fault would otherwise take job after job and fail each in a moment.
//!
//! ```text
//! Working ──so many failures of its own in a row, of any jobs──▶ Failing: nothing is claimed
//!    ▲                                                             │ a step of our own, at growing intervals
//!    └──────────────────────── it runs ────────────────────────────┘
//! ```
//! [`Health`] (PURE) decides; [`HostHealth`] is shared by all jobs, the supervisor and the probe.

use std::time::Duration;

use tokio::sync::watch;

use super::tries::full_jitter;
use crate::image::SharedProbe;
use crate::protocol::{Code, Evidence, Failure};

/// So many failures of the host's own with no success between, and it is not one job's bad luck.
const IN_A_ROW: u32 = 3;
/// How often a job goes back to the queue because a host failed it: what fails that often on every host fails by itself.
pub const MAX_REQUEUES: u32 = 3;
const FIRST_PROBE: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The Engine answers and does not do its work: no job is to blame, and another host may do better. Hearsay is a job's own: its words, or
/// those of a server that it names, read like the Engine's, and a step of the worker's own ran all the same.
pub fn is_own_fault(failure: &Failure) -> bool {
    failure.code == Code::EngineError && failure.evidence == Evidence::Seen
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Working { failures: u32 },
    Failing { why: String, probes: u32 },
}

/// PURE: the state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    state: State,
    /// How often it began to fail since a build last succeeded: a probe that passes where builds do not makes the waits grow all the same.
    falls: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: State::Working { failures: 0 }, falls: 0 }
    }
}

impl Health {
    fn build_succeeded(&mut self) {
        // What had begun before may still succeed, from the cache alone: only the probe tells that steps run again.
        if let State::Working { failures } = &mut self.state {
            (*failures, self.falls) = (0, 0);
        }
    }

    fn build_failed(&mut self, failure: &Failure) {
        let State::Working { failures } = &mut self.state else { return };
        *failures += 1;
        if *failures >= IN_A_ROW {
            self.state = State::Failing { why: no_job_is_claimed(failure), probes: 0 };
            self.falls += 1;
        }
    }

    fn probed(&mut self, runs: bool) {
        let State::Failing { probes, .. } = &mut self.state else { return };
        if runs {
            self.state = State::Working { failures: 0 };
        } else {
            *probes += 1;
        }
    }

    fn is_failing(&self) -> bool {
        matches!(self.state, State::Failing { .. })
    }

    /// The longest time until the next probe. `None`: there is nothing to find out.
    fn next_probe(&self) -> Option<Duration> {
        let State::Failing { probes, .. } = self.state else { return None };
        let steps = probes.saturating_add(self.falls.saturating_sub(1)).min(16);
        Some(FIRST_PROBE.saturating_mul(1 << steps).min(LONGEST_WAIT))
    }
}

fn no_job_is_claimed(failure: &Failure) -> String {
    format!(
        "No job is claimed: this host's Docker Engine fails one build after another. {failure} A step of the worker's own tries it from time to time; jobs are claimed again as soon as that runs."
    )
}

/// What all jobs of this worker find out about their host.
pub struct HostHealth {
    told: watch::Sender<Health>,
    /// A step of the worker's own.
    probe: SharedProbe,
}

impl HostHealth {
    pub fn new(probe: SharedProbe) -> Self {
        Self { told: watch::Sender::new(Health::default()), probe }
    }

    pub fn build_succeeded(&self) {
        self.told.send_if_modified(|health| {
            let before = health.clone();
            health.build_succeeded();
            *health != before
        });
    }

    /// Whether a step of the worker's own runs on this host. Asked of each failure that reads like the Engine's.
    pub async fn runs_a_step(&self) -> bool {
        self.probe.recent().await.is_ok()
    }

    /// `true`: nothing more is to be tried on this host now.
    pub fn build_failed(&self, failure: &Failure) -> bool {
        if !is_own_fault(failure) {
            return false;
        }
        self.told.send_modify(|health| health.build_failed(failure));
        self.told.borrow().is_failing()
    }

    /// `Err`: why no job is claimed, and the cure.
    pub fn may_claim(&self) -> Result<(), String> {
        match &self.told.borrow().state {
            State::Working { .. } => Ok(()),
            State::Failing { why, .. } => Err(why.clone()),
        }
    }

    /// To be told of each change.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.told.subscribe()
    }

    /// Tries the host while it fails, for ever.
    pub async fn keep_probing(&self) {
        let mut told = self.told.subscribe();
        loop {
            // No error: the sender is ours.
            drop(told.wait_for(Health::is_failing).await);
            while let Some(longest) = self.next_probe() {
                tokio::time::sleep(full_jitter(longest)).await;
                let result = self.probe.anew().await;
                match &result {
                    Ok(_) => tracing::info!("a step of the worker's own ran: this host's Docker Engine works again"),
                    Err(failure) => tracing::debug!(%failure, "a step of the worker's own did not run"),
                }
                self.told.send_modify(|health| health.probed(result.is_ok()));
            }
        }
    }

    fn next_probe(&self) -> Option<Duration> {
        self.told.borrow().next_probe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BuildConfig, BuildNetwork};

    fn host() -> HostHealth {
        HostHealth::new(SharedProbe::new(BuildConfig {
            engine_socket: "/run/docker.sock".into(),
            platform: "linux/amd64".into(),
            network: BuildNetwork::Default,
            cache_max_bytes: 0,
            context_max_bytes: 0,
            image_max_bytes: 0,
            pull_registries: Vec::new(),
        }))
    }

    fn own_fault() -> Failure {
        Failure::new(Code::EngineError, "The Docker Engine could not start RUN x: no bridge", "Restart the Engine.")
    }

    fn failing() -> Health {
        let mut health = Health::default();
        (0..IN_A_ROW).for_each(|_| health.build_failed(&own_fault()));
        health
    }

    #[test]
    fn only_failures_in_a_row_stop_a_host() {
        let mut health = Health::default();
        for _ in 0..10 {
            (1..IN_A_ROW).for_each(|_| health.build_failed(&own_fault()));
            health.build_succeeded();
        }
        assert!(!health.is_failing());
        assert!(failing().is_failing());
    }

    #[test]
    fn what_users_and_other_parts_do_wrong_says_nothing_of_the_host() {
        let health = host();
        for &code in Code::ALL.iter().filter(|&&code| code != Code::EngineError) {
            assert!((0..2 * IN_A_ROW).all(|_| !health.build_failed(&Failure::new(code, "", ""))), "{code}");
        }
        assert_eq!(health.may_claim(), Ok(()));
    }

    #[test]
    fn a_failing_host_says_why_with_the_cure_and_comes_back_by_a_probe_alone() {
        let health = host();
        let stops: Vec<bool> = (0..IN_A_ROW).map(|_| health.build_failed(&own_fault())).collect();
        assert_eq!(stops, [false, false, true]);
        let why = health.may_claim().expect_err("it stops");
        assert!(why.contains("no bridge [engine.error] Restart the Engine."), "{why}");
        health.build_succeeded();
        assert!(health.may_claim().is_err(), "a build that was under way proves nothing");
        health.told.send_modify(|health| health.probed(false));
        assert!(health.may_claim().is_err());
        health.told.send_modify(|health| health.probed(true));
        assert_eq!(health.may_claim(), Ok(()));
    }

    #[test]
    fn probes_become_rarer_and_stay_bounded_also_where_they_pass_and_builds_do_not() {
        let mut health = failing();
        let mut waits = Vec::new();
        for _ in 0..40 {
            waits.push(health.next_probe().expect("it fails"));
            health.probed(false);
        }
        assert_eq!(waits[0], FIRST_PROBE);
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]) && waits[39] == LONGEST_WAIT);

        let mut health = failing();
        let mut first_waits = Vec::new();
        for _ in 0..40 {
            first_waits.push(health.next_probe().expect("it fails"));
            health.probed(true);
            assert_eq!(health.next_probe(), None);
            (0..IN_A_ROW).for_each(|_| health.build_failed(&own_fault()));
        }
        assert!(first_waits.windows(2).all(|pair| pair[0] <= pair[1]) && first_waits[39] == LONGEST_WAIT);
        health.probed(true);
        health.build_succeeded();
        (0..IN_A_ROW).for_each(|_| health.build_failed(&own_fault()));
        assert_eq!(health.next_probe(), Some(FIRST_PROBE), "a success makes it forget");
    }
}
