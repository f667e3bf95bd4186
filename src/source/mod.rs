//! SOURCE: git → [`SourceTree`], a commit's tree, readable without a checkout.

mod tree;

pub use tree::{CommitInfo, EntryKind, SourceTree, TreeEntry};

use crate::config::GitConfig;
use crate::protocol::{BranchName, CommitRef, Failure, GitSource};
use crate::stage::StageContext;

/// The git stage: bare mirrors under `WORK_DIR/cache/git`, one per repository.
pub struct GitSourceStage {}

impl GitSourceStage {
    /// `cache` is created when missing. Registers the transport with libgit2 once per process.
    pub fn new(config: GitConfig, cache: std::path::PathBuf) -> Result<Self, Failure> {
        let _ = (config, cache);
        Ok(Self {})
    }
    /// Authenticates with this job's credentials, fetches what is missing, and opens the commit's tree.
    /// Says in the log what it fetches, its progress on long work, and the commit that it found.
    pub async fn fetch(
        &self,
        source: &GitSource,
        branch: &BranchName,
        commit: &CommitRef,
        ctx: &StageContext,
    ) -> Result<SourceTree, Failure> {
        let _ = (source, branch, commit, ctx);
        Err(Failure::interrupted())
    }
    /// Removes mirrors, least recently used first, until the cache is below its limit. Never one in use.
    pub async fn evict(&self) -> Result<u64, Failure> {
        Ok(0)
    }
}
