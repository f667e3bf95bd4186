//! A commit's tree: its entries in order and the blobs behind them, read from the mirror on demand.

use crate::protocol::{CommitSha, Failure};

#[derive(Debug, Clone)]
pub struct CommitInfo {
    pub sha: CommitSha,
    /// Seconds since the epoch, the committer's.
    pub time: i64,
    /// First line of the message, at most 200 characters, control characters replaced.
    pub summary: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Directory,
    File {
        executable: bool,
    },
    Symlink,
    /// A submodule's commit.
    Submodule,
}

/// One entry of the tree. `path` is relative, `/`-separated, validated: no empty, `.`, `..` or `.git` segment (in any case), no NUL,
/// valid UTF-8 (else the fetch failed with `source.bad_path`).
#[derive(Debug, Clone)]
pub struct TreeEntry {
    pub path: String,
    pub kind: EntryKind,
    /// The blob's object id, hexadecimal (the tree's for a directory).
    pub oid: String,
    /// The blob's size in bytes; 0 for directories and submodules.
    pub size: u64,
}

/// Readable from any thread; holds the mirror against eviction as long as it lives.
pub struct SourceTree {
    pub commit: CommitInfo,
}

impl SourceTree {
    /// All entries in BuildKit's order: depth first, siblings by name bytes, a directory before what is in it
    /// (so `a`, `a/b`, `a.c`: compare segment by segment).
    pub fn entries(&self) -> &[TreeEntry] {
        &[]
    }
    pub fn entry(&self, path: &str) -> Option<&TreeEntry> {
        let _ = path;
        None
    }
    /// The blob's bytes. Blocking: call from `spawn_blocking` or a reader thread. At most `MAX_FILE_BYTES`.
    pub fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, Failure> {
        let _ = entry;
        Err(Failure::interrupted())
    }
}
