//! A repository on this machine as a source: opened read-only, its commit built as if it had been fetched.

use std::path::Path;

use git2::{ErrorClass, ErrorCode, Oid, Repository, StatusOptions};
use tokio_util::sync::CancellationToken;

use super::failures::{Trouble, printable};
use super::fetch::describe;
use super::history::{Peeled, peel};
use super::objects::{Objects, Store};
use super::walk::{Limits, walk};
use super::{SourceTree, attributes};
use crate::protocol::{Code, Failure};

/// What is found at a path.
pub(super) struct Local {
    pub(super) tree: SourceTree,
    /// How many files of the work tree differ from the commit that is built, at most [`SHOWN_CHANGES`]; they are not built.
    pub(super) uncommitted: usize,
}

/// More changes than these are not counted.
pub(super) const SHOWN_CHANGES: usize = 1000;

/// Blocking. `commit`: anything that names one (`HEAD` when absent).
pub(super) fn open(path: &Path, commit: Option<&str>, limits: Limits, cancel: &CancellationToken) -> Result<Local, Failure> {
    let shown = printable(&path.display().to_string(), 200);
    let repository = Repository::open(path).map_err(|e| no_repository(&shown, &e))?;
    let name = commit.unwrap_or("HEAD");
    let found = resolve(&repository, name).map_err(|e| {
        let named = printable(name, 100);
        match (commit, e.code()) {
            (None, ErrorCode::UnbornBranch | ErrorCode::NotFound) => Failure::new(
                Code::GitCommitGone,
                format!("The repository {shown} has no commit yet."),
                "Commit first, or name one that exists.",
            ),
            _ if is_object_id(name) => Failure::new(
                Code::GitCommitGone,
                format!("The repository {shown} has no commit {named}."),
                "Name a commit that it has (git log --all), or fetch it first.",
            ),
            _ => Failure::new(
                Code::GitBranchNotFound,
                format!("The repository {shown} has no branch or tag {named}."),
                "Name one that it has (git branch --all, git tag), or fetch it first.",
            ),
        }
    })?;
    let opened = (|| -> Result<SourceTree, Trouble> {
        let (info, tree) = describe(&repository, found)?;
        let odb = repository.odb()?;
        let mut entries = walk(&odb, tree, &[], limits, cancel)?;
        let warnings = attributes::apply(&odb, &mut entries, limits.file_bytes, cancel)?;
        let objects = Objects::new(Store::Local(repository.path().to_owned()), limits.file_bytes);
        Ok(SourceTree::new(info, entries, warnings, objects))
    })();
    let tree = opened.map_err(|trouble| match trouble {
        Trouble::Failed(failure) => failure,
        Trouble::Broken(why) | Trouble::Remote(why) => Failure::new(
            Code::GitProtocol,
            format!("The repository {shown} cannot be read: {}.", printable(&why, 200)),
            "Run git fsck there. A partial or shallow clone lacks objects: fetch them first.",
        ),
    })?;
    let uncommitted = if commit.is_none() { uncommitted(&repository).map_err(|e| internal(&e))? } else { 0 };
    Ok(Local { tree, uncommitted })
}

/// Whether the name is the id of an object, or the beginning of one.
fn is_object_id(name: &str) -> bool {
    (4..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The commit that the name stands for. A commit whose author libgit2 cannot read is one all the same: ids are looked up first.
fn resolve(repository: &Repository, name: &str) -> Result<Oid, git2::Error> {
    let full = (name.len() == 40).then(|| Oid::from_str(name).ok()).flatten();
    let of_ref = || repository.resolve_reference_from_short_name(name).ok()?.resolve().ok()?.target();
    let id = match full.or_else(of_ref) {
        Some(id) => id,
        None => repository.revparse_single(name)?.id(),
    };
    match peel(repository, id) {
        Ok(Peeled::Commit(commit)) => Ok(commit),
        _ => Ok(repository.find_object(id, None)?.peel_to_commit()?.id()),
    }
}

fn uncommitted(repository: &Repository) -> Result<usize, git2::Error> {
    if repository.is_bare() {
        return Ok(0);
    }
    let mut options = StatusOptions::new();
    // A look only: neither the index nor anything else of the user's repository is written.
    options.include_untracked(true).include_ignored(false).update_index(false).no_refresh(true);
    Ok(repository.statuses(Some(&mut options))?.len().min(SHOWN_CHANGES))
}

fn no_repository(shown: &str, error: &git2::Error) -> Failure {
    if error.class() == ErrorClass::Repository && error.message().contains("sha256") {
        return Failure::new(
            Code::GitUnsupported,
            format!("The repository {shown} names its objects by SHA-256, which is not supported."),
            "Use a repository with SHA-1 object names (git's default).",
        );
    }
    Failure::new(
        Code::GitRepositoryNotFound,
        format!("{shown} is not the root of a git repository."),
        "Give the path of a clone or of a bare repository; files that are in no commit are not built.",
    )
}

fn internal(error: &git2::Error) -> Failure {
    Failure::new(Code::WorkerInternal, format!("libgit2: {}.", printable(error.message(), 200)), "")
}
