//! Posts that are refused alone: an end is told with less and then given up, and nobody else waits for it. And answers that are not
//! the API's: they acknowledge nothing.

use std::sync::Arc;
use std::time::Duration;

use slipway::protocol::{DeploymentStatus, LogSink, LogType};
use slipway::queue::Telling;
use slipway::report::Delivery;

use crate::dashboard::{Reply, Seen, is_test};
use crate::host::{Fences, Host, builded, cancelled, end, failed};

/// Believes refusals soon.
async fn host() -> Host {
    let soon = Duration::from_millis(100);
    Host::with(|_, pace| (pace.refuse_beside_after, pace.refuse_alone_after) = (soon, soon)).await
}

fn is_end(seen: &Seen) -> bool {
    ["BUILDED", "FAILED", "CANCELLED"].contains(&seen.status())
}

/// The different bodies of one deployment's ends, in the order in which they came first.
fn ends(host: &Host, id: &str) -> Vec<serde_json::Value> {
    let mut bodies: Vec<_> = host.dashboard.posts().into_iter().filter(|s| s.id == id && is_end(s)).map(|s| s.body).collect();
    bodies.dedup();
    bodies
}

#[tokio::test]
async fn an_error_that_the_dashboard_stumbles_over_is_told_as_its_code() {
    let host = host().await;
    host.dashboard.answers(|seen| {
        let stumbles = seen.body["error"].as_str().is_some_and(|error| error.contains('\u{1f4a5}'));
        if stumbles { Reply::Status(500) } else { Reply::AsMeasured }
    });
    let report = host.open("dpl1").await;
    assert_eq!(end(&report, failed("the step printed \u{1f4a5}")).await, Delivery::Delivered);
    let told = host.dashboard.rows("dpl1").pop().unwrap();
    assert_eq!((told.status(), &told.body["error"]), ("FAILED", &"dockerfile.step_failed".into()));
    host.stop().await;
}

#[tokio::test]
async fn an_end_that_is_refused_alone_is_told_with_less_and_then_given_up() {
    for (answer, outcome, how_much) in
        [(500, failed("no"), 3), (422, cancelled(), 3), (400, failed("no"), 3), (413, builded(), 2), (500, builded(), 2)]
    {
        let host = host().await;
        host.dashboard.answers(move |seen| if is_end(seen) { Reply::Status(answer) } else { Reply::AsMeasured });
        let report = host.open("dpl1").await;
        report.line(LogType::Info, "a line");
        assert_eq!(end(&report, outcome.clone()).await, Delivery::Refused { status: answer });
        let bodies = ends(&host, "dpl1");
        assert_eq!(bodies.len(), how_much, "{answer}: {bodies:?}");
        let has = |field: &str| bodies.iter().filter(|b| !b[field].is_null()).count();
        match outcome {
            slipway::protocol::Outcome::Builded { .. } => assert_eq!(has("data"), 2, "never without its image"),
            _ => assert_eq!(has("error"), 2, "the last one has no error"),
        }
        report.close().await;
        assert!(host.files().is_empty());
        host.stop().await;
    }
}

#[tokio::test]
async fn an_end_that_is_refused_is_given_up_where_the_ends_of_others_are_taken_beside_it() {
    for answer in [500, 400] {
        let (soon, never) = (Duration::from_millis(200), Duration::from_secs(24 * 3600));
        let host = Host::with(|_, pace| (pace.refuse_beside_after, pace.refuse_alone_after) = (soon, never)).await;
        // Two of them: neither is alone.
        host.dashboard.answers(move |seen| {
            let is_bad = seen.id.starts_with("bad") && is_end(seen);
            if is_bad { Reply::Status(answer) } else { Reply::AsMeasured }
        });
        let (one, two) = (host.open("bad1").await, host.open("bad2").await);
        let refused = async { tokio::join!(end(&one, builded()), end(&two, failed("no"))) };
        let mut refused = std::pin::pin!(refused);
        let mut others = 0;
        let ends = loop {
            let good = host.open(&format!("good{others}")).await;
            tokio::select! {
                ends = &mut refused => break ends,
                told = end(&good, builded()) => assert_eq!(told, Delivery::Delivered),
            }
            good.close().await;
            others += 1;
        };
        let given_up = Delivery::Refused { status: answer };
        assert_eq!(ends, (given_up.clone(), given_up));
        host.stop().await;
    }
}

