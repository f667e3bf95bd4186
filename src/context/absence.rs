//! PURE: why the build context does not have what a step asks for.

use super::Tree;
use super::excludes::Excludes;
use super::ignore::Effort;
use super::links::below;
use crate::source::EntryKind;

/// Why a path is not in the build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absence {
    /// `.git`, or something in it.
    Git,
    /// This .dockerignore leaves it out.
    Ignored {
        by: String,
    },
    /// It lies in this Git submodule.
    Submodule(String),
    /// The repository has it here.
    Elsewhere(String),
    /// The repository has it, spelled like this.
    Spelled(String),
    Unknown,
}

/// Looks for `path` (from the root) in the commit. `folder`: the Dockerfile's.
pub(super) fn explain(tree: &dyn Tree, excludes: &Excludes, folder: &str, path: &str) -> Absence {
    let path = path.trim_matches('/');
    if path == ".git" || path.starts_with(".git/") {
        return Absence::Git;
    }
    if tree.entry(path).is_some() {
        let is_ignored = excludes.leaves_out(path, &Effort::little()) == Ok(true);
        return match excludes.file().filter(|_| is_ignored) {
            Some(file) => Absence::Ignored { by: file.to_owned() },
            None => Absence::Unknown,
        };
    }
    let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
    let is_submodule = |parent: &&str| tree.entry(parent).is_some_and(|entry| entry.kind == EntryKind::Submodule);
    if let Some(module) = parents.into_iter().find(is_submodule) {
        return Absence::Submodule(module.to_owned());
    }
    let beside = below(folder, path);
    if tree.entry(&beside).is_some() {
        return Absence::Elsewhere(beside);
    }
    let paths = || tree.entries().iter().map(|entry| entry.path.as_str());
    if let Some(other) = paths().find(|other| other.eq_ignore_ascii_case(path)) {
        return Absence::Spelled(other.to_owned());
    }
    let is_below = |other: &&str| other.strip_suffix(path).is_some_and(|before| before.ends_with('/'));
    match paths().filter(is_below).min_by_key(|other| (other.matches('/').count(), other.len())) {
        Some(other) => Absence::Elsewhere(other.to_owned()),
        None => Absence::Unknown,
    }
}
