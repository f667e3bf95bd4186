//! A commit's tree: its entries in order and the blobs behind them, read from the mirror on demand.

use std::cmp::Ordering;

use super::attributes;
use super::failures::printable;
use super::objects::Objects;
use crate::protocol::{Code, CommitSha, Failure};

#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A file, link or directory that cannot be handed to a build. Refused where a build asks for it, and only there.
    Unsendable(Flaw),
}

/// Why an entry cannot be handed to a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its path is no UTF-8: BuildKit's protocol has no other names.
    NotUtf8,
    /// Its path is longer than Linux takes.
    PathTooLong,
    /// It is a link whose target is empty, too long, or no UTF-8.
    LinkTarget,
}

impl Flaw {
    /// What a build is told that asks for the entry.
    pub fn failure(self, path: &str) -> Failure {
        let why = match self {
            Flaw::NotUtf8 => "is not valid UTF-8",
            Flaw::PathTooLong => "is longer than 4095 bytes",
            Flaw::LinkTarget => "is a symbolic link whose target is empty, too long, or not valid UTF-8",
        };
        Failure::new(
            Code::SourceBadPath,
            format!("The path \"{}\" in the repository {why}.", printable(path, 200)),
            "It cannot be in a build context: rename or remove it, or leave it out in .dockerignore.",
        )
    }
}

/// One entry of the tree. `path` is relative, `/`-separated, validated: no empty, `.`, `..` or `.git` segment (in any case), no NUL
/// (else the fetch failed with `source.bad_path`). Bytes that are no UTF-8 stand as `\xe9`. It may hold control characters and backslashes: they are data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    pub path: String,
    pub kind: EntryKind,
    /// What the content is known by: the blob's object id, hexadecimal (the tree's for a directory), and after it what a checkout changes.
    pub oid: String,
    /// The content's size in bytes, as a checkout has it; 0 for directories and submodules.
    pub size: u64,
}

/// Readable from any thread; holds the mirror against eviction as long as it lives.
pub struct SourceTree {
    pub commit: CommitInfo,
    /// What the job's log has to say of the tree.
    pub(super) warnings: Vec<String>,
    entries: Vec<TreeEntry>,
    objects: Objects,
}

impl SourceTree {
    pub(super) fn new(commit: CommitInfo, entries: Vec<TreeEntry>, warnings: Vec<String>, objects: Objects) -> Self {
        Self { commit, warnings, entries, objects }
    }
    /// All entries in BuildKit's order: depth first, siblings by name bytes, a directory before what is in it
    /// (so `a`, `a/b`, `a.c`: compare segment by segment).
    pub fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }
    /// The entry of exactly this path.
    pub fn entry(&self, path: &str) -> Option<&TreeEntry> {
        let at = self.entries.binary_search_by(|e| in_order(&e.path, path)).ok()?;
        self.entries.get(at)
    }
    /// A copy of the blob's bytes: for what is kept. Otherwise as [`SourceTree::look`].
    pub fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, Failure> {
        self.look(entry, <[u8]>::to_vec)
    }
    /// Shows the content, as a checkout has it, to `see`, at most `MAX_FILE_BYTES`; none for a directory or submodule. They are in memory as long as it
    /// looks. Blocking: call from `spawn_blocking` or a reader thread.
    pub fn look<T>(&self, entry: &TreeEntry, see: impl FnOnce(&[u8]) -> T) -> Result<T, Failure> {
        match (entry.kind, attributes::blob_of(&entry.oid)) {
            (EntryKind::Unsendable(flaw), _) => Err(flaw.failure(&entry.path)),
            (EntryKind::Directory | EntryKind::Submodule, _) => Ok(see(&[])),
            (_, Some((id, None))) => self.objects.look(id, &entry.path, see),
            (_, Some((id, Some(conversion)))) => self.objects.look(id, &entry.path, |blob| {
                let (Ok(content) | Err(content)) = conversion.apply(blob, &id.to_string());
                see(&content)
            }),
            (_, None) => Err(Objects::damaged(&entry.path, "its object id is none")),
        }
    }
}

impl std::fmt::Debug for SourceTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SourceTree").field("commit", &self.commit).field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

/// Segment by segment: a slash goes before every other byte that a name can have.
fn in_order(a: &str, b: &str) -> Ordering {
    let weight = |byte: u8| if byte == b'/' { 0 } else { byte };
    a.bytes().map(weight).cmp(b.bytes().map(weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_before_what_is_in_it_and_that_before_its_longer_siblings() {
        let mut paths = ["a.c", "b", "a/b", "a", "a/b/c", "a-b", "a/b.c", "a\u{1}"];
        paths.sort_by(|x, y| in_order(x, y));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/b.c", "a\u{1}", "a-b", "a.c", "b"]);
    }
}
