//! A dashboard in trouble: everything is told in the end, in order, and what is not told is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::report::{Delivery, JobReport};

use crate::dashboard::{Dashboard, Reply};
use crate::host::{Host, builded, end, failed};

/// Three types by turns, so that the posts are many.
fn talk(report: &JobReport, lines: usize) -> Vec<String> {
    let kinds = [LogType::Stdout, LogType::Stderr, LogType::Info];
    (0..lines)
        .map(|n| {
            let line = format!("line {n}");
            report.line(kinds[n % 3], &line);
            line
        })
        .collect()
}

/// What is shown without repeated rows next to each other.
fn lines_once(dashboard: &Dashboard, id: &str) -> Vec<String> {
    let mut lines = dashboard.lines(id);
    lines.dedup();
    lines
}

/// Every `n`th post gets `reply`, the others are taken.
fn every(n: u32, reply: Reply) -> impl FnMut(&crate::dashboard::Seen) -> Reply + Send {
    let mut count = 0;
    move |_| {
        count += 1;
        if count % n == 0 { reply.clone() } else { Reply::AsMeasured }
    }
}

#[tokio::test]
async fn a_dashboard_that_fails_now_and_then_gets_every_line_in_order() {
    for reply in [
        Reply::Status(500),
        Reply::Status(502),
        Reply::Status(503),
        Reply::Status(404),
        Reply::Status(401),
        Reply::StoreAndCut,
        Reply::CutBody,
    ] {
        let host = Host::start().await;
        host.dashboard.answers(every(4, reply.clone()));
        let report = host.open("dpl1").await;
        report.status(DeploymentStatus::Building);
        let lines = talk(&report, 60);
        assert_eq!(end(&report, builded()).await, Delivery::Delivered, "{reply:?}");
        assert_eq!(lines_once(&host.dashboard, "dpl1"), lines, "{reply:?}");
        assert_eq!(host.dashboard.statuses("dpl1").last().unwrap(), "BUILDED");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_dashboard_that_hangs_is_asked_again_after_the_time_out() {
    let host = Host::with(|config, _| config.timeout = Duration::from_millis(300)).await;
    host.dashboard.answers(every(3, Reply::Hang));
    let report = host.open("dpl1").await;
    let lines = talk(&report, 8);
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(lines_once(&host.dashboard, "dpl1"), lines);
    host.stop().await;
}

#[tokio::test]
async fn what_was_said_while_nobody_listened_is_told_when_somebody_does() {
    let host = Host::start().await;
    host.dashboard.go_away();
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    let lines = talk(&report, 30);
    let (delivery, ()) = tokio::join!(end(&report, builded()), async {
        host.until_journal_holds(&builded()).await;
        host.dashboard.come_back().await;
    });
    assert_eq!(delivery, Delivery::Delivered);
    assert_eq!(host.dashboard.lines("dpl1"), lines);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "BUILDED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_retry_after_is_waited_for() {
    let host = Host::start().await;
    let mut first = true;
    host.dashboard.answers(move |_| if std::mem::take(&mut first) { Reply::RetryAfter(429, "1") } else { Reply::AsMeasured });
    let (one, two) = (host.open("dpl1").await, host.open("dpl2").await);
    let ends = tokio::join!(end(&one, builded()), end(&two, builded()));
    assert_eq!(ends, (Delivery::Delivered, Delivery::Delivered));
    let posts = host.dashboard.posts();
    let refused = posts.iter().position(|p| p.answered == 429).unwrap();
    // The other deployment's post may have been under way at that moment; the next try of this one waited.
    let again = posts[refused + 1..].iter().find(|p| p.id == posts[refused].id).unwrap();
    assert!(again.at - posts[refused].at >= Duration::from_millis(990));
    host.stop().await;
}

#[tokio::test]
async fn while_it_is_away_one_try_at_a_time_goes_out_not_one_per_job() {
    let host = Host::with(|_, pace| (pace.base, pace.cap) = (Duration::from_millis(20), Duration::from_millis(20))).await;
    let away = Arc::new(AtomicBool::new(true));
    let under_way = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (a, u) = (Arc::clone(&away), Arc::clone(&under_way));
    host.dashboard.answers(move |_| {
        u.fetch_add(1, Ordering::SeqCst);
        if a.load(Ordering::SeqCst) { Reply::Status(503) } else { Reply::AsMeasured }
    });
    let started = Instant::now();
    let reports = open_many(&host, 100).await;
    let ends = futures_util::future::join_all(reports.iter().map(|r| end(r, failed("no"))));
    let (ends, ()) = tokio::join!(ends, async {
        host.dashboard.until(|p| p.len() > 30).await;
        away.store(false, Ordering::SeqCst);
    });
    assert!(ends.iter().all(|d| *d == Delivery::Delivered));
    // Eight that were under way when it failed first, then one per wait (10 ms on average).
    let refused = host.dashboard.posts().iter().filter(|p| p.answered == 503).count();
    assert!((30..60).contains(&refused), "{refused} tries in {:?}", started.elapsed());
    for n in 0..100 {
        assert_eq!(host.dashboard.statuses(&format!("dpl{n}")), ["FAILED"]);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_line_that_is_answered_with_500_for_ever_is_left_out_with_a_line_that_says_so() {
    let host = Host::start().await;
    host.dashboard.answers(|seen| if seen.text().contains("poison") { Reply::Status(500) } else { Reply::AsMeasured });
    let report = host.open("dpl1").await;
    report.line(LogType::Stdout, "before\na poison pill\nafter");
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!((lines[0].as_str(), lines[2].as_str()), ("before", "after"));
    assert!(lines[1].contains("500") && lines[1].contains("left out"), "{lines:?}");
    host.stop().await;
}

#[tokio::test]
async fn a_post_that_is_too_large_is_told_in_parts() {
    let host = Host::start().await;
    host.dashboard.answers(|seen| if seen.text().len() > 5000 { Reply::Status(413) } else { Reply::AsMeasured });
    let report = host.open("dpl1").await;
    let lines: Vec<_> = (0..2000).map(|n| format!("line {n}")).collect();
    report.line(LogType::Stdout, &lines.join("\n"));
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.lines("dpl1"), lines);
    host.stop().await;
}

#[tokio::test]
async fn a_status_is_never_left_out_however_often_it_is_answered_with_500() {
    let host = Host::start().await;
    let mut tries = 0;
    host.dashboard.answers(move |seen| {
        tries += u32::from(seen.status() == "BUILDED");
        if seen.status() == "BUILDED" && tries < 30 { Reply::Status(500) } else { Reply::AsMeasured }
    });
    assert_eq!(host.open("dpl1").await.end(&builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDED"]);
    host.stop().await;
}

#[tokio::test]
async fn a_404_for_all_ids_is_not_believed() {
    let host = Host::with(|_, pace| pace.refuse_after = Duration::ZERO).await;
    host.dashboard.answers(|_| Reply::Status(404));
    let (one, two) = (host.open("dpl1").await, host.open("dpl2").await);
    let ends = async { tokio::join!(end(&one, builded()), end(&two, builded())) };
    let ((first, second), ()) = tokio::join!(ends, async {
        host.dashboard.until(|p| p.len() > 40).await;
        host.dashboard.answers(|_| Reply::AsMeasured);
    });
    assert_eq!((first, second), (Delivery::Delivered, Delivery::Delivered));
    host.stop().await;
}

#[tokio::test]
async fn a_404_for_one_id_while_others_pass_ends_its_report_after_a_while() {
    let host = Host::with(|_, pace| pace.refuse_after = Duration::from_millis(200)).await;
    host.dashboard.answers(|seen| if seen.id == "gone" { Reply::Status(404) } else { Reply::AsMeasured });
    let (gone, well) = (host.open("gone").await, host.open("well").await);
    let refused = end(&gone, builded());
    let mut refused = std::pin::pin!(refused);
    let started = Instant::now();
    let delivery = loop {
        well.line(LogType::Info, "still here");
        tokio::select! {
            delivery = &mut refused => break delivery,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    };
    assert_eq!(delivery, Delivery::Refused { status: 404 });
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!(host.reporter.accepts_work(), Ok(()));
    gone.close().await;
    host.stop().await;
}

#[tokio::test]
async fn a_key_that_is_refused_stops_claims_until_it_is_taken() {
    let host = Host::start().await;
    host.dashboard.answers(|_| Reply::Status(403));
    let report = host.open("dpl1").await;
    let (delivery, ()) = tokio::join!(end(&report, builded()), async {
        host.dashboard.until(|p| p.len() > 3).await;
        assert!(host.reporter.accepts_work().unwrap_err().contains("403"));
        host.dashboard.answers(|_| Reply::AsMeasured);
    });
    assert_eq!(delivery, Delivery::Delivered);
    assert_eq!(host.reporter.accepts_work(), Ok(()));
    host.stop().await;
}

#[tokio::test]
async fn a_key_that_is_taken_again_is_noticed_though_no_report_waits() {
    let host = Host::start().await;
    host.dashboard.answers(|_| Reply::Status(401));
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    while host.reporter.accepts_work().is_ok() {
        tokio::task::yield_now().await;
    }
    report.abandon().await;
    host.dashboard.answers(|_| Reply::AsMeasured);
    while host.reporter.accepts_work().is_err() {
        tokio::task::yield_now().await;
    }
    host.stop().await;
}

#[tokio::test]
async fn a_log_that_outgrows_its_cap_keeps_head_and_tail_and_says_what_is_missing() {
    let cap = 1 << 20;
    let host = Host::with(|config, _| config.log_max_bytes = cap).await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    for n in 0..100_000 {
        report.line(LogType::Stdout, &format!("line {n:>60}"));
    }
    let disk: u64 = host.files().iter().map(|p| p.metadata().unwrap().len()).sum();
    assert!(disk <= cap + 200_000, "{disk} bytes on disk");
    host.open_gate();
    assert_eq!(end(&report, failed("no")).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    let gap = lines.iter().position(|l| l.starts_with("[slipway]")).unwrap();
    let missing: usize = lines[gap].split(' ').nth(1).unwrap().parse().unwrap();
    let number = |l: &String| l.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let (head, tail) = (&lines[..gap], &lines[gap + 1..lines.len() - 1]);
    assert!(head.iter().enumerate().all(|(n, l)| number(l) == n));
    assert_eq!(number(&tail[0]), head.len() + missing, "the count is exact");
    assert_eq!(number(tail.last().unwrap()), 99_999, "the tail is kept to the last line");
    assert!(head.len() > tail.len() && tail.len() > 1000, "{} {}", head.len(), tail.len());
    assert!(lines.last().unwrap().starts_with("no [dockerfile.step_failed]"));
    host.stop().await;
}

#[tokio::test]
async fn no_job_is_claimed_while_too_much_waits_for_the_dashboard() {
    let host = Host::with(|config, _| config.journal_max_bytes = 200_000).await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    assert_eq!(host.reporter.accepts_work(), Ok(()));
    report.line(LogType::Stdout, &"x".repeat(300_000));
    let why = loop {
        match host.reporter.accepts_work() {
            Err(why) => break why,
            // The disk has not taken it yet.
            Ok(()) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    assert!(why.contains("JOURNAL_MAX_BYTES"), "{why}");
    host.open_gate();
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    report.close().await;
    assert_eq!(host.reporter.accepts_work(), Ok(()));
    host.stop().await;
}

#[tokio::test]
async fn a_thousand_reports_that_wait_hold_no_file_open() {
    let host = Host::start().await;
    host.shut_gate();
    let open_files = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|e| {
                let target = std::fs::read_link(e.as_ref().unwrap().path());
                target.is_ok_and(|t| t.starts_with(host.journal()))
            })
            .count()
    };
    let reports = open_many(&host, 1000).await;
    for report in &reports {
        report.line(LogType::Info, "waiting");
        report.status(DeploymentStatus::Building);
    }
    // A writer has one open for a moment.
    let written = async {
        while open_files() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), written).await.expect("no file stays open");
    host.open_gate();
    host.dashboard.until(|p| p.iter().filter(|s| s.status() == "BUILDING").count() == 1000).await;
    host.stop().await;
}

async fn open_many(host: &Host, how_many: usize) -> Vec<Arc<JobReport>> {
    let mut reports = Vec::with_capacity(how_many);
    for n in 0..how_many {
        reports.push(host.open(&format!("dpl{n}")).await);
    }
    reports
}
