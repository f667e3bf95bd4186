//! One fetch, on a blocking thread: ask the server with this job's credentials, get what is missing into the mirror, open the commit's tree.

use std::sync::Arc;

use git2::{AutotagOption, Direction, FetchOptions, Oid, RemoteCallbacks, Repository, RepositoryInitOptions};

use super::failures::{self, Trouble, printable};
use super::generation::{Draft, Generation};
use super::history;
use super::http::Session;
use super::mirror::LockedMirror;
use super::objects::{Objects, Store};
use super::refs::{Advertised, Refs};
use super::transport::with_session;
use super::walk::{Limits, walk};
use super::{CommitInfo, SourceTree, listing};
use crate::protocol::{BranchName, Code, CommitRef, CommitSha, Failure};

/// History is fetched in these steps where a server does not give out a commit by its name. The last is all of it
/// (gitprotocol-pack: "infinite depth").
const DEEPER: [i32; 4] = [1, 50, 500, i32::MAX];

/// What a job wants of a repository.
pub(super) struct Order {
    pub(super) url: String,
    pub(super) branch: BranchName,
    pub(super) commit: CommitRef,
    pub(super) limits: Limits,
}

/// Blocking. Leaves no folder behind for a repository that was never fetched.
pub(super) fn run(order: &Order, session: &Arc<Session>, mirror: &LockedMirror) -> Result<SourceTree, Failure> {
    let result = fetch(order, session, mirror).map_err(|failure| session.told(failure));
    if result.is_err() {
        mirror
            .forget_if_empty()
            .map_err(|e| failures::cache_io("the folder of a repository that was not fetched cannot be removed", &e))?;
    }
    result
}

/// A mirror that turns out to be broken is fetched anew, once.
fn fetch(order: &Order, session: &Arc<Session>, mirror: &LockedMirror) -> Result<SourceTree, Failure> {
    let current = mirror.current().map_err(|e| failures::cache_io("the mirror cannot be opened", &e))?;
    let warm = current.is_some();
    if warm {
        session.note_git_server();
    }
    match attempt(order, session, mirror, current) {
        Err(Trouble::Broken(why)) if warm => {
            tracing::warn!(repository = %session.site.repository, %why, "the mirror is broken; it is fetched anew");
            attempt(order, session, mirror, None)
        }
        result => result,
    }
    .map_err(|trouble| match trouble {
        Trouble::Failed(failure) => failure,
        Trouble::Broken(why) | Trouble::Remote(why) => failures::not_understood(&session.site, &session.refusal().unwrap_or(why)),
    })
}

/// Where a fetch puts objects.
enum Place {
    Warm(Generation),
    Cold(Draft),
}

fn attempt(
    order: &Order,
    session: &Arc<Session>,
    mirror: &LockedMirror,
    current: Option<Generation>,
) -> Result<SourceTree, Trouble> {
    let io = |what: &'static str| move |e: std::io::Error| Trouble::Failed(failures::cache_io(what, &e));
    let place = match current {
        Some(generation) => Place::Warm(generation),
        None => Place::Cold(mirror.draft().map_err(io("a mirror cannot be made"))?),
    };
    let repository = match &place {
        Place::Warm(generation) => Repository::open_bare(generation.repository())?,
        Place::Cold(draft) => {
            let mut options = RepositoryInitOptions::new();
            options.bare(true).external_template(false).no_reinit(true);
            Repository::init_opts(draft.repository(), &options)?
        }
    };
    let commit = with_session(session, || Fetch { order, session, repository: &repository }.commit());
    // The transport's own reason goes before libgit2's words for it.
    let commit = commit.map_err(|trouble| session.failure().map_or(trouble, Trouble::Failed))?;
    drop(repository);
    let generation = match place {
        Place::Warm(generation) => generation,
        Place::Cold(draft) => draft.adopt().map_err(io("a mirror cannot be put in its place"))?,
    };
    mirror.touch().map_err(io("its time of use cannot be noted"))?;
    session.progress.reads_tree();
    let tree = open_tree(order, session, &generation, commit);
    if let Err(Trouble::Broken(_)) = &tree {
        generation.mark_broken().map_err(io("a broken mirror cannot be marked"))?;
    }
    tree
}

fn open_tree(order: &Order, session: &Session, generation: &Generation, commit: Oid) -> Result<SourceTree, Trouble> {
    let repository = Repository::open_bare(generation.repository())?;
    let (info, tree) = describe(&repository, commit)?;
    let walks = generation.walks();
    let entries = match listing::load(&walks, tree) {
        Some(entries) => {
            order.limits.admit(&entries)?;
            entries
        }
        None => {
            let known = listing::latest(&walks).unwrap_or_default();
            let odb = repository.odb()?;
            let entries = walk(&odb, tree, &known, order.limits, &session.cancel)?;
            listing::save(&walks, tree, &entries).map_err(|e| failures::cache_io("the walk of a tree cannot be kept", &e))?;
            entries
        }
    };
    let objects = Objects::new(Store::Mirror(generation.clone()), order.limits.file_bytes);
    Ok(SourceTree::new(info, entries, objects))
}

/// What a log says of a commit, and its tree.
pub(super) fn describe(repository: &Repository, commit: Oid) -> Result<(CommitInfo, Oid), Trouble> {
    let found = repository.find_commit(commit)?;
    let summary = String::from_utf8_lossy(found.summary_bytes().unwrap_or_default());
    let Ok(sha) = CommitSha::parse(&commit.to_string()) else {
        return Err(Trouble::Broken("a commit's id is none".to_owned()));
    };
    let info = CommitInfo { sha, time: found.time().seconds(), summary: printable(&summary, 199) };
    Ok((info, found.tree_id()))
}

