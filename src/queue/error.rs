//! What Redis' refusals mean, in words with a cure.

use redis::{ErrorKind, RedisError};

/// Why Redis did not do what was asked. `Display` names the address, the cause and the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    #[error(
        "Redis at {address} cannot be reached: {cause}. Check REDIS_HOST and REDIS_PORT (or REDIS_URL), and that Redis runs."
    )]
    Unreachable { address: String, cause: String },
    #[error("Redis at {address} refused the login: {cause}. Check REDIS_USERNAME and REDIS_PASSWORD, or those in REDIS_URL.")]
    Denied { address: String, cause: String },
    /// The login is right, but the user lacks a right that the protocol needs.
    #[error("Redis at {address} does not allow its user what the queue needs: {cause}. Grant it: {rule}")]
    NoRights { address: String, cause: String, rule: String },
    /// What the protocol needs and this server or user does not have. It is tried again: rights may be granted.
    #[error(
        "Redis at {address} lacks what the queue needs: {lacking}. {cure} Or set REDIS_MODE=plain; then a job whose worker is killed is lost."
    )]
    Lacking { address: String, lacking: String, cure: String },
    /// The server has no such command: it was renamed (`rename-command`), or something else than Redis stands there.
    #[error(
        "Redis at {address} lacks a command that the queue needs: {cause}. Take its rename-command away, or point REDIS_URL at a Redis that has it."
    )]
    NoCommand { address: String, cause: String },
    #[error("Redis at {address} answered: {cause}")]
    Refused { address: String, cause: String },
    /// Redis answers, but cannot or may not do it now. It is tried again.
    #[error("Redis at {address} {cause}. {cure}")]
    Trouble { address: String, cause: String, cure: String },
    /// A key of the queue holds something else. It is tried again.
    #[error(
        "Redis at {address} has a key of the queue with a wrong type: {what}. Rename or delete that key; the worker goes on by itself."
    )]
    WrongType { address: String, what: String },
    /// Another process holds this worker's lease and renews it.
    #[error("another worker with the id {worker} is alive and renews its lease. {cause}")]
    IdentityTaken { worker: String, cause: String },
    #[error(
        "the queue's name REDIS_QUEUE_NAME={name:?} cannot be used: {cause}. Use a name without braces, or one with one hash tag like {{prod}}:builds."
    )]
    Name { name: String, cause: String },
}

/// Puts an error of the client library into our words. `rule` is the ACL rule that would grant all rights.
pub(super) fn explain(address: &str, error: &RedisError, rule: &str) -> QueueError {
    match error.kind() {
        ErrorKind::Io => QueueError::Unreachable { address: address.to_owned(), cause: io_cause(error) },
        ErrorKind::AuthenticationFailed => {
            QueueError::Denied { address: address.to_owned(), cause: without_full_stop(said(error)) }
        }
        ErrorKind::Parse => {
            QueueError::Unreachable { address: address.to_owned(), cause: "what answers there is no Redis".to_owned() }
        }
        _ => explain_said(address, &said(error), rule),
    }
}

/// Whether the server does not know the command that it was sent.
pub(super) fn is_missing(error: &RedisError) -> bool {
    matches!(word(&said(error)), Word::NoCommand)
}

/// Puts the server's own words (code and text) into ours.
pub(super) fn explain_said(address: &str, said: &str, rule: &str) -> QueueError {
    let (address, said) = (address.to_owned(), one_line(said));
    let trouble = |cause: &str, cure: &str| QueueError::Trouble {
        address: address.clone(),
        cause: format!("{cause} ({said})"),
        cure: cure.to_owned(),
    };
    match word(&said) {
        Word::Denied => QueueError::Denied { address, cause: without_full_stop(said) },
        Word::NoPerm => QueueError::NoRights { address, cause: without_full_stop(said), rule: rule.to_owned() },
        Word::ReadOnly => trouble(
            REPLICA,
            "Point REDIS_HOST (or REDIS_URL) at the primary; after a failover this ends by itself once the address leads there.",
        ),
        Word::Misconf => trouble(
            "cannot write its snapshot and therefore refuses writes",
            "Free disk space where Redis stores its dump, or set stop-writes-on-bgsave-error no. Nothing is lost meanwhile.",
        ),
        Word::Oom => trouble(
            "has reached its maxmemory",
            "Raise maxmemory, or remove keys that are not the queue's; with Redis 7 or newer a full queue drains all the same.",
        ),
        Word::Loading => trouble("is loading its data", "Wait: this ends by itself."),
        Word::Busy => trouble("is busy with a script of somebody", "Wait, or end it with SCRIPT KILL."),
        Word::WrongType => QueueError::WrongType { address, what: without_full_stop(said) },
        Word::Cluster => trouble(
            "is a cluster whose other node owns this queue, or is not whole",
            &match moved_to(&said) {
                Some(node) => {
                    format!("Point REDIS_HOST and REDIS_PORT (or REDIS_URL) at {node}: it owns the slot of REDIS_QUEUE_NAME.")
                }
                None => "Point REDIS_HOST (or REDIS_URL) at the node that owns the slot of REDIS_QUEUE_NAME.".to_owned(),
            },
        ),
        Word::Protected => trouble(
            PROTECTED,
            "Give it a password (requirepass, or an ACL user) and set REDIS_PASSWORD, or bind it to an address that only its workers reach.",
        ),
        Word::TooManyClients => trouble(FULL, "Raise its maxclients, or close connections of others (CLIENT LIST)."),
        Word::NoCommand => QueueError::NoCommand { address, cause: without_full_stop(said) },
        Word::MasterDown => trouble("is a replica without its primary", "Point REDIS_HOST at the primary, or wait for it."),
        Word::Other => QueueError::Refused { address, cause: said },
    }
}

