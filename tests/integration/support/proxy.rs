//! A proxy that breaks what passes through it, by order of the test, at any moment. For TCP and for unix sockets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to new and to present connections from now on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// None: everything passes.
    Pass,
    /// Nobody listens: connecting is refused, present connections are cut.
    Refuse,
    /// Present connections and new ones are closed at once.
    Cut,
    /// Connecting works, then nothing passes in either direction, for ever.
    Stall,
    /// So many bytes pass per pause, in each direction.
    Trickle { bytes: usize, pause: Duration },
    /// Each piece that passes is held up for so long.
    Delay(Duration),
    /// New connections are answered with `503` whatever they ask; present ones pass on.
    Answer503,
    /// The same with `429`, and a wait in seconds that it asks for.
    Answer429 { retry_after: u64 },
}

#[derive(Clone)]
enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What has come through so far, both directions together.
#[derive(Debug, Default, Clone, Copy)]
struct Traffic {
    connections: usize,
    bytes: usize,
}

/// What each connection knows of its proxy.
#[derive(Clone)]
struct Orders {
    faults: watch::Receiver<Fault>,
    traffic: watch::Sender<Traffic>,
}

/// Everything it does ends when it is dropped.
pub struct Proxy {
    fault: watch::Sender<Fault>,
    traffic: watch::Sender<Traffic>,
    address: Option<SocketAddr>,
    path: Option<PathBuf>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Before a TCP server: `127.0.0.1:PORT`, or a URL with such an authority.
    pub async fn tcp(target: &str) -> Self {
        let authority = target.split("//").last().unwrap_or(target).trim_end_matches('/');
        let target = authority.parse().unwrap_or_else(|e| panic!("{target} is no address: {e}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (fault, traffic, orders) = Self::orders();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_tcp(listener, address, Target::Tcp(target), orders));
        Self { fault, traffic, address: Some(address), path: None, _tasks: tasks }
    }

    /// Before a server on a unix socket (the Engine); `listen` is the path of the proxy's own socket.
    pub fn unix(target: &Path, listen: PathBuf) -> Self {
        let listener = UnixListener::bind(&listen).expect("bind the proxy's socket");
        let (fault, traffic, orders) = Self::orders();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_unix(listener, listen.clone(), Target::Unix(target.to_owned()), orders));
        Self { fault, traffic, address: None, path: Some(listen), _tasks: tasks }
    }

    fn orders() -> (watch::Sender<Fault>, watch::Sender<Traffic>, Orders) {
        let (fault, faults) = watch::channel(Fault::Pass);
        let traffic = watch::Sender::new(Traffic::default());
        (fault, traffic.clone(), Orders { faults, traffic })
    }

    /// Waits until somebody has connected since the proxy was made.
    pub async fn wait_for_connection(&self, within: Duration) {
        self.wait_for_traffic("a connection", within, |t| t.connections > 0).await;
    }

    /// Waits until somebody connects after now.
    pub async fn wait_for_another_connection(&self, within: Duration) {
        let before = self.traffic.borrow().connections;
        self.wait_for_traffic("another connection", within, |t| t.connections > before).await;
    }

    /// Waits until so many bytes have passed after now.
    pub async fn wait_for_bytes(&self, bytes: usize, within: Duration) {
        let before = self.traffic.borrow().bytes;
        self.wait_for_traffic(&format!("{bytes} bytes"), within, |t| t.bytes >= before + bytes).await;
    }

    async fn wait_for_traffic(&self, what: &str, within: Duration, enough: impl Fn(&Traffic) -> bool) {
        let mut traffic = self.traffic.subscribe();
        let waited = tokio::time::timeout(within, async { traffic.wait_for(|t| enough(t)).await.map(|_| ()) }).await;
        assert!(waited.is_ok(), "{what} through the proxy: not within {within:?}. Seen: {:?}", *self.traffic.borrow());
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.traffic.borrow().connections
    }

    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// `127.0.0.1:PORT`. TCP only.
    pub fn address(&self) -> String {
        self.address.expect("a TCP proxy").to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.expect("a TCP proxy").port()
    }

    /// `http://127.0.0.1:PORT`. TCP only.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The proxy's socket. Unix only.
    pub fn socket(&self) -> &Path {
        self.path.as_deref().expect("a unix proxy")
    }
}

/// Waits until the fault is one for which nobody listens (`true`), or is none of those (`false`).
async fn refusing(faults: &mut watch::Receiver<Fault>, wanted: bool) {
    if faults.wait_for(|f| (*f == Fault::Refuse) == wanted).await.is_err() {
        // The proxy is being dropped.
        std::future::pending::<()>().await;
    }
}

async fn serve_tcp(listener: TcpListener, address: SocketAddr, target: Target, orders: Orders) {
    let mut faults = orders.faults.clone();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    let mut changes = faults.clone();
    loop {
        match &listener {
            None => {
                refusing(&mut faults, false).await;
                listener = Some(rebind(address).await);
            }
            Some(open) => tokio::select! {
                () = refusing(&mut changes, true) => listener = None,
                accepted = open.accept() => if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, target.clone(), orders.clone()));
                },
            },
        }
    }
}

