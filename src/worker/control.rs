//! The control thread: what proves that this worker lives runs here, apart from the builds.
//!
//! Lease, gate, cancel subscription and watchdog share one thread that does nothing else. It touches no disk and waits for no build, so
//! neither a stalled disk nor a busy runtime can cost the lease. What its tasks log goes to a queue that never blocks.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;

/// The tasks are shallow; a stack costs what was ever used of it.
const STACK_BYTES: usize = 512 * 1024;
/// Host names are looked up beside the thread, one for each connection at most.
const NAME_LOOKUPS: usize = 4;
/// How long a name lookup may hold up the end.
const STUCK_LOOKUPS: Duration = Duration::from_secs(1);

/// A thread with a runtime of its own. It ends when this is dropped, and with it whatever still runs there.
pub(super) struct ControlThread {
    handle: Handle,
    end: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl ControlThread {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(NAME_LOOKUPS)
            .thread_stack_size(STACK_BYTES)
            .build()?;
        let handle = runtime.handle().clone();
        let end = CancellationToken::new();
        let until = end.clone();
        let thread =
            std::thread::Builder::new().name("control".to_owned()).stack_size(STACK_BYTES).spawn(move || run(runtime, &until))?;
        Ok(Self { handle, end, thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

fn run(runtime: Runtime, until: &CancellationToken) {
    runtime.block_on(until.cancelled());
    runtime.shutdown_timeout(STUCK_LOOKUPS);
}

impl Drop for ControlThread {
    fn drop(&mut self) {
        self.end.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the control thread ended by a defect");
        }
    }
}