/// As a database that takes no writes: the API refuses an empty line before it asks it.
fn takes_no_writes(seen: &Seen) -> Reply {
    if is_test(seen) { Reply::AsMeasured } else { Reply::Status(500) }
}

/// Four deployments with lines and an end; the dashboard answers so until it has refused `how_many` posts, then it is well.
async fn loses_nothing(host: Host, trouble: impl FnMut(&Seen) -> Reply + Send + 'static, how_many: usize) {
    host.dashboard.answers(trouble);
    let mut reports = Vec::new();
    for n in 0..4 {
        let report = host.open(&format!("dpl{n}")).await;
        report.status(DeploymentStatus::Building);
        report.line(LogType::Stdout, "one\ntwo");
        report.line(LogType::Stderr, "three");
        reports.push(report);
    }
    let ends = futures_util::future::join_all(reports.iter().map(|report| end(report, builded())));
    let (ends, ()) = tokio::join!(ends, async {
        host.dashboard.until(|seen| seen.iter().filter(|s| !is_test(s)).count() > how_many).await;
        host.dashboard.answers(|_| Reply::AsMeasured);
    });
    assert!(ends.iter().all(|delivery| *delivery == Delivery::Delivered), "{ends:?}");
    for n in 0..4 {
        let id = format!("dpl{n}");
        assert_eq!(host.dashboard.statuses(&id), ["BUILDING", "BUILDED"]);
        let mut lines = host.dashboard.lines(&id);
        lines.retain(|line| !line.starts_with("[slipway]"));
        assert_eq!(lines, ["one", "two", "three"]);
    }
    host.stop().await;
}

#[tokio::test]
async fn a_dashboard_whose_database_takes_no_writes_loses_no_end_and_no_line() {
    // Four that are refused are an outage, however little time is given to one that is refused alone.
    let (none, soon) = (Duration::ZERO, Duration::from_secs(1));
    let host = Host::with(|_, pace| (pace.refuse_beside_after, pace.refuse_alone_after) = (none, soon)).await;
    loses_nothing(host, takes_no_writes, 400).await;
}

#[tokio::test]
async fn an_address_that_answers_400_to_everything_swallows_nothing() {
    for status in [400, 413, 422] {
        let host = Host::with(|_, pace| pace.refuse_beside_after = Duration::ZERO).await;
        let all = move |seen: &Seen| if is_test(seen) { Reply::AsMeasured } else { Reply::Status(status) };
        loses_nothing(host, all, 100).await;
    }
}

#[tokio::test]
async fn an_address_that_begins_to_answer_400_to_everything_swallows_nothing() {
    let host = Host::start().await;
    let before = host.open("before").await;
    assert_eq!(end(&before, builded()).await, Delivery::Delivered);
    loses_nothing(host, |seen| if is_test(seen) { Reply::AsMeasured } else { Reply::Status(400) }, 100).await;
}

#[tokio::test]
async fn a_lone_end_that_a_fresh_worker_cannot_tell_is_given_up_in_the_end() {
    for answer in [400, 413, 422, 500] {
        let host = host().await;
        host.dashboard.answers(move |seen| if is_end(seen) { Reply::Status(answer) } else { Reply::AsMeasured });
        let report = host.open("dpl1").await;
        assert_eq!(end(&report, builded()).await, Delivery::Refused { status: answer });
        assert_eq!(ends(&host, "dpl1").len(), 2);
        host.stop().await;
    }
}

#[tokio::test]
async fn a_dashboard_that_fails_most_posts_loses_none_of_many_ends() {
    let host = Host::start().await;
    let mut state = 7u32;
    host.dashboard.answers(move |seen| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if !is_test(seen) && (state >> 16) % 10 < 6 { Reply::Status(500) } else { Reply::AsMeasured }
    });
    let mut reports = Vec::new();
    for n in 0..100 {
        reports.push(host.open(&format!("dpl{n}")).await);
    }
    let told = futures_util::future::join_all(reports.iter().map(|report| end(report, builded()))).await;
    assert!(told.iter().all(|delivery| *delivery == Delivery::Delivered), "{told:?}");
    for n in 0..100 {
        let id = format!("dpl{n}");
        assert_eq!(host.dashboard.statuses(&id), ["BUILDED"]);
        assert_eq!(ends(&host, &id).len(), 1, "it is told whole, and nothing less");
    }
    host.stop().await;
}

