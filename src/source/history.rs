//! What the mirror knows of a repository's history, by the parents that commits name themselves: their ids cover these, whatever is shallow.

use std::collections::HashSet;

use git2::{ErrorCode, ObjectType, Odb, Oid, Repository};
use tokio_util::sync::CancellationToken;

use super::commit_object::{parents, tagged};
use super::failures::Trouble;
use crate::protocol::Failure;

/// Commits looked at before the server is asked instead: as many as the set of those seen holds in 9 MB.
const MAX_COMMITS: usize = 900_000;
/// Tags of tags that are followed.
const MAX_TAGS: usize = 32;

/// What an id leads to in the mirror, tags followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peeled {
    Commit(Oid),
    /// A tree or a blob, or tags without end.
    Other,
    Missing,
}

pub(super) fn peel(repository: &Repository, id: Oid) -> Result<Peeled, Trouble> {
    let odb = repository.odb()?;
    let mut id = id;
    for _ in 0..MAX_TAGS {
        match kind(&odb, id)? {
            None => return Ok(Peeled::Missing),
            Some(ObjectType::Commit) => return Ok(Peeled::Commit(id)),
            Some(ObjectType::Tag) => match tagged(odb.read(id)?.data()) {
                Some(next) => id = next,
                None => return Ok(Peeled::Other),
            },
            Some(_) => return Ok(Peeled::Other),
        }
    }
    Ok(Peeled::Other)
}

fn kind(odb: &Odb<'_>, id: Oid) -> Result<Option<ObjectType>, Trouble> {
    match odb.read_header(id) {
        Ok((_, kind)) => Ok(Some(kind)),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the mirror has this object, and it is a commit.
pub(super) fn has_commit(repository: &Repository, id: Oid) -> Result<bool, Trouble> {
    Ok(kind(&repository.odb()?, id)? == Some(ObjectType::Commit))
}

/// Whether `wanted` is among `tips` or their ancestors, as far as the mirror has them, and is in the mirror itself.
pub(super) fn reaches(
    repository: &Repository,
    tips: impl IntoIterator<Item = Oid>,
    wanted: Oid,
    cancel: &CancellationToken,
) -> Result<bool, Trouble> {
    if !has_commit(repository, wanted)? {
        return Ok(false);
    }
    visit(repository, tips, cancel, |id, _| id == wanted)
}

/// Whether no ancestor of `tip` is missing.
pub(super) fn is_whole(repository: &Repository, tip: Oid, cancel: &CancellationToken) -> Result<bool, Trouble> {
    let missing = visit(repository, [tip], cancel, |_, is_there| !is_there)?;
    Ok(!missing)
}

/// Goes through the ancestors until `stop`, which is told whether each is in the mirror, says so; says whether it did. Bounded.
fn visit(
    repository: &Repository,
    tips: impl IntoIterator<Item = Oid>,
    cancel: &CancellationToken,
    mut stop: impl FnMut(Oid, bool) -> bool,
) -> Result<bool, Trouble> {
    let odb = repository.odb()?;
    let mut seen = Seen::default();
    let mut next: Vec<Oid> = tips.into_iter().filter(|id| seen.insert(*id)).collect();
    while let Some(id) = next.pop() {
        if cancel.is_cancelled() {
            return Err(Failure::interrupted().into());
        }
        let is_commit = kind(&odb, id)? == Some(ObjectType::Commit);
        if stop(id, is_commit) {
            return Ok(true);
        }
        if seen.0.len() > MAX_COMMITS {
            return Ok(false);
        }
        if is_commit {
            next.extend(parents(odb.read(id)?.data()).filter(|id| seen.insert(*id)));
        }
    }
    Ok(false)
}

/// The commits that were seen, by the first eight bytes of their ids: two that share them are one in four hundred million histories.
#[derive(Default)]
struct Seen(HashSet<u64>);

impl Seen {
    fn insert(&mut self, id: Oid) -> bool {
        let first = id.as_bytes().first_chunk::<8>().copied().unwrap_or_default();
        self.0.insert(u64::from_ne_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bare repository with a line of commits, the newest first.
    fn history(length: u32) -> (tempfile::TempDir, Repository, Vec<Oid>) {
        let dir = tempfile::tempdir().expect("a folder");
        let repository = Repository::init_bare(dir.path()).expect("a repository");
        let mut ids = Vec::new();
        {
            let odb = repository.odb().expect("objects");
            let tree = odb.write(ObjectType::Tree, b"").expect("a tree");
            let mut parent = String::new();
            for n in 0..length {
                let text = format!("tree {tree}\n{parent}author A <a> {n} +0000\ncommitter A <a> {n} +0000\n\n{n}\n");
                let id = odb.write(ObjectType::Commit, text.as_bytes()).expect("a commit");
                parent = format!("parent {id}\n");
                ids.insert(0, id);
            }
        }
        (dir, repository, ids)
    }

    #[test]
    fn an_ancestor_is_reached_and_a_stranger_is_not() {
        let (_dir, repository, ids) = history(20);
        let cancel = CancellationToken::new();
        assert!(reaches(&repository, [ids[0]], ids[19], &cancel).expect("walked"));
        assert!(!reaches(&repository, [ids[19]], ids[0], &cancel).expect("walked"));
        assert!(is_whole(&repository, ids[0], &cancel).expect("walked"));
    }

    #[test]
    fn a_walk_ends_with_its_job() {
        let (_dir, repository, ids) = history(20);
        let cancel = CancellationToken::new();
        cancel.cancel();
        for end in [reaches(&repository, [ids[0]], ids[19], &cancel), is_whole(&repository, ids[0], &cancel)] {
            assert!(matches!(end, Err(Trouble::Failed(failure)) if failure == Failure::interrupted()));
        }
    }

    #[test]
    fn tags_are_followed_to_their_commit_and_no_further() {
        let (_dir, repository, ids) = history(1);
        let odb = repository.odb().expect("objects");
        let tag = |id: Oid| odb.write(ObjectType::Tag, format!("object {id}\ntype x\n").as_bytes()).expect("a tag");
        let nested = tag(tag(ids[0]));
        assert_eq!(peel(&repository, nested).expect("peeled"), Peeled::Commit(ids[0]));
        let tree = odb.write(ObjectType::Tree, b"").expect("a tree");
        assert_eq!(peel(&repository, tag(tree)).expect("peeled"), Peeled::Other);
        let gone = Oid::from_bytes(&[9; 20]).expect("an id");
        assert_eq!(peel(&repository, tag(gone)).expect("peeled"), Peeled::Missing);
        let deep = (0..40).fold(ids[0], |id, _| tag(id));
        assert_eq!(peel(&repository, deep).expect("peeled"), Peeled::Other);
    }
}
