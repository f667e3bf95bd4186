//! CONTEXT: SourceTree + .env + .dockerignore → [`BuildContext`], entries in order, each readable.

mod ignore;

pub use ignore::{IgnoreError, PatternMatcher};

use std::path::PathBuf;
use std::sync::Arc;

use crate::protocol::{Failure, Job};
use crate::secrets::SecretString;
use crate::source::{SourceTree, TreeEntry};
use crate::stage::StageContext;

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
    /// The Dockerfile's path in the context.
    pub dockerfile: String,
    /// The Dockerfile's bytes.
    pub dockerfile_bytes: Vec<u8>,
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
    /// The entry's bytes. Blocking: call from a reader thread.
    pub fn read(&self, entry: &ContextEntry) -> Result<Vec<u8>, Failure> {
        match &entry.content {
            Content::Blob { entry, .. } => self.tree.read(entry),
            Content::Inline { bytes, .. } => Ok(bytes.as_ref().clone()),
            Content::Directory | Content::Symlink { .. } => Ok(Vec::new()),
        }
    }
}

/// The context stage. Remembers per service which blob had which time under `WORK_DIR/cache/context`.
pub struct ContextStage {}

impl ContextStage {
    /// `state`: the folder for the fingerprints. `worker_id`: this WORK_DIR's id.
    pub fn new(state: PathBuf, worker_id: String, context_git_dir: bool) -> Self {
        let _ = (state, worker_id, context_git_dir);
        Self {}
    }
    /// Whether the job is built from a Dockerfile: it names one, or the tree has `Dockerfile` at its root.
    pub fn has_dockerfile(&self, tree: &SourceTree, job: &Job) -> bool {
        job.dockerfile.is_some() || tree.entry("Dockerfile").is_some()
    }
    /// Chooses the Dockerfile, lays the job's `.env` over the tree, applies the default excludes where the repository has no
    /// .dockerignore of its own, gives every entry its time, and says in the log what a user should know.
    pub async fn assemble(&self, tree: Arc<SourceTree>, job: &Job, ctx: &StageContext) -> Result<BuildContext, Failure> {
        let _ = (tree, job, ctx);
        Err(Failure::interrupted())
    }
}
