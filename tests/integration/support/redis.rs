//! A Redis of a test's own, so that it can be killed, frozen and started again.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{eventually, unique};

const UP_WITHIN: Duration = Duration::from_secs(60);

/// A `redis-server` with a password, which syncs every write to disk: killed and started again, it has lost nothing.
pub struct RedisServer {
    pub port: u16,
    pub password: String,
    dir: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("slipway-redis-").tempdir().expect("a temporary directory");
        let mut server = Self { port: 0, password: unique(), dir, child: None };
        // A port that was free may be taken before Redis binds it: then it ends at once, and another is tried.
        loop {
            server.port = free_port();
            server.spawn();
            if server.is_up().await {
                return server;
            }
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn connection(&self) -> MultiplexedConnection {
        self.try_connection().await.expect("Redis answers")
    }

    /// Runs one command: `redis.command::<u64>(&["LLEN", "builder-queue"])`.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection = self.connection().await;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// Every key with its content as text, for a search through all of it.
    pub async fn dump(&self) -> String {
        let mut all = String::new();
        for key in self.command::<Vec<String>>(&["KEYS", "*"]).await {
            let kind: String = self.command(&["TYPE", &key]).await;
            let words: Vec<&str> = match kind.as_str() {
                "list" => vec!["LRANGE", &key, "0", "-1"],
                "hash" => vec!["HGETALL", &key],
                "zset" => vec!["ZRANGE", &key, "0", "-1"],
                "set" => vec!["SMEMBERS", &key],
                _ => vec!["GET", &key],
            };
            let value: redis::Value = self.command(&words).await;
            let values: Vec<Vec<u8>> = match value {
                redis::Value::BulkString(bytes) => vec![bytes],
                other => redis::from_redis_value(other).unwrap_or_default(),
            };
            let values: Vec<_> = values.iter().map(|v| String::from_utf8_lossy(v)).collect();
            all.push_str(&format!("{key} ({kind}): {}\n", values.join("\n    ")));
        }
        all
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().and_then(|()| child.wait()).expect("kill Redis");
        }
    }

    /// Starts it again on the same port, with what it had on disk.
    pub async fn restart(&mut self) {
        self.kill();
        self.spawn();
        assert!(self.is_up().await, "Redis did not start again on its port {}", self.port);
    }

    /// Starts it again on the same port with nothing in it.
    pub async fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.dir.path().join("appendonlydir")).expect("remove Redis' files");
        self.restart().await;
    }

    /// Starts it again on the same port with what was in it when [`RedisServer::keep_snapshot`] was called.
    pub async fn restart_from_snapshot(&mut self) {
        self.kill();
        let (kept, now) = (self.dir.path().join("snapshot"), self.dir.path().join("appendonlydir"));
        std::fs::remove_dir_all(&now).expect("remove Redis' files");
        std::fs::rename(kept, now).expect("put the snapshot in their place");
        self.restart().await;
    }

    /// Copies what is in it now; every write is on disk already.
    pub fn keep_snapshot(&self) {
        let (now, kept) = (self.dir.path().join("appendonlydir"), self.dir.path().join("snapshot"));
        std::fs::create_dir(&kept).expect("a folder for the snapshot");
        for file in std::fs::read_dir(now).expect("Redis' files").flatten() {
            std::fs::copy(file.path(), kept.join(file.file_name())).expect("copy a file of Redis");
        }
    }

    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("Redis runs");
        kill_process(Pid::from_child(child), signal).expect("signal Redis");
    }

    fn spawn(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).expect("Redis' log");
        let mut child = Command::new("redis-server")
            .arg("-")
            .current_dir(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("start redis-server: run `make setup`");
        let config = format!(
            "bind 127.0.0.1\nport {}\nrequirepass {}\nsave \"\"\nappendonly yes\nappendfsync always\n\
             # A process title is written over the environment, by which scripts/parts finds what a killed test left.\n\
             set-proc-title no\n",
            self.port, self.password
        );
        // On its standard input: an argument could be read by every process of the host.
        child.stdin.take().expect("piped").write_all(config.as_bytes()).expect("hand Redis its configuration");
        self.child = Some(child);
    }

    /// Whether it came up; `false` when it ended.
    async fn is_up(&mut self) -> bool {
        let mut child = self.child.take().expect("just started");
        let up = eventually("Redis comes up", UP_WITHIN, async || {
            if child.try_wait().expect("ask for Redis").is_some() {
                return Ok(false);
            }
            self.try_connection().await.map(|_| true).map_err(|e| e.to_string())
        })
        .await;
        self.child = Some(child);
        up
    }

    async fn try_connection(&self) -> redis::RedisResult<MultiplexedConnection> {
        // It syncs each write to disk: forty megabytes take their time.
        let long = Some(Duration::from_secs(30));
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(long).set_connection_timeout(long);
        let client = redis::Client::open(format!("redis://:{}@{}/", self.password, self.address()))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(connection)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}
