//! The gate: shut while this worker cannot prove its lease. Push and reports wait here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Whether something of this worker may leave the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateState {
    Open,
    /// The lease could not be renewed for 20 s. Builds go on, nothing leaves.
    Shut,
}

/// A reader of the gate; cheap to clone.
#[derive(Clone)]
pub struct Gate {
    told: watch::Receiver<GateState>,
    /// Milliseconds of CLOCK_BOOTTIME after which the gate is shut whatever was told: a process that was frozen, or a
    /// machine that was suspended, finds it shut before its timers have run.
    until: Arc<AtomicU64>,
    openings: Arc<AtomicU64>,
}

/// The writing end: the lease keeper's.
pub(super) struct GateKeeper {
    told: watch::Sender<GateState>,
    until: Arc<AtomicU64>,
    openings: Arc<AtomicU64>,
}

/// Time since boot, time in suspend included.
pub(super) fn boot_time() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Gate {
    /// A gate that is only told: for roles without a lease. The writer's end is the caller's.
    pub fn new(state: GateState) -> (watch::Sender<GateState>, Gate) {
        let (tx, rx) = watch::channel(state);
        (tx, Gate { told: rx, until: Arc::new(AtomicU64::new(u64::MAX)), openings: Arc::default() })
    }
    /// A gate that shuts by itself when it is not held open.
    pub(super) fn kept() -> (GateKeeper, Gate) {
        let (tx, rx) = watch::channel(GateState::Shut);
        let until = Arc::new(AtomicU64::new(0));
        let openings = Arc::new(AtomicU64::new(0));
        (GateKeeper { told: tx, until: until.clone(), openings: openings.clone() }, Gate { told: rx, until, openings })
    }
    /// Waits until the gate is open. Never returns once the keeper is gone with the gate shut: callers select on their token.
    pub async fn open(&mut self) {
        loop {
            if self.told.wait_for(|s| *s == GateState::Open).await.is_err() {
                std::future::pending::<()>().await;
            }
            if self.state() == GateState::Open {
                return;
            }
            // Told open, but overdue: each renewal and each shutting is told anew.
            if self.told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
    /// How often it was opened after it had been shut or overdue. Who finds another number than before was behind a shut gate in
    /// between, even if he never saw it: meanwhile his attempt may have become another worker's.
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }
    pub fn state(&self) -> GateState {
        if millis(boot_time()) >= self.until.load(Ordering::Acquire) { GateState::Shut } else { *self.told.borrow() }
    }
}

impl GateKeeper {
    /// The lease was proved by a request that began at `proved` ([`boot_time`]); the gate stays open for `span` from there.
    /// `true`: it was shut before.
    pub(super) fn hold(&self, proved: Duration, span: Duration) -> bool {
        if *self.told.borrow() == GateState::Shut || millis(boot_time()) >= self.until.load(Ordering::Acquire) {
            self.openings.fetch_add(1, Ordering::AcqRel);
        }
        self.until.store(millis(proved + span), Ordering::Release);
        self.told.send_replace(GateState::Open) == GateState::Shut
    }
    /// Neither told shut nor overdue.
    pub(super) fn is_open(&self) -> bool {
        millis(boot_time()) < self.until.load(Ordering::Acquire) && *self.told.borrow() == GateState::Open
    }
    /// `true`: it was open before.
    pub(super) fn shut(&self) -> bool {
        self.until.store(0, Ordering::Release);
        self.told.send_replace(GateState::Shut) == GateState::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_that_is_not_held_open_is_shut_by_the_clock_alone() {
        let (keeper, gate) = Gate::kept();
        assert_eq!(gate.state(), GateState::Shut);
        keeper.hold(boot_time(), Duration::from_secs(20));
        assert_eq!(gate.state(), GateState::Open);
        keeper.hold(boot_time().saturating_sub(Duration::from_secs(21)), Duration::from_secs(20));
        assert_eq!(gate.state(), GateState::Shut, "proved 21 s ago, and nobody has said shut");
    }

    #[tokio::test]
    async fn who_slept_through_a_shut_gate_can_tell_by_its_openings() {
        let (keeper, gate) = Gate::kept();
        keeper.hold(boot_time().saturating_sub(Duration::from_secs(21)), Duration::from_secs(20));
        let before = gate.openings();
        keeper.hold(boot_time(), Duration::from_secs(20));
        assert_ne!(gate.openings(), before, "it was overdue, though nobody had said shut");
        let before = gate.openings();
        keeper.hold(boot_time(), Duration::from_secs(20));
        assert_eq!(gate.openings(), before, "held open all the time");
    }

    #[tokio::test]
    async fn who_waits_at_an_overdue_gate_goes_on_with_the_next_renewal() {
        let (keeper, mut gate) = Gate::kept();
        keeper.hold(boot_time().saturating_sub(Duration::from_secs(21)), Duration::from_secs(20));
        let renew = async {
            tokio::task::yield_now().await;
            keeper.hold(boot_time(), Duration::from_secs(20));
        };
        tokio::join!(gate.open(), renew);
        assert_eq!(gate.state(), GateState::Open);
    }
}