/// The address is ours; connections of before may keep it busy for a moment.
async fn rebind(address: SocketAddr) -> TcpListener {
    loop {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("set an option");
        if socket.bind(address).is_ok()
            && let Ok(listener) = socket.listen(1024)
        {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn serve_unix(listener: UnixListener, path: PathBuf, target: Target, orders: Orders) {
    let mut faults = orders.faults.clone();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    let mut changes = faults.clone();
    loop {
        match &listener {
            None => {
                refusing(&mut faults, false).await;
                std::fs::remove_file(&path).expect("remove the proxy's old socket");
                listener = Some(UnixListener::bind(&path).expect("bind the proxy's socket again"));
            }
            Some(open) => tokio::select! {
                () = refusing(&mut changes, true) => listener = None,
                accepted = open.accept() => if let Ok((client, _)) = accepted {
                    connections.spawn(connection(client, target.clone(), orders.clone()));
                },
            },
        }
    }
}

async fn connection<C: AsyncRead + AsyncWrite + Unpin>(mut client: C, target: Target, orders: Orders) {
    orders.traffic.send_modify(|t| t.connections += 1);
    let at_first = *orders.faults.borrow();
    match at_first {
        Fault::Cut | Fault::Refuse => return,
        Fault::Answer503 | Fault::Answer429 { .. } => {
            let status = match at_first {
                Fault::Answer429 { retry_after } => format!("429 Too Many Requests\r\nRetry-After: {retry_after}"),
                _ => "503 Service Unavailable".to_owned(),
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let mut request = [0; 4096];
            // Whatever was asked: the answer is the same, and a client that has gone needs none.
            if client.read(&mut request).await.is_ok() {
                let _ = client.write_all(answer.as_bytes()).await;
                let _ = client.shutdown().await;
            }
            return;
        }
        _ => {}
    }
    match target {
        Target::Tcp(address) => {
            if let Ok(server) = TcpStream::connect(address).await {
                relay(client, server, orders).await;
            }
        }
        Target::Unix(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                relay(client, server, orders).await;
            }
        }
    }
}

async fn relay<C, S>(client: C, server: S, orders: Orders)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    let mut cuts = orders.faults.clone();
    tokio::select! {
        _ = cuts.wait_for(|f| matches!(f, Fault::Cut | Fault::Refuse)) => {}
        // Half-closed connections stay open in the other direction, as the Engine's upgraded ones need.
        _ = async { tokio::join!(pump(from_client, to_server, orders.clone()), pump(from_server, to_client, orders)) } => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, orders: Orders) {
    let mut faults = orders.faults.clone();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // What was read while the fault changed is held back with the rest.
        if faults.wait_for(|f| *f != Fault::Stall).await.is_err() {
            return;
        }
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            break;
        };
        if faults.wait_for(|f| *f != Fault::Stall).await.is_err() || pass(&buffer[..read], &mut to, &orders).await.is_err() {
            break;
        }
    }
    // Nor does it pass that one side has gone.
    if faults.wait_for(|f| *f != Fault::Stall).await.is_err() {
        return;
    }
    // The other side may have gone first; then there is nothing to close.
    let _ = to.shutdown().await;
}

async fn pass(mut bytes: &[u8], to: &mut (impl AsyncWrite + Unpin), orders: &Orders) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let fault = *orders.faults.borrow();
        let piece = match fault {
            Fault::Trickle { bytes: most, pause } => {
                tokio::time::sleep(pause).await;
                most.clamp(1, bytes.len())
            }
            Fault::Delay(pause) => {
                tokio::time::sleep(pause).await;
                bytes.len()
            }
            _ => bytes.len(),
        };
        to.write_all(&bytes[..piece]).await?;
        to.flush().await?;
        orders.traffic.send_modify(|t| t.bytes += piece);
        bytes = &bytes[piece..];
    }
    Ok(())
}
