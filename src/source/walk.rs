//! A commit's tree → its entries in BuildKit's order, checked and within the limits. Subtrees that an earlier walk has seen are taken from it.

use std::collections::HashMap;

use git2::{ObjectType, Odb, Oid};
use tokio_util::sync::CancellationToken;

use super::failures::{Trouble, printable};
use super::tree_object::{self, BadEntry};
use super::{EntryKind, Flaw, TreeEntry};
use crate::config::GitConfig;
use crate::protocol::{Code, Failure};

/// Linux' PATH_MAX, less its NUL.
const MAX_PATH: usize = 4095;
const MAX_DEPTH: usize = 200;
/// All paths of one tree together: bounds the memory that half a million long names can take.
const MAX_PATHS_BYTES: usize = 64 << 20;
/// One tree object, inflated whole.
const MAX_TREE_OBJECT: usize = 64 << 20;

/// `MAX_FILES` (directories count too: a tree of nothing else is no smaller), and `MAX_FILE_BYTES`, which counts where a file is read: one that
/// no build asks for may have any size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) files: usize,
    pub(super) file_bytes: u64,
}

impl Limits {
    pub(super) fn of(config: &GitConfig) -> Self {
        Self { files: config.max_files, file_bytes: config.max_file_bytes }
    }

    /// For entries that were walked under limits of another day.
    pub(super) fn admit(&self, entries: &[TreeEntry]) -> Result<(), Failure> {
        if entries.len() > self.files {
            return Err(self.too_many());
        }
        Ok(())
    }

    fn too_many(&self) -> Failure {
        Failure::new(
            Code::SourceTooLarge,
            format!("The repository has more than {} files and directories (MAX_FILES).", self.files),
            "Take files that are not built out of the repository, or raise MAX_FILES.",
        )
    }
}

/// Walks `root`. `known` is an earlier walk of the same mirror, whose entries stand for subtrees that did not change.
pub(super) fn walk(
    odb: &Odb<'_>,
    root: Oid,
    known: &[TreeEntry],
    limits: Limits,
    cancel: &CancellationToken,
) -> Result<Vec<TreeEntry>, Trouble> {
    let directories =
        known.iter().enumerate().filter(|(_, e)| e.kind == EntryKind::Directory).map(|(at, e)| (e.path.as_str(), at));
    let mut walk = Walk {
        odb,
        known,
        directories: directories.collect(),
        limits,
        cancel,
        paths: 0,
        entries: Vec::with_capacity(known.len()),
    };
    walk.directory(root, &mut String::new(), 0, None)?;
    Ok(walk.entries)
}

struct Walk<'a, 'repo> {
    odb: &'a Odb<'repo>,
    known: &'a [TreeEntry],
    /// Path of a directory → where it stands in `known`.
    directories: HashMap<&'a str, usize>,
    limits: Limits,
    cancel: &'a CancellationToken,
    paths: usize,
    entries: Vec<TreeEntry>,
}

impl Walk<'_, '_> {
    /// `path` is the directory's, without a trailing slash; left as it was found. `flaw`: the directory's, and so of all that is in it.
    fn directory(&mut self, tree: Oid, path: &mut String, depth: usize, flaw: Option<Flaw>) -> Result<(), Trouble> {
        if self.cancel.is_cancelled() {
            return Err(Failure::interrupted().into());
        }
        if depth > MAX_DEPTH {
            return Err(bad_path(path, &format!("is nested deeper than {MAX_DEPTH} directories")).into());
        }
        let (size, kind) = self.odb.read_header(tree)?;
        if kind != ObjectType::Tree {
            return Err(bad_path(path, "is a directory whose object is no tree").into());
        }
        if size > MAX_TREE_OBJECT {
            return Err(self.limits.too_many().into());
        }
        let object = self.odb.read(tree)?;
        let items = tree_object::parse(object.data()).map_err(|BadEntry { name, why }| bad_path(&joined(path, &name), why))?;
        let parent = path.len();
        for item in items {
            if parent > 0 {
                path.push('/');
            }
            path.push_str(&item.name);
            let size = match item.kind {
                EntryKind::File { .. } | EntryKind::Symlink => self.blob_size(path, item.id)?,
                EntryKind::Directory | EntryKind::Submodule | EntryKind::Unsendable(_) => 0,
            };
            let flaw = match flaw {
                Some(flaw) => Some(flaw),
                None if !item.is_utf8 => Some(Flaw::NotUtf8),
                None if path.len() > MAX_PATH => Some(Flaw::PathTooLong),
                None if item.kind == EntryKind::Symlink && !self.is_target(item.id, size)? => Some(Flaw::LinkTarget),
                None => None,
            };
            let kind = flaw.map_or(item.kind, EntryKind::Unsendable);
            self.push(TreeEntry { path: path.clone(), kind, oid: item.id.to_string(), size })?;
            if item.kind == EntryKind::Directory && (flaw.is_some() || !self.take_known(path, item.id)?) {
                self.directory(item.id, path, depth + 1, flaw)?;
            }
            path.truncate(parent);
        }
        Ok(())
    }

    fn push(&mut self, entry: TreeEntry) -> Result<(), Failure> {
        self.paths += entry.path.len();
        if self.entries.len() >= self.limits.files {
            return Err(self.limits.too_many());
        }
        if self.paths > MAX_PATHS_BYTES {
            return Err(Failure::new(
                Code::SourceTooLarge,
                format!("The paths of the repository's files have more than {} MiB together.", MAX_PATHS_BYTES >> 20),
                "Use fewer files, or shorter names.",
            ));
        }
        self.entries.push(entry);
        Ok(())
    }

    fn blob_size(&self, path: &str, id: Oid) -> Result<u64, Trouble> {
        let (size, object) = self.odb.read_header(id)?;
        if object != ObjectType::Blob {
            return Err(bad_path(path, "is a file whose object is no blob").into());
        }
        Ok(size as u64)
    }

    /// Whether a link's text is one that a file system can hold.
    fn is_target(&self, id: Oid, size: u64) -> Result<bool, Trouble> {
        if size == 0 || size > MAX_PATH as u64 {
            return Ok(false);
        }
        let object = self.odb.read(id)?;
        Ok(std::str::from_utf8(object.data()).is_ok_and(|target| !target.contains('\0')))
    }

    /// Copies what the earlier walk has under this directory, if it had the same tree. Says whether it did.
    fn take_known(&mut self, path: &str, tree: Oid) -> Result<bool, Failure> {
        let Some(&at) = self.directories.get(path) else { return Ok(false) };
        let known = self.known;
        if known[at].oid != tree.to_string() {
            return Ok(false);
        }
        let beneath = |e: &&TreeEntry| e.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        for entry in known[at + 1..].iter().take_while(beneath) {
            self.push(entry.clone())?;
        }
        Ok(true)
    }
}

fn joined(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn shown(path: &str) -> String {
    printable(path, 200)
}

fn bad_path(path: &str, why: &str) -> Failure {
    Failure::new(
        Code::SourceBadPath,
        format!("The path \"{}\" in the repository {why}.", shown(path)),
        "Rename or remove it in the repository: it cannot be in a build context.",
    )
}
