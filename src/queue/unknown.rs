//! What lies in this worker's claimed list and is not in its memory: after a restart that is all of it.
//!
//! The list is read in pages of ids, and only what is unknown is asked for, so a thousand open claims cost a thousand calls of the
//! resume script and sixteen of pages; nobody sends the list of what he knows.

use std::sync::atomic::Ordering;

use redis::FromRedisValue;

use super::attempt::Claim;
use super::claim::{HEAD_BYTES, Taken};
use super::error::QueueError;
use super::script::{CLAIMED, Call, RESUME};
use super::shared::Shared;

/// Ids that are listed by one call.
const PAGE: u64 = 64;

impl Shared {
    /// In the order of the list, in which those without a record get their order too. Nothing is claimed meanwhile; what ends meanwhile
    /// may hide an element from this look, not from the next.
    pub(super) async fn unknown_claims(&self, orderly: bool) -> Result<Vec<Claim>, QueueError> {
        let known = self.live.ids();
        let (mut claims, mut from) = (Vec::new(), 0);
        loop {
            let page = self.page_of_claims(from).await?;
            if page.is_empty() {
                return Ok(claims);
            }
            let mut removed = 0;
            for (place, id) in (from..).zip(&page).filter(|(_, id)| !known.contains(*id)) {
                match self.resume_at(place - removed, id, orderly).await? {
                    // What is over was removed: those behind it have moved up.
                    Taken::Claim(claim) if self.is_over(&claim).await? => removed += 1,
                    Taken::Claim(claim) => claims.push(*claim),
                    Taken::Again | Taken::Nothing => {}
                    Taken::NotOwner => {
                        let cause = "The lease ran out before the own claims were read.".to_owned();
                        return Err(QueueError::IdentityTaken { worker: self.worker().to_owned(), cause });
                    }
                }
            }
            from += page.len() as u64 - removed;
        }
    }

    async fn page_of_claims(&self, from: u64) -> Result<Vec<String>, QueueError> {
        let call = Call::of(&CLAIMED).keys(&[&self.claimed]).number(from).number(PAGE).number(self.max_job_bytes);
        let answer = self.link.run(call).await?;
        Ok((0..answer.len()).map(|i| answer.text(i).to_owned()).collect())
    }

    async fn resume_at(&self, index: u64, id: &str, orderly: bool) -> Result<Taken, QueueError> {
        let keys = &self.keys;
        let call = Call::of(&RESUME)
            .keys(&[&self.claimed, &self.lease, &keys.workers, &keys.jobs, &keys.crashes, &keys.service, &keys.tombs])
            .arg(self.worker())
            .arg(self.nonce())
            .number(index)
            .number(self.max_job_bytes)
            .number(HEAD_BYTES)
            .arg(if orderly { "1" } else { "" })
            .arg(id);
        self.read(&mut self.link.run(call).await?)
    }

    /// What an older snapshot of Redis put into this worker's list, and nobody here works on, goes back to the queue.
    pub(super) async fn return_unknown(&self) -> Result<(), QueueError> {
        let mut claiming = self.claiming.lock().await;
        claiming.pending = None;
        self.give_back_unknown().await
    }

    /// What lies in this worker's list though nobody here has it: a request took it that was held up on its way, when its caller had
    /// long asked again. It goes back to the queue.
    pub(super) async fn return_unheard(&self) -> Result<(), QueueError> {
        let claiming = self.claiming.lock().await;
        if claiming.pending.is_some() || !self.has_resumed.load(Ordering::Acquire) {
            return Ok(());
        }
        let held = self.link.command(redis::cmd("LLEN").arg(&self.claimed)).await?;
        match usize::from_redis_value(held) {
            Ok(held) if held > self.live.len() => self.give_back_unknown().await,
            _ => Ok(()),
        }
    }

    /// Nothing is claimed meanwhile: the caller holds `claiming`.
    async fn give_back_unknown(&self) -> Result<(), QueueError> {
        let unknown = self.unknown_claims(true).await?;
        // What names no job goes back too: who claims it next puts it into the dead letter list.
        let nameless = self.live.unknown_nameless(unknown.iter());
        for claim in unknown.iter().filter(|c| c.deployment.is_some()).chain(nameless) {
            self.ask_give_back(claim, "1").await?;
        }
        Ok(())
    }
}
