//! A dashboard that answers as the existing one was measured to (contract, "Reports out"), records what it got, in order, and
//! can be in trouble of every kind.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Fault, Proxy, unique};

const STATUSES: [&str; 7] = ["PENDING", "BUILDING", "BUILDED", "DEPLOYING", "DEPLOYED", "FAILED", "CANCELLED"];
const LOG_TYPES: [&str; 5] = ["STDOUT", "STDERR", "INFO", "WARNING", "ERROR"];
const TEXT_COLUMN: usize = 65_535;
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// What the dashboard as a whole suffers from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Trouble {
    None,
    /// Nobody listens.
    Refuse,
    /// Takes connections and never answers.
    Hang,
    /// Answers everything with this status (401, 404, 500, 503 …).
    Answer(u16),
    /// Not the API: a sign-in page answers everything with 200.
    SignInPage,
    /// Answers 429 and asks to come back after so many seconds.
    TooMany {
        retry_after: u64,
    },
    /// Its link is broken in this way.
    Link(Fault),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    Status {
        status: String,
        error: Option<String>,
        image: Option<String>,
        registry: Option<String>,
    },
    Log {
        kind: String,
        text: String,
    },
    /// Not what the routes take.
    Other,
}

/// One request, in the order of arrival.
#[derive(Debug, Clone)]
pub struct Post {
    /// Which host sent it, where the host has a URL of its own; else empty.
    pub host: String,
    pub deployment: String,
    pub body: Body,
    /// The whole body as it came.
    pub raw: String,
    /// What it was answered with: 200 is taken, anything else was refused.
    pub answer: u16,
    pub at: Instant,
}

struct Records {
    posts: Vec<Post>,
    trouble: Trouble,
    /// Deployments whose posts fail with 500 while others pass.
    failing: HashSet<String>,
    /// Deployments whose ends fail with 500 while their other posts pass.
    failing_ends: HashSet<String>,
    /// Deployments that it does not know.
    unknown: HashSet<String>,
}

struct Shared {
    key: String,
    records: Mutex<Records>,
    arrivals: watch::Sender<usize>,
}

/// Everything it does ends when it is dropped.
pub struct Dashboard {
    pub key: String,
    shared: Arc<Shared>,
    proxy: Proxy,
    _server: JoinSet<()>,
}

impl Dashboard {
    pub async fn start() -> Self {
        let key = unique();
        let records = Records {
            posts: Vec::new(),
            trouble: Trouble::None,
            failing: HashSet::new(),
            failing_ends: HashSet::new(),
            unknown: HashSet::new(),
        };
        let shared = Arc::new(Shared { key: key.clone(), records: Mutex::new(records), arrivals: watch::Sender::new(0) });
        let routes = Router::new()
            .route("/api/webhooks/deployments/{id}/status", post(take_status))
            .route("/api/webhooks/deployments/{id}/logs", post(take_log))
            .route("/{host}/api/webhooks/deployments/{id}/status", post(take_status))
            .route("/{host}/api/webhooks/deployments/{id}/logs", post(take_log))
            .layer(DefaultBodyLimit::max(BODY_LIMIT - 1))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = Proxy::tcp(&listener.local_addr().expect("bound").to_string()).await;
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.expect("serve the dashboard") });
        Self { key, shared, proxy, _server: server }
    }

    /// What the worker gets as `API_URL`.
    pub fn url(&self) -> String {
        format!("{}/api", self.proxy.url())
    }

    /// The same for one of several hosts: its posts are recorded under this name.
    pub fn url_of(&self, host: &str) -> String {
        format!("{}/{host}/api", self.proxy.url())
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.proxy.address()
    }

    pub fn set(&self, trouble: Trouble) {
        self.records().trouble = trouble;
        self.proxy.set(match trouble {
            Trouble::Refuse => Fault::Refuse,
            Trouble::Hang => Fault::Stall,
            Trouble::Link(fault) => fault,
            Trouble::None | Trouble::Answer(_) | Trouble::SignInPage | Trouble::TooMany { .. } => Fault::Pass,
        });
    }

    /// Posts of this deployment fail with 500 from now on.
    pub fn fail(&self, deployment: &str) {
        self.records().failing.insert(deployment.to_owned());
    }

    /// The end of this deployment fails with 500 from now on; its other posts pass.
    pub fn fail_end(&self, deployment: &str) {
        self.records().failing_ends.insert(deployment.to_owned());
    }

    /// Posts of this deployment are taken again.
    pub fn recover(&self, deployment: &str) {
        self.records().failing.remove(deployment);
    }

    /// This deployment is answered with 404 from now on.
    pub fn forget(&self, deployment: &str) {
        self.records().unknown.insert(deployment.to_owned());
    }

    /// Everything that arrived, in order, the refused too.
    pub fn posts(&self) -> Vec<Post> {
        self.records().posts.clone()
    }

    /// What was taken of one deployment, in order.
    pub fn taken(&self, deployment: &str) -> Vec<Post> {
        self.posts().into_iter().filter(|p| p.deployment == deployment && p.answer == 200).collect()
    }

    /// The statuses of one deployment, in order.
    pub fn statuses(&self, deployment: &str) -> Vec<String> {
        let statuses = self.taken(deployment).into_iter().filter_map(|p| match p.body {
            Body::Status { status, .. } => Some(status),
            _ => None,
        });
        statuses.collect()
    }

    /// The lines of one deployment, in order: (type, line).
    pub fn lines(&self, deployment: &str) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for post in self.taken(deployment) {
            if let Body::Log { kind, text } = post.body {
                lines.extend(text.split('\n').map(|line| (kind.clone(), line.to_owned())));
            }
        }
        lines
    }

    /// The log of one deployment as it shows in the widget.
    pub fn log(&self, deployment: &str) -> String {
        self.lines(deployment).into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// Waits for the first taken post of one of these statuses.
    pub async fn wait_for_status(&self, deployment: &str, wanted: &[&str], within: Duration) -> Post {
        let what = format!("status {} of {deployment}", wanted.join(" or "));
        self.wait_for(
            &what,
            deployment,
            within,
            |p| matches!(&p.body, Body::Status { status, .. } if wanted.contains(&status.as_str())),
        )
        .await
    }

    /// Waits for the first taken log post with this text in it.
    pub async fn wait_for_line(&self, deployment: &str, wanted: &str, within: Duration) -> Post {
        let what = format!("a line of {deployment} with {wanted:?}");
        self.wait_for(&what, deployment, within, |p| matches!(&p.body, Body::Log { text, .. } if text.contains(wanted))).await
    }

    async fn wait_for(&self, what: &str, deployment: &str, within: Duration, wanted: impl Fn(&Post) -> bool) -> Post {
        let found = async {
            let mut arrivals = self.shared.arrivals.subscribe();
            loop {
                arrivals.borrow_and_update();
                if let Some(post) = self.taken(deployment).into_iter().find(&wanted) {
                    return post;
                }
                arrivals.changed().await.expect("the dashboard lives");
            }
        };
        match tokio::time::timeout(within, found).await {
            Ok(post) => post,
            Err(_) => {
                let log: String = self.log(deployment).chars().take(10_000).collect();
                panic!("{what}: not within {within:?}. Statuses: {:?}. Log:\n{log}", self.statuses(deployment))
            }
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.shared.records.lock().expect("no test panics while it holds the records")
    }
}

/// What the path says: `/{host}/api/…/{id}/…`, or `/api/…/{id}/…`.
#[derive(serde::Deserialize)]
struct Whose {
    #[serde(default)]
    host: String,
    id: String,
}

async fn take_status(State(shared): State<Arc<Shared>>, Path(whose): Path<Whose>, headers: HeaderMap, body: Bytes) -> Response {
    shared.take(whose, &headers, &body, |json| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let body = Body::Status {
            status: text(&json["status"]).unwrap_or_default(),
            error: text(&json["error"]),
            image: text(&json["data"]["containerImageUri"]),
            registry: text(&json["data"]["containerRegistryType"]),
        };
        let known = json["status"].as_str().is_some_and(|s| STATUSES.contains(&s));
        (body, if known { 200 } else { 500 })
    })
}

