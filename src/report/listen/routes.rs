//! The dashboard's API as the existing server was measured to answer (contract, "Reports out"), and a route to follow one deployment.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::{Stream, StreamExt, stream};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::board::{Board, Event, Following, Status};
use super::screen::Screen;
use crate::protocol::{DeploymentId, LogType};

/// A body of so many bytes and more is answered with 413.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// A log text of more bytes is answered with 500 for ever.
const TEXT_LIMIT: usize = 65_535;
/// Followers at a time.
const FOLLOWERS: usize = 64;

/// What the handlers share.
pub struct Api {
    pub board: Board,
    pub screen: Screen,
    /// Lines on their way to the terminal. Full: the post waits.
    pub lines: mpsc::Sender<String>,
    /// `None`: any key is good.
    pub key: Option<SecretString>,
    pub stop: CancellationToken,
    pub followers: Arc<Semaphore>,
}

impl Api {
    pub fn new(screen: Screen, key: Option<SecretString>, lines: mpsc::Sender<String>, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { board: Board::default(), screen, lines, key, stop, followers: Arc::new(Semaphore::new(FOLLOWERS)) })
    }

    async fn show(&self, id: &DeploymentId, event: Event) -> Result<(), Refusal> {
        let number = self.board.record(id, event.clone());
        let lines = self.screen.render(id, number, &event);
        self.lines.send(lines).await.map_err(|_| Refusal::Server("the terminal is gone"))
    }
}

/// All routes below `base` (the path of `API_URL`).
pub fn router(api: Arc<Api>, base: &str) -> Router {
    let routes = Router::new()
        .route("/webhooks/deployments/{id}/status", post(status))
        .route("/webhooks/deployments/{id}/logs", post(logs))
        .route("/follow/{id}", get(follow))
        .layer(DefaultBodyLimit::max(BODY_LIMIT - 1))
        .with_state(api);
    match base.trim_end_matches('/') {
        "" => routes,
        // A path of API_URL may have any characters.
        base => Router::new().without_v07_checks().nest(base, routes),
    }
}

enum Refusal {
    BadKey,
    BadBody,
    UnknownDeployment,
    Busy,
    Server(&'static str),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Refusal::BadKey => (StatusCode::UNAUTHORIZED, "the x-api-key header is missing or wrong"),
            Refusal::BadBody => (StatusCode::BAD_REQUEST, "the body is not what this route takes"),
            Refusal::UnknownDeployment => (StatusCode::NOT_FOUND, "no such deployment"),
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many followers"),
            Refusal::Server(message) => (StatusCode::INTERNAL_SERVER_ERROR, message),
        };
        (status, Json(serde_json::json!({ "error": message }))).into_response()
    }
}

/// The request has the right key. Taken before the body, so that nothing is read for a stranger.
struct Authorised;

impl FromRequestParts<Arc<Api>> for Authorised {
    type Rejection = Refusal;
    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Refusal> {
        has_key(&parts.headers, api.key.as_ref()).then_some(Authorised).ok_or(Refusal::BadKey)
    }
}

fn has_key(headers: &HeaderMap, key: Option<&SecretString>) -> bool {
    let Some(key) = key else { return true };
    let given = headers.get("x-api-key").map_or(&b""[..], |v| v.as_bytes());
    aws_lc_rs::constant_time::verify_slices_are_equal(given, key.expose_secret().as_bytes()).is_ok()
}

#[derive(Deserialize)]
struct StatusBody {
    status: serde_json::Value,
    logs: Option<LogBody>,
    error: Option<String>,
    data: Option<DataBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DataBody {
    container_image_uri: Option<String>,
}

#[derive(Deserialize)]
struct LogBody {
    #[serde(default)]
    text: String,
    #[serde(rename = "type")]
    kind: serde_json::Value,
}

impl LogBody {
    /// 400 for an empty text, 500 for what the database refuses.
    fn event(self) -> Result<Event, Refusal> {
        if self.text.is_empty() {
            return Err(Refusal::BadBody);
        }
        if self.text.len() > TEXT_LIMIT {
            return Err(Refusal::Server("the text is longer than 65,535 bytes"));
        }
        let kind: LogType = serde_json::from_value(self.kind).map_err(|_| Refusal::Server("unknown log type"))?;
        Ok(Event::Log { kind, text: self.text })
    }
}

type Answer = Result<Json<serde_json::Value>, Refusal>;

fn done() -> Answer {
    Ok(Json(serde_json::json!({ "success": true })))
}

fn known_id(id: &str) -> Result<DeploymentId, Refusal> {
    DeploymentId::parse(id).map_err(|_| Refusal::UnknownDeployment)
}

async fn status(State(api): State<Arc<Api>>, Path(id): Path<String>, _: Authorised, body: Bytes) -> Answer {
    let id = known_id(&id)?;
    let body: StatusBody = serde_json::from_slice(&body).map_err(|_| Refusal::BadBody)?;
    let status: Status = serde_json::from_value(body.status).map_err(|_| Refusal::Server("unknown status"))?;
    // As measured: a log that cannot be stored with a status is lost without a word.
    if let Some(log) = body.logs.and_then(|log| log.event().ok()) {
        api.show(&id, log).await?;
    }
    let image = body.data.and_then(|d| d.container_image_uri);
    api.show(&id, Event::Status { status, image, error: body.error }).await?;
    done()
}

async fn logs(State(api): State<Arc<Api>>, Path(id): Path<String>, _: Authorised, body: Bytes) -> Answer {
    let id = known_id(&id)?;
    let body: LogBody = serde_json::from_slice(&body).map_err(|_| Refusal::BadBody)?;
    api.show(&id, body.event()?).await?;
    done()
}

/// `GET /follow/{id}`: one JSON object a line, the past first (not with `?from=now`), to the deployment's end.
async fn follow(State(api): State<Arc<Api>>, Path(id): Path<String>, _: Authorised, uri: Uri) -> Result<Response, Refusal> {
    let id = known_id(&id)?;
    let permit = Arc::clone(&api.followers).try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let following = api.board.follow(&id, uri.query() != Some("from=now"));
    let lines = events(following, permit).take_until(api.stop.clone().cancelled_owned()).map(|event| {
        let mut line = serde_json::to_vec(event.as_ref()).unwrap_or_default();
        line.push(b'\n');
        Ok::<_, Infallible>(line)
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// The past, then what comes, up to and with the end.
fn events(following: Following, permit: OwnedSemaphorePermit) -> impl Stream<Item = Arc<Event>> {
    struct Follower {
        past: VecDeque<Arc<Event>>,
        next: broadcast::Receiver<Arc<Event>>,
        ended: bool,
        _permit: OwnedSemaphorePermit,
    }
    let follower = Follower { past: following.past.into(), next: following.next, ended: false, _permit: permit };
    stream::unfold(follower, |mut follower| async move {
        if follower.ended {
            return None;
        }
        let event = match follower.past.pop_front() {
            Some(event) => event,
            None => match follower.next.recv().await {
                Ok(event) => event,
                Err(RecvError::Lagged(events)) => Arc::new(Event::Missed { events }),
                Err(RecvError::Closed) => return None,
            },
        };
        // A past end is followed by what came after it (the same id pushed again), the last one by nothing.
        let is_end = matches!(event.as_ref(), Event::Status { status, .. } if status.is_end());
        follower.ended = is_end && follower.past.is_empty();
        Some((event, follower))
    })
}
