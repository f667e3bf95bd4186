//! The rights that a Redis user needs, and whether this one has them.

use redis::Value;

use super::error::QueueError;
use super::keys::Keys;
use super::link::Link;
use super::script::{Call, PROBE};

/// Every command that the worker and the producer's side send, or run in a script.
pub const COMMANDS: &[&str] = &[
    "auth",
    "blmove",
    // with REDIS_MODE=plain
    "blpop",
    "del",
    "eval",
    "evalsha",
    "exists",
    "get",
    "hdel",
    "hexists",
    "hget",
    "hgetall",
    "hlen",
    "hscan",
    "hset",
    "info",
    "lindex",
    "llen",
    "lmove",
    "lpop",
    "lpush",
    "lrem",
    "ltrim",
    "pexpire",
    "ping",
    "pttl",
    "publish",
    "rpop",
    "rpush",
    // where REDIS_DB is not 0
    "select",
    "set",
    "setnx",
    "subscribe",
    "time",
    "type",
    "zadd",
    "zcard",
    "zrange",
    "zrangebyscore",
    "zrem",
    "zremrangebyrank",
    "zremrangebyscore",
    "zscore",
];

/// What an administrator types after `ACL SETUSER <name> on ><password>`.
pub fn rule(keys: &Keys, cancel_channel: &str) -> String {
    let commands: Vec<String> = COMMANDS.iter().map(|c| format!("+{c}")).collect();
    // On Redis 6.2 a new user has all channels, and none can be added to those.
    format!("~{} ~{} resetchannels &{cancel_channel} &{} {}", keys.queue, keys.pattern(), keys.notices, commands.join(" "))
}

/// Commands that the protocol works without, and what is lost.
const DISPENSABLE: &[(&str, &str)] = &[
    ("blmove", "a new job is noticed up to a second later"),
    ("info", "a restart of Redis and a memory policy that throws jobs away are not noticed"),
    ("publish", "a cancel reaches the worker that has the job up to 10 s later"),
    ("type", "a key of a wrong type is not named"),
];

/// Tries the rights of the user that is logged in: the commands and keys that it lacks, in words. Changes nothing but one key of
/// its own, which is removed again.
pub(super) async fn lacking(link: &Link, keys: &Keys) -> Result<Vec<String>, QueueError> {
    let mut lacking = Vec::new();
    match link.run(Call::of(&PROBE).keys(&[&keys.probe]).arg(&keys.notices)).await {
        Ok(answer) => lacking.extend((0..answer.len()).map(|i| answer.text(i).to_owned())),
        Err(e) if e.is_rights() => lacking.push(format!("eval and evalsha on keys {}", keys.pattern())),
        Err(e) => return Err(e),
    }
    let plain = |name: &'static str, parts: &[&str]| {
        let mut cmd = redis::cmd(name);
        for part in parts {
            cmd.arg(*part);
        }
        (name, cmd)
    };
    let tries = [
        plain("INFO", &["server"]),
        plain("TYPE", &[&keys.probe]),
        plain("HGETALL", &[&keys.probe]),
        plain("LLEN", &[&keys.queue]),
        plain("BLMOVE", &[&keys.probe, &keys.probe, "LEFT", "RIGHT", "0.01"]),
    ];
    for (name, cmd) in tries {
        let answer: Result<Value, QueueError> = link.command(&cmd).await;
        match answer {
            Err(e) if e.is_rights() && name == "LLEN" => lacking.push(format!("key {}", keys.queue)),
            Err(e) if e.is_rights() => lacking.push(name.to_lowercase()),
            Err(e @ (QueueError::Unreachable { .. } | QueueError::Denied { .. })) => return Err(e),
            _ => {}
        }
    }
    Ok(lacking)
}

/// What is lost without that right, where the protocol works without it.
pub(super) fn lost_without(right: &str) -> Option<&'static str> {
    DISPENSABLE.iter().find(|(name, _)| *name == right).map(|(_, lost)| *lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_of_every_script_is_among_the_rights_that_are_asked_for() {
        let scripts = concat!(
            include_str!("scripts/record.lua"),
            include_str!("scripts/claim.lua"),
            include_str!("scripts/outcome.lua"),
            include_str!("scripts/may_post.lua"),
            include_str!("scripts/finish.lua"),
            include_str!("scripts/give_back.lua"),
            include_str!("scripts/cancel.lua"),
            include_str!("scripts/look.lua"),
            include_str!("scripts/lease_take.lua"),
            include_str!("scripts/lease_renew.lua"),
            include_str!("scripts/lease_release.lua"),
            include_str!("scripts/resume.lua"),
            include_str!("scripts/claimed.lua"),
            include_str!("scripts/sweep.lua"),
            include_str!("scripts/enqueue.lua"),
            include_str!("scripts/peek.lua"),
            include_str!("scripts/supersede.lua"),
            include_str!("scripts/reap.lua"),
            include_str!("scripts/forget.lua"),
            include_str!("scripts/uncount.lua"),
            include_str!("scripts/restore.lua"),
            include_str!("scripts/standing.lua"),
        );
        let probe = include_str!("scripts/probe.lua");
        let mut seen = 0;
        for part in scripts.split("call('").skip(1) {
            let command = part.split('\'').next().unwrap();
            assert!(COMMANDS.contains(&command.to_lowercase().as_str()), "{command} is not asked for");
            assert!(probe.contains(&format!("try('{command}'")), "{command} is not tried");
            seen += 1;
        }
        assert!(seen > 80);
    }
}
