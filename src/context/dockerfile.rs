//! PURE: finds the Dockerfile (and other files by name) in a tree, symbolic links followed by their text alone.

use super::{Tree, shown};
use crate::protocol::{Code, Failure};
use crate::source::{EntryKind, TreeEntry};

/// A larger one is no Dockerfile. (BuildKit's own messages end at 16 MiB.)
const MAX_DOCKERFILE_BYTES: u64 = 1024 * 1024;
/// As many links as Linux follows.
const MAX_LINKS: usize = 40;
/// Looked for at the root where the job names none; the second as the docker command does.
const DEFAULT_NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

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

/// The name of the Dockerfile at the root, if there is one.
pub(super) fn default_name(tree: &dyn Tree) -> Option<&'static str> {
    DEFAULT_NAMES.into_iter().find(|name| tree.entry(name).is_some())
}

/// The Dockerfile's path, as the job names it or by default, and its bytes.
pub(super) fn find(tree: &dyn Tree, named: Option<&str>) -> Result<(String, Vec<u8>), Failure> {
    let path = match named {
        Some(path) => path,
        None => default_name(tree).ok_or_else(|| missing(tree, None))?,
    };
    let entry = match resolve(tree, path)? {
        Ok(entry) => entry,
        Err(Lost::Missing) => return Err(missing(tree, named)),
        Err(Lost::Outside) => {
            return Err(invalid(path, "is a symbolic link that leads out of the repository", "Make it a file."));
        }
        Err(Lost::Loop) => return Err(invalid(path, "is a symbolic link that leads to itself", "Make it a file.")),
        Err(Lost::Submodule(module)) => {
            return Err(Failure::new(
                Code::ContextUnsupported,
                format!("The Dockerfile {} lies in the Git submodule {}, which is not fetched.", shown(path), shown(&module)),
                "Put the Dockerfile into the repository itself.",
            ));
        }
    };
    match entry.kind {
        EntryKind::File { .. } => {}
        EntryKind::Directory => {
            let inner = format!("{path}/Dockerfile");
            let way_out = match tree.entry(&inner) {
                Some(_) => format!("Set the Dockerfile's path to {}.", shown(&inner)),
                None => "Set the Dockerfile's path to a file.".to_owned(),
            };
            return Err(invalid(path, "is a directory", &way_out));
        }
        EntryKind::Submodule | EntryKind::Symlink => {
            return Err(invalid(path, "is no regular file", "Set the Dockerfile's path to a file."));
        }
    }
    if entry.size > MAX_DOCKERFILE_BYTES {
        let what = format!("has {} bytes; a Dockerfile has at most {MAX_DOCKERFILE_BYTES}", entry.size);
        return Err(invalid(
            path,
            &what,
            "Check that the path names the Dockerfile, or move what makes it large into files that it copies.",
        ));
    }
    let bytes = tree.read(entry)?;
    if bytes.starts_with(LFS_POINTER) {
        return Err(invalid(path, "is kept in Git LFS", "Keep the Dockerfile in Git itself."));
    }
    // Where links lead to: not every BuildKit follows one that the Dockerfile's own name is.
    Ok((entry.path.clone(), bytes))
}

pub(super) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(LFS_POINTER)
}

fn invalid(path: &str, what: &str, way_out: &str) -> Failure {
    Failure::new(Code::ContextDockerfileInvalid, format!("The Dockerfile {} {what}.", shown(path)), way_out)
}

fn missing(tree: &dyn Tree, named: Option<&str>) -> Failure {
    let cause = match named {
        Some(path) => format!("There is no Dockerfile at {} in the repository.", shown(path)),
        None => "There is no Dockerfile at the root of the repository.".to_owned(),
    };
    let mut others: Vec<&str> =
        tree.entries().iter().filter(|entry| looks_like_dockerfile(entry)).map(|e| e.path.as_str()).collect();
    others.sort_by_key(|path| (path.matches('/').count(), path.len()));
    let list = others.iter().take(5).map(|path| shown(path).into_owned()).collect::<Vec<_>>().join(", ");
    let way_out = match others.len() {
        0 => "Add a Dockerfile, or set its path in the service.".to_owned(),
        1..=5 => format!("Set the Dockerfile's path in the service; the repository has: {list}."),
        n => format!("Set the Dockerfile's path in the service; the repository has: {list} and {} more.", n - 5),
    };
    Failure::new(Code::ContextNoDockerfile, cause, way_out)
}

fn looks_like_dockerfile(entry: &TreeEntry) -> bool {
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path).to_ascii_lowercase();
    matches!(entry.kind, EntryKind::File { .. } | EntryKind::Symlink)
        && !name.ends_with(".dockerignore")
        && (name == "dockerfile" || name == "containerfile" || name.starts_with("dockerfile.") || name.ends_with(".dockerfile"))
}

/// The entry that `path` leads to. No link is followed on the host: the tree's own entries and their texts are all that is looked at.
pub(super) fn resolve<'t>(tree: &'t dyn Tree, path: &str) -> Result<Result<&'t TreeEntry, Lost>, Failure> {
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut walked: Vec<String> = Vec::new();
    let mut links = 0;
    let mut found = None;
    while let Some(segment) = left.pop() {
        match segment.as_str() {
            "" | "." => continue,
            ".." => {
                if walked.pop().is_none() {
                    return Ok(Err(Lost::Outside));
                }
                found = tree.entry(&walked.join("/"));
                continue;
            }
            _ => walked.push(segment),
        }
        let here = walked.join("/");
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
                    return Ok(Err(Lost::Outside));
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
