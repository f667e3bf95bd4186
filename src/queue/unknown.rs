//! What lies in this worker's claimed list and is not in its memory: after a restart that is all of it.
//!
//! The list is read in pages of ids, and only what is unknown is asked for, so a thousand open claims cost a thousand calls of the
//! resume script and sixteen of pages; nobody sends the list of what he knows.

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
}
