//! Taking over the jobs of workers that died: only in a calm session, and never from one that renews its lease.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, Value};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ending::millis;
use super::error::QueueError;
use super::gate::boot_time;
use super::script::{Call, FORGET, REAP};
use super::shared::{LEASE_TTL, Shared};
use super::sweep::Cursors;
use super::trouble::Trouble;

/// Between two looks for dead workers.
const REAP_EVERY: Duration = Duration::from_secs(4);
/// Looks between two sweeps: about a minute.
const SWEEP_EVERY: u32 = 15;
/// Jobs that one call of the script moves: it must not block Redis for long.
const AT_ONCE: u64 = 64;
/// A difference between Redis' clock and ours that is no mere delay: leases may have run out by the jump alone.
const CLOCK_JUMP: Duration = Duration::from_secs(3);

/// Whether it has been calm for so long that every living worker has had the time to renew its lease. After an outage that was
/// longer than the leases all of them are gone, and the first worker back must not take everybody's running builds.
#[derive(Debug, Default)]
struct Calm {
    since: Duration,
    clocks: Option<(Duration, Duration)>,
}

impl Calm {
    /// `session`: how long the connection has held. `redis`, `here`: both clocks, now.
    fn holds(&mut self, session: Duration, redis: Duration, here: Duration) -> bool {
        let jumped = self.clocks.is_none_or(|(r, h)| {
            let (passed_there, passed_here) = (redis.checked_sub(r), here.saturating_sub(h));
            passed_there.is_none_or(|there| there.abs_diff(passed_here) > CLOCK_JUMP)
        });
        // The first look starts no new wait: the session is the measure then.
        if jumped && self.clocks.is_some() {
            self.since = here;
        }
        self.clocks = Some((redis, here));
        session >= LEASE_TTL && here.saturating_sub(self.since) >= LEASE_TTL
    }
}

