//! The gate: shut while this worker cannot prove its lease. Push and reports wait here.

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
pub struct Gate(watch::Receiver<GateState>);

impl Gate {
    /// The writer's end is the lease keeper's.
    pub fn new(state: GateState) -> (watch::Sender<GateState>, Gate) {
        let (tx, rx) = watch::channel(state);
        (tx, Gate(rx))
    }
    /// Waits until the gate is open. Never returns once the keeper is gone with the gate shut: callers select on their token.
    pub async fn open(&mut self) {
        if self.0.wait_for(|s| *s == GateState::Open).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    pub fn state(&self) -> GateState {
        *self.0.borrow()
    }
}
