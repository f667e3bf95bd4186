//! A dashboard to report to: records what it is told, answers as a test says, keeps rows only of what it answered with 200.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use futures_util::{StreamExt, stream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub const KEY: &str = "key-of-the-dashboard";

/// One post, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub id: String,
    pub route: String,
    pub body: serde_json::Value,
    pub answered: u16,
    pub at: std::time::Instant,
}

impl Seen {
    pub fn text(&self) -> &str {
        self.body["text"].as_str().unwrap_or("")
    }
    pub fn status(&self) -> &str {
        self.body["status"].as_str().unwrap_or("")
    }
}

/// What a post is answered with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// As the existing server does: 400 for an empty text, 500 above 65,535 bytes, else 200.
    AsMeasured,
    Status(u16),
    RetryAfter(u16, &'static str),
    /// Status, `Content-Type` and body of something that is not the API, or does not answer as it.
    Page(u16, &'static str, &'static str),
    /// Stores it, and never answers.
    Hang,
    /// Stores it, and answers when told to.
    Late(Arc<Notify>),
    /// Stores it, and closes the connection before the status line.
    StoreAndCut,
    /// Stores it, sends the status line and a part of the body, then closes.
    CutBody,
    /// Stores it, sends the status line at once, and the body after so long.
    SlowBody(Duration),
    /// Stores it, sends the status line, then closes.
    NoBody,
}

type Rule = Box<dyn FnMut(&Seen) -> Reply + Send>;

pub struct Dashboard {
    seen: watch::Sender<Vec<Seen>>,
    rule: Mutex<Rule>,
    address: SocketAddr,
    tasks: TaskTracker,
    stop: Mutex<CancellationToken>,
}

