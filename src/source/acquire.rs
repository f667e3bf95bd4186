//! Finds out which commit a job means, and sees to it that the mirror has it.

use git2::{AutotagOption, FetchOptions, Oid, RemoteCallbacks, Repository};

use super::advertisement::{Capabilities, CommitsByName};
use super::failures::{self, Trouble, commit_gone};
use super::fetch::Order;
use super::history::{self, Peeled};
use super::http::Session;
use super::ls_refs::{self, Listing};
use super::refs::{Advertised, Sought};
use crate::protocol::{Code, CommitRef, CommitSha, Failure};

/// History is fetched in these steps where a server does not give out a commit by its name. The last is all of it
/// (gitprotocol-pack: "infinite depth").
const DEEPER: [i32; 4] = [1, 50, 500, i32::MAX];
/// The name under which libgit2 is shown what it is to fetch, whatever its name on the server.
const WANTED: &str = "refs/heads/wanted";

pub(super) struct Acquire<'a> {
    pub(super) order: &'a Order,
    pub(super) session: &'a Session,
    pub(super) repository: &'a Repository,
}

impl Acquire<'_> {
    pub(super) fn commit(&self) -> Result<Oid, Trouble> {
        match &self.order.commit {
            CommitRef::Tip => {
                let listing = self.list(&Sought::Tip)?;
                match listing.refs.named() {
                    Some(tip) => self.tip(&listing.capabilities, tip),
                    None => Err(self.all(listing)?.refs.missing(&self.session.site).into()),
                }
            }
            CommitRef::Exact(sha) => self.exact(sha),
        }
    }

    /// What the mirror has is used only after this: the server has let these credentials in. A list is read without a slot; what follows it
    /// is work.
    fn list(&self, sought: &Sought) -> Result<Listing, Failure> {
        ls_refs::list(self.session, &self.order.branch, sought, &self.order.many_refs, &self.order.url)
    }

    fn all(&self, listing: Listing) -> Result<Listing, Failure> {
        if listing.is_whole { Ok(listing) } else { ls_refs::branches_and_tags(self.session, listing) }
    }

    fn tip(&self, server: &Capabilities, tip: &Advertised) -> Result<Oid, Trouble> {
        self.session.take_a_slot()?;
        if history::has_commit(self.repository, tip.commit)? {
            return Ok(tip.commit);
        }
        self.get_ref(server, tip, 1)?;
        self.expect(tip)
    }

    fn exact(&self, sha: &CommitSha) -> Result<Oid, Trouble> {
        let Ok(wanted) = Oid::from_str(sha.as_str()) else {
            return Err(failures::sha256_unsupported(&self.session.site).into());
        };
        let with_tips = history::has_commit(self.repository, wanted)?;
        let listing = self.list(&Sought::Commit { id: wanted, with_tips })?;
        if let Some(commit) = self.listed(&listing, wanted)? {
            return Ok(commit);
        }
        // The mirror alone cannot tell whether the commit may still be read: the server is asked, also where the mirror has it.
        let by_name = listing.abilities().commits_by_name;
        if by_name != CommitsByName::No {
            match self.get_commit(&listing.capabilities, sha) {
                Ok(()) => return self.received(wanted, sha),
                Err(trouble) => match self.refusal(trouble, sha) {
                    // It may give the commit out with its branch.
                    Trouble::Failed(failure) if by_name == CommitsByName::Unknown && failure.code == Code::GitCommitGone => {}
                    trouble => return Err(trouble),
                },
            }
        }
        let listing = if listing.is_whole {
            listing
        } else {
            let all = self.all(listing)?;
            if let Some(commit) = self.listed(&all, wanted)? {
                return Ok(commit);
            }
            all
        };
        self.dig(&listing, wanted, sha)
    }

    /// The commit, where a ref points to it, or leads to it as far as the mirror knows.
    fn listed(&self, listing: &Listing, wanted: Oid) -> Result<Option<Oid>, Trouble> {
        self.session.take_a_slot()?;
        if let Some(tip) = listing.refs.pointing() {
            return self.tip(&listing.capabilities, tip).map(Some);
        }
        let reached = history::reaches(self.repository, listing.refs.tips(), wanted, &self.session.cancel)?;
        Ok(reached.then_some(wanted))
    }

    /// Fetches the branch deeper and deeper until the commit is among its ancestors.
    fn dig(&self, listing: &Listing, wanted: Oid, sha: &CommitSha) -> Result<Oid, Trouble> {
        let Some(tip) = listing.refs.named() else {
            return Err(self.gone(sha).into());
        };
        for depth in DEEPER {
            self.get_ref(&listing.capabilities, tip, depth)?;
            if history::reaches(self.repository, [tip.commit], wanted, &self.session.cancel)? {
                return Ok(wanted);
            }
            if history::is_whole(self.repository, tip.commit, &self.session.cancel)? {
                break;
            }
        }
        Err(self.gone(sha).into())
    }

    fn get_ref(&self, server: &Capabilities, tip: &Advertised, depth: i32) -> Result<(), Trouble> {
        self.session.show(server.advertise(WANTED, tip.id));
        self.get(WANTED, &private_name(&tip.name), server, depth)
    }

    fn get_commit(&self, server: &Capabilities, sha: &CommitSha) -> Result<(), Trouble> {
        // An id is fetched whatever refs there are; libgit2 wants to see one.
        let any = Oid::from_str(sha.as_str()).map_err(|e| Trouble::Broken(e.message().to_owned()))?;
        self.session.show(server.advertise(WANTED, any));
        self.get(sha.as_str(), &private_name(&format!("exact {}", self.order.branch)), server, 1)
    }

    /// Fetches `source` (a ref's name or a commit's) into a ref of our own, as deep as said.
    fn get(&self, source: &str, private: &str, server: &Capabilities, depth: i32) -> Result<(), Trouble> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|progress| {
            self.session.progress.note(&progress);
            !self.session.cancel.is_cancelled()
        });
        let mut options = FetchOptions::new();
        options.depth(if server.abilities().shallow { depth } else { 0 });
        options.download_tags(AutotagOption::None).update_fetchhead(false).remote_callbacks(callbacks);
        let mut remote = self.repository.remote_anonymous(&self.order.url)?;
        let result = remote.fetch(&[format!("+{source}:{private}")], Some(&mut options), None);
        if self.session.cancel.is_cancelled() {
            return Err(Failure::interrupted().into());
        }
        result?;
        self.forget_if_unreadable(private)
    }

    /// libgit2 goes through our refs when it tells the server what we have, and fails on a commit whose author or date it cannot read.
    /// Without the ref such a commit is fetched anew the next time.
    fn forget_if_unreadable(&self, private: &str) -> Result<(), Trouble> {
        let Ok(mut reference) = self.repository.find_reference(private) else { return Ok(()) };
        if reference.peel_to_commit().is_err() {
            reference.delete()?;
        }
        Ok(())
    }

    /// libgit2 calls a fetch that brought nothing a success.
    fn expect(&self, tip: &Advertised) -> Result<Oid, Trouble> {
        match history::peel(self.repository, tip.id)? {
            Peeled::Commit(commit) => Ok(commit),
            Peeled::Other => Err(Failure::new(
                Code::GitBranchNotFound,
                format!("{} of {} does not point to a commit.", tip.name, self.session.site.repository),
                "Name a branch, or a tag of a commit.",
            )
            .into()),
            Peeled::Missing => Err(Trouble::Broken("the server did not send the commit that it advertises".to_owned())),
        }
    }

    /// The commit that was asked for by its id, or by that of a tag.
    fn received(&self, wanted: Oid, sha: &CommitSha) -> Result<Oid, Trouble> {
        match history::peel(self.repository, wanted)? {
            Peeled::Commit(commit) => Ok(commit),
            Peeled::Missing => Err(self.gone(sha).into()),
            Peeled::Other => Err(Failure::new(
                Code::GitCommitGone,
                format!("{} in {} is no commit, and no tag of one.", &sha.as_str()[..12], self.session.site.repository),
                "Give commitSha the id of a commit.",
            )
            .into()),
        }
    }

    /// A server that does not give out a commit says so in its own words.
    fn refusal(&self, trouble: Trouble, sha: &CommitSha) -> Trouble {
        match trouble {
            Trouble::Remote(_) if self.session.failure().is_none() && self.session.refusal().is_some() => self.gone(sha).into(),
            other => other,
        }
    }

    fn gone(&self, sha: &CommitSha) -> Failure {
        commit_gone(&self.session.site, sha.as_str(), self.order.branch.as_str())
    }
}

/// One ref of ours per ref of the server: what the next negotiation says we have. A digest, so that neither length nor a branch `a` beside
/// an older `a/b` matters.
fn private_name(name: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    format!("refs/slipway/{}", hex::encode(&digest.as_ref()[..16]))
}
