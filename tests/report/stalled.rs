//! A disk that stalls while a report is let go.

use std::sync::mpsc;
use std::time::Duration;

use slipway::protocol::{LogSink, LogType};

use crate::host::Host;
use crate::stalling_disk::StallingDisk;

const HELD_UP: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_report_that_is_dropped_while_the_disk_stalls_holds_up_no_thread_of_the_runtime() {
    let folder = tempfile::tempdir().unwrap();
    let disk = StallingDisk::at(folder.path(), 64 << 20);
    let mut host = Host::with_journals_in(folder.path().join("journal")).await;
    let report = host.open("dpl1").await;
    report.line(LogType::Info, "the first line");
    host.until_written("the first line").await;
    host.senders_end().await;
    report.line(LogType::Info, "the last line");
    disk.freeze();
    // Beside the runtime: it thaws the disk where this thread hangs on it.
    let (let_go, is_let_go) = mpsc::channel();
    let watch = std::thread::spawn(move || {
        let was_let_go = is_let_go.recv_timeout(HELD_UP).is_ok();
        disk.thaw();
        (was_let_go, disk)
    });
    drop(report);
    // Nobody listens where it came too late.
    let_go.send(()).ok();
    let (was_let_go, disk) = watch.join().unwrap();
    assert!(was_let_go, "the thread that dropped the report waited for the disk");
    host.restart().await;
    host.until_written("the last line").await;
    host.stop().await;
    drop(disk);
}
