//! Every key of a queue has a bound: what has stayed long enough is removed once a minute, a part of it at a time.

use std::time::Duration;

use tracing::warn;

use super::ending::{ENDED_STAY, millis};
use super::error::QueueError;
use super::listen::TOMBSTONE_STAYS;
use super::script::{Call, SWEEP};
use super::shared::Shared;

/// How long an attempt that ended with a dead worker counts against its job.
const CRASH_STAYS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Jobs that crashes are counted of; the oldest are forgotten first.
const CRASHED_MOST: u64 = 10_000;
/// How long a record may wait for its element, and how long the keys of a queue stay that no worker serves any more.
const IDLE_STAY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where the next call goes on.
#[derive(Debug)]
pub(super) struct Cursors {
    jobs: String,
    crashes: String,
}

impl Default for Cursors {
    fn default() -> Self {
        Self { jobs: "0".to_owned(), crashes: "0".to_owned() }
    }
}

impl Shared {
    pub(super) async fn sweep(&self, cursors: &mut Cursors) -> Result<(), QueueError> {
        let keys = &self.keys;
        let call = Call::of(&SWEEP)
            .keys(&[
                &keys.jobs,
                &keys.ended,
                &keys.service,
                &keys.tombs,
                &keys.crashes,
                &keys.crashed,
                &keys.queue,
                &keys.workers,
            ])
            .arg(&cursors.jobs)
            .arg(&cursors.crashes)
            .number(millis(ENDED_STAY))
            .number(millis(TOMBSTONE_STAYS))
            .number(millis(CRASH_STAYS))
            .number(CRASHED_MOST)
            .number(millis(IDLE_STAY));
        let answer = self.link.run(call).await?;
        for index in 2..answer.len() {
            warn!(deployment_id = answer.text(index), "A job waited for 30 days and is not in the queue; its record is removed.");
        }
        let next =
            |index| Some(answer.text(index)).filter(|c| !c.is_empty() && c.bytes().all(|b| b.is_ascii_digit())).unwrap_or("0");
        let (jobs, crashes) = (next(0).to_owned(), next(1).to_owned());
        *cursors = Cursors { jobs, crashes };
        Ok(())
    }
}
