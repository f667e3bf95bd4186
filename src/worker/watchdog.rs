//! systemd's watchdog: fed by the control thread, and only while the loop that does the work goes on.
//!
//! Two threads have to make progress for one WATCHDOG=1: the control thread, which sends it, and the supervisor, whose beats it counts.
//! The supervisor touches no disk, so a disk that stalls does not end the process; a loop that hangs does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

use super::systemd;

/// How often the loop that does the work beats where no watchdog asks for more.
const BEATS_EVERY: Duration = Duration::from_secs(2);

/// What the loop that does the work counts up each time it goes round.
#[derive(Clone)]
pub(super) struct Heart {
    beats: Arc<AtomicU64>,
    every: Duration,
}

impl Heart {
    /// `watchdog`: the time that systemd allows between two signs of life, if it watches at all.
    pub(super) fn new(watchdog: Option<Duration>) -> Self {
        let every = watchdog.map_or(BEATS_EVERY, |time| (time / 4).min(BEATS_EVERY));
        // A timer of zero is no timer.
        Self { beats: Arc::default(), every: every.max(Duration::from_millis(10)) }
    }
    /// How often it has to beat.
    pub(super) fn every(&self) -> Duration {
        self.every
    }
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }
    fn count(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// Beats while `work` is awaited: for what has no loop of its own, before and after the supervisor.
    pub(super) async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut tick = interval(self.every);
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => self.beat(),
            }
        }
    }
}

/// Whether something beat since it was asked last.
#[derive(Default)]
struct Pulse(Option<u64>);

impl Pulse {
    fn has_beaten(&mut self, count: u64) -> bool {
        self.0.replace(count) != Some(count)
    }
}

/// Runs on the control thread, until it ends.
pub(super) async fn feed(heart: Heart) {
    let mut tick = interval(heart.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pulse = Pulse::default();
    loop {
        tick.tick().await;
        if pulse.has_beaten(heart.count()) {
            systemd::tell(NotifyState::Watchdog);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_not_vouched_for_and_one_that_goes_on_again_is() {
        let (heart, mut pulse) = (Heart::new(Some(Duration::from_secs(60))), Pulse::default());
        heart.beat();
        assert!(pulse.has_beaten(heart.count()));
        assert!(!pulse.has_beaten(heart.count()), "it stands still");
        heart.beat();
        assert!(pulse.has_beaten(heart.count()), "it goes on");
    }

    #[test]
    fn the_loop_beats_four_times_in_what_systemd_allows() {
        assert_eq!(Heart::new(Some(Duration::from_secs(4))).every(), Duration::from_secs(1));
        assert_eq!(Heart::new(Some(Duration::from_secs(60))).every(), BEATS_EVERY);
        assert_eq!(Heart::new(None).every(), BEATS_EVERY);
        assert!(Heart::new(Some(Duration::ZERO)).every() > Duration::ZERO);
    }
}
