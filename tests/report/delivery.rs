//! What a dashboard that is well gets to see.

use std::sync::Arc;

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::report::Delivery;
use slipway::secrets::{Redactor, SecretString};

use crate::dashboard::Reply;
use crate::host::{Fences, Host, builded, end, failed, id};

#[tokio::test]
async fn a_build_is_told_in_order_status_lines_end() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    report.line(LogType::Info, "cloning");
    report.line(LogType::Stdout, "step 1");
    report.line(LogType::Stdout, "step 2");
    report.line(LogType::Stderr, "warning: x");
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let told: Vec<_> = host
        .dashboard
        .rows("dpl1")
        .iter()
        .map(|s| if s.route == "status" { s.status().to_owned() } else { format!("{} {}", s.body["type"], s.text()) })
        .collect();
    assert_eq!(told, ["BUILDING", "\"INFO\" cloning", "\"STDOUT\" step 1\nstep 2", "\"STDERR\" warning: x", "BUILDED"]);
    let end = &host.dashboard.rows("dpl1")[4];
    let uri = end.body["data"]["containerImageUri"].as_str().unwrap();
    assert!(uri.starts_with("127.0.0.1:5000/deployra/svc:dpl-1@sha256:abab"), "{uri}");
    assert_eq!(end.body["data"]["containerRegistryType"], "docker");
    report.close().await;
    assert_eq!(host.files(), Vec::<std::path::PathBuf>::new());
    host.stop().await;
}

#[tokio::test]
async fn lines_of_a_running_build_are_shown_while_it_runs() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    report.line(LogType::Stdout, "first");
    host.dashboard.until(|posts| posts.iter().any(|p| p.text() == "first")).await;
    report.line(LogType::Stdout, "");
    host.dashboard.until(|posts| posts.iter().any(|p| p.text() == " ")).await;
    host.stop().await;
}

#[tokio::test]
async fn a_chatty_build_costs_few_posts_and_loses_no_line() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let writer = Arc::clone(&report);
    tokio::task::spawn_blocking(move || {
        for n in 0..100_000 {
            writer.line(LogType::Stdout, &format!("line {n} of a build that prints a lot"));
        }
    })
    .await
    .unwrap();
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1");
    assert_eq!(lines.len(), 100_000);
    assert!(lines.iter().enumerate().all(|(n, l)| *l == format!("line {n} of a build that prints a lot")));
    let posts = host.dashboard.posts();
    assert!(posts.len() * 50 <= lines.len(), "{} posts", posts.len());
    assert!(posts.iter().all(|p| p.text().len() <= 60 * 1024));
    host.stop().await;
}

#[tokio::test]
async fn a_failure_is_short_in_error_and_whole_in_the_last_line() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let cause = "ä".repeat(500);
    assert_eq!(end(&report, failed(&cause)).await, Delivery::Delivered);
    let rows = host.dashboard.rows("dpl1");
    assert_eq!(rows[0].body["type"], "ERROR");
    assert_eq!(rows[0].text(), format!("{cause} [dockerfile.step_failed] See the step's output above."));
    assert_eq!(rows[1].status(), "FAILED");
    assert_eq!(rows[1].body["error"].as_str().unwrap().chars().count(), 191);
    host.stop().await;
}

#[tokio::test]
async fn a_line_of_a_megabyte_is_told_in_parts_that_the_dashboard_takes() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let line = "€".repeat(350_000);
    report.line(LogType::Stdout, &line);
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.lines("dpl1").concat(), line);
    assert!(host.dashboard.posts().iter().all(|p| p.answered == 200));
    host.stop().await;
}

#[tokio::test]
async fn nothing_leaves_while_the_gate_is_shut_and_all_of_it_when_it_opens() {
    let host = Host::start().await;
    host.shut_gate();
    let report = host.open("dpl1").await;
    report.status(DeploymentStatus::Building);
    report.line(LogType::Info, "working");
    let ending = {
        let report = Arc::clone(&report);
        async move { end(&report, builded()).await }
    };
    let mut ending = std::pin::pin!(ending);
    // Another deployment's whole way, from a host whose gate is open, is time enough for a post that would slip through.
    let other = Host::start().await;
    assert_eq!(other.open("dpl2").await.end(&builded()).await, Delivery::Delivered);
    assert!(futures_util::poll!(&mut ending).is_pending());
    assert_eq!(host.dashboard.posts(), []);
    host.open_gate();
    assert_eq!(ending.await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "BUILDED"]);
    host.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn the_key_is_not_sent_along_a_redirect() {
    let host = Host::start().await;
    let report = host.open("dpl1").await;
    let mut first = true;
    host.dashboard.answers(move |_| if std::mem::take(&mut first) { Reply::Status(307) } else { Reply::AsMeasured });
    assert_eq!(end(&report, builded()).await, Delivery::Delivered);
    let answers: Vec<_> = host.dashboard.posts().iter().map(|p| p.answered).collect();
    assert_eq!(answers, [307, 400, 200], "one test post lies between");
    host.stop().await;
}

#[tokio::test]
async fn a_check_says_whether_the_dashboard_is_there_and_takes_the_key_and_stores_nothing() {
    let mut host = Host::start().await;
    assert_eq!(host.reporter.check().await, Ok(()));
    assert!(host.dashboard.posts().iter().all(|p| p.answered == 400));
    host.config.key = slipway::secrets::SecretString::from("another");
    host.restart().await;
    let refused = host.reporter.check().await.unwrap_err();
    assert!(refused.contains("401") && refused.contains("API_KEY") && !refused.contains("another"), "{refused}");
    assert!(host.reporter.accepts_work().unwrap_err().contains("401"));
    host.dashboard.go_away();
    let away = host.reporter.check().await.unwrap_err();
    assert!(away.contains("127.0.0.1") && away.contains("API_URL"), "{away}");
    host.stop().await;
}

#[tokio::test]
async fn what_is_not_to_be_seen_in_a_line_is_taken_out_before_secrets_are_looked_for() {
    let host = Host::start().await;
    let redactor = Arc::new(Redactor::new(&[SecretString::from("hunter22-token")], &[], &[]));
    let report = host.reporter.open(&id("dpl1"), 1, redactor, Arc::new(Fences::stored())).await.unwrap();
    report.line(LogType::Warning, "the registry said: hunter22\x08\x1b[2K-token\r\x07\u{202e}desrever\nnext");
    assert_eq!(end(&report, failed("hunter22\x00-token\x1b[H was refused")).await, Delivery::Delivered);
    let lines = host.dashboard.lines("dpl1").join("\n");
    assert!(lines.contains("desrever\nnext") && lines.contains("*** was refused"), "{lines:?}");
    assert!(!lines.contains("-token") && lines.chars().all(|c| c == '\n' || !c.is_control()), "{lines:?}");
    host.stop().await;
}
