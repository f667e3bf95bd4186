//! One loop's trouble with Redis: told once, and when it is over.

use std::time::Duration;

use tracing::{info, warn};

use super::error::QueueError;

#[derive(Debug, Default)]
pub(super) struct Trouble {
    told: Option<QueueError>,
    tries: u32,
}

impl Trouble {
    /// Gives the pause before the next try: doubled from 100 ms to 2 s.
    pub(super) fn told(&mut self, error: &QueueError) -> Duration {
        if self.told.as_ref() != Some(error) {
            warn!("{error} It is tried again until it works.");
            self.told = Some(error.clone());
        }
        let pause = Duration::from_millis(100 << self.tries.min(5)).min(Duration::from_secs(2));
        self.tries = self.tries.saturating_add(1);
        pause
    }
    pub(super) fn over(&mut self) {
        if self.told.take().is_some() {
            info!("Redis answers again.");
        }
        self.tries = 0;
    }
}
