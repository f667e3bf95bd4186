//! What a server says of itself when a connection to it is made.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::error::is_missing;

/// Fields are `None` where the user may not ask for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) version: Option<(u32, u32)>,
    pub(super) run_id: Option<String>,
    pub(super) eviction: Option<String>,
    /// `standalone`, `cluster` or `sentinel`.
    pub(super) mode: Option<String>,
    /// The address of the primary that a Sentinel watches over.
    pub(super) primary: Option<String>,
    pub(super) is_replica: bool,
}

impl Server {
    /// By `INFO`; where that was renamed or is not granted by `HELLO`, which every user may send but which says less.
    pub(super) async fn ask(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        match redis::cmd("INFO").query_async::<String>(connection).await {
            Ok(info) => return Ok(Self::of_info(&info)),
            Err(e) if is_refused(&e) => {}
            Err(e) => return Err(e),
        }
        match redis::cmd("HELLO").arg(2).query_async::<Value>(connection).await {
            Ok(hello) => Ok(Self::of_hello(&hello)),
            Err(e) if is_refused(&e) => Ok(Self::default()),
            Err(e) => Err(e),
        }
    }
    fn of_info(info: &str) -> Self {
        let field =
            |name: &str| info.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).map(|v| v.trim_end().to_owned());
        // master0:name=mymaster,status=ok,address=10.0.0.1:6379,slaves=1,sentinels=3
        let primary =
            field("master0").and_then(|line| line.split(',').find_map(|part| part.strip_prefix("address=")).map(str::to_owned));
        Self {
            version: field("redis_version").as_deref().and_then(version),
            run_id: field("run_id"),
            eviction: field("maxmemory_policy"),
            mode: field("redis_mode"),
            primary,
            is_replica: field("role").as_deref() == Some("slave"),
        }
    }
    fn of_hello(hello: &Value) -> Self {
        let Value::Array(parts) = hello else { return Self::default() };
        let text = |value: &Value| match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
            Value::SimpleString(text) => Some(text.clone()),
            _ => None,
        };
        let field = |name: &str| {
            let mut pairs = parts.chunks_exact(2);
            pairs.find(|pair| text(&pair[0]).as_deref() == Some(name)).and_then(|pair| text(&pair[1]))
        };
        Self {
            version: field("version").as_deref().and_then(version),
            mode: field("mode"),
            is_replica: field("role").as_deref() == Some("replica"),
            ..Self::default()
        }
    }
    pub(super) fn is_sentinel(&self) -> bool {
        self.mode.as_deref() == Some("sentinel")
    }
    pub(super) fn is_too_old(&self) -> bool {
        self.version.is_some_and(|v| v < (6, 2))
    }
    /// Scripts with flags came with Redis 7; unknown counts as older.
    pub(super) fn takes_flags(&self) -> bool {
        self.version.is_some_and(|v| v >= (7, 0))
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
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// The command was renamed, or the user may not send it.
fn is_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) || is_missing(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_is_known_by_its_mode_and_names_the_primary() {
        let info = "redis_version:7.0.15\r\nredis_mode:sentinel\r\nmaster0:name=m,status=ok,address=10.0.0.1:6379,slaves=0\r\n";
        let server = Server::of_info(info);
        assert!(server.is_sentinel());
        assert_eq!(server.primary.as_deref(), Some("10.0.0.1:6379"));
    }

    #[test]
    fn hello_says_version_mode_and_role_where_info_is_not_to_be_had() {
        let text = |t: &str| Value::BulkString(t.as_bytes().to_vec());
        let pairs = ["server", "redis", "version", "7.0.15", "mode", "standalone", "role", "replica"].map(text);
        let server = Server::of_hello(&Value::Array([pairs.to_vec(), vec![text("modules"), Value::Array(vec![])]].concat()));
        assert_eq!((server.version, server.mode.as_deref(), server.is_replica), (Some((7, 0)), Some("standalone"), true));
        assert!(server.takes_flags());
    }
}
