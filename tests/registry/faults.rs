//! Proxies that break what goes through them: one by bytes, one by answers of the Engine, one by HTTP requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Passes bytes to the registry until `limit` of them have gone up, then nothing more, and keeps the connections open.
pub struct StallingProxy {
    pub address: SocketAddr,
    /// Told when the limit was reached.
    pub stalled: Arc<Notify>,
    limit: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl StallingProxy {
    pub async fn before(upstream: String, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stalled = Arc::new(Notify::new());
        let sent = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        let notify = stalled.clone();
        let (limit, limits) = watch::channel(limit);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, upstream.clone(), limits.clone(), sent.clone(), notify.clone()));
            }
        });
        Self { address, stalled, limit, _tasks: tasks }
    }

    /// From now on everything passes, what was held up as well.
    pub fn heal(&self) {
        self.limit.send_replace(u64::MAX);
    }
}

async fn pass(client: TcpStream, upstream: String, mut limit: watch::Receiver<u64>, sent: Arc<AtomicU64>, stalled: Arc<Notify>) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            let so_far = sent.fetch_add(n as u64, Ordering::Relaxed) + n as u64;
            if so_far > *limit.borrow() {
                stalled.notify_one();
                if limit.wait_for(|limit| so_far <= *limit).await.is_err() {
                    return;
                }
            }
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let down = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

/// Passes requests to the Engine, which carries each out; the answer to one of them is lost with its connection.
pub struct CuttingEngine {
    pub socket: std::path::PathBuf,
    /// How many requests went through.
    pub requests: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl CuttingEngine {
    /// `nth`: the request whose answer is lost, from 1.
    pub fn before(upstream: &str, nth: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let (upstream, count) = (upstream.trim_start_matches("unix://").to_owned(), requests.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(lose_an_answer(client, upstream.clone(), count.clone(), nth));
            }
        });
        Self { socket, requests, _folder: folder, _tasks: tasks }
    }
}

async fn lose_an_answer(mut client: UnixStream, upstream: String, count: Arc<AtomicU64>, nth: u64) {
    let mut server = UnixStream::connect(upstream).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 16 << 10], vec![0; 16 << 10]);
    let mut lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(n @ 1..) = read else { return };
                let begins = ["GET /", "POST /", "DELETE /", "HEAD /"].iter().any(|method| asked.starts_with(method.as_bytes()));
                lost = begins && count.fetch_add(1, Ordering::Relaxed) + 1 == nth;
                if server.write_all(&asked[..n]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(n @ 1..) = read else { return };
                if lost || client.write_all(&answered[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What an HTTP proxy does to what goes through it.
#[derive(Clone, Copy)]
pub enum Fault {
    /// ECR: operations whose name contains this are answered with AccessDeniedException.
    Deny(&'static str),
    /// ECR: the first authorization token given out is `AWS:<this>`.
    FirstToken(&'static str),
    /// Registry: whoever asks which digest a tag has gets this.
    NoDigests(StatusCode),
    /// Registry: whoever wants to upload gets this.
    NoUploads(StatusCode, &'static str),
    None,
}

/// An HTTP proxy before ECR's API or before the registry.
pub struct FaultyHttp {
    pub address: SocketAddr,
    tokens: Arc<AtomicU64>,
    uploads: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Upstream {
    host: String,
    fault: Fault,
    tokens: Arc<AtomicU64>,
    uploads: Arc<AtomicU64>,
    client: reqwest::Client,
}

impl FaultyHttp {
    /// `host`: host and port.
    pub async fn before(host: &str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tokens, uploads) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let client = reqwest::Client::new();
        let upstream = Upstream { host: host.to_owned(), fault, tokens: tokens.clone(), uploads: uploads.clone(), client };
        let router = axum::Router::new().fallback(answer).with_state(upstream);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, tokens, uploads, _tasks: tasks }
    }
    /// How often somebody wanted to upload and was refused.
    pub fn refused_uploads(&self) -> u64 {
        self.uploads.load(Ordering::Relaxed)
    }
    /// How many ECR tokens were asked for.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }
}

async fn answer(State(upstream): State<Upstream>, request: Request) -> Response {
    let operation = request.headers().get("x-amz-target").map_or("", |value| value.to_str().unwrap()).to_owned();
    let nth =
        if operation.ends_with("GetAuthorizationToken") { upstream.tokens.fetch_add(1, Ordering::Relaxed) } else { u64::MAX };
    let asks_for_digest = request.method() == Method::HEAD && request.uri().path().contains("/manifests/");
    match upstream.fault {
        Fault::Deny(part) if operation.contains(part) => {
            let body = r#"{"__type":"AccessDeniedException","Message":"User: arn:aws:iam::1:user/x is not authorized"}"#;
            (StatusCode::BAD_REQUEST, body).into_response()
        }
        Fault::FirstToken(password) if nth == 0 => {
            let token = crate::rig::base64(&format!("AWS:{password}"));
            format!(r#"{{"authorizationData":[{{"authorizationToken":"{token}","expiresAt":4102444800}}]}}"#).into_response()
        }
        Fault::NoUploads(status, body) if request.method() == Method::POST && request.uri().path().contains("/blobs/uploads") => {
            upstream.uploads.fetch_add(1, Ordering::Relaxed);
            (status, [("content-type", "application/json")], body).into_response()
        }
        Fault::NoDigests(status) if asks_for_digest => status.into_response(),
        _ => forward(upstream, request).await,
    }
}

/// The `Host` header goes through: a registry makes the addresses of its uploads of it.
async fn forward(upstream: Upstream, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    let url = format!("http://{}{}", upstream.host, parts.uri);
    let answer = upstream.client.request(parts.method, url).headers(parts.headers).body(body).send().await.unwrap();
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding") {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.bytes().await.unwrap())).unwrap()
}