async fn take_log(State(shared): State<Arc<Shared>>, Path(whose): Path<Whose>, headers: HeaderMap, body: Bytes) -> Response {
    shared.take(whose, &headers, &body, |json| {
        let (text, kind) = (json["text"].as_str().unwrap_or_default(), json["type"].as_str().unwrap_or_default());
        let answer = match text.len() {
            0 => 400,
            _ if !LOG_TYPES.contains(&kind) => 500,
            1..=TEXT_COLUMN => 200,
            _ => 500,
        };
        (Body::Log { kind: kind.to_owned(), text: text.to_owned() }, answer)
    })
}

impl Shared {
    /// `read`: the post and its answer, were there no trouble.
    fn take(&self, whose: Whose, headers: &HeaderMap, body: &[u8], read: impl Fn(&Value) -> (Body, u16)) -> Response {
        let Whose { host, id: deployment } = whose;
        let mut records = self.records.lock().expect("no test panics while it holds the records");
        let (content, in_order) = serde_json::from_slice(body).map_or((Body::Other, 400), |json| read(&json));
        let key_fits = headers.get("x-api-key").is_some_and(|key| key.as_bytes() == self.key.as_bytes());
        let is_end =
            matches!(&content, Body::Status { status, .. } if ["BUILDED", "FAILED", "CANCELLED"].contains(&status.as_str()));
        let answer = match records.trouble {
            // Nobody stores anything: as far as the tests go it was not taken.
            Trouble::SignInPage => 302,
            Trouble::Answer(status) => status,
            Trouble::TooMany { .. } => 429,
            _ if !key_fits => 401,
            _ if records.unknown.contains(&deployment) => 404,
            _ if records.failing.contains(&deployment) => 500,
            _ if is_end && records.failing_ends.contains(&deployment) => 500,
            _ => in_order,
        };
        let retry_after = match records.trouble {
            Trouble::TooMany { retry_after } => Some(retry_after.to_string()),
            _ => None,
        };
        let is_page = records.trouble == Trouble::SignInPage;
        let raw = String::from_utf8_lossy(body).into_owned();
        records.posts.push(Post { host, deployment, body: content, raw, answer, at: Instant::now() });
        let count = records.posts.len();
        drop(records);
        self.arrivals.send_replace(count);
        if is_page {
            return axum::response::Html("<!DOCTYPE html><title>Sign in</title>").into_response();
        }
        let status = StatusCode::from_u16(answer).expect("a status of HTTP");
        let json = axum::Json(serde_json::json!({ "success": answer == 200 }));
        match retry_after {
            Some(seconds) => (status, [("retry-after", seconds)], json).into_response(),
            None => (status, json).into_response(),
        }
    }
}