impl Shared {
    /// Looks for dead workers, and now and then for what has stayed long enough, until `stop`.
    pub(super) async fn keep_reaping(&self, stop: &CancellationToken) {
        let (mut calm, mut trouble) = (Calm::default(), Trouble::new(&self.link.dial.board));
        let (mut cursors, mut looks) = (Cursors::default(), 0u32);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(REAP_EVERY) => {}
            }
            match self.reap_if_calm(&mut calm).await {
                Ok(()) => trouble.over(),
                Err(e) => drop(trouble.told(&e)),
            }
            self.cancels.tell_held();
            if looks.is_multiple_of(SWEEP_EVERY)
                && let Err(e) = self.sweep(&mut cursors).await
            {
                trouble.told(&self.named(e).await);
            }
            looks = looks.wrapping_add(1);
        }
    }

    async fn reap_if_calm(&self, calm: &mut Calm) -> Result<(), QueueError> {
        let time = self.control.command(&redis::cmd("TIME")).await?;
        let (seconds, micros) = <(u64, u64)>::from_redis_value(time).unwrap_or_default();
        let redis = Duration::from_secs(seconds) + Duration::from_micros(micros);
        let (_, since) = self.control.session().await?;
        if calm.holds(since.elapsed(), redis, boot_time()) {
            self.reap().await?;
        }
        Ok(())
    }

    async fn reap(&self) -> Result<(), QueueError> {
        let registry = self.control.command(redis::cmd("HGETALL").arg(&self.keys.workers)).await?;
        let registry = <HashMap<String, String>>::from_redis_value(registry).unwrap_or_default();
        for (worker, about) in &registry {
            let is_worker = worker.bytes().all(|b| b.is_ascii_alphanumeric());
            if !is_worker || worker == self.worker() {
                continue;
            }
            let lease = self.keys.lease(worker);
            let gone = self.control.command(redis::cmd("EXISTS").arg(&lease)).await? == Value::Int(0);
            if gone && self.redis_is_settled().await? {
                self.take_over(worker, about).await?;
            }
        }
        Ok(())
    }

    /// A proxy may keep the session while the server behind it was started again.
    async fn redis_is_settled(&self) -> Result<bool, QueueError> {
        let info = match self.control.command(redis::cmd("INFO").arg("server")).await {
            Ok(value) => String::from_redis_value(value).unwrap_or_default(),
            Err(e) if e.is_rights() => return Ok(true),
            Err(e) => return Err(e),
        };
        let uptime = info.lines().find_map(|l| l.strip_prefix("uptime_in_seconds:")?.trim().parse::<u64>().ok());
        Ok(uptime.is_none_or(|s| s >= LEASE_TTL.as_secs()))
    }

    async fn take_over(&self, dead: &str, about: &str) -> Result<(), QueueError> {
        let about: serde_json::Value = serde_json::from_str(about).unwrap_or_default();
        let host = about.get("host").and_then(|h| h.as_str()).unwrap_or("an unknown host");
        let nonce = about.get("nonce").and_then(|n| n.as_str()).unwrap_or_default();
        let orderly = about.get("released") == Some(&serde_json::Value::Bool(true));
        let (claimed, lease) = (self.keys.claimed(dead), self.keys.lease(dead));
        loop {
            let keys = &self.keys;
            let call = Call::of(&REAP)
                .keys(&[&keys.queue, &claimed, &lease, &self.lease, &keys.workers, &keys.jobs, &keys.crashes])
                .arg(self.nonce())
                .arg(dead)
                .arg(host)
                .number(millis(self.post_timeout))
                .number(AT_ONCE)
                .arg(if orderly { "1" } else { "" })
                .arg(nonce);
            let answer = self.control.run(call).await?;
            if answer.text(0) != "taken" {
                return Ok(());
            }
            for i in (2..answer.len()).step_by(2) {
                let (id, attempt) = (answer.text(i), answer.text(i + 1));
                warn!(
                    deployment_id = id,
                    worker = dead,
                    host,
                    attempt,
                    "The worker that had this job is gone; the job is at the head of the queue."
                );
            }
            if answer.text(1).is_empty() {
                break;
            }
        }
        self.forget(dead, host, &claimed, &lease).await
    }

    async fn forget(&self, dead: &str, host: &str, claimed: &str, lease: &str) -> Result<(), QueueError> {
        let mut cursor = "0".to_owned();
        loop {
            let call = Call::of(&FORGET)
                .keys(&[&self.keys.queue, claimed, lease, &self.lease, &self.keys.workers, &self.keys.jobs, &self.keys.service])
                .arg(self.nonce())
                .arg(dead)
                .arg(&cursor);
            let answer = self.control.run(call).await?;
            for i in 1..answer.len() {
                warn!(
                    deployment_id = answer.text(i),
                    worker = dead,
                    "A record without its job was left by a worker that is gone; it is removed."
                );
            }
            cursor = answer.text(0).to_owned();
            match cursor.as_str() {
                "0" => break,
                c if c.bytes().all(|b| b.is_ascii_digit()) && !c.is_empty() => {}
                _ => return Ok(()),
            }
        }
        info!(worker = dead, host, "A worker is gone; nothing of it is left in Redis.");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn nothing_is_taken_over_before_30_s_of_unbroken_session() {
        let mut calm = Calm::default();
        assert!(!calm.holds(s(29), s(1000), s(5000)));
        assert!(calm.holds(s(30), s(1001), s(5001)));
        assert!(!calm.holds(s(2), s(1010), s(5010)), "the session broke in between");
    }

    #[test]
    fn a_jump_of_redis_clock_that_ends_all_leases_at_once_starts_the_wait_anew() {
        let mut calm = Calm::default();
        assert!(calm.holds(s(100), s(1000), s(5000)));
        assert!(!calm.holds(s(104), s(1064), s(5004)), "a minute passed there, 4 s here");
        assert!(!calm.holds(s(133), s(1093), s(5033)));
        assert!(calm.holds(s(134), s(1094), s(5034)));
        assert!(!calm.holds(s(138), s(1050), s(5038)), "backwards");
    }
}