const REPLICA: &str = "is a read-only replica";
const PROTECTED: &str = "takes no connections from other hosts while it has no password";
const FULL: &str = "has as many clients as it takes";

enum Word {
    Denied,
    NoPerm,
    ReadOnly,
    Misconf,
    Oom,
    Loading,
    Busy,
    WrongType,
    Cluster,
    MasterDown,
    Protected,
    TooManyClients,
    NoCommand,
    Other,
}

/// A script passes an inner refusal on with its code in front of, or within, the text: all words are looked at.
fn word(said: &str) -> Word {
    let is = |code: &str| said.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| w == code);
    if is("WRONGPASS") || is("NOAUTH") || said.contains("without any password configured") {
        Word::Denied
    } else if is("NOPERM") || said.contains("can't run this command") || said.contains("can't access at least one") {
        Word::NoPerm
    } else if is("READONLY") || said.contains("read only replica") {
        Word::ReadOnly
    } else if is("MISCONF") {
        Word::Misconf
    } else if is("OOM") {
        Word::Oom
    } else if is("LOADING") {
        Word::Loading
    } else if is("BUSY") {
        Word::Busy
    } else if is("WRONGTYPE") || said.contains("wrong kind of value") {
        Word::WrongType
    } else if is("MOVED") || is("ASK") || is("CLUSTERDOWN") || is("CROSSSLOT") || is("TRYAGAIN") {
        Word::Cluster
    } else if is("MASTERDOWN") {
        Word::MasterDown
    } else if is("DENIED") && said.contains("protected mode") {
        Word::Protected
    } else if said.contains("max number of clients") {
        Word::TooManyClients
    } else if ["unknown command", "unknown redis command"].iter().any(|text| said.to_ascii_lowercase().contains(text)) {
        Word::NoCommand
    } else {
        Word::Other
    }
}

/// The node that a cluster names in `MOVED 3999 10.0.0.1:6381`.
fn moved_to(said: &str) -> Option<&str> {
    let mut words = said.split(' ').skip_while(|w| !matches!(*w, "MOVED" | "ASK")).skip(2);
    words.next().filter(|node| node.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()))
}

/// Code and text as the server sent them. Redis' errors name keys and commands, never values.
fn said(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => one_line(&format!("{code} {detail}")),
        _ => one_line(&error.to_string()),
    }
}

/// On one line, without control characters, bounded.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

/// Our own sentence goes on, or ends, behind what the server says.
fn without_full_stop(said: String) -> String {
    said.trim_end_matches(['.', ' ']).to_owned()
}

fn io_cause(error: &RedisError) -> String {
    if error.is_timeout() {
        "no answer within 5 s".to_owned()
    } else if error.is_connection_refusal() {
        "the connection was refused".to_owned()
    } else {
        without_full_stop(said(error))
    }
}

impl QueueError {
    /// Whether the user lacks a right, or the server a command, so that something else has to do without.
    pub(super) fn is_rights(&self) -> bool {
        matches!(self, QueueError::NoRights { .. } | QueueError::NoCommand { .. })
    }
    /// Whether the address may lead to another server by now: after a failover the old primary is a replica.
    pub(super) fn wants_new_connection(&self) -> bool {
        matches!(self, QueueError::Trouble { cause, .. } if cause.starts_with(REPLICA))
    }
    /// Whether the server closes the connection behind these words.
    pub(super) fn closes_the_connection(&self) -> bool {
        matches!(self, QueueError::Trouble { cause, .. } if cause.starts_with(PROTECTED) || cause.starts_with(FULL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(said: &str) -> String {
        explain_said("10.0.0.1:6379", said, "RULE").to_string()
    }

    #[test]
    fn each_refusal_is_told_with_the_address_the_cause_and_the_cure() {
        for (said, cause, cure) in [
            ("WRONGPASS invalid username-password pair", "refused the login", "REDIS_PASSWORD"),
            ("NOAUTH Authentication required.", "refused the login", "REDIS_PASSWORD"),
            ("NOPERM this user has no permissions to run the 'evalsha' command", "does not allow", "RULE"),
            ("ERR The user executing the script can't run this command or subcommand script: x", "does not allow", "RULE"),
            ("READONLY You can't write against a read only replica.", "read-only replica", "primary"),
            ("MISCONF Redis is configured to save RDB snapshots", "snapshot", "disk space"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "maxmemory", "Raise"),
            ("LOADING Redis is loading the dataset in memory", "loading", "Wait"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "wrong type", "Rename"),
            ("MOVED 3999 127.0.0.1:6381", "cluster", "at 127.0.0.1:6381: it owns the slot"),
            ("ERR Error running script: MOVED 3999 [::1]:6381", "cluster", "at [::1]:6381"),
            ("CLUSTERDOWN Hash slot not served", "cluster", "the node that owns the slot"),
            ("DENIED Redis is running in protected mode because protected mode is enabled", "no password", "requirepass"),
            ("ERR max number of clients reached", "as many clients", "maxclients"),
            ("ERR unknown command 'EVALSHA', with args beginning with: ", "lacks a command", "rename-command"),
            ("ERR Unknown Redis command called from script script: x", "lacks a command", "rename-command"),
        ] {
            let text = told(said);
            assert!(!text.contains(".."), "{said}: {text}");
            assert!(text.contains("10.0.0.1:6379") && text.contains(cause) && text.contains(cure), "{said}: {text}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_forge_a_second_log_line() {
        let text = told("ERR a\nINFO all is well\u{1b}[31m");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}