struct Fetch<'a> {
    order: &'a Order,
    session: &'a Session,
    repository: &'a Repository,
}

impl Fetch<'_> {
    /// Finds out which commit is meant, and sees to it that the mirror has it.
    fn commit(&self) -> Result<Oid, Trouble> {
        let mut remote = self.repository.remote_anonymous(&self.order.url)?;
        remote.connect(Direction::Fetch)?;
        // Only from here on is the mirror read: the server has let these credentials in.
        let refs = self.advertised(&remote)?;
        match &self.order.commit {
            CommitRef::Tip => {
                let tip = refs.named(&self.order.branch).ok_or_else(|| refs.missing(&self.order.branch, &self.session.site))?;
                self.tip(&mut remote, tip)
            }
            CommitRef::Exact(sha) => self.exact(&mut remote, &refs, sha),
        }
    }

    fn advertised(&self, remote: &git2::Remote<'_>) -> Result<Refs, Trouble> {
        Ok(Refs::new(remote.list()?.iter().map(|head| (head.name(), head.oid()))))
    }

    fn tip(&self, remote: &mut git2::Remote<'_>, tip: &Advertised) -> Result<Oid, Trouble> {
        if history::has_commit(self.repository, tip.commit)? {
            return Ok(tip.commit);
        }
        self.get(remote, &tip.name, &private_name(&tip.name), 1)?;
        self.expect(tip)
    }

    fn exact(&self, remote: &mut git2::Remote<'_>, refs: &Refs, sha: &CommitSha) -> Result<Oid, Trouble> {
        let branch = &self.order.branch;
        let Ok(wanted) = Oid::from_str(sha.as_str()) else {
            return Err(failures::sha256_unsupported(&self.session.site).into());
        };
        if let Some(tip) = refs.pointing_to(wanted, branch) {
            return self.tip(remote, tip);
        }
        let reachable = || history::reaches(self.repository, refs.commits(), wanted);
        if reachable()? {
            return Ok(wanted);
        }
        // The mirror alone cannot tell whether the commit may still be read: the server is asked, also where the mirror has it.
        if self.session.abilities().commits_by_name {
            let private = private_name(&format!("exact {branch}"));
            return match self.get(remote, sha.as_str(), &private, 1) {
                Ok(()) if history::has_commit(self.repository, wanted)? => Ok(wanted),
                Ok(()) => Err(self.gone(sha).into()),
                Err(trouble) => Err(self.refusal(trouble, sha)),
            };
        }
        let Some(tip) = refs.named(branch) else {
            return Err(self.gone(sha).into());
        };
        for depth in DEEPER {
            self.get(remote, &tip.name, &private_name(&tip.name), depth)?;
            if history::reaches(self.repository, [tip.commit], wanted)? {
                return Ok(wanted);
            }
            if history::is_whole(self.repository, tip.commit)? {
                break;
            }
        }
        Err(self.gone(sha).into())
    }

    /// Fetches `source` (a ref's name or a commit's) into a ref of our own, as deep as said.
    fn get(&self, remote: &mut git2::Remote<'_>, source: &str, private: &str, depth: i32) -> Result<(), Trouble> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.transfer_progress(|progress| {
            self.session.progress.note(&progress);
            !self.session.cancel.is_cancelled()
        });
        let mut options = FetchOptions::new();
        options.depth(if self.session.abilities().shallow { depth } else { 0 });
        options.download_tags(AutotagOption::None).update_fetchhead(false).remote_callbacks(callbacks);
        let result = remote.fetch(&[format!("+{source}:{private}")], Some(&mut options), None);
        if self.session.cancel.is_cancelled() {
            return Err(Failure::interrupted().into());
        }
        Ok(result?)
    }

    /// libgit2 calls a fetch that brought nothing a success.
    fn expect(&self, tip: &Advertised) -> Result<Oid, Trouble> {
        if history::has_commit(self.repository, tip.commit)? {
            return Ok(tip.commit);
        }
        if self.repository.odb()?.exists(tip.commit) {
            return Err(Failure::new(
                Code::GitBranchNotFound,
                format!("{} of {} does not point to a commit.", self.order.branch, self.session.site.repository),
                "Name a branch, or a tag of a commit.",
            )
            .into());
        }
        Err(Trouble::Broken("the server did not send the commit that it advertises".to_owned()))
    }

    /// A server that does not give out a commit says so in its own words.
    fn refusal(&self, trouble: Trouble, sha: &CommitSha) -> Trouble {
        match trouble {
            Trouble::Remote(_) if self.session.failure().is_none() && self.session.refusal().is_some() => self.gone(sha).into(),
            other => other,
        }
    }

    fn gone(&self, sha: &CommitSha) -> Failure {
        let short = &sha.as_str()[..12];
        Failure::new(
            Code::GitCommitGone,
            format!(
                "{} does not have the commit {short} of {}, or no longer gives it out.",
                self.session.site.host, self.session.site.repository
            ),
            format!("It may have been force-pushed away from {}: deploy the branch's newest commit.", self.order.branch),
        )
    }
}

/// One ref of ours per ref of the server: what the next negotiation says we have. A digest, so that neither length nor a branch `a` beside
/// an older `a/b` matters.
fn private_name(name: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    format!("refs/slipway/{}", hex::encode(&digest.as_ref()[..16]))
}
