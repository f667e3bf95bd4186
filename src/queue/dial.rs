//! Where Redis is and how to log in; and the plain connection for what blocks or streams.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::error::{QueueError, explain, explain_said};
use super::resp::{Reader, Reply, command};
use super::stream::Stream;
use super::tls::Tls;
use super::trouble::Board;
use crate::config::QueueConfig;

/// How long Redis may take to accept a connection, and to answer what does not block.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Address and login.
#[derive(Clone)]
pub(super) struct Dial {
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<SecretString>,
    database: u32,
    tls: Option<Arc<Tls>>,
    /// `host:port`, for messages.
    pub(super) address: String,
    /// The ACL rule that grants all that the queue needs, for messages.
    pub(super) rule: String,
    /// What was told of the trouble with it.
    pub(super) board: Arc<Board>,
    /// It has answered once as it is spoken to now. Before, who closes the connection may want TLS.
    has_answered: Arc<AtomicBool>,
}

impl Dial {
    pub(super) fn new(config: &QueueConfig, rule: String) -> Result<Self, QueueError> {
        let address = config.address();
        let tls = config.tls.as_ref().map(|trust| Tls::new(&config.host, trust)).transpose();
        let tls = tls.map_err(|p| QueueError::Trouble { address: address.clone(), cause: p.cause, cure: p.cure })?;
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            username: config.username.clone(),
            password: config.password.clone(),
            database: config.database,
            tls: tls.map(Arc::new),
            address,
            rule,
            board: Arc::default(),
            has_answered: Arc::default(),
        })
    }
    pub(super) fn said(&self, text: &str) -> QueueError {
        explain_said(&self.address, text, &self.rule)
    }
    pub(super) fn unreachable(&self, cause: impl Into<String>) -> QueueError {
        QueueError::Unreachable { address: self.address.clone(), cause: cause.into() }
    }
    pub(super) fn is_sentinel(&self, primary: Option<&str>) -> QueueError {
        let cure = match primary {
            Some(primary) => format!("It names {primary} as the primary: point REDIS_HOST and REDIS_PORT (or REDIS_URL) there."),
            None => "Point REDIS_HOST and REDIS_PORT (or REDIS_URL) at the primary (SENTINEL MASTERS names it).".to_owned(),
        };
        let cause = "is a Sentinel: it watches over a Redis and holds no jobs itself".to_owned();
        QueueError::Trouble { address: self.address.clone(), cause, cure }
    }
    fn broken(&self, error: &io::Error) -> QueueError {
        match self.tls.as_ref().and_then(|tls| tls.explain(error)) {
            Some(problem) => QueueError::Trouble { address: self.address.clone(), cause: problem.cause, cure: problem.cure },
            None if error.kind() == io::ErrorKind::ConnectionRefused => self.unreachable("the connection was refused"),
            None => self.unreachable(error.to_string()),
        }
    }

    /// A connection of the library's, logged in, which many share.
    pub(super) async fn shared(&self) -> Result<Multiplexed, QueueError> {
        let stream = self.line(0).await?.stream;
        // Everything was asked on the line already; the library sends nothing of its own.
        let (login, config) = (
            RedisConnectionInfo::default().set_skip_set_lib_name(),
            AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER)),
        );
        let made = MultiplexedConnection::new_with_config(&login, stream, config).await;
        let (connection, driver) = made.map_err(|e| explain(&self.address, &e, &self.rule))?;
        let mut carries = JoinSet::new();
        carries.spawn(driver);
        Ok(Multiplexed { connection, _carries: carries })
    }

    /// A plain connection, logged in; of each value it keeps `keep` bytes.
    pub(super) async fn line(&self, keep: usize) -> Result<Line, QueueError> {
        let end = Instant::now() + ANSWER;
        let late = |_| self.unreachable("no answer within 5 s");
        let stream = timeout_at(end, self.connect()).await.map_err(late)??;
        let stream = match &self.tls {
            None => Stream::Clear(stream),
            Some(tls) => match timeout_at(end, tls.handshake(stream)).await {
                Ok(done) => Stream::Tls(Box::new(done.map_err(|e| self.no_handshake(&e))?)),
                // Redis waits for the end of a line where it is greeted by TLS on its plain port.
                Err(_) => {
                    return Err(self.unreachable(
                        "no answer to the TLS handshake within 5 s. If it does not speak TLS on this port write redis:// in REDIS_URL (or REDIS_TLS=false)",
                    ));
                }
            },
        };
        let mut line = Line { stream, reader: Reader::new(keep), buffer: vec![0; 16 << 10], start: 0, end: 0, torn: false };
        timeout_at(end, self.log_in(&mut line)).await.map_err(late)??;
        Ok(line)
    }

    /// To whichever of the host's addresses answers first.
    async fn connect(&self) -> Result<TcpStream, QueueError> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|e| self.broken(&e))?;
        let tries: Vec<_> = addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
        if tries.is_empty() {
            return Err(self.unreachable("its name has no address"));
        }
        let (stream, _) = select_ok(tries).await.map_err(|e| self.broken(&e))?;
        stream.set_nodelay(true).map_err(|e| self.broken(&e))?;
        Ok(stream)
    }

    fn no_handshake(&self, error: &io::Error) -> QueueError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => self.unreachable(
                "it closed the connection in the TLS handshake. If it does not speak TLS on this port write redis:// in REDIS_URL (or REDIS_TLS=false)",
            ),
            _ => self.broken(error),
        }
    }

    async fn log_in(&self, line: &mut Line) -> Result<(), QueueError> {
        if let Some(password) = &self.password {
            let password = password.expose_secret().as_bytes();
            let mut reply = match self.username.as_deref() {
                Some(name) => line.ask(self, &[b"AUTH", name.as_bytes(), password]).await?,
                None => line.ask(self, &[b"AUTH", password]).await?,
            };
            // Before Redis 6 there was one password and no users.
            if self.username.is_some() && matches!(&reply, Reply::Error(text) if text.contains("wrong number of arguments")) {
                reply = line.ask(self, &[b"AUTH", password]).await?;
            }
            if let Reply::Error(text) = reply {
                return Err(match self.said(&text) {
                    QueueError::Refused { cause, .. } | QueueError::NoRights { cause, .. } => {
                        QueueError::Denied { address: self.address.clone(), cause }
                    }
                    other => other,
                });
            }
        } else {
            // Most refusals are told by the first command that meets them; behind these the connection is closed.
            if let Reply::Error(text) = line.ask(self, &[b"PING"]).await?
                && let error @ QueueError::Trouble { .. } = self.said(&text)
                && error.closes_the_connection()
            {
                return Err(error);
            }
        }
        if self.database != 0 {
            let reply = line.ask(self, &[b"SELECT", self.database.to_string().as_bytes()]).await?;
            if let Reply::Error(text) = reply {
                return Err(match self.said(&text) {
                    QueueError::Refused { cause, .. } => QueueError::Trouble {
                        address: self.address.clone(),
                        cause: format!("has no database {} ({cause})", self.database),
                        cure:
                            "Choose another one in REDIS_URL or REDIS_DB, or raise its setting databases; a cluster has only 0."
                                .to_owned(),
                    },
                    other => other,
                });
            }
        }
        Ok(())
    }
}

