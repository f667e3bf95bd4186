//! The end of a job: fenced before each try, repeated with the same words, never contradicted, overruled by a cancel.

use std::sync::Arc;

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::queue::Fenced;
use slipway::report::Delivery;

use crate::dashboard::Reply;
use crate::host::{Fences, Host, builded, cancelled, end, failed, id};

#[tokio::test]
async fn an_end_that_the_fence_calls_lost_is_not_posted() {
    let host = Host::start().await;
    let report = host.open_as("dpl1", 1, Arc::new(Fences::answering(|_| Ok(Fenced::Lost)))).await;
    report.line(LogType::Info, "a line");
    assert_eq!(end(&report, builded()).await, Delivery::Lost);
    assert_eq!(host.dashboard.statuses("dpl1"), Vec::<String>::new());
    assert_eq!(end(&report, builded()).await, Delivery::Lost);
    report.abandon().await;
    assert!(host.files().is_empty());
    host.stop().await;
}

#[tokio::test]
async fn an_end_waits_while_redis_does_not_say_whether_it_may_be_posted() {
    let host = Host::start().await;
    let fence = Arc::new(Fences::answering(|asked| if asked < 5 { Err(()) } else { Ok(Fenced::Stored) }));
    let report = host.open_as("dpl1", 1, fence.clone()).await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(fence.asked(), 6);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_cancel_that_the_fence_knows_of_keeps_builded_back_and_cancelled_goes_out() {
    for outcome in [builded(), failed("no")] {
        let host = Host::start().await;
        let report = host.open_as("dpl1", 1, Arc::new(Fences::answering(|_| Ok(Fenced::Cancelled)))).await;
        report.status(DeploymentStatus::Building);
        assert_eq!(end(&report, outcome).await, Delivery::Cancelled);
        assert_eq!(end(&report, cancelled()).await, Delivery::Delivered);
        assert_eq!(host.dashboard.statuses("dpl1"), ["CANCELLED"]);
        host.stop().await;
    }
}

#[tokio::test]
async fn the_fence_is_asked_again_before_a_builded_without_an_answer_is_repeated() {
    let host = Host::start().await;
    let fence = Arc::new(Fences::answering(|asked| Ok(if asked == 0 { Fenced::Stored } else { Fenced::Cancelled })));
    let report = host.open_as("dpl1", 1, fence).await;
    host.dashboard.answers(|seen| if seen.status() == "BUILDED" { Reply::StoreAndCut } else { Reply::AsMeasured });
    assert_eq!(end(&report, builded()).await, Delivery::Cancelled);
    assert_eq!(end(&report, cancelled()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED", "CANCELLED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_cancel_while_builded_is_under_way_is_told_after_it() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let answered = Arc::new(tokio::sync::Notify::new());
    let later = Arc::clone(&answered);
    host.dashboard
        .answers(move |seen| if seen.status() == "BUILDED" { Reply::Late(Arc::clone(&later)) } else { Reply::AsMeasured });
    let (first, second, ()) = tokio::join!(
        end(&report, builded()),
        async {
            host.dashboard.until(|p| p.iter().any(|s| s.status() == "BUILDED")).await;
            end(&report, cancelled()).await
        },
        async {
            host.until_journal_holds(&cancelled()).await;
            answered.notify_one();
        }
    );
    assert_eq!((first, second), (Delivery::Delivered, Delivery::Delivered));
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED", "CANCELLED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_cancel_voids_an_end_and_a_building_that_were_not_sent_yet() {
    let host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    report.line(LogType::Info, "done");
    let (first, second, ()) = tokio::join!(
        biased;
        end(&report, builded()),
        async {
            host.until_journal_holds(&builded()).await;
            end(&report, cancelled()).await
        },
        async {
            host.until_journal_holds(&cancelled()).await;
            host.open_gate();
        }
    );
    assert_eq!((first, second), (Delivery::Cancelled, Delivery::Delivered));
    assert_eq!(host.dashboard.statuses("dpl1"), ["CANCELLED"]);
    assert_eq!(host.dashboard.lines("dpl1")[0], "done");
    host.stop().await;
}

#[tokio::test]
async fn nothing_but_lines_follows_a_cancelled() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, cancelled()).await, Delivery::Delivered);
    report.status(DeploymentStatus::Building);
    assert_eq!(end(&report, builded()).await, Delivery::Cancelled);
    report.line(LogType::Info, "cleaned up");
    host.dashboard.until(|p| p.iter().any(|s| s.text() == "cleaned up")).await;
    assert_eq!(host.dashboard.statuses("dpl1"), ["CANCELLED"]);
    host.stop().await;
}

#[tokio::test]
async fn an_end_is_never_contradicted() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(end(&report, failed("no")).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_builded_whose_answer_was_lost_is_repeated_to_the_letter() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let mut cuts = 2;
    host.dashboard.answers(move |_| {
        cuts -= i32::from(cuts > 0);
        if cuts > 0 { Reply::StoreAndCut } else { Reply::AsMeasured }
    });
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let rows = host.dashboard.rows("dpl1");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].body, rows[1].body);
    host.stop().await;
}

#[tokio::test]
async fn a_builded_that_was_answered_is_not_repeated_though_the_answer_was_cut() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    host.dashboard.answers(|_| Reply::CutBody);
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_job_that_goes_back_is_pending_and_its_journal_is_gone() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    host.dashboard.until(|p| p.iter().any(|s| s.status() == "BUILDING")).await;
    report.give_back().await;
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "PENDING"]);
    assert!(host.files().is_empty());
    let again = host.open_as("dpl1", 2, Arc::new(Fences::stored())).await;
    assert_eq!(end(&again, builded()).await, Delivery::Delivered);
    host.stop().await;
}

#[tokio::test]
async fn a_job_that_goes_back_when_a_cancel_came_or_redis_does_not_say_is_not_told_as_pending() {
    for answer in [Ok(Fenced::Cancelled), Ok(Fenced::Superseded { by: id("newer") }), Ok(Fenced::Lost), Err(())] {
        let host = Host::start().await;
        let report = host.open_as("dpl1", 1, Arc::new(Fences::answering(move |_| answer.clone()))).await;
        report.line(LogType::Info, "a line");
        report.give_back().await;
        assert_eq!(host.dashboard.statuses("dpl1"), Vec::<String>::new());
        assert!(host.files().is_empty());
        host.stop().await;
    }
}

#[tokio::test]
async fn a_job_goes_back_within_a_second_though_the_dashboard_hangs() {
    let host = Host::start().await;
    host.dashboard.answers(|_| Reply::Hang);
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    host.dashboard.until(|p| !p.is_empty()).await;
    let started = std::time::Instant::now();
    report.give_back().await;
    assert!(started.elapsed().as_millis() < 1300, "{:?}", started.elapsed());
    assert!(host.files().is_empty());
    host.stop().await;
}

#[tokio::test]
async fn one_report_of_a_deployment_is_open_at_a_time() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let redactor = Arc::new(slipway::secrets::Redactor::new(&[], &[], &[]));
    let second = host.reporter.open(&id("dpl1"), 2, redactor, Arc::new(Fences::stored())).await;
    assert_eq!(second.err().unwrap().kind(), std::io::ErrorKind::ResourceBusy);
    report.close().await;
    host.open("dpl1").await;
    host.stop().await;
}
