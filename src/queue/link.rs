//! The connection that scripts run on: one, shared, made anew when it broke.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, Value};
use tokio::sync::Mutex;

use super::dial::{ANSWER, Dial};
use super::error::{QueueError, explain};
use super::keys::Keys;
use super::script::{Answer, Call};

/// What the server said of itself when the connection was made. All `None` where the user may not ask (`INFO`).
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    pub(super) version: Option<(u32, u32)>,
    pub(super) run_id: Option<String>,
    pub(super) eviction: Option<String>,
}

impl Server {
    fn read(info: &str) -> Self {
        let field =
            |name: &str| info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(|v| v.trim_end().to_owned());
        let version = field("redis_version").and_then(|v| {
            let mut parts = v.split('.').map(|p| p.parse().ok());
            Some((parts.next()??, parts.next()??))
        });
        Self { version, run_id: field("run_id"), eviction: field("maxmemory_policy") }
    }
    pub(super) fn is_too_old(&self) -> bool {
        self.version.is_some_and(|v| v < (6, 2))
    }
    /// What in its settings endangers the queue, each with the cure.
    pub(super) fn advice(&self, address: &str) -> Vec<String> {
        let policy = self.eviction.as_deref().filter(|p| *p != "noeviction");
        let eviction = policy.map(|p| {
            format!(
                "Redis at {address} may throw keys of the queue away when its memory is full (maxmemory-policy {p}), leases and jobs \
                 among them. Set maxmemory-policy noeviction."
            )
        });
        eviction.into_iter().collect()
    }
    /// Scripts with flags came with Redis 7; unknown counts as older.
    fn takes_flags(&self) -> bool {
        self.version.is_some_and(|v| v >= (7, 0))
    }
}

/// The shared connection.
pub(super) struct Link {
    pub(super) dial: Dial,
    client: redis::Client,
    /// Read with every command, so by a lock that nobody waits with.
    open: RwLock<Option<Arc<Open>>>,
    /// Held by who connects.
    dialing: Mutex<Dialing>,
}

#[derive(Default)]
struct Dialing {
    failures: u32,
    failed: Option<(Instant, QueueError)>,
}

struct Open {
    connection: MultiplexedConnection,
    since: Instant,
    server: Arc<Server>,
}

impl Link {
    pub(super) fn new(dial: Dial) -> Result<Self, QueueError> {
        Ok(Self { client: dial.client()?, dial, open: RwLock::default(), dialing: Mutex::default() })
    }
    /// Runs a script. Every one is idempotent: after an error the caller may run it again.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Answer, QueueError> {
        let open = self.open().await?;
        let answer = call.run(&mut open.connection.clone(), open.server.takes_flags()).await;
        let value = self.judge(&open, answer)?;
        Answer::read(value).ok_or_else(|| self.dial.said("a script answered in another shape"))
    }
    /// Runs a plain command.
    pub(super) async fn command(&self, cmd: &redis::Cmd) -> Result<Value, QueueError> {
        let open = self.open().await?;
        let answer = cmd.query_async(&mut open.connection.clone()).await;
        self.judge(&open, answer)
    }
    /// Names the key that is of a wrong type, where that is the trouble.
    pub(super) async fn named(&self, keys: &Keys, more: &[(&str, &str)], error: QueueError) -> QueueError {
        let QueueError::WrongType { address, .. } = &error else { return error };
        for (key, wanted) in keys.typed().iter().chain(more) {
            let Ok(Value::SimpleString(is)) = self.command(redis::cmd("TYPE").arg(*key)).await else { continue };
            if is != *wanted && is != "none" {
                return QueueError::WrongType { address: address.clone(), what: format!("{key} is a {is}, not a {wanted}") };
            }
        }
        error
    }
    /// What the server said of itself, and since when the connection has held without a break.
    pub(super) async fn session(&self) -> Result<(Arc<Server>, Instant), QueueError> {
        let open = self.open().await?;
        Ok((open.server.clone(), open.since))
    }
    /// A connection that did not answer in time, or broke, is given up: a half-open one would not get better.
    fn judge<T>(&self, open: &Arc<Open>, answer: Result<T, RedisError>) -> Result<T, QueueError> {
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(e) => e,
        };
        let explained = explain(&self.dial.address, &error, &self.dial.rule);
        if error.is_io_error() || error.is_unrecoverable_error() || explained.wants_new_connection() {
            let mut now = self.open.write().unwrap_or_else(PoisonError::into_inner);
            if now.as_ref().is_some_and(|o| Arc::ptr_eq(o, open)) {
                *now = None;
            }
        }
        Err(explained)
    }
    fn now_open(&self) -> Option<Arc<Open>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    async fn open(&self) -> Result<Arc<Open>, QueueError> {
        if let Some(open) = self.now_open() {
            return Ok(open);
        }
        let mut dialing = self.dialing.lock().await;
        // Somebody else connected meanwhile.
        if let Some(open) = self.now_open() {
            return Ok(open);
        }
        if let Some((at, error)) = &dialing.failed
            && at.elapsed() < pause(dialing.failures)
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok((connection, server)) => {
                *dialing = Dialing::default();
                let open = Arc::new(Open { connection, since: Instant::now(), server: Arc::new(server) });
                *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(open.clone());
                Ok(open)
            }
            Err(error) => {
                dialing.failures = dialing.failures.saturating_add(1);
                dialing.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
    async fn connect(&self) -> Result<(MultiplexedConnection, Server), QueueError> {
        let told = |e: &RedisError| explain(&self.dial.address, e, &self.dial.rule);
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(|e| told(&e))?;
        let server = match redis::cmd("INFO").query_async::<String>(&mut connection).await {
            Ok(info) => Server::read(&info),
            Err(e) => match told(&e) {
                QueueError::NoRights { .. } => Server::default(),
                other => return Err(other),
            },
        };
        Ok((connection, server))
    }
}

/// Between two tries to connect: short, because a worker without Redis does nothing else; bounded, because Redis may be ill.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(4)).min(Duration::from_secs(1))
}