#[tokio::test]
async fn an_end_is_never_given_up_while_the_dashboard_answers_500_to_everybody() {
    let host = host().await;
    host.dashboard.answers(|_| Reply::Status(500));
    let report = host.open("dpl1").await;
    let (delivery, ()) = tokio::join!(end(&report, failed("no")), async {
        host.dashboard.until(|seen| seen.iter().filter(|s| s.id == "dpl1").count() > 40).await;
        host.dashboard.answers(|_| Reply::AsMeasured);
    });
    assert_eq!(delivery, Delivery::Delivered);
    assert!(host.dashboard.rows("dpl1").pop().unwrap().body["error"].as_str().unwrap().starts_with("no "), "told whole");
    host.stop().await;
}

#[tokio::test]
async fn three_deployments_whose_ends_are_refused_hold_up_nobody() {
    // Three that are refused open the circuit: one try at a time goes out, after a wait of this length at most.
    let (hour, one_try) = (Duration::from_secs(3600), Duration::from_millis(100));
    let host = Host::with(|_, pace| (pace.base, pace.cap, pace.doubt_cap) = (hour, hour, one_try)).await;
    host.dashboard
        .answers(|seen| if seen.id.starts_with("bad") && is_end(seen) { Reply::Status(500) } else { Reply::AsMeasured });
    let bad = [host.open("bad1").await, host.open("bad2").await, host.open("bad3").await];
    let ends = futures_util::future::join_all(bad.iter().map(|report| end(report, builded())));
    let mut ends = std::pin::pin!(ends);
    let all_refused = |seen: &[Seen]| (1..=3).all(|n| seen.iter().any(|s| s.id == format!("bad{n}") && is_end(s)));
    tokio::select! {
        ended = &mut ends => panic!("given up too soon: {ended:?}"),
        () = host.dashboard.until(all_refused) => {}
    }
    let good = host.open("good").await;
    let told = tokio::select! {
        ended = &mut ends => panic!("given up too soon: {ended:?}"),
        told = tokio::time::timeout(Duration::from_secs(30), end(&good, builded())) => told,
    };
    assert_eq!(told, Ok(Delivery::Delivered));
    host.stop().await;
}

#[tokio::test]
async fn a_deployment_whose_every_post_is_refused_comes_to_its_end_and_is_given_up() {
    let host = host().await;
    host.dashboard.answers(|seen| if seen.id == "bad" { Reply::Status(500) } else { Reply::AsMeasured });
    let report = host.open("bad").await;
    report.status(DeploymentStatus::Building);
    for line in 0..3 {
        report.line(LogType::Stdout, &format!("line {line}"));
        report.line(LogType::Stderr, &format!("line {line}"));
    }
    let given_up = tokio::time::timeout(Duration::from_secs(60), end(&report, failed("no"))).await;
    assert_eq!(given_up, Ok(Delivery::Refused { status: 500 }));
    host.stop().await;
}

