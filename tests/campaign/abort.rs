//! A worker that ends itself in the middle of its work, as Rust does where memory runs out or a panic meets another: SIGABRT.
//!
//! No hook makes the worker panic. The kernel gives it no more memory (RLIMIT_DATA, as `prlimit --data=0` sets it), so it ends wherever it
//! asks for some first. One that lives on what it has for a while is sent the signal.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::fleet::Fleet;

const LIVES_ON_WHAT_IT_HAS: Duration = Duration::from_secs(5);
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// It ends, and is started again at once, as systemd does. Returns how it ended.
pub async fn of(fleet: &mut Fleet, owner: usize) -> String {
    fleet.note_disturbance(ENDS_WITHIN);
    let mut worker = fleet.nodes[owner].worker.take().expect("it runs");
    worker.take_all_memory();
    fleet.heal();
    let by_itself = tokio::time::timeout(LIVES_ON_WHAT_IT_HAS, worker.wait()).await;
    let (status, how) = match by_itself {
        Ok(status) => (status, "where it needed memory"),
        Err(_) => {
            worker.abort();
            (worker.ended(ENDS_WITHIN).await, "by the signal")
        }
    };
    let signal = status.signal();
    assert!(signal == Some(Signal::ABORT.as_raw()), "it did not abort: {status}");
    fleet.restart(owner);
    fleet.note_disturbance(Duration::ZERO);
    format!("aborted {how}")
}
