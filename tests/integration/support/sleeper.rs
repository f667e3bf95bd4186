//! A command of a build step that waits until the test lets it go on.

use rustix::process::{Pid, Signal, kill_process};
use std::sync::atomic::{AtomicU64, Ordering};

/// `sleep` for a number of seconds that no other process has: so it is found on the host.
pub struct Sleeper {
    seconds: u64,
}

impl Sleeper {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self { seconds: 1_000_000 + u64::from(std::process::id()) * 100 + COUNT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Stands in a RUN step; what comes behind it is run when it is woken.
    pub fn command(&self) -> String {
        format!("sleep {}", self.seconds)
    }

    /// Ends it, wherever on this host it runs.
    pub fn wake(&self) {
        let wanted = format!("sleep\0{}\0", self.seconds).into_bytes();
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in pids.filter_map(Pid::from_raw) {
            if std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).is_ok_and(|line| line == wanted) {
                kill_process(pid, Signal::TERM).expect("end the sleep");
            }
        }
    }
}