#[tokio::test]
async fn what_is_no_json_of_the_api_acknowledges_nothing() {
    let pages: [(u16, &str, &str); 7] = [
        // They take everything, an empty line too.
        (200, "application/json", r#"{"ok":1}"#),
        (201, "application/json", "{}"),
        (200, "text/html", "<!DOCTYPE html><title>Sign in</title>"),
        (200, "application/json", ""),
        (200, "text/plain", "OK"),
        (200, "application/json", r#"{"error":"please sign in"}"#),
        (302, "text/html", "<a href='https://login.example'>Sign in</a>"),
    ];
    for (status, content_type, body) in pages {
        let host = Host::start().await;
        host.dashboard.answers(move |_| Reply::Page(status, content_type, body));
        let refused = host.reporter.check().await.unwrap_err();
        assert!(refused.contains("API_URL"), "{refused}");
        let report = host.open("dpl1").await;
        report.status(DeploymentStatus::Building);
        report.line(LogType::Info, "a line");
        let (delivery, ()) = tokio::join!(end(&report, builded()), async {
            host.dashboard.until(|seen| seen.len() > 5).await;
            host.dashboard.forget_all();
            host.dashboard.answers(|_| Reply::AsMeasured);
        });
        assert_eq!(delivery, Delivery::Delivered);
        assert_eq!(host.dashboard.statuses("dpl1"), ["BUILDING", "BUILDED"], "{status} {body}");
        assert_eq!(host.dashboard.lines("dpl1"), ["a line"]);
        assert_eq!(host.reporter.check().await, Ok(()));
        host.stop().await;
    }
}

#[tokio::test]
async fn an_address_that_takes_an_empty_line_is_not_the_dashboards() {
    let host = Host::start().await;
    host.dashboard.answers(|_| Reply::Status(200));
    let refused = host.reporter.check().await.unwrap_err();
    assert!(refused.contains("not the dashboard's API") && refused.contains("API_URL"), "{refused}");
    for page in ["<h1>The plain HTTP request was sent to HTTPS port</h1>", "<html>"] {
        host.dashboard.answers(move |_| Reply::Page(400, "text/html", page));
        let refused = host.reporter.check().await.unwrap_err();
        assert!(refused.contains("not the dashboard's API"), "{refused}");
    }
    host.stop().await;
}

/// An address that begins to take everything while nobody can see who answers there: at the start, and after an outage.
#[tokio::test]
async fn an_end_is_kept_from_whatever_takes_everything_in_the_dashboards_place() {
    let mut host = Host::start().await;
    for begins in ["at the start", "after an outage"] {
        let id = begins.replace(' ', "-");
        if begins == "at the start" {
            host.restart().await;
        } else {
            host.dashboard.answers(|_| Reply::Status(502));
            let report = host.open("other").await;
            report.line(LogType::Info, "a line");
            // The worker has seen the 502 once it sends a test post.
            host.dashboard.until(|seen| seen.iter().any(|s| is_test(s) && s.answered == 502)).await;
        }
        host.dashboard.answers(|_| Reply::Page(200, "application/json", r#"{"ok":1}"#));
        let report = host.open(&id).await;
        let (delivery, ()) = tokio::join!(end(&report, builded()), async {
            host.dashboard.until(|seen| seen.iter().filter(|s| s.answered == 200).count() > 3).await;
            let posts = host.dashboard.posts();
            assert!(posts.iter().all(|s| s.id != id), "{begins}: the end is not shown to it: {posts:?}");
            host.dashboard.answers(|_| Reply::AsMeasured);
        });
        assert_eq!(delivery, Delivery::Delivered, "{begins}");
        assert_eq!(host.dashboard.statuses(&id), ["BUILDED"], "{begins}");
        host.dashboard.forget_all();
    }
    host.stop().await;
}

#[tokio::test]
async fn a_dashboard_that_is_well_sees_one_test_post_after_an_outage_and_none_else() {
    let host = Host::start().await;
    let reports = [host.open("dpl1").await, host.open("dpl2").await, host.open("dpl3").await];
    for report in &reports {
        report.line(LogType::Info, "a line");
    }
    host.dashboard.until(|seen| seen.len() == 3).await;
    assert!(!host.dashboard.posts().iter().any(is_test));
    host.dashboard.answers(|_| Reply::Status(503));
    for report in &reports {
        report.line(LogType::Info, "a line while it is away");
        report.line(LogType::Stderr, "and another one");
    }
    host.dashboard.until(|seen| seen.iter().filter(|s| s.answered == 503).count() > 5).await;
    host.dashboard.answers(|_| Reply::AsMeasured);
    let ends = futures_util::future::join_all(reports.iter().map(|report| end(report, builded()))).await;
    assert!(ends.iter().all(|delivery| *delivery == Delivery::Delivered));
    assert_eq!(host.dashboard.posts().iter().filter(|s| is_test(s) && s.answered == 400).count(), 1);
    host.stop().await;
}

/// A firewall before the dashboard answers one line with a page: the key is right, and every other post passes.
#[tokio::test]
async fn a_line_that_a_firewall_refuses_is_left_out_and_stops_neither_claims_nor_other_reports() {
    for (status, content_type) in
        [(403, "text/html"), (401, "text/html"), (403, "application/json"), (202, "text/html"), (400, "text/html")]
    {
        let host = Host::start().await;
        let page = if content_type == "text/html" { "<h1>Request blocked</h1>" } else { "{}" };
        host.dashboard.answers(move |seen| {
            if seen.text().contains("<script>") { Reply::Page(status, content_type, page) } else { Reply::AsMeasured }
        });
        let (bad, good) = (host.open("bad").await, host.open("good").await);
        bad.line(LogType::Stdout, "before\n<script>alert(1)</script>\nafter");
        let ending = async {
            let mut ending = std::pin::pin!(end(&bad, builded()));
            loop {
                assert_eq!(host.reporter.accepts_work(), Ok(()), "{status}");
                tokio::select! {
                    delivery = &mut ending => return delivery,
                    () = tokio::time::sleep(Duration::from_millis(1)) => {}
                }
            }
        };
        let (delivery, other) = tokio::join!(ending, end(&good, builded()));
        assert_eq!((delivery, other), (Delivery::Delivered, Delivery::Delivered), "{status}");
        let lines = host.dashboard.lines("bad");
        let said = format!("[slipway] The dashboard answers {status} to the next line");
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0] == "before" && lines[1].starts_with(&said) && lines[2] == "after", "{lines:?}");
        host.stop().await;
    }
}

#[tokio::test]
async fn an_end_that_a_firewall_refuses_is_told_with_less() {
    let host = host().await;
    host.dashboard.answers(|seen| {
        let is_disliked = seen.body["error"].as_str().is_some_and(|error| error.contains("<script>"));
        if is_disliked { Reply::Page(403, "text/html", "<h1>Request blocked</h1>") } else { Reply::AsMeasured }
    });
    let report = host.open("dpl1").await;
    // Its log line passes: it is the end's own body that is refused.
    assert_eq!(end(&report, failed("<script> is not closed")).await, Delivery::Delivered);
    let told = host.dashboard.rows("dpl1").pop().unwrap();
    assert_eq!((told.status(), &told.body["error"]), ("FAILED", &"dockerfile.step_failed".into()));
    assert_eq!(host.reporter.accepts_work(), Ok(()));
    host.stop().await;
}

/// Whether Redis was told that a newer deployment's BUILDED need not wait for this one, whose end is answered so and then given up.
async fn lets_newer_ones_pass(
    outcome: slipway::protocol::Outcome,
    answers: impl Fn(usize) -> Reply + Send + Sync + 'static,
) -> bool {
    let host = host().await;
    let tries = std::sync::atomic::AtomicUsize::new(0);
    host.dashboard.answers(move |seen| match is_end(seen) {
        true => answers(tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
        false => Reply::AsMeasured,
    });
    let fence = Arc::new(Fences::stored());
    let report = host.open_as("dpl1", 1, fence.clone()).await;
    assert_eq!(end(&report, outcome).await, Delivery::Refused { status: 500 });
    host.stop().await;
    fence.tellings().contains(&Telling::RefusedEnd)
}

#[tokio::test]
async fn a_newer_deployment_may_pass_a_builded_that_is_refused_alone_but_none_that_may_be_on_its_way() {
    assert!(lets_newer_ones_pass(builded(), |_| Reply::Status(500)).await);
    assert!(!lets_newer_ones_pass(failed("no"), |_| Reply::Status(500)).await, "nobody waits for it");
    let first_is_lost = |tries| if tries == 0 { Reply::StoreAndCut } else { Reply::Status(500) };
    assert!(!lets_newer_ones_pass(builded(), first_is_lost).await, "the dashboard may have the first one");
}

#[tokio::test]
async fn an_acknowledgement_whose_body_comes_slowly_is_one_and_one_that_breaks_off_is_asked_for_again() {
    let host = host().await;
    host.dashboard.answers(|seen| if is_end(seen) { Reply::SlowBody(Duration::from_secs(3)) } else { Reply::AsMeasured });
    assert_eq!(end(&*host.open("slow").await, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("slow"), ["BUILDED"], "it is posted once");

    let is_first = std::sync::atomic::AtomicBool::new(true);
    host.dashboard.answers(move |seen| {
        let breaks_off = is_end(seen) && is_first.swap(false, std::sync::atomic::Ordering::Relaxed);
        if breaks_off { Reply::NoBody } else { Reply::AsMeasured }
    });
    assert_eq!(end(&*host.open("cut").await, builded()).await, Delivery::Delivered);
    assert_eq!(host.dashboard.statuses("cut"), ["BUILDED", "BUILDED"], "the first may not have been stored");
    host.stop().await;
}