impl Dashboard {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dashboard = Arc::new(Self {
            seen: watch::Sender::new(Vec::new()),
            rule: Mutex::new(Box::new(|_| Reply::AsMeasured)),
            address,
            tasks: TaskTracker::new(),
            stop: Mutex::new(CancellationToken::new()),
        });
        dashboard.serve(listener);
        dashboard
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) {
        let stop = self.stop.lock().unwrap().clone();
        let app = Router::new()
            .route("/api/webhooks/deployments/{id}/{route}", post(answer))
            .with_state(Arc::clone(self))
            .layer(axum::extract::DefaultBodyLimit::max(4 * 1024 * 1024));
        let listener = CutListener { listener, stop: stop.clone() };
        self.tasks.spawn(async move {
            tokio::select! {
                served = axum::serve(listener, app) => served.unwrap(),
                () = stop.cancelled() => {}
            }
        });
    }

    /// Nobody listens any more; what is connected is cut.
    pub fn go_away(&self) {
        self.stop.lock().unwrap().cancel();
    }

    pub async fn come_back(self: &Arc<Self>) {
        *self.stop.lock().unwrap() = CancellationToken::new();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        self.serve(socket.listen(64).unwrap());
    }

    pub fn url(&self) -> url::Url {
        format!("http://{}/api", self.address).parse().unwrap()
    }

    /// How posts are answered from now on.
    pub fn answers(&self, rule: impl FnMut(&Seen) -> Reply + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// Every post that came, also those that were refused.
    pub fn posts(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Forgets what came so far.
    pub fn forget_all(&self) {
        self.seen.send_modify(Vec::clear);
    }

    /// What it has stored of a deployment, in order.
    pub fn rows(&self, id: &str) -> Vec<Seen> {
        self.posts().into_iter().filter(|s| s.id == id && s.answered == 200).collect()
    }

    /// The lines that a deployment's terminal shows.
    pub fn lines(&self, id: &str) -> Vec<String> {
        let rows = self.rows(id);
        rows.iter().filter(|s| s.route == "logs").flat_map(|s| s.text().split('\n').map(str::to_owned)).collect()
    }

    pub fn statuses(&self, id: &str) -> Vec<String> {
        self.rows(id).iter().filter(|s| s.route == "status").map(|s| s.status().to_owned()).collect()
    }

    /// Waits until `there` is true of what came.
    pub async fn until(&self, there: impl Fn(&[Seen]) -> bool) {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(60), seen.wait_for(|s| there(s))).await;
        assert!(waited.is_ok(), "it never came; what came: {:#?}", self.posts().iter().rev().take(20).collect::<Vec<_>>());
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// A log post with an empty text, which the API refuses.
pub fn is_test(seen: &Seen) -> bool {
    seen.route == "logs" && seen.text().is_empty()
}

async fn answer(
    State(dashboard): State<Arc<Dashboard>>,
    Path((id, route)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let mut seen = Seen { id, route, body, answered: 0, at: std::time::Instant::now() };
    let reply = if headers.get("x-api-key").is_none_or(|k| k != KEY) {
        Reply::Status(401)
    } else {
        (dashboard.rule.lock().unwrap())(&seen)
    };
    // What stores a post refuses an empty text first.
    let stores = matches!(reply, Reply::Late(_) | Reply::StoreAndCut | Reply::CutBody | Reply::SlowBody(_) | Reply::NoBody);
    let reply = if stores && is_test(&seen) { Reply::AsMeasured } else { reply };
    seen.answered = match &reply {
        Reply::AsMeasured if is_test(&seen) => 400,
        Reply::AsMeasured if seen.text().len() > 65_535 => 500,
        Reply::AsMeasured
        | Reply::Hang
        | Reply::Late(_)
        | Reply::StoreAndCut
        | Reply::CutBody
        | Reply::SlowBody(_)
        | Reply::NoBody => 200,
        Reply::Status(status) | Reply::RetryAfter(status, _) | Reply::Page(status, ..) => *status,
    };
    let answered = seen.answered;
    dashboard.seen.send_modify(|all| all.push(seen));
    let response = Response::builder().status(StatusCode::from_u16(answered).unwrap());
    match reply {
        Reply::Hang => std::future::pending().await,
        Reply::Late(now) => {
            now.notified().await;
            response.body(Body::from("{}")).unwrap()
        }
        // A panic in a handler closes the connection without an answer.
        Reply::StoreAndCut => std::panic::resume_unwind(Box::new("cut")),
        Reply::SlowBody(time) => {
            let body = stream::once(async move {
                tokio::time::sleep(time).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"{\"success\":true}"))
            });
            response.body(Body::from_stream(body)).unwrap()
        }
        Reply::NoBody => {
            let cut = stream::once(async {
                tokio::task::yield_now().await;
                Err::<Bytes, _>(std::io::Error::other("cut"))
            });
            response.body(Body::from_stream(cut)).unwrap()
        }
        Reply::CutBody => {
            // The pause between the two lets the first part out before the connection is closed.
            let part = stream::once(std::future::ready(Ok(Bytes::from_static(b"{\"ok\""))));
            let cut = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("cut"))
            });
            let part = part.chain(cut);
            response.body(Body::from_stream(part)).unwrap()
        }
        Reply::Page(_, content_type, body) => response.header("content-type", content_type).body(Body::from(body)).unwrap(),
        Reply::RetryAfter(_, value) => response.header("retry-after", value).body(Body::empty()).unwrap(),
        Reply::AsMeasured | Reply::Status(_) => response.body(Body::from("{}")).unwrap(),
    }
}

/// A listener whose connections end when the dashboard goes away.
struct CutListener {
    listener: TcpListener,
    stop: CancellationToken,
}

impl axum::serve::Listener for CutListener {
    type Io = Cut;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Cut, SocketAddr) {
        let (stream, address) = self.listener.accept().await.unwrap();
        (Cut { stream, stopped: Box::pin(self.stop.clone().cancelled_owned()) }, address)
    }
    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

struct Cut {
    stream: TcpStream,
    stopped: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
}

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

impl AsyncRead for Cut {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cut {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
