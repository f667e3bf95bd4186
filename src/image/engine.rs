//! The Docker Engine's unix socket: the API client, and connections of our own for builds and sessions.
//!
//! Builds have connections of their own because the connection's end is what stops them, and because everything that serves one has to
//! be a task of that build.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::tasks::BuildTasks;
use crate::config::BuildConfig;
use crate::protocol::{Code, Failure};

/// The Engine answers a build, or the push of a large layer, with headers only when it has begun to write: as long as it takes.
const RESPONSE_TIMEOUT_SECONDS: u64 = 3600;
/// The first answer, to the question for its version.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An error answer is a short JSON text.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// A connection that sends requests without a body.
pub type EngineConnection = SendRequest<Empty<Bytes>>;

/// Connects to the Engine's unix socket and negotiates the API version (Engine 20.10 speaks 1.41). Timeouts far above a build's first byte.
pub async fn connect_engine(config: &BuildConfig) -> Result<Docker, Failure> {
    let socket = &config.engine_socket;
    // the client tells a missing socket from everything else and no more: the system's own error says it better
    UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let client = Docker::connect_with_unix(&socket.to_string_lossy(), RESPONSE_TIMEOUT_SECONDS, bollard::API_DEFAULT_VERSION)
        .map_err(|error| silent(socket, &error.to_string()))?;
    match tokio::time::timeout(CONNECT_TIMEOUT, client.negotiate_version()).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(silent(socket, &error.to_string())),
        Err(_) => Err(silent(socket, "no answer within 10 s")),
    }
}

/// Opens a connection that lives until its requests are done or the build's tasks are stopped.
pub async fn open_connection(socket: &Path, tasks: &BuildTasks) -> Result<EngineConnection, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| silent(socket, &error.to_string()))?;
    let stop = tasks.stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            ended = connection.with_upgrades() => if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the Engine broke");
            }
        }
    });
    Ok(sender)
}

/// Whether the Engine answers somebody who comes anew. One that is stopped ends what it runs first, and takes nobody any more.
pub async fn takes_requests(socket: &Path, tasks: &BuildTasks) -> bool {
    let ping = async {
        let request = http::Request::get("/_ping").header("Host", "docker").body(Empty::new()).ok()?;
        open_connection(socket, tasks).await.ok()?.send_request(request).await.ok()
    };
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, ping).await;
    matches!(answer, Ok(Some(answer)) if answer.status().is_success())
}

/// The Engine's words in an answer that is no success.
pub async fn error_message(status: http::StatusCode, body: Incoming) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        message: String,
    }
    let body = match Limited::new(body, MAX_ERROR_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return format!("status {status}"),
    };
    match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) => answer.message,
        Err(_) => format!("status {status} {}", String::from_utf8_lossy(&body)),
    }
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Failure {
    let path = socket.display();
    let (cause, cure) = match error.kind() {
        ErrorKind::NotFound => (
            format!("There is no Docker Engine socket at {path}."),
            "Start the Engine (systemctl start docker), or set DOCKER_HOST to its socket.",
        ),
        ErrorKind::PermissionDenied => (
            format!("The worker may not open the Docker Engine's socket {path}."),
            "Add the worker's user to the group docker (usermod -aG docker slipway) and start the worker again.",
        ),
        ErrorKind::ConnectionRefused => (
            format!("Nothing listens on the Docker Engine's socket {path}."),
            "Start the Engine (systemctl start docker); its socket file was left behind.",
        ),
        _ => (format!("The Docker Engine's socket {path} cannot be opened: {error}."), "See DOCKER_HOST and the Engine's state."),
    };
    Failure::new(Code::EngineUnreachable, cause, cure)
}

fn silent(socket: &Path, detail: &str) -> Failure {
    Failure::new(
        Code::EngineUnreachable,
        format!("The Docker Engine at {} does not answer as it should: {detail}.", socket.display()),
        "See the Engine's log on the build host (journalctl -u docker), or start it again.",
    )
}