/// A shared connection with the task that carries it, which ends with it.
pub(super) struct Multiplexed {
    pub(super) connection: MultiplexedConnection,
    /// Aborts it when dropped: on a link that went silent it would wait for ever.
    _carries: JoinSet<()>,
}

/// A connection with one reply after the other.
pub(super) struct Line {
    stream: Stream,
    reader: Reader,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// A command was sent in part only.
    torn: bool,
}

impl Line {
    /// Dropping the future in the middle leaves the connection torn: see [`Line::is_torn`].
    pub(super) async fn send(&mut self, dial: &Dial, parts: &[&[u8]]) -> Result<(), QueueError> {
        self.torn = true;
        self.stream.write_all(&command(parts)).await.map_err(|e| lost(dial, &e))?;
        // TLS may keep the last record back.
        self.stream.flush().await.map_err(|e| lost(dial, &e))?;
        self.torn = false;
        Ok(())
    }
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }
    async fn ask(&mut self, dial: &Dial, parts: &[&[u8]]) -> Result<Reply, QueueError> {
        match self.send(dial, parts).await {
            Ok(()) => self.receive(dial).await,
            // Who has no room for a client says so and closes the connection, whatever it was sent.
            Err(unsent) => self.receive(dial).await.map_err(|_| unsent),
        }
    }
    /// The next reply. Cancel-safe.
    pub(super) async fn receive(&mut self, dial: &Dial) -> Result<Reply, QueueError> {
        loop {
            let mut rest = &self.buffer[self.start..self.end];
            let reply = self.reader.read(&mut rest).map_err(|_| no_redis(dial, self.buffer[self.start]))?;
            self.start = self.end - rest.len();
            if let Some(reply) = reply {
                dial.has_answered.store(true, Ordering::Relaxed);
                return Ok(reply);
            }
            let n = self.stream.read(&mut self.buffer).await.map_err(|e| lost(dial, &e))?;
            if n == 0 {
                return Err(lost(dial, &io::ErrorKind::UnexpectedEof.into()));
            }
            (self.start, self.end) = (0, n);
        }
    }
}

const ASKS_FOR_TLS: &str = "Does it want TLS? Then write rediss:// in REDIS_URL, or set REDIS_TLS=true";

/// The connection broke. A server that wants TLS closes it where it is greeted in clear.
fn lost(dial: &Dial, error: &io::Error) -> QueueError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    if !matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe) {
        return dial.broken(error);
    }
    if dial.tls.is_some() || dial.has_answered.load(Ordering::Relaxed) {
        return dial.unreachable("it closed the connection");
    }
    dial.unreachable(format!("it closed the connection before it answered. {ASKS_FOR_TLS}"))
}

fn no_redis(dial: &Dial, first: u8) -> QueueError {
    // The record type of an alert.
    if dial.tls.is_none() && first == 0x15 {
        return dial.unreachable(format!("it answered with an alert of TLS. {ASKS_FOR_TLS}"));
    }
    dial.unreachable("what answers there is no Redis")
}
