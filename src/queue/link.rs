//! The connection that scripts run on: one, shared, made anew when it broke.

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    generation: u64,
    failures: u32,
    failed: Option<(Instant, QueueError)>,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    generation: u64,
    since: Instant,
    server: Server,
}

impl Link {
    pub(super) fn new(dial: Dial) -> Result<Self, QueueError> {
        Ok(Self { client: dial.client()?, dial, state: Mutex::default() })
    }
    /// Runs a script. Every one is idempotent: after an error the caller may run it again.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Answer, QueueError> {
        let mut open = self.open().await?;
        let answer = call.run(&mut open.connection, open.server.takes_flags()).await;
        let value = self.judge(&open, answer).await?;
        Answer::read(value).ok_or_else(|| self.dial.said("a script answered in another shape"))
    }
    /// Runs a plain command.
    pub(super) async fn command(&self, cmd: &redis::Cmd) -> Result<Value, QueueError> {
        let mut open = self.open().await?;
        let answer = cmd.query_async(&mut open.connection).await;
        self.judge(&open, answer).await
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
    pub(super) async fn session(&self) -> Result<(Server, Instant), QueueError> {
        let open = self.open().await?;
        Ok((open.server, open.since))
    }
    /// A connection that did not answer in time, or broke, is given up: a half-open one would not get better.
    async fn judge<T>(&self, open: &Open, answer: Result<T, RedisError>) -> Result<T, QueueError> {
        let error = match answer {
            Ok(value) => return Ok(value),
            Err(e) => e,
        };
        let explained = explain(&self.dial.address, &error, &self.dial.rule);
        if error.is_io_error() || error.is_unrecoverable_error() || explained.wants_new_connection() {
            let mut state = self.state.lock().await;
            if state.open.as_ref().is_some_and(|o| o.generation == open.generation) {
                state.open = None;
            }
        }
        Err(explained)
    }
    async fn open(&self) -> Result<Open, QueueError> {
        let mut state = self.state.lock().await;
        if let Some(open) = &state.open {
            return Ok(open.clone());
        }
        if let Some((at, error)) = &state.failed
            && at.elapsed() < pause(state.failures)
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok((connection, server)) => {
                state.generation += 1;
                (state.failures, state.failed) = (0, None);
                let open = Open { connection, generation: state.generation, since: Instant::now(), server };
                state.open = Some(open.clone());
                Ok(open)
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                state.failed = Some((Instant::now(), error.clone()));
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
