//! The connection that scripts run on: one, shared, made anew when it broke.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::{RedisError, Value};
use tokio::sync::Mutex;

use super::dial::{Dial, Multiplexed};
use super::error::{QueueError, explain};
use super::keys::Keys;
use super::script::{Answer, Call};
use super::server::Server;

/// The shared connection.
pub(super) struct Link {
    pub(super) dial: Dial,
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
    shared: Multiplexed,
    since: Instant,
    server: Arc<Server>,
    /// The server has no EVALSHA for this user: scripts are sent as their text.
    by_text: AtomicBool,
}

impl Link {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial, open: RwLock::default(), dialing: Mutex::default() }
    }
    /// Runs a script. Every one is idempotent: after an error the caller may run it again.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Answer, QueueError> {
        let open = self.open().await?;
        let answer = call.run(&mut open.shared.connection.clone(), open.server.takes_flags(), &open.by_text).await;
        let value = self.judge(&open, answer)?;
        Answer::read(value).ok_or_else(|| self.dial.said("a script answered in another shape"))
    }
    /// Runs a plain command.
    pub(super) async fn command(&self, cmd: &redis::Cmd) -> Result<Value, QueueError> {
        let open = self.open().await?;
        let answer = cmd.query_async(&mut open.shared.connection.clone()).await;
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
            Ok((shared, server)) => {
                *dialing = Dialing::default();
                let (since, server) = (Instant::now(), Arc::new(server));
                let open = Arc::new(Open { shared, since, server, by_text: AtomicBool::new(false) });
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
    async fn connect(&self) -> Result<(Multiplexed, Server), QueueError> {
        let mut shared = self.dial.shared().await?;
        let server = Server::ask(&mut shared.connection).await.map_err(|e| explain(&self.dial.address, &e, &self.dial.rule))?;
        if server.is_sentinel() {
            return Err(self.dial.is_sentinel(server.primary.as_deref()));
        }
        Ok((shared, server))
    }
}

/// Between two tries to connect: short, because a worker without Redis does nothing else; bounded, because Redis may be ill.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(100 << failures.min(4)).min(Duration::from_secs(1))
}
