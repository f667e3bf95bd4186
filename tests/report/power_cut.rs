//! What a power cut leaves of the journal's files: the disk keeps its own order, and may forget what was told long ago.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::report::Delivery;

use crate::host::{Fences, Host, builded, end};

fn segments(host: &Host) -> Vec<PathBuf> {
    host.files().into_iter().filter(|file| file.extension() == Some("journal".as_ref())).collect()
}

#[tokio::test]
async fn a_journal_that_lost_lines_that_were_told_loses_none_that_come_after() {
    let mut host = Host::start().await;
    let report = host.open("dpl1").await;
    for (kind, line) in [(LogType::Stdout, "first"), (LogType::Stderr, "second"), (LogType::Stdout, "third")] {
        report.line(kind, line);
        host.dashboard.until(|posts| posts.last().is_some_and(|post| post.text() == line)).await;
    }
    drop(report);
    host.restart().await;
    let journal = segments(&host).remove(0);
    let bytes = std::fs::read(&journal).unwrap();
    let second = bytes.windows(6).position(|w| w == b"second").unwrap();
    std::fs::File::options().write(true).open(&journal).unwrap().set_len(second as u64).unwrap();
    host.shut_gate();
    let report = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    report.line(LogType::Stdout, "the second attempt has something to say");
    drop(report);
    host.restart().await;
    let report = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.lines("dpl1"), ["first", "second", "third", "the second attempt has something to say"]);
    host.stop().await;
}

#[tokio::test]
async fn a_journal_that_lost_its_newest_part_goes_on_behind_the_one_before() {
    let mut host = Host::with(|config, _| config.log_max_bytes = 1 << 20).await;
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    let mut before = None;
    for line in 0..6 {
        let text = line.to_string().repeat(40_000);
        report.line(if line % 2 == 0 { LogType::Stdout } else { LogType::Stderr }, &text);
        host.dashboard.until(|posts| posts.last().is_some_and(|post| post.text() == text)).await;
        let newest = segments(&host).pop().unwrap();
        match &before {
            None => before = Some((newest.clone(), std::fs::read(&newest).unwrap())),
            Some((first, _)) if *first == newest => before = Some((newest.clone(), std::fs::read(&newest).unwrap())),
            Some(_) => {}
        }
    }
    drop(report);
    host.restart().await;
    let (first, content) = before.unwrap();
    let newest = segments(&host).pop().unwrap();
    assert_ne!(newest, first, "the log has filled more than one part");
    std::fs::remove_file(newest).unwrap();
    std::fs::write(first, content).unwrap();
    let report = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    report.line(LogType::Stdout, "after");
    let told = tokio::time::timeout(Duration::from_secs(10), end(&report, builded())).await;
    assert_eq!(told, Ok(Delivery::Delivered));
    let lines = host.dashboard.lines("dpl1");
    assert_eq!(lines.len(), 7, "each line is told once");
    assert_eq!(lines.last().unwrap(), "after");
    host.stop().await;
}
