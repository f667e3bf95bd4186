//! How far a fetch is: written by the thread that fetches, read by the one that tells the user.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::traffic::Traffic;

/// Counters of the fetch that is under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) traffic: Arc<Traffic>,
    /// Bytes of this fetch alone. `traffic` counts those of earlier tries too.
    received: AtomicU64,
    objects: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    deltas: AtomicU64,
    total_deltas: AtomicU64,
    reading_tree: AtomicBool,
}

impl Progress {
    /// `traffic`: where the bytes are counted that come from the server.
    pub(super) fn with(traffic: Arc<Traffic>) -> Self {
        Self { traffic, ..Self::default() }
    }
    /// Returns how much this fetch has received.
    pub(super) fn arrived(&self, bytes: u64) -> u64 {
        self.traffic.arrived(bytes);
        self.received.fetch_add(bytes, Ordering::Relaxed) + bytes
    }
    pub(super) fn note(&self, p: &git2::Progress<'_>) {
        self.objects.store(p.received_objects() as u64, Ordering::Relaxed);
        self.total.store(p.total_objects() as u64, Ordering::Relaxed);
        self.bytes.store(p.received_bytes() as u64, Ordering::Relaxed);
        self.deltas.store(p.indexed_deltas() as u64, Ordering::Relaxed);
        self.total_deltas.store(p.total_deltas() as u64, Ordering::Relaxed);
    }
    /// The next request's pack has not begun.
    pub(super) fn restart(&self) {
        for counter in [&self.objects, &self.total, &self.bytes, &self.deltas, &self.total_deltas] {
            counter.store(0, Ordering::Relaxed);
        }
    }
    pub(super) fn pack_has_begun(&self) -> bool {
        self.total.load(Ordering::Relaxed) > 0
    }
    pub(super) fn reads_tree(&self) {
        self.reading_tree.store(true, Ordering::Relaxed);
    }

    /// One line for the log.
    pub(super) fn line(&self, host: &str) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (objects, total, bytes) = (get(&self.objects), get(&self.total), get(&self.bytes));
        if self.reading_tree.load(Ordering::Relaxed) {
            "Reading the commit's tree".to_owned()
        } else if total == 0 {
            format!("Waiting for {host}")
        } else if objects < total {
            format!("Receiving objects: {} % ({objects}/{total}), {}", objects * 100 / total, megabytes(bytes))
        } else {
            format!("Resolving deltas: {}/{} ({} received)", get(&self.deltas), get(&self.total_deltas), megabytes(bytes))
        }
    }
}

/// `12.3 MB`.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_reads_what_is_waited_for() {
        let progress = Progress::default();
        assert_eq!(progress.line("github.com"), "Waiting for github.com");
        progress.total.store(200, Ordering::Relaxed);
        progress.objects.store(50, Ordering::Relaxed);
        progress.bytes.store(12_345_678, Ordering::Relaxed);
        assert_eq!(progress.line("github.com"), "Receiving objects: 25 % (50/200), 12.3 MB");
        progress.objects.store(200, Ordering::Relaxed);
        assert_eq!(progress.line("github.com"), "Resolving deltas: 0/0 (12.3 MB received)");
    }

    #[test]
    fn a_fetch_that_is_tried_again_counts_its_own_bytes_alone() {
        let traffic = Arc::new(Traffic::default());
        assert_eq!(Progress::with(traffic.clone()).arrived(700), 700);
        assert_eq!(Progress::with(traffic.clone()).arrived(500), 500);
        assert_eq!(traffic.received(), 1200);
    }
}
