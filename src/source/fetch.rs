//! One fetch, on a blocking thread: ask the server with this job's credentials, get what is missing into the mirror, open the commit's tree.

use std::sync::Arc;

use git2::{ObjectType, Oid, Repository, RepositoryInitOptions};

use super::acquire::Acquire;
use super::attributes;
use super::commit_object;
use super::failures::{self, Trouble, printable};
use super::generation::{Draft, Generation};
use super::http::Session;
use super::ls_refs::ManyRefs;
use super::mirror::LockedMirror;
use super::objects::{Objects, Store};
use super::transport::with_session;
use super::walk::{Limits, walk};
use super::{CommitInfo, SourceTree, listing};
use crate::protocol::{BranchName, CommitRef, CommitSha, Failure};

/// What a job wants of a repository.
pub(super) struct Order {
    pub(super) url: String,
    pub(super) branch: BranchName,
    pub(super) commit: CommitRef,
    pub(super) limits: Limits,
    pub(super) many_refs: Arc<ManyRefs>,
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
    let commit = with_session(session, || Acquire { order, session, repository: &repository }.commit());
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
    let odb = repository.odb()?;
    let mut entries = match listing::load(&walks, tree) {
        Some(entries) => {
            order.limits.admit(&entries)?;
            entries
        }
        None => {
            let known = listing::latest(&walks).unwrap_or_default();
            let entries = walk(&odb, tree, &known, order.limits, &session.cancel)?;
            listing::save(&walks, tree, &entries).map_err(|e| failures::cache_io("the walk of a tree cannot be kept", &e))?;
            entries
        }
    };
    // Not kept with the walk: what a subtree's files become depends on the folders around it.
    let warnings = attributes::apply(&odb, &mut entries, order.limits.file_bytes, &session.cancel)?;
    let objects = Objects::new(Store::Mirror(generation.clone()), order.limits.file_bytes);
    Ok(SourceTree::new(info, entries, warnings, objects))
}

/// What a log says of a commit, and its tree.
pub(super) fn describe(repository: &Repository, commit: Oid) -> Result<(CommitInfo, Oid), Trouble> {
    let odb = repository.odb()?;
    let object = odb.read(commit)?;
    let found = if object.kind() == ObjectType::Commit { commit_object::parse(object.data()) } else { None };
    let (Some(found), Ok(sha)) = (found, CommitSha::parse(&commit.to_string())) else {
        return Err(Trouble::Broken("the commit names no tree".to_owned()));
    };
    Ok((CommitInfo { sha, time: found.time, summary: printable(&found.summary, 199) }, found.tree))
}
