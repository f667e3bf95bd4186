//! PURE: the rights that a Redis user needs.

use super::keys::Keys;

/// Every command that the worker and the producer's side send or run in a script.
pub const COMMANDS: &[&str] = &[
    "auth",
    "ping",
    "info",
    "evalsha",
    "eval",
    "blmove",
    "subscribe",
    "publish",
    "time",
    "get",
    "set",
    "setnx",
    "del",
    "exists",
    "pexpire",
    "pttl",
    "hget",
    "hset",
    "hdel",
    "hexists",
    "hlen",
    "hkeys",
    "hscan",
    "llen",
    "lindex",
    "lrange",
    "lmove",
    "lpop",
    "lpush",
    "rpush",
    "lrem",
    "ltrim",
    "lpos",
    "zadd",
    "zrem",
    "zscore",
    "zcard",
    "zrange",
    "zrangebyscore",
    "zremrangebyscore",
    "zremrangebyrank",
    "type",
];

/// What an administrator types after `ACL SETUSER <name> on ><password>`.
pub fn rule(keys: &Keys, cancel_channel: &str) -> String {
    let commands: Vec<String> = COMMANDS.iter().map(|c| format!("+{c}")).collect();
    format!("~{} ~{} &{cancel_channel} &{} {}", keys.queue, keys.pattern(), keys.notices, commands.join(" "))
}
