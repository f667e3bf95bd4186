//! The worker is killed and started again: nothing is lost, at most one batch is repeated, an answered end is not.

use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::report::Delivery;

use crate::dashboard::Reply;
use crate::host::{Fences, Host, builded, end, failed, id};

#[tokio::test]
async fn a_restart_goes_on_where_the_answers_stopped() {
    let mut host = Host::start().await;
    let report = host.open("dpl1").await;
    let mut expected = Vec::new();
    let mut taken = 0;
    host.dashboard.answers(move |_| {
        taken += 1;
        if taken < 8 { Reply::AsMeasured } else { Reply::Hang }
    });
    for n in 0..20 {
        let kind = if n % 2 == 0 { LogType::Stdout } else { LogType::Stderr };
        report.line(kind, &format!("line {n}"));
        expected.push(format!("line {n}"));
    }
    host.dashboard.until(|p| p.len() == 8).await;
    drop(report);
    host.restart().await;
    host.dashboard.answers(|_| Reply::AsMeasured);
    assert_eq!(host.reporter.undelivered().await.unwrap(), [(id("dpl1"), 1, None)]);
    let report = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    report.line(LogType::Info, "attempt 2");
    expected.push("attempt 2".to_owned());
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let mut lines = host.dashboard.lines("dpl1");
    assert_eq!(lines.len(), expected.len() + 1, "the one post without an answer is repeated, nothing else: {lines:?}");
    lines.dedup();
    assert_eq!(lines, expected);
    host.stop().await;
}

#[tokio::test]
async fn an_end_in_the_journal_is_found_and_told_by_the_next_worker() {
    let mut host = Host::start().await;
    host.shut_gate();
    let report = host.open_as("dpl1", 3, Arc::new(Fences::stored())).await;
    report.status(DeploymentStatus::Building);
    {
        let outcome = failed("the step failed");
        tokio::select! {
            _ = report.end(&outcome) => unreachable!("the gate is shut"),
            () = host.until_journal_holds(&outcome) => {}
        }
    }
    drop(report);
    host.restart().await;
    assert_eq!(host.reporter.undelivered().await.unwrap(), [(id("dpl1"), 3, Some(failed("the step failed")))]);
    let report = host.open_as("dpl1", 3, Arc::new(Fences::stored())).await;
    assert_eq!(end(&report, failed("the step failed")).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "FAILED"]);
    assert_eq!(host.dashboard.lines("dpl1").len(), 1, "the last line is written once");
    host.stop().await;
}

#[tokio::test]
async fn an_end_that_was_answered_is_not_told_again_by_the_next_worker() {
    let mut host = Host::start().await;
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    drop(report);
    host.restart().await;
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED"]);
    report.close().await;
    host.restart().await;
    assert_eq!(host.reporter.undelivered().await.unwrap(), []);
    host.stop().await;
}

#[tokio::test]
async fn an_end_of_an_earlier_attempt_is_void_in_the_next_one() {
    let mut host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    {
        let outcome = failed("first");
        tokio::select! {
            _ = report.end(&outcome) => unreachable!("the gate is shut"),
            () = host.until_journal_holds(&outcome) => {}
        }
    }
    drop(report);
    host.restart().await;
    let report = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    report.status(DeploymentStatus::Building);
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "BUILDED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_torn_last_write_costs_only_itself() {
    let mut host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.line(LogType::Stdout, "whole");
    report.status(DeploymentStatus::Building);
    drop(report);
    host.restart().await;
    host.shut_gate();
    let path = host.files()[0].clone();
    let whole = std::fs::read(&path).unwrap();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&whole[20..whole.len() / 2]).unwrap();
    file.write_all(&[0xFF, 0xFE, 2, 0, 200, 0, 0, 0, 1, 2, 3, 4, 3, b'h', b'a', b'l', b'f']).unwrap();
    host.restart().await;
    let report = host.open("dpl1").await;
    report.line(LogType::Stdout, "after");
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.lines("dpl1"), ["whole", "after"]);
    host.stop().await;
}

