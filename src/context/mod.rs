//! CONTEXT: SourceTree + .env + .dockerignore → [`BuildContext`], entries in order, each readable.

mod absence;
mod arguments;
mod dockerfile;
mod dotenv;
mod dotenv_value;
mod excludes;
mod ignore;
mod instructions;
mod layout;
mod links;
mod notices;
mod stage;
mod times;
mod wrong_root;

#[cfg(test)]
mod tests;

pub use absence::Absence;
pub use excludes::Excludes;
pub use ignore::{Effort, IgnoreError, PatternMatcher, Spent, read_patterns};
pub use instructions::Instructions;
pub use stage::ContextStage;

use std::borrow::Cow;
use std::sync::Arc;

use crate::protocol::{Failure, safe_line};
use crate::secrets::SecretString;
use crate::source::{Flaw, SourceTree, TreeEntry};

/// What one entry of the context holds.
#[derive(Debug, Clone)]
pub enum Content {
    Directory,
    /// A blob of the commit.
    Blob {
        entry: TreeEntry,
        executable: bool,
    },
    /// Bytes that exist only in the context (`.env`).
    Inline {
        bytes: Arc<Vec<u8>>,
        executable: bool,
    },
    Symlink {
        target: String,
    },
    /// What cannot be sent: a build that asks for it fails.
    Unsendable {
        flaw: Flaw,
    },
}

/// One entry of the context, in BuildKit's order (see [`SourceTree::entries`]).
#[derive(Debug, Clone)]
pub struct ContextEntry {
    pub path: String,
    /// Bytes; 0 for directories, the target's length for symlinks.
    pub size: u64,
    /// Nanoseconds since the epoch; stable as long as the content is (fingerprint of the transfer).
    pub mtime_ns: i64,
    pub content: Content,
}

/// All that a build may see of a job.
pub struct BuildContext {
    /// The Dockerfile's path, as it was named: where that is a link, BuildKit is given what it leads to under this name.
    pub dockerfile: String,
    /// The Dockerfile's bytes.
    pub dockerfile_bytes: Vec<u8>,
    /// The .dockerignore that counts.
    pub excludes: Excludes,
    pub entries: Vec<ContextEntry>,
    /// BuildKit secrets: `env` (the whole .env file) and one per key.
    pub secrets: Vec<(String, SecretString)>,
    /// BuildKit's shared key: this WORK_DIR's id and the service. Names the engine's copy of earlier transfers.
    pub shared_key: String,
    /// Whether the Dockerfile mounts secrets (then their values enter the tenant's cache key).
    pub mounts_secrets: bool,
    pub tree: Arc<SourceTree>,
}

impl BuildContext {
    /// Shows the entry's bytes to `see`; they are in memory as long as it looks. Blocking: call from a reader thread.
    pub fn look<T>(&self, entry: &ContextEntry, see: impl FnOnce(&[u8]) -> T) -> Result<T, Failure> {
        match &entry.content {
            Content::Blob { entry, .. } => self.tree.look(entry, see),
            Content::Inline { bytes, .. } => Ok(see(bytes)),
            Content::Directory | Content::Symlink { .. } => Ok(see(&[])),
            Content::Unsendable { flaw } => Err(flaw.failure(&entry.path)),
        }
    }

    /// Why the build does not find `path` in the context.
    pub fn explain_absence(&self, path: &str) -> Absence {
        let folder = self.dockerfile.rsplit_once('/').map_or("", |(folder, _)| folder);
        absence::explain(self.tree.as_ref(), &self.excludes, folder, path)
    }
}

/// Whether the commit has a Dockerfile at its root.
pub fn has_dockerfile(tree: &SourceTree) -> bool {
    dockerfile::default_name(tree).is_some()
}

/// The commit's files that look like Dockerfiles, so many at most: `docker/Dockerfile, b and 3 more`.
pub fn dockerfiles(tree: &SourceTree, most: usize) -> Option<String> {
    dockerfile::others(tree, most)
}

/// What the context is made from: the entries of a commit and their bytes.
trait Tree {
    /// In the order of [`SourceTree::entries`].
    fn entries(&self) -> &[TreeEntry];
    fn entry(&self, path: &str) -> Option<&TreeEntry>;
    fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, Failure>;
}

impl Tree for SourceTree {
    fn entries(&self) -> &[TreeEntry] {
        self.entries()
    }
    fn entry(&self, path: &str) -> Option<&TreeEntry> {
        self.entry(path)
    }
    fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, Failure> {
        self.read(entry)
    }
}

/// A path of the repository as it may stand in a log line.
fn shown(path: &str) -> Cow<'_, str> {
    const MAX_CHARS: usize = 200;
    let safe = safe_line(path.as_bytes());
    match safe.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &safe[..end])),
        None => safe,
    }
}
