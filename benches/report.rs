//! What a chatty build costs the worker: a million lines through a report, to a dashboard on loopback in a process of its own.
//!
//! `cargo bench --bench report`

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use slipway::config::DashboardConfig;
use slipway::protocol::{Code, DeploymentId, Failure, ImageRef, LogSink, LogType, Outcome, RegistryType};
use slipway::queue::{Fenced, Gate, GateState, Telling};
use slipway::report::{Delivery, Fence, Pace, Reporter};
use slipway::secrets::{Redactor, SecretString};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const LINES: u64 = 1_000_000;
const JOBS: u64 = 3_000;

struct Yes;

impl Fence for Yes {
    fn may_post(&self, _: Telling) -> BoxFuture<'_, Result<Fenced, ()>> {
        std::future::ready(Ok(Fenced::Stored)).boxed()
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if std::env::args().any(|a| a == "--dashboard") {
        runtime.block_on(dashboard());
        return;
    }
    let mut dashboard = Command::new(std::env::current_exe().unwrap()).arg("--dashboard").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(dashboard.stdout.take().unwrap()).lines();
    let address = said.next().unwrap().unwrap();
    let rate = runtime.block_on(report(&address));
    let posts: u64 = said.by_ref().map(|l| l.unwrap()).find_map(|l| l.strip_prefix("posts ")?.parse().ok()).unwrap();
    dashboard.kill().unwrap();
    dashboard.wait().unwrap();
    println!("{rate}");
    println!("posts                     {posts:>12}   1/{:.0} per line", LINES as f64 / posts as f64);
}

/// Counts posts and lines; says how many posts it was when the end comes.
async fn dashboard() {
    let posts = Arc::new(AtomicU64::new(0));
    let app = Router::new()
        .route(
            "/api/webhooks/deployments/{id}/logs",
            post(|State(posts): State<Arc<AtomicU64>>, _: axum::body::Bytes| async move {
                posts.fetch_add(1, Ordering::Relaxed);
                axum::Json(serde_json::json!({ "success": true }))
            }),
        )
        .route(
            "/api/webhooks/deployments/{id}/status",
            post(|State(posts): State<Arc<AtomicU64>>, _: axum::body::Bytes| async move {
                println!("posts {}", posts.load(Ordering::Relaxed));
                axum::Json(serde_json::json!({ "success": true }))
            }),
        )
        .with_state(posts);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, app).await.unwrap();
}

async fn report(address: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (_keeper, gate) = Gate::new(GateState::Open);
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let config = DashboardConfig {
        url: format!("http://{address}/api").parse().unwrap(),
        key: SecretString::from("a-key"),
        timeout: Duration::from_secs(60),
        log_max_bytes: 32 << 20,
        log_total_max: 0,
        journal_max_bytes: 1 << 30,
    };
    let reporter = Reporter::new(config, dir.path().join("journal"), gate, tasks.clone(), stop.clone(), Pace::default()).unwrap();
    let redactor = Arc::new(Redactor::new(&[SecretString::from("a-secret-of-the-job")], &[], &[]));
    let report = reporter.open(&DeploymentId::parse("bench").unwrap(), 1, redactor, Arc::new(Yes)).await.unwrap();
    let (before, idle) = (memory("VmRSS"), cpu());
    let writer = Arc::clone(&report);
    let started = Instant::now();
    let written = tasks
        .spawn(async move {
            for n in 0..LINES {
                writer.line(LogType::Stdout, &format!("#12 {n:>9} npm http fetch GET 200 registry package"));
                // As who reads a build's output does it between two pieces.
                if n.is_multiple_of(100) && !writer.has_room() {
                    writer.room().await;
                }
            }
            started.elapsed()
        })
        .await
        .unwrap();
    let digest = format!("sha256:{}", "ab".repeat(32));
    let outcome = Outcome::Builded { image: ImageRef::new("host/repo", "tag", &digest).unwrap(), registry: RegistryType::Docker };
    assert_eq!(report.end(&outcome).await, Delivery::Delivered);
    let (told, busy) = (started.elapsed(), cpu() - idle);
    report.close().await;
    let peak = memory("VmHWM");
    let refused = refused_jobs(&reporter).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    format!(
        "lines                     {LINES:>12}\n\
         taken by line()           {:>12.0} lines/s\n\
         told, end included        {:>12.0} lines/s\n\
         CPU of the worker         {:>12.2} s per million lines\n\
         memory before / peak      {before:>8} / {peak} KiB\n\
         jobs that only fail       {refused:>12.0} a second, 8 at a time",
        LINES as f64 / written.as_secs_f64(),
        LINES as f64 / told.as_secs_f64(),
        busy,
    )
}

/// Jobs that are refused at once: journal begun, end synced and told, journal removed. A second.
async fn refused_jobs(reporter: &Arc<Reporter>) -> f64 {
    let outcome = Outcome::Failed { failure: Failure::new(Code::JobMalformed, "The job has no repositoryName.", "Send one.") };
    let started = Instant::now();
    stream::iter(0..JOBS)
        .for_each_concurrent(8, async |n| {
            let redactor = Arc::new(Redactor::new(&[], &[], &[]));
            let report =
                reporter.open(&DeploymentId::parse(&format!("job{n}")).unwrap(), 1, redactor, Arc::new(Yes)).await.unwrap();
            assert_eq!(report.end(&outcome).await, Delivery::Delivered);
            report.close().await;
        })
        .await;
    JOBS as f64 / started.elapsed().as_secs_f64()
}

/// A line of `/proc/self/status`, KiB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of this process so far, seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}
