//! Where Redis is and how to log in; and the plain connection for what blocks or streams.

use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::{QueueError, explain, explain_said};
use super::resp::{Reader, Reply, command};
use super::trouble::Board;
use crate::config::QueueConfig;

/// How long Redis may take to accept a connection, and to answer what does not block.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// Address and login.
#[derive(Debug, Clone)]
pub(super) struct Dial {
    host: String,
    port: u16,
    username: Option<String>,
    password: Option<SecretString>,
    /// `host:port`, for messages.
    pub(super) address: String,
    /// The ACL rule that grants all that the queue needs, for messages.
    pub(super) rule: String,
    /// What was told of the trouble with it.
    pub(super) board: Arc<Board>,
}

impl Dial {
    pub(super) fn new(config: &QueueConfig, rule: String) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port,
            username: config.username.clone(),
            password: config.password.clone(),
            address: format!("{}:{}", config.host, config.port),
            rule,
            board: Arc::default(),
        }
    }
    /// For the library's connections.
    pub(super) fn client(&self) -> Result<redis::Client, QueueError> {
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = &self.password {
            login = login.set_password(password.expose_secret());
            if let Some(username) = &self.username {
                login = login.set_username(username);
            }
        }
        ConnectionAddr::Tcp(self.host.clone(), self.port)
            .into_connection_info()
            .map(|info| info.set_redis_settings(login))
            .and_then(redis::Client::open)
            .map_err(|e| explain(&self.address, &e, &self.rule))
    }
    pub(super) fn said(&self, text: &str) -> QueueError {
        explain_said(&self.address, text, &self.rule)
    }
    pub(super) fn unreachable(&self, cause: impl Into<String>) -> QueueError {
        QueueError::Unreachable { address: self.address.clone(), cause: cause.into() }
    }
    /// A plain connection, logged in; of each value it keeps `keep` bytes.
    pub(super) async fn line(&self, keep: usize) -> Result<Line, QueueError> {
        let open = async {
            let stream =
                TcpStream::connect((self.host.as_str(), self.port)).await.map_err(|e| self.unreachable(e.to_string()))?;
            stream.set_nodelay(true).map_err(|e| self.unreachable(e.to_string()))?;
            let mut line = Line { stream, reader: Reader::new(keep), buffer: vec![0; 16 << 10], start: 0, end: 0, torn: false };
            if let Some(password) = &self.password {
                let password = password.expose_secret().as_bytes();
                let username = self.username.as_deref().map(str::as_bytes);
                match username {
                    Some(name) => line.send(self, &[b"AUTH", name, password]).await?,
                    None => line.send(self, &[b"AUTH", password]).await?,
                }
                if let Reply::Error(text) = line.receive(self).await? {
                    return Err(QueueError::Denied { address: self.address.clone(), cause: text });
                }
            }
            Ok(line)
        };
        timeout(ANSWER, open).await.unwrap_or_else(|_| Err(self.unreachable("no answer within 5 s")))
    }
}

/// A connection with one reply after the other.
pub(super) struct Line {
    stream: TcpStream,
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
        self.stream.write_all(&command(parts)).await.map_err(|e| dial.unreachable(e.to_string()))?;
        self.torn = false;
        Ok(())
    }
    pub(super) fn is_torn(&self) -> bool {
        self.torn
    }
    /// The next reply. Cancel-safe.
    pub(super) async fn receive(&mut self, dial: &Dial) -> Result<Reply, QueueError> {
        loop {
            let mut rest = &self.buffer[self.start..self.end];
            let reply = self.reader.read(&mut rest).map_err(|_| dial.unreachable("what answers there is no Redis"))?;
            self.start = self.end - rest.len();
            if let Some(reply) = reply {
                return Ok(reply);
            }
            let n = self.stream.read(&mut self.buffer).await.map_err(|e| dial.unreachable(e.to_string()))?;
            if n == 0 {
                return Err(dial.unreachable("it closed the connection"));
            }
            (self.start, self.end) = (0, n);
        }
    }
}
