//! Whether WORK_DIR's disk answers. Time in which it does not is no build's fault, and no host that waits for its disk claims more jobs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio_util::sync::CancellationToken;

/// Between two looks, while there is work.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A disk that takes longer for one change of a file's time has stalled.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// The log says so when it takes longer.
const SAID_AFTER: Duration = Duration::from_secs(5);

/// One per process.
pub struct DiskWatch {
    dir: PathBuf,
    start: Instant,
    /// Milliseconds from `start` to when the disk was asked what it has not answered yet; 0: it answers.
    asked: AtomicU64,
}

impl DiskWatch {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, start: Instant::now(), asked: AtomicU64::new(0) }
    }

    /// Asks again and again, while there is something to ask for, until `stop`. At most one question waits.
    pub async fn run(&self, has_work: impl Fn() -> bool, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                if has_work() {
                    self.ask().await;
                }
            }
        })
        .await;
    }

    /// Whether the disk has not answered for a while.
    pub fn is_stalled(&self) -> bool {
        is_stalled(self.asked.load(Ordering::Relaxed), self.now())
    }

    async fn ask(&self) {
        self.asked.store(self.now(), Ordering::Relaxed);
        let dir = self.dir.clone();
        let mut asking = tokio::task::spawn_blocking(move || touch(&dir));
        if tokio::time::timeout(SAID_AFTER, &mut asking).await.is_err() {
            tracing::warn!(
                "The disk of WORK_DIR ({}) does not answer: builds and their logs wait for it, and no job is claimed meanwhile.",
                self.dir.display()
            );
            let asked = Instant::now();
            // What it answers does not matter: a full disk answers too.
            drop(asking.await);
            tracing::info!("The disk of WORK_DIR answers again, after {} s.", (SAID_AFTER + asked.elapsed()).as_secs());
        }
        self.asked.store(0, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        // Never 0, which stands for no question.
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

fn is_stalled(asked: u64, now: u64) -> bool {
    asked != 0 && u128::from(now.saturating_sub(asked)) >= STALLED_AFTER.as_millis()
}

/// Changes the folder's time: the least that a disk can be asked to write.
fn touch(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir)?.set_modified(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_has_stalled_when_a_question_is_two_seconds_old() {
        assert!(!is_stalled(0, 60_000), "nothing was asked");
        assert!(!is_stalled(1000, 2999));
        assert!(is_stalled(1000, 3000));
    }

    #[tokio::test]
    async fn a_disk_that_answers_has_not_stalled_and_is_asked_in_a_way_that_works() {
        let dir = tempfile::tempdir().unwrap();
        touch(dir.path()).unwrap();
        let watch = DiskWatch::new(dir.path().to_owned());
        watch.ask().await;
        assert!(!watch.is_stalled());
    }
}
