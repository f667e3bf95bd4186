//! PURE: where a path of the tree leads to. Links are followed by their text alone: nothing is looked up on the host.

use super::{Tree, shown};
use crate::protocol::{Code, Failure};
use crate::source::{EntryKind, TreeEntry};

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// Why a path leads to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Missing,
    /// A link to an absolute path, or above the root.
    Outside,
    Loop,
    /// Through a submodule.
    Submodule(String),
}

/// What a link finds that leads to an absolute path, or above the root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Above {
    Nothing,
    /// The folder itself, as in a container whose root it is.
    TheRoot,
}

/// The entry that `path` leads to. One that leads out of the tree is [`Lost::Outside`].
pub(super) fn resolve<'t>(tree: &'t dyn Tree, path: &str) -> Result<Result<&'t TreeEntry, Lost>, Failure> {
    follow(tree, "", path, Above::Nothing)
}

/// The file that `path`, below `folder`, leads to, as BuildKit reads it: the folder is the root of every link in it.
pub(super) fn file_below<'t>(tree: &'t dyn Tree, folder: &str, path: &str) -> Result<Option<&'t TreeEntry>, Failure> {
    let found = follow(tree, folder, path, Above::TheRoot)?.ok();
    Ok(found.filter(|entry| matches!(entry.kind, EntryKind::File { .. })))
}

fn follow<'t>(tree: &'t dyn Tree, root: &str, path: &str, above: Above) -> Result<Result<&'t TreeEntry, Lost>, Failure> {
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut walked: Vec<String> = Vec::new();
    let mut links = 0;
    let mut found = None;
    while let Some(segment) = left.pop() {
        match segment.as_str() {
            "" | "." => continue,
            ".." => {
                if walked.pop().is_none() && above == Above::Nothing {
                    return Ok(Err(Lost::Outside));
                }
                found = tree.entry(&below(root, &walked.join("/")));
                continue;
            }
            _ => walked.push(segment),
        }
        let here = below(root, &walked.join("/"));
        let Some(entry) = tree.entry(&here) else { return Ok(Err(Lost::Missing)) };
        found = Some(entry);
        match entry.kind {
            EntryKind::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Ok(Err(Lost::Loop));
                }
                let target = link_target(tree, entry)?;
                if target.starts_with('/') {
                    if above == Above::Nothing {
                        return Ok(Err(Lost::Outside));
                    }
                    walked.clear();
                }
                walked.pop();
                found = None;
                left.extend(target.split('/').rev().map(str::to_owned));
            }
            EntryKind::Submodule if !left.is_empty() => return Ok(Err(Lost::Submodule(here))),
            EntryKind::File { .. } if !left.is_empty() => return Ok(Err(Lost::Missing)),
            _ => {}
        }
    }
    Ok(found.ok_or(Lost::Missing))
}

/// `path` of the folder as a path of the tree.
pub(super) fn below(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}

/// What a symbolic link says, kept as it is.
pub(super) fn link_target(tree: &dyn Tree, entry: &TreeEntry) -> Result<String, Failure> {
    let target = String::from_utf8(tree.read(entry)?).ok();
    target.filter(|t| !t.is_empty() && t.len() <= 4096 && !t.contains('\0')).ok_or_else(|| {
        Failure::new(
            Code::SourceBadPath,
            format!("The symbolic link {} has no target that a file system can hold.", shown(&entry.path)),
            "Remove the link, or make its target a path of at most 4096 bytes of UTF-8.",
        )
    })
}
