//! PURE: what a user should know about the tree that goes into a build.

use std::collections::BTreeSet;

use super::excludes::Excludes;
use super::ignore::{Effort, Spent};
use super::{Instructions, Tree, dockerfile, shown};
use crate::protocol::Failure;
use crate::secrets::SecretString;
use crate::source::{EntryKind, TreeEntry};

/// So many paths are named in one line.
const NAMED: usize = 5;
/// Looked into at most so many times for Git LFS.
const MAX_LFS_READS: usize = 1_000;
/// A pointer file has three short lines.
const LFS_SIZES: std::ops::RangeInclusive<u64> = 100..=250;

/// One line that names the private keys and credentials that go in.
pub(super) fn key_files(entries: &[TreeEntry], excludes: &Excludes, effort: &Effort) -> Result<Option<String>, Spent> {
    let keys = entries.iter().filter(|e| matches!(e.kind, EntryKind::File { .. }) && is_key_file(&e.path));
    let list = named(going_in(keys, excludes, effort)?.into_iter());
    Ok(list.map(|list| format!(
        "The build context has files that look like private keys or credentials: {list}. List them in .dockerignore unless the image needs them."
    )))
}

/// The paths of those that are not left out.
fn going_in<'e>(
    entries: impl Iterator<Item = &'e TreeEntry>,
    excludes: &Excludes,
    effort: &Effort,
) -> Result<Vec<&'e str>, Spent> {
    let mut paths = Vec::new();
    for entry in entries {
        if !excludes.leaves_out(&entry.path, effort)? {
            paths.push(entry.path.as_str());
        }
    }
    Ok(paths)
}

fn is_key_file(path: &str) -> bool {
    const NAMES: [&str; 9] = [
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        ".netrc",
        ".pgpass",
        ".git-credentials",
        ".htpasswd",
        "service-account.json",
    ];
    const ENDINGS: [&str; 7] = [".pem", ".key", ".p12", ".pfx", ".ppk", ".jks", ".keystore"];
    const PATHS: [&str; 3] = [".aws/credentials", ".docker/config.json", ".kube/config"];
    let name = path.rsplit('/').next().unwrap_or(path);
    let ends_with = |ending: &str| {
        name.len() > ending.len() && name.as_bytes()[name.len() - ending.len()..].eq_ignore_ascii_case(ending.as_bytes())
    };
    NAMES.contains(&name)
        || ENDINGS.iter().any(|ending| ends_with(ending))
        || PATHS.iter().any(|tail| path.strip_suffix(tail).is_some_and(|before| before.is_empty() || before.ends_with('/')))
}

/// One line that names the submodules.
pub(super) fn submodules(entries: &[TreeEntry], excludes: &Excludes, effort: &Effort) -> Result<Option<String>, Spent> {
    let modules = entries.iter().filter(|e| e.kind == EntryKind::Submodule);
    let list = named(going_in(modules, excludes, effort)?.into_iter());
    Ok(list.map(|list| format!("Git submodules are not fetched; in the build their directories are empty: {list}.")))
}

/// One line that names files of which only the Git LFS pointer is there. Looked for only where the repository uses LFS at all.
pub(super) fn lfs_pointers(tree: &dyn Tree, excludes: &Excludes, effort: &Effort) -> Result<Option<String>, Failure> {
    let files = || tree.entries().iter().filter(|e| matches!(e.kind, EntryKind::File { .. }));
    let attributes = files().filter(|e| e.path == ".gitattributes" || e.path.ends_with("/.gitattributes"));
    let mut uses_lfs = false;
    for entry in attributes.filter(|e| e.size <= 1024 * 1024).take(50) {
        let bytes = tree.read(entry)?;
        uses_lfs |= bytes.windows(10).any(|window| window == b"filter=lfs");
    }
    if !uses_lfs {
        return Ok(None);
    }
    let mut pointers = Vec::new();
    for entry in files().filter(|e| LFS_SIZES.contains(&e.size)).take(MAX_LFS_READS) {
        if dockerfile::is_lfs_pointer(&tree.read(entry)?) && !excludes.leaves_out(&entry.path, effort)? {
            pointers.push(entry.path.as_str());
        }
    }
    Ok(named(pointers.into_iter()).map(|list| {
        format!(
            "Git LFS files are not fetched; in the build these are the small pointer files that Git keeps in their place: {list}."
        )
    }))
}

/// One line that names the secrets that RUN steps mount and the job does not have: such a mount is left out without a word, and the step
/// fails for want of it.
pub(super) fn missing_secrets(instructions: &Instructions, secrets: &[(String, SecretString)]) -> Option<String> {
    let is_missing = |name: &&str| !name.contains('$') && !secrets.iter().any(|(id, _)| id == name);
    let missing: BTreeSet<&str> = instructions.secret_names().filter(is_missing).collect();
    named(missing.into_iter()).map(|list| {
        format!("The Dockerfile mounts secrets that the job has no variable for, so their files are not there: {list}. Add variables of those names to the service.")
    })
}

/// "a, b and 3 more"; `None` where there are none.
pub(super) fn named<'p>(paths: impl Iterator<Item = &'p str>) -> Option<String> {
    named_up_to(NAMED, paths)
}

/// The same with so many names at most.
pub(super) fn named_up_to<'p>(most: usize, paths: impl Iterator<Item = &'p str>) -> Option<String> {
    let mut list = String::new();
    let mut count = 0;
    for path in paths {
        if count < most {
            if count > 0 {
                list.push_str(", ");
            }
            list.push_str(&shown(path));
        }
        count += 1;
    }
    if count > most {
        list.push_str(&format!(" and {} more", count - most));
    }
    (count > 0).then_some(list)
}
