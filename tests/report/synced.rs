//! The power is cut: an end that the dashboard may have seen is on the disk by then, with all lines before it.

use std::sync::{Arc, Mutex};

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::report::Delivery;

use crate::dashboard::Reply;
use crate::disk::Disk;
use crate::host::{Host, end, failed, id};

#[tokio::test]
async fn an_end_is_on_the_disk_before_it_is_told_and_so_are_its_lines() {
    let disk = Arc::new(Disk::new());
    let host = Host::with_journals_in(disk.root().join("journal")).await;
    let left: Arc<Mutex<Option<Disk>>> = Arc::default();
    host.dashboard.answers({
        let left = left.clone();
        move |post| match post.status() {
            "FAILED" => {
                *left.lock().unwrap() = Some(disk.after_a_power_cut());
                Reply::Hang
            }
            _ => Reply::AsMeasured,
        }
    });
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    let mut lines: Vec<String> = (0..5000).map(|n| format!("line {n}")).collect();
    lines.iter().for_each(|line| report.line(LogType::Stdout, line));
    let outcome = failed("the step failed");
    tokio::select! {
        _ = report.end(&outcome) => unreachable!("it is not answered"),
        () = host.dashboard.until(|posts| posts.iter().any(|p| p.status() == "FAILED")) => {}
    }
    let left = left.lock().unwrap().take().unwrap();

    let after = Host::with_journals_in(left.root().join("journal")).await;
    assert_eq!(after.reporter.undelivered().await.unwrap(), [(id("dpl1"), 1, Some(outcome.clone()))]);
    let again = after.open("dpl1").await;
    assert_eq!(end(&again, outcome).await, Delivery::Delivered);
    assert_eq!(after.dashboard.statuses("dpl1"), ["BUILDING", "FAILED"]);
    lines.push("the step failed".to_owned());
    let told = after.dashboard.lines("dpl1");
    assert_eq!(told.len(), lines.len());
    assert!(told.iter().zip(&lines).all(|(told, line)| told.contains(line.as_str())), "{:?}", told.last());
    after.stop().await;
    drop(report);
    host.stop().await;
}
