//! git's own `http-backend` behind a small CGI server, with a password, a request log, and faults at chosen points.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_util::io::ReaderStream;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The request is read, no response comes.
    StallHeaders,
    /// So many bytes of the body, then nothing more.
    StallBody(usize),
    /// So many bytes of the body, then one byte a second.
    Trickle(usize),
    /// So many bytes of the body, then the connection is cut.
    Cut(usize),
    /// This status and headers instead of an answer.
    Answer(u16, Vec<(&'static str, String)>),
}

#[derive(Default)]
struct Control {
    fault: Mutex<Option<(&'static str, Fault)>>,
    credentials: Mutex<Option<(String, String)>>,
    knows_only_v0: AtomicBool,
    requests: Mutex<Vec<String>>,
    authorizations: AtomicUsize,
    open: AtomicUsize,
    /// Bytes of faulty bodies.
    sent: AtomicUsize,
}

/// A server over all repositories of a folder. Stopped when dropped.
pub struct GitServer {
    pub address: SocketAddr,
    control: Arc<Control>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl GitServer {
    pub fn start(root: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let control = Arc::new(Control::default());
        let listener = runtime.block_on_elsewhere(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(serve).with_state((root.to_owned(), Arc::clone(&control)));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { address, control, runtime: Some(runtime) }
    }
    pub fn url(&self, repository: &str) -> url::Url {
        format!("http://{}/{repository}.git", self.address).parse().unwrap()
    }
    /// From now on requests whose path ends so fail so.
    pub fn fail(&self, path_end: &'static str, fault: Fault) {
        *self.control.fault.lock().unwrap() = Some((path_end, fault));
    }
    pub fn heal(&self) {
        *self.control.fault.lock().unwrap() = None;
    }
    pub fn require(&self, user: &str, password: &str) {
        *self.control.credentials.lock().unwrap() = Some((user.into(), password.into()));
    }
    /// From now on it is a server of before protocol v2.
    pub fn know_only_v0(&self) {
        self.control.knows_only_v0.store(true, Ordering::SeqCst);
    }
    /// Forgets and returns the requests so far: `GET info/refs`, `POST git-upload-pack`.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.control.requests.lock().unwrap())
    }
    /// How many requests carried credentials.
    pub fn authorizations(&self) -> usize {
        self.control.authorizations.load(Ordering::SeqCst)
    }
    /// How many bytes of faulty bodies have been sent.
    pub fn sent(&self) -> usize {
        self.control.sent.load(Ordering::SeqCst)
    }
    /// Waits until so many requests have come.
    pub async fn wait_for_requests(&self, n: usize) {
        wait_until(|| self.control.requests.lock().unwrap().len() >= n).await;
    }
    /// Waits until no response is open any more, and says how long it took.
    pub async fn wait_until_idle(&self) -> Duration {
        let begun = std::time::Instant::now();
        wait_until(|| self.control.open.load(Ordering::SeqCst) == 0).await;
        begun.elapsed()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Looks every few milliseconds, for ten seconds at most.
pub async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..5000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("waited ten seconds in vain");
}

/// `block_on` from inside another runtime: on a thread of its own.
trait BlockOnElsewhere {
    fn block_on_elsewhere<T: Send>(&self, future: impl Future<Output = T> + Send) -> T;
}
impl BlockOnElsewhere for tokio::runtime::Runtime {
    fn block_on_elsewhere<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        std::thread::scope(|s| s.spawn(|| self.block_on(future)).join().unwrap())
    }
}

/// Counts a response as open until it is dropped: sent whole, or its connection is gone.
struct Open(Arc<Control>);
impl Open {
    fn new(control: &Arc<Control>) -> Self {
        control.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(control))
    }
}
impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(State((root, control)): State<(PathBuf, Arc<Control>)>, request: Request) -> Response<Body> {
    let open = Open::new(&control);
    let path = request.uri().path().to_owned();
    let what = path.split_once(".git/").map_or(path.as_str(), |(_, what)| what);
    control.requests.lock().unwrap().push(format!("{} {what}", request.method()));
    if request.headers().contains_key("authorization") {
        control.authorizations.fetch_add(1, Ordering::SeqCst);
    }
    let fault = {
        let slot = control.fault.lock().unwrap();
        slot.as_ref().filter(|(end, _)| path.ends_with(*end)).map(|(_, fault)| fault.clone())
    };
    if let Some(Fault::Answer(status, headers)) = fault {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        return response.body(Body::from("<html>no</html>")).unwrap();
    }
    if !is_let_in(&control, request.headers()) {
        return Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header("www-authenticate", "Basic realm=\"git\"")
            .body(Body::empty())
            .unwrap();
    }
    if matches!(fault, Some(Fault::StallHeaders)) {
        std::future::pending::<()>().await;
    }
    let mut request = request;
    if control.knows_only_v0.load(Ordering::SeqCst) {
        request.headers_mut().remove("git-protocol");
    }
    let (response, stdout) = backend(&root, request).await;
    let body: Bodies = match fault {
        None => Box::pin(stdout),
        Some(fault) => broken(stdout, fault, control),
    };
    response.body(Body::from_stream(Held { body, _open: open })).unwrap()
}

fn is_let_in(control: &Control, headers: &HeaderMap) -> bool {
    use base64::Engine;
    let wanted = control.credentials.lock().unwrap();
    let Some((user, password)) = wanted.as_ref() else { return true };
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    headers.get("authorization").is_some_and(|given| given == format!("Basic {encoded}").as_str())
}

type Bodies = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

struct Held {
    body: Bodies,
    _open: Open,
}
impl Stream for Held {
    type Item = std::io::Result<Bytes>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.body.as_mut().poll_next(cx)
    }
}

fn broken(whole: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, fault: Fault, control: Arc<Control>) -> Bodies {
    let (good, fault) = match fault {
        Fault::StallBody(n) | Fault::Trickle(n) | Fault::Cut(n) => (n, fault),
        other => panic!("{other:?} does not break a body"),
    };
    let bytes = whole.map(|piece| piece.unwrap()).flat_map(|piece| {
        // Byte-wise beyond what is good, so that each can come late.
        futures_util::stream::iter((0..piece.len()).map(move |at| piece.slice(at..=at)).collect::<Vec<_>>())
    });
    Box::pin(bytes.enumerate().then(move |(at, byte)| {
        let (fault, control) = (fault.clone(), Arc::clone(&control));
        async move {
            if at < good {
                control.sent.fetch_add(1, Ordering::SeqCst);
                return Ok(byte);
            }
            match fault {
                Fault::Trickle(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                Fault::Cut(_) => return Err(std::io::Error::other("cut")),
                _ => std::future::pending().await,
            }
            Ok(byte)
        }
    }))
}

/// Runs the CGI program (RFC 3875): the request's body into its standard input, headers and body out of its standard output.
async fn backend(
    root: &Path,
    request: Request,
) -> (axum::http::response::Builder, ReaderStream<impl tokio::io::AsyncRead + Send + use<>>) {
    let mut child = http_backend(root, &request);
    let mut stdin = child.stdin.take().unwrap();
    let mut body = request.into_body().into_data_stream();
    while let Some(Ok(piece)) = body.next().await {
        if stdin.write_all(&piece).await.is_err() {
            break;
        }
    }
    drop(stdin);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut response = Response::builder().status(200);
    loop {
        let mut line = String::new();
        stdout.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        response = match name {
            "Status" => response.status(value.split(' ').next().unwrap().parse::<u16>().unwrap()),
            _ => response.header(name, value),
        };
    }
    // The child lives as long as its output is read.
    let output = WithChild { stdout, _child: child };
    (response, ReaderStream::with_capacity(output.take(u64::MAX), 64 << 10))
}

struct WithChild {
    stdout: BufReader<tokio::process::ChildStdout>,
    _child: tokio::process::Child,
}
impl tokio::io::AsyncRead for WithChild {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut tokio::io::ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(cx, buf)
    }
}

fn http_backend(root: &Path, request: &Request) -> tokio::process::Child {
    let header = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    tokio::process::Command::new("git")
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", request.uri().path())
        .env("QUERY_STRING", request.uri().query().unwrap_or_default())
        .env("REQUEST_METHOD", request.method().as_str())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
