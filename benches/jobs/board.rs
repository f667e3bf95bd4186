//! A dashboard that keeps little: when each status came, and how many posts and lines, so that a million lines do not weigh on the run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Before the number of a line that is counted.
pub const COUNTED: &str = "npm http fetch GET 200 registry package ";

/// What came of one deployment.
#[derive(Debug, Default, Clone)]
pub struct Told {
    pub statuses: Vec<(String, Instant)>,
    pub error: String,
    pub posts: u64,
    pub lines: u64,
    /// Lines with [`COUNTED`] and a number.
    pub counted: u64,
    /// Those that are not the next after the one before.
    pub out_of_order: u64,
    last: u64,
    /// The first 64 KiB of the log.
    pub log: String,
}

impl Told {
    fn take(&mut self, text: &str) {
        self.posts += 1;
        for line in text.split('\n') {
            self.lines += 1;
            if let Some(at) = line.find(COUNTED)
                && let Ok(number) = line[at + COUNTED.len()..].trim_end().parse::<u64>()
            {
                self.counted += 1;
                self.out_of_order += u64::from(number != self.last + 1);
                self.last = number;
            }
        }
        if self.log.len() < 64 << 10 {
            self.log.push_str(text);
            self.log.push('\n');
        }
    }
}

struct Records {
    told: Mutex<HashMap<String, Told>>,
    arrivals: watch::Sender<u64>,
}

impl Records {
    fn note(&self, id: String, change: impl FnOnce(&mut Told)) {
        change(self.told.lock().unwrap().entry(id).or_default());
        self.arrivals.send_modify(|n| *n += 1);
    }
}

pub struct Board {
    pub url: String,
    records: Arc<Records>,
    _server: JoinSet<()>,
}

impl Board {
    pub async fn start() -> Self {
        let records = Arc::new(Records { told: Mutex::default(), arrivals: watch::Sender::new(0) });
        let routes = Router::new()
            .route("/api/webhooks/deployments/{id}/status", post(take_status))
            .route("/api/webhooks/deployments/{id}/logs", post(take_log))
            .layer(DefaultBodyLimit::max(4 << 20))
            .with_state(records.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, records, _server: server }
    }

    pub fn told(&self, id: &str) -> Told {
        self.lock().get(id).cloned().unwrap_or_default()
    }

    /// Waits until `wanted` of what came of a deployment is something.
    pub async fn wait<T>(&self, id: &str, what: &str, wanted: impl Fn(&Told) -> Option<T>) -> T {
        let waiting = async {
            let mut arrivals = self.records.arrivals.subscribe();
            loop {
                arrivals.borrow_and_update();
                if let Some(found) = self.lock().get(id).and_then(&wanted) {
                    return found;
                }
                arrivals.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(1200), waiting).await {
            Ok(found) => found,
            Err(_) => {
                let told = self.told(id);
                let begins: String = told.log.chars().take(2000).collect();
                panic!("{what} of {id} did not come: {:?}, {} posts, log:\n{begins}", told.statuses, told.posts)
            }
        }
    }

    /// When this end came. Another end is a broken run.
    pub async fn end(&self, id: &str, status: &str) -> Instant {
        let ends = ["BUILDED", "FAILED", "CANCELLED"];
        let (came, at, error, log) = self
            .wait(id, status, |told| {
                let (status, at) = told.statuses.iter().find(|(s, _)| ends.contains(&s.as_str()))?;
                Some((status.clone(), *at, told.error.clone(), told.log.clone()))
            })
            .await;
        assert_eq!(came, status, "the end of {id}: {error}\n{log}");
        at
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.records.told.lock().unwrap()
    }
}

async fn take_status(State(records): State<Arc<Records>>, Path(id): Path<String>, Json(body): Json<Value>) -> Json<Value> {
    let at = Instant::now();
    records.note(id, |told| {
        told.statuses.push((body["status"].as_str().unwrap_or_default().to_owned(), at));
        told.error.push_str(body["error"].as_str().unwrap_or_default());
    });
    Json(json!({ "success": true }))
}

/// An empty text is refused: what takes it is not the dashboard's API, and its answers count for nothing.
async fn take_log(
    State(records): State<Arc<Records>>,
    Path(id): Path<String>,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let text = body["text"].as_str().unwrap_or_default();
    if text.is_empty() {
        return (StatusCode::BAD_REQUEST, Json(json!({ "success": false })));
    }
    records.note(id, |told| told.take(text));
    (StatusCode::OK, Json(json!({ "success": true })))
}
