//! The scripts, each in the two bodies that the versions of Redis take, and how one is called.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value};

use super::error::is_missing;

/// One script of `scripts/`.
#[derive(Debug)]
pub(super) struct Script {
    plain: Body,
    /// For Redis 7: may write when `maxmemory` is reached, so that a full queue drains.
    roomy: Body,
}

#[derive(Debug)]
struct Body {
    text: String,
    sha: String,
}

impl Body {
    fn new(text: String) -> Self {
        let sha = redis::Script::new(&text).get_hash().to_owned();
        Self { text, sha }
    }
}

impl Script {
    fn new(body: &str) -> Self {
        let text = format!("{}{body}", include_str!("scripts/record.lua"));
        Self { roomy: Body::new(format!("#!lua flags=allow-oom\n{text}")), plain: Body::new(text) }
    }
    /// One that brings more into a Redis that is full, rather than work it off: it is refused then.
    fn filling(body: &str) -> Self {
        let text = format!("{}{body}", include_str!("scripts/record.lua"));
        Self { roomy: Body::new(format!("#!lua\n{text}")), plain: Body::new(text) }
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {
        $(pub(super) static $name: std::sync::LazyLock<Script> = std::sync::LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file, ".lua"))));)*
    };
}

scripts! {
    CLAIM = "claim";
    OUTCOME = "outcome";
    MAY_POST = "may_post";
    FINISH = "finish";
    GIVE_BACK = "give_back";
    CANCEL = "cancel";
    LOOK = "look";
    LEASE_TAKE = "lease_take";
    LEASE_RENEW = "lease_renew";
    LEASE_RELEASE = "lease_release";
    RESUME = "resume";
    CLAIMED = "claimed";
    SWEEP = "sweep";
    PEEK = "peek";
    SUPERSEDE = "supersede";
    REAP = "reap";
    FORGET = "forget";
    UNCOUNT = "uncount";
    RESTORE = "restore";
    STANDING = "standing";
    PROBE = "probe";
    ADOPT = "adopt";
    HOST_FAULT = "host_fault";
}

pub(super) static ENQUEUE: std::sync::LazyLock<Script> =
    std::sync::LazyLock::new(|| Script::filling(include_str!("scripts/enqueue.lua")));

/// A call of a script: its keys and arguments.
pub(super) struct Call<'a> {
    script: &'a Script,
    keys: Vec<&'a str>,
    args: Vec<Arg<'a>>,
}

enum Arg<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

impl<'a> Call<'a> {
    pub(super) fn of(script: &'a Script) -> Self {
        Self { script, keys: Vec::new(), args: Vec::new() }
    }
    pub(super) fn keys(mut self, keys: &[&'a str]) -> Self {
        self.keys.extend_from_slice(keys);
        self
    }
    pub(super) fn arg(mut self, arg: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.args.push(Arg::Bytes(arg.as_ref()));
        self
    }
    pub(super) fn number(mut self, n: u64) -> Self {
        self.args.push(Arg::Number(n));
        self
    }
    fn command(&self, verb: &str, body: &str) -> Cmd {
        let mut cmd = redis::cmd(verb);
        cmd.arg(body).arg(self.keys.len());
        for key in &self.keys {
            cmd.arg(*key);
        }
        for arg in &self.args {
            match arg {
                Arg::Bytes(bytes) => cmd.arg(*bytes),
                Arg::Number(n) => cmd.arg(*n),
            };
        }
        cmd
    }
    /// By its hash; by its text where the server does not know it (yet, or after a restart), or takes none by its hash (`by_text`).
    pub(super) async fn run(
        &self,
        connection: &mut redis::aio::MultiplexedConnection,
        roomy: bool,
        by_text: &AtomicBool,
    ) -> Result<Value, RedisError> {
        let body = if roomy { &self.script.roomy } else { &self.script.plain };
        if by_text.load(Ordering::Relaxed) {
            return self.command("EVAL", &body.text).query_async(connection).await;
        }
        match self.command("EVALSHA", &body.sha).query_async(connection).await {
            Err(e) if e.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", &body.text).query_async(connection).await
            }
            Err(refused) if is_missing(&refused) || forbids(&refused, "evalsha") => {
                let answer = self.command("EVAL", &body.text).query_async(connection).await;
                match &answer {
                    Err(e) if is_missing(e) || forbids(e, "eval") => return Err(refused),
                    _ => by_text.store(true, Ordering::Relaxed),
                }
                answer
            }
            answer => answer,
        }
    }
}

/// Whether the user may not send this command itself, whatever it is about.
fn forbids(error: &RedisError, command: &str) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        && error.detail().is_some_and(|text| text.contains(&format!("'{command}'")))
}

/// A script's answer: a flat list of strings (or one number, as a string).
pub(super) struct Answer(Vec<Vec<u8>>);

impl Answer {
    /// `None` where the shape is another one: then it is not our script's answer.
    pub(super) fn read(value: Value) -> Option<Self> {
        let one = |v| match v {
            Value::BulkString(bytes) => Some(bytes),
            Value::SimpleString(text) => Some(text.into_bytes()),
            Value::Int(n) => Some(n.to_string().into_bytes()),
            _ => None,
        };
        match value {
            Value::Array(values) => values.into_iter().map(one).collect::<Option<_>>().map(Self),
            other => one(other).map(|v| Self(vec![v])),
        }
    }
    /// The string at `index`, "" where there is none or it is no text.
    pub(super) fn text(&self, index: usize) -> &str {
        self.0.get(index).and_then(|v| std::str::from_utf8(v).ok()).unwrap_or_default()
    }
    pub(super) fn number(&self, index: usize) -> Option<u64> {
        self.text(index).parse().ok()
    }
    pub(super) fn take(&mut self, index: usize) -> Vec<u8> {
        self.0.get_mut(index).map(std::mem::take).unwrap_or_default()
    }
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
