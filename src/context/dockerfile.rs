//! PURE: finds the Dockerfile in a tree.

use super::links::{self, Lost, resolve};
use super::{Tree, notices, shown};
use crate::protocol::{Code, Failure};
use crate::source::{EntryKind, TreeEntry};

/// A larger one is no Dockerfile. (BuildKit's own messages end at 16 MiB.)
const MAX_DOCKERFILE_BYTES: u64 = 1024 * 1024;
/// Looked for at the root where the job names none; the second as the docker command does.
const DEFAULT_NAMES: [&str; 2] = ["Dockerfile", "dockerfile"];
/// So many other Dockerfiles are named.
const NAMED: usize = 5;
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The Dockerfile of a build.
#[derive(Debug)]
pub(super) struct Found {
    /// The folder that it was named in, links to folders followed; empty at the root.
    pub(super) folder: String,
    /// Its name there, as it was given: its own .dockerignore has that name, wherever a link leads to.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

impl Found {
    /// By which BuildKit asks for it.
    pub(super) fn path(&self) -> String {
        links::below(&self.folder, &self.name)
    }
}

/// The name of the Dockerfile at the root, if there is one.
pub fn default_name(tree: &dyn Tree) -> Option<&'static str> {
    DEFAULT_NAMES.into_iter().find(|name| tree.entry(name).is_some())
}

/// The Dockerfile that the job names, or the one at the root.
pub(super) fn find(tree: &dyn Tree, named: Option<&str>) -> Result<Found, Failure> {
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
        EntryKind::Unsendable(flaw) => return Err(flaw.failure(path)),
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
    let (folder, name) = match named {
        Some(path) => path.rsplit_once('/').unwrap_or(("", path)),
        // `dockerfile` too: the docker command asks for its .dockerignore by this name.
        None => ("", DEFAULT_NAMES[0]),
    };
    let folder = match folder {
        "" => String::new(),
        folder => resolve(tree, folder)?.map(|entry| entry.path.clone()).unwrap_or_else(|_| folder.to_owned()),
    };
    Ok(Found { folder, name: name.to_owned(), bytes })
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
    let way_out = match others(tree, NAMED) {
        None => "Add a Dockerfile, or set its path in the service.".to_owned(),
        Some(list) => format!("Set the Dockerfile's path in the service; the repository has: {list}."),
    };
    Failure::new(Code::ContextNoDockerfile, cause, way_out)
}

/// The files that look like Dockerfiles, the nearest to the root first, so many at most: `a, b and 3 more`.
pub(super) fn others(tree: &dyn Tree, most: usize) -> Option<String> {
    let mut others: Vec<&str> =
        tree.entries().iter().filter(|entry| looks_like_dockerfile(entry)).map(|e| e.path.as_str()).collect();
    others.sort_by_key(|path| (path.matches('/').count(), path.len()));
    notices::named_up_to(most, others.into_iter())
}

fn looks_like_dockerfile(entry: &TreeEntry) -> bool {
    let name = entry.path.rsplit('/').next().unwrap_or(&entry.path).to_ascii_lowercase();
    matches!(entry.kind, EntryKind::File { .. } | EntryKind::Symlink)
        && !name.ends_with(".dockerignore")
        && ["dockerfile", "containerfile"].iter().any(|known| {
            let variant = name.strip_prefix(known);
            variant.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('-') && !rest.contains('.'))
                || name.strip_suffix(known).is_some_and(|before| before.ends_with('.'))
        })
}
