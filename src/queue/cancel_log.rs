//! The log lines of cancels: anybody may publish them by the hundred thousand, and each kind is counted rather than written then.

use std::sync::{Mutex, PoisonError};

use tracing::info;

use super::attempt::CancelFound;
use super::gate::boot_time;
use super::tally::{Sum, Tally};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Unreadable,
    Unknown,
    Ended,
    Queued,
    Running,
}

impl Kind {
    const ALL: [Kind; 5] = [Kind::Unreadable, Kind::Unknown, Kind::Ended, Kind::Queued, Kind::Running];

    pub(super) fn of(found: &CancelFound) -> Self {
        match found {
            CancelFound::Running { .. } => Self::Running,
            CancelFound::Queued => Self::Queued,
            CancelFound::Ended => Self::Ended,
            CancelFound::Unknown => Self::Unknown,
        }
    }
    fn named(self) -> &'static str {
        match self {
            Kind::Unreadable => "that nobody can read",
            Kind::Unknown => "of deployments that nobody has",
            Kind::Ended => "of deployments that have ended",
            Kind::Queued => "of deployments that wait in the queue",
            Kind::Running => "of deployments that are in work",
        }
    }
}

/// One per queue.
#[derive(Debug, Default)]
pub(super) struct CancelLog([Mutex<Tally>; 5]);

impl CancelLog {
    /// `true`: write it.
    pub(super) fn count(&self, kind: Kind) -> bool {
        self.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner).count(boot_time())
    }
    /// Writes one line for what was counted and not written, once a minute and kind.
    pub(super) fn tell_held(&self) {
        for kind in Kind::ALL {
            let due = self.0[kind as usize].lock().unwrap_or_else(PoisonError::into_inner).due(boot_time());
            if let Some(Sum { held, total }) = due {
                info!("{held} more cancels {} came in the last minute; {total} since the start.", kind.named());
            }
        }
    }
}
