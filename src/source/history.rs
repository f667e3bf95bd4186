//! What the mirror knows of a repository's history, by the parents that commits name themselves: their ids cover these, whatever is shallow.

use std::collections::HashSet;

use git2::{Commit, ErrorCode, ObjectType, Oid, Repository};

use super::failures::Trouble;

/// Commits looked at before the server is asked instead.
const MAX_COMMITS: usize = 1_000_000;

/// Whether the mirror has this object, and it is a commit.
pub(super) fn has_commit(repository: &Repository, id: Oid) -> Result<bool, Trouble> {
    match repository.odb()?.read_header(id) {
        Ok((_, kind)) => Ok(kind == ObjectType::Commit),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Whether `wanted` is among `tips` or their ancestors, as far as the mirror has them, and is in the mirror itself.
pub(super) fn reaches(repository: &Repository, tips: impl IntoIterator<Item = Oid>, wanted: Oid) -> Result<bool, Trouble> {
    if !has_commit(repository, wanted)? {
        return Ok(false);
    }
    let found = visit(repository, tips, |id, _| id == wanted)?;
    Ok(found)
}

/// Whether no ancestor of `tip` is missing.
pub(super) fn is_whole(repository: &Repository, tip: Oid) -> Result<bool, Trouble> {
    let missing = visit(repository, [tip], |_, commit| commit.is_none())?;
    Ok(!missing)
}

/// Goes through the ancestors until `stop` says so; says whether it did. Bounded.
fn visit(
    repository: &Repository,
    tips: impl IntoIterator<Item = Oid>,
    mut stop: impl FnMut(Oid, Option<&Commit<'_>>) -> bool,
) -> Result<bool, Trouble> {
    let mut seen: HashSet<Oid> = HashSet::new();
    let mut next: Vec<Oid> = tips.into_iter().filter(|id| seen.insert(*id)).collect();
    while let Some(id) = next.pop() {
        let commit = if has_commit(repository, id)? { Some(repository.find_commit(id)?) } else { None };
        if stop(id, commit.as_ref()) {
            return Ok(true);
        }
        if seen.len() > MAX_COMMITS {
            return Ok(false);
        }
        if let Some(commit) = commit {
            next.extend(parents(commit.raw_header_bytes()).filter(|id| seen.insert(*id)));
        }
    }
    Ok(false)
}

/// The `parent` lines of a commit's header. Not libgit2's own list: at a shallow commit that one is empty.
fn parents(header: &[u8]) -> impl Iterator<Item = Oid> {
    header
        .split(|b| *b == b'\n')
        .skip(1)
        .map_while(|line| line.strip_prefix(b"parent "))
        .filter_map(|hex| Oid::from_str(std::str::from_utf8(hex).ok()?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_header_names_parents() {
        let a = "a".repeat(40);
        let b = "b".repeat(40);
        let header = format!("tree {a}\nparent {a}\nparent {b}\nauthor parent {a}\nparent {b}\n");
        let found: Vec<String> = parents(header.as_bytes()).map(|id| id.to_string()).collect();
        assert_eq!(found, [a, b]);
    }
}
