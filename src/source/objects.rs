//! The blobs of one repository, read by many threads at once.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use git2::{ObjectType, Oid, Repository};

use super::failures::printable;
use super::generation::Generation;
use crate::protocol::{Code, Failure};

/// Idle handles kept for the next reader. libgit2 shares the mapped packs among them.
const IDLE: usize = 4;

/// Where the objects are.
pub(super) enum Store {
    /// A mirror; the generation's lease keeps it.
    Mirror(Generation),
    /// A repository of the user's own.
    Local(PathBuf),
}

/// A handle per reading thread: a libgit2 repository may move between threads, not be shared by them.
pub(super) struct Objects {
    store: Store,
    max_bytes: u64,
    idle: Mutex<Vec<Repository>>,
}

impl Objects {
    pub(super) fn new(store: Store, max_bytes: u64) -> Self {
        Self { store, max_bytes, idle: Mutex::default() }
    }

    /// Shows the blob's bytes to `see`; they are in memory once, and only as long as it looks. Blocking. `path` is for the words of a
    /// failure.
    pub(super) fn look<T>(&self, id: Oid, path: &str, see: impl FnOnce(&[u8]) -> T) -> Result<T, Failure> {
        self.try_look(id, path, see).map_err(|why| match why {
            Why::TooLarge(failure) => failure,
            Why::Damaged(message) => {
                if let Store::Mirror(generation) = &self.store
                    && let Err(error) = generation.mark_broken()
                {
                    tracing::warn!(%error, "cannot mark a mirror as broken");
                }
                Self::damaged(path, &message)
            }
        })
    }

    /// The objects were there when the tree was walked.
    pub(super) fn damaged(path: &str, why: &str) -> Failure {
        Failure::new(
            Code::WorkerInternal,
            format!("The file {} cannot be read from the git cache: {}.", printable(path, 200), printable(why, 200)),
            "The cache is damaged; the repository is fetched anew the next time.",
        )
    }

    fn try_look<T>(&self, id: Oid, path: &str, see: impl FnOnce(&[u8]) -> T) -> Result<T, Why> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let repository = match idle {
            Some(repository) => repository,
            None => self.open()?,
        };
        let seen = {
            let odb = repository.odb()?;
            let (size, kind) = odb.read_header(id)?;
            if kind != ObjectType::Blob {
                return Err(Why::Damaged("its object is no blob".to_owned()));
            }
            if size as u64 > self.max_bytes {
                return Err(Why::TooLarge(Failure::new(
                    Code::SourceTooLarge,
                    format!(
                        "The file {} has {size} bytes; at most {} are allowed (MAX_FILE_BYTES).",
                        printable(path, 200),
                        self.max_bytes
                    ),
                    "Leave it out in .dockerignore, fetch it in the Dockerfile, or raise MAX_FILE_BYTES.",
                )));
            }
            see(odb.read(id)?.data())
        };
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(repository);
        }
        Ok(seen)
    }

    fn open(&self) -> Result<Repository, git2::Error> {
        match &self.store {
            Store::Mirror(generation) => Repository::open_bare(generation.repository()),
            Store::Local(path) => Repository::open(path),
        }
    }
}

enum Why {
    TooLarge(Failure),
    Damaged(String),
}

impl From<git2::Error> for Why {
    fn from(error: git2::Error) -> Self {
        Why::Damaged(error.message().to_owned())
    }
}
