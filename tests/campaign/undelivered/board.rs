//! A dashboard that stays away for an hour and then takes a gigabyte of lines: it keeps what it found, not what it was sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::story::Story;

/// How it is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// Every post is answered with 503.
    Busy,
    /// No post is answered.
    Hangs,
}

struct Shared {
    away: Mutex<Option<Away>>,
    stories: Mutex<HashMap<String, Story>>,
}

/// Everything it does ends when it is dropped.
pub struct Board {
    pub url: String,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

impl Board {
    pub async fn start(away: Away) -> Self {
        let shared = Arc::new(Shared { away: Mutex::new(Some(away)), stories: Mutex::default() });
        let routes = Router::new()
            .route("/api/webhooks/deployments/{id}/{what}", post(take))
            .layer(DefaultBodyLimit::max(4 * 1024 * 1024))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/api", listener.local_addr().expect("bound"));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, routes).await.expect("serve the dashboard") });
        Self { url, shared, _server: server }
    }

    /// It takes posts from now on.
    pub fn returns(&self) {
        *self.shared.away.lock().expect("nobody panics with it") = None;
    }

    /// What it was told of each deployment.
    pub fn stories(&self) -> MutexGuard<'_, HashMap<String, Story>> {
        self.shared.stories.lock().expect("nobody panics with it")
    }
}

async fn take(
    State(shared): State<Arc<Shared>>,
    Path((id, what)): Path<(String, String)>,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let answer = |status: StatusCode| (status, Json(json!({ "success": status.is_success() })));
    let away = *shared.away.lock().expect("nobody panics with it");
    match away {
        Some(Away::Busy) => return answer(StatusCode::SERVICE_UNAVAILABLE),
        Some(Away::Hangs) => std::future::pending::<()>().await,
        None => {}
    }
    let Ok(json) = serde_json::from_slice::<Value>(&body) else { return answer(StatusCode::BAD_REQUEST) };
    if what == "logs" && json["text"] == "" {
        return answer(StatusCode::BAD_REQUEST);
    }
    let mut stories = shared.stories.lock().expect("nobody panics with it");
    let story = stories.entry(id).or_default();
    match what.as_str() {
        "status" => story.status(&json),
        _ => story.log(json["text"].as_str().unwrap_or_default()),
    }
    answer(StatusCode::OK)
}