#[tokio::test]
async fn a_damaged_middle_is_said_and_the_rest_is_told() {
    let mut host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    for n in 0..6 {
        let kind = if n % 2 == 0 { LogType::Stdout } else { LogType::Stderr };
        report.line(kind, &format!("the line with the number {n}"));
    }
    drop(report);
    host.restart().await;
    let path = host.files()[0].clone();
    let bytes = std::fs::read(&path).unwrap();
    let hurt = bytes.windows(8).position(|w| w == b"number 2").unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"X", hurt as u64).unwrap();
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    assert_eq!(lines.len(), 6);
    assert!(lines[2].starts_with("[slipway]") && lines[2].contains("cannot be read back"), "{lines:?}");
    assert_eq!(lines[3], "the line with the number 3");
    host.stop().await;
}

#[tokio::test]
async fn a_journal_of_which_nothing_can_be_read_does_not_stop_the_next_attempt() {
    let mut host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.line(LogType::Stdout, "gone");
    drop(report);
    host.restart().await;
    std::fs::write(&host.files()[0], vec![0; 5000]).unwrap();
    host.restart().await;
    assert_eq!(host.reporter.undelivered().await.unwrap(), [(id("dpl1"), 0, None)]);
    let report = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    report.line(LogType::Stdout, "attempt 2");
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    assert!(lines[0].contains("5000 bytes"), "{lines:?}");
    assert_eq!(lines[1], "attempt 2");
    host.stop().await;
}

#[tokio::test]
async fn what_the_cap_cut_out_is_said_by_the_next_worker_too() {
    let mut host = Host::with(|config, _| config.log_max_bytes = 1 << 20).await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    for n in 0..60_000 {
        report.line(LogType::Stdout, &format!("line {n:>60}"));
    }
    drop(report);
    host.restart().await;
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    let said: Vec<_> = lines.iter().filter(|l| l.starts_with("[slipway]")).collect();
    assert_eq!(said.len(), 1);
    let missing: usize = said[0].split(' ').nth(1).unwrap().parse().unwrap();
    assert_eq!(lines.len() - 1 + missing, 60_000);
    host.stop().await;
}

#[tokio::test]
async fn journals_are_for_the_worker_alone_and_one_nobody_knows_can_be_discarded() {
    let mut host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.line(LogType::Stdout, "a line");
    assert!(host.reporter.discard(&id("dpl1")).await.is_err());
    drop(report);
    host.restart().await;
    for file in host.files() {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(host.journal().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    host.reporter.discard(&id("dpl1")).await.unwrap();
    assert!(host.files().is_empty());
    assert_eq!(host.reporter.undelivered().await.unwrap(), []);
    host.stop().await;
}

#[tokio::test]
async fn lines_that_the_disk_refused_are_counted_and_an_end_is_written_when_it_takes_it_again() {
    let host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    report.line(LogType::Stdout, "before");
    report.line(LogType::Stderr, "also before");
    let (there, away) = (host.files()[0].clone(), host.dir.path().join("away"));
    host.until_written("also before").await;
    std::fs::rename(&there, &away).unwrap();
    for n in 0..10 {
        report.line(LogType::Stdout, &"x".repeat(40_000 + n));
    }
    let outcome = builded();
    let (delivery, ()) = tokio::join!(report.end(&outcome), async {
        // The end has met the disk that refuses it by the time another deployment's way is through.
        let other = Host::start().await;
        assert_eq!(end(other.open("dpl2").await.as_ref(), failed("no")).await, Delivery::Delivered);
        other.stop().await;
        std::fs::rename(&away, &there).unwrap();
        host.open_gate();
    });
    assert_eq!(delivery, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[..2], ["before", "also before"]);
    assert!(lines[2].starts_with("[slipway] 10 lines (400045 bytes) are missing here"), "{lines:?}");
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "BUILDED"]);
    host.stop().await;
}
