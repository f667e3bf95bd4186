//! A BuildKit session: the Engine calls back to us over one connection for files, secrets and credentials.
//!
//! `POST /session` is upgraded and then spoken in the other direction: we serve gRPC over HTTP/2 on it. The headers name the session and the
//! methods that it offers. It ends with its connection.

use std::convert::Infallible;
use std::path::Path;

use bollard_buildkit_proto::health::health_server::HealthServer;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use super::engine::{error_message, open_connection};
use super::failure::{engine_answered, engine_error, engine_lost};
use super::filesync::ContextFiles;
use super::services::{PullCredentialsService, SecretsService, Serving};
use super::tasks::BuildTasks;
use crate::protocol::Failure;

/// What the session offers, by the names that BuildKit calls.
const METHODS: [&str; 4] = [
    "/grpc.health.v1.Health/Check",
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.Auth/Credentials",
];
/// BuildKit sends us requests for files and keep-alives, all small.
const MAX_MESSAGE: usize = 1 << 20;
/// BuildKit sends each pattern of a .dockerignore as a header of its own. (hyper's own limit is 16 KB: a few hundred patterns.)
pub const MAX_HEADERS: u32 = 16 << 20;
/// How much file data may wait in the connection for BuildKit to read it.
const SEND_BUFFER: usize = 256 * 1024;

/// The services of one build's session.
#[derive(Clone)]
pub struct SessionServices {
    health: HealthServer<Serving>,
    files: FileSyncServer<ContextFiles>,
    secrets: SecretsServer<SecretsService>,
    credentials: AuthServer<PullCredentialsService>,
}

impl SessionServices {
    pub fn new(files: ContextFiles, secrets: SecretsService, credentials: PullCredentialsService) -> Self {
        Self {
            health: HealthServer::new(Serving),
            files: FileSyncServer::new(files).max_decoding_message_size(MAX_MESSAGE),
            secrets: SecretsServer::new(secrets).max_decoding_message_size(MAX_MESSAGE),
            credentials: AuthServer::new(credentials).max_decoding_message_size(MAX_MESSAGE),
        }
    }
    async fn call(mut self, request: http::Request<Incoming>) -> http::Response<tonic::body::Body> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        let answer = match service {
            "grpc.health.v1.Health" => self.health.call(request).await,
            "moby.filesync.v1.FileSync" => self.files.call(request).await,
            "moby.buildkit.secrets.v1.Secrets" => self.secrets.call(request).await,
            "moby.filesync.v1.Auth" => self.credentials.call(request).await,
            _ => Ok(tonic::Status::unimplemented("not offered by this session").into_http()),
        };
        match answer {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// Opens the session `id` and serves it until the build's tasks are stopped. `shared_key` names the Engine's copy of earlier contexts.
/// The token that is returned trips when the session is over: the Engine itself ends none before its process does.
pub async fn open_session(
    socket: &Path,
    id: &str,
    shared_key: &str,
    services: SessionServices,
    tasks: &BuildTasks,
) -> Result<CancellationToken, Failure> {
    let mut request = http::Request::post("/session")
        .header("Host", "docker")
        .header("Connection", "Upgrade")
        .header("Upgrade", "h2c")
        .header("X-Docker-Expose-Session-Uuid", id)
        .header("X-Docker-Expose-Session-Name", "slipway")
        .header("X-Docker-Expose-Session-Sharedkey", shared_key);
    for method in METHODS {
        request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| engine_error(&error.to_string()))?;
    let mut connection = open_connection(socket, tasks).await?;
    let response = connection.send_request(request).await.map_err(|error| engine_lost(&format!("no session: {error}.")))?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let message = error_message(status, response.into_body()).await;
        return Err(engine_answered(status.as_u16(), &format!("no session: {message}")));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| engine_lost(&format!("no session: {error}.")))?;
    let serving =
        http2::Builder::new(tasks.clone()).max_send_buf_size(SEND_BUFFER).max_header_list_size(MAX_HEADERS).serve_connection(
            upgraded,
            service_fn(move |request| {
                let services = services.clone();
                async move { Ok::<_, Infallible>(services.call(request).await) }
            }),
        );
    let (stop, over) = (tasks.stop.clone(), CancellationToken::new());
    let ending = over.clone().drop_guard();
    tasks.spawn(async move {
        let _ending = ending;
        tokio::select! {
            () = stop.cancelled() => {}
            ended = serving => if let Err(error) = ended {
                tracing::debug!(%error, "a build's session broke");
            }
        }
    });
    Ok(over)
}
