//! What a fetch receives, whether it works or waits, and whether its job holds a build slot: shared by the fetch's thread and its job's task.
//!
//! The task may take the slot away while the fetch waits for its server. Without it the thread only reads a list of refs, or collects a few
//! bytes of a pack; before it works on what has come it asks for the slot, and waits until the task has it again.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Everything that the two tell each other. `Default`: of a fetch that nobody takes the slot from.
#[derive(Debug)]
pub struct Traffic {
    bytes: AtomicU64,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    has_slot: bool,
    doing: Doing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Works,
    /// For its server's next bytes, or for another fetch of the same repository.
    Waits,
    WaitsForSlot,
}

impl Default for Traffic {
    fn default() -> Self {
        let state = State { has_slot: true, doing: Doing::Works };
        Self { bytes: AtomicU64::new(0), state: watch::Sender::new(state) }
    }
}

impl Traffic {
    /// Bytes since the beginning.
    pub fn received(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the job holds a slot, from now on.
    pub fn set_slot(&self, has_slot: bool) {
        self.state.send_modify(|state| state.has_slot = has_slot);
    }

    /// Takes the slot away, unless the fetch works: on what has come, or on `least` bytes more than `before`. `false`: it keeps the slot, or
    /// had none.
    pub fn take_slot_if_it_waits(&self, before: u64, least: u64) -> bool {
        let slow = self.received().saturating_sub(before) < least;
        self.state.send_if_modified(|state| {
            let takes = state.has_slot && state.doing == Doing::Waits && slow;
            state.has_slot &= !takes;
            takes
        })
    }

    /// Returns when the fetch waits for a slot.
    pub async fn asks_for_slot(&self) {
        let wants = |state: &State| !state.has_slot && state.doing == Doing::WaitsForSlot;
        // The sender is this value's own: it is not gone.
        let _ = self.state.subscribe().wait_for(wants).await;
    }

    pub(super) fn arrived(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn has_slot(&self) -> bool {
        self.state.borrow().has_slot
    }

    pub(super) fn set_waits(&self, waits: bool) {
        self.state.send_modify(|state| state.doing = if waits { Doing::Waits } else { Doing::Works });
    }

    /// Returns when the job holds a slot. It keeps it until the fetch waits for something else.
    pub(super) async fn slot(&self) {
        self.state.send_modify(|state| state.doing = Doing::WaitsForSlot);
        let _ = self.state.subscribe().wait_for(|state| state.has_slot).await;
        self.set_waits(false);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_fetch_loses_its_slot_only_while_it_waits_and_little_comes() {
        let traffic = Traffic::default();
        assert!(!traffic.take_slot_if_it_waits(0, 10), "it works");
        traffic.set_waits(true);
        traffic.arrived(10);
        assert!(!traffic.take_slot_if_it_waits(0, 10), "enough comes");
        assert!(traffic.take_slot_if_it_waits(5, 10));
        assert!(!traffic.take_slot_if_it_waits(5, 10), "it has none any more");
        assert!(!traffic.has_slot());
    }

    #[test]
    fn a_fetch_without_a_slot_goes_on_when_it_is_given_one_and_asks_only_then() {
        let traffic = Traffic::default();
        assert!(traffic.slot().now_or_never().is_some(), "it has one");
        traffic.set_slot(false);
        traffic.set_waits(true);
        assert!(traffic.asks_for_slot().now_or_never().is_none(), "it waits for its server");
        let mut slot = Box::pin(traffic.slot());
        assert!(slot.as_mut().now_or_never().is_none());
        assert!(traffic.asks_for_slot().now_or_never().is_some());
        traffic.set_slot(true);
        assert!(slot.now_or_never().is_some());
        assert!(!traffic.take_slot_if_it_waits(0, 1), "it works");
    }
}
