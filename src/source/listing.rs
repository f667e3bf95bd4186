//! Walks of trees, kept beside the mirror's objects: a tree's id names its content, so a walk is valid as long as the objects are there.
//!
//! A file `walks/<tree id>`: magic, number of entries, entries, CRC-32 of all before it. An entry: kind, size (LEB128), id (20 bytes), how many
//! bytes of the path are those of the path before (LEB128), how many follow (LEB128), and these.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use git2::Oid;

use super::{EntryKind, Flaw, TreeEntry};

const MAGIC: &[u8; 8] = b"slipwlk1";
/// Kept walks; the oldest goes.
const KEPT: usize = 8;

/// The walk of this tree, if it is kept.
pub(super) fn load(walks: &Path, tree: Oid) -> Option<Vec<TreeEntry>> {
    let path = walks.join(tree.to_string());
    let bytes = fs::read(&path).ok()?;
    let entries = decode(&bytes);
    if entries.is_none() {
        tracing::warn!(path = %path.display(), "a kept walk is damaged; the tree is walked again");
    }
    entries
}

/// The walk that was kept last: most of the next commit's tree is the same.
pub(super) fn latest(walks: &Path) -> Option<Vec<TreeEntry>> {
    let (_, path) = kept(walks).ok()?.pop()?;
    decode(&fs::read(path).ok()?)
}

/// Keeps a walk, and lets go of old ones.
pub(super) fn save(walks: &Path, tree: Oid, entries: &[TreeEntry]) -> io::Result<()> {
    fs::create_dir_all(walks)?;
    let draft = walks.join("draft");
    fs::write(&draft, encode(entries))?;
    fs::rename(&draft, walks.join(tree.to_string()))?;
    let kept = kept(walks)?;
    for (_, path) in kept.iter().take(kept.len().saturating_sub(KEPT)) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Oldest first.
fn kept(walks: &Path) -> io::Result<Vec<(SystemTime, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(walks)? {
        let entry = entry?;
        found.push((entry.metadata()?.modified()?, entry.path()));
    }
    found.sort();
    Ok(found)
}

fn encode(entries: &[TreeEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + entries.len() * 56);
    out.extend_from_slice(MAGIC);
    number(&mut out, entries.len() as u64);
    let mut before: &[u8] = b"";
    for entry in entries {
        out.push(match entry.kind {
            EntryKind::Directory => 0,
            EntryKind::File { executable: false } => 1,
            EntryKind::File { executable: true } => 2,
            EntryKind::Symlink => 3,
            EntryKind::Submodule => 4,
            EntryKind::Unsendable(Flaw::NotUtf8) => 5,
            EntryKind::Unsendable(Flaw::PathTooLong) => 6,
            EntryKind::Unsendable(Flaw::LinkTarget) => 7,
        });
        number(&mut out, entry.size);
        // The walk writes ids of 20 bytes only.
        let mut id = [0; 20];
        hex::decode_to_slice(&entry.oid, &mut id).unwrap_or_default();
        out.extend_from_slice(&id);
        let path = entry.path.as_bytes();
        let same = path.iter().zip(before).take_while(|(a, b)| a == b).count();
        number(&mut out, same as u64);
        number(&mut out, (path.len() - same) as u64);
        out.extend_from_slice(&path[same..]);
        before = path;
    }
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<Vec<TreeEntry>> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut reader = Reader(body.strip_prefix(MAGIC)?);
    let count = usize::try_from(reader.number()?).ok()?;
    let mut entries: Vec<TreeEntry> = Vec::with_capacity(count.min(body.len() / 24));
    for _ in 0..count {
        let kind = match reader.take(1)?[0] {
            0 => EntryKind::Directory,
            1 => EntryKind::File { executable: false },
            2 => EntryKind::File { executable: true },
            3 => EntryKind::Symlink,
            4 => EntryKind::Submodule,
            5 => EntryKind::Unsendable(Flaw::NotUtf8),
            6 => EntryKind::Unsendable(Flaw::PathTooLong),
            7 => EntryKind::Unsendable(Flaw::LinkTarget),
            _ => return None,
        };
        let size = reader.number()?;
        let oid = hex::encode(reader.take(20)?);
        let same = usize::try_from(reader.number()?).ok()?;
        let rest = usize::try_from(reader.number()?).ok()?;
        let before = entries.last().map(|e| e.path.as_bytes()).unwrap_or_default();
        let path = [before.get(..same)?, reader.take(rest)?].concat();
        entries.push(TreeEntry { path: String::from_utf8(path).ok()?, kind, oid, size });
    }
    reader.0.is_empty().then_some(entries)
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..63).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<TreeEntry>> {
        let kind = prop_oneof![
            Just(EntryKind::Directory),
            any::<bool>().prop_map(|executable| EntryKind::File { executable }),
            Just(EntryKind::Symlink),
            Just(EntryKind::Submodule),
            Just(EntryKind::Unsendable(Flaw::NotUtf8)),
            Just(EntryKind::Unsendable(Flaw::LinkTarget)),
        ];
        let entry = ("[a-cé]{1,3}(/[a-cé]{1,3}){0,3}", kind, any::<[u8; 20]>(), 0..u64::MAX >> 2)
            .prop_map(|(path, kind, id, size)| TreeEntry { path, kind, oid: hex::encode(id), size });
        proptest::collection::vec(entry, 0..20)
    }

    proptest! {
        #[test]
        fn a_kept_walk_is_read_as_it_was(entries in entries()) {
            prop_assert_eq!(decode(&encode(&entries)), Some(entries));
        }
        #[test]
        fn a_damaged_one_is_not_read(entries in entries(), at in any::<prop::sample::Index>(), flip in 1..=255u8) {
            let mut bytes = encode(&entries);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert_eq!(decode(&bytes), None);
        }
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            bytes.splice(0..0, *MAGIC);
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_walk_that_counts_more_of_a_path_than_there_is_takes_no_memory_for_it() {
        for same in [u64::MAX >> 1, u64::MAX >> 2, 1] {
            let mut bytes = MAGIC.to_vec();
            number(&mut bytes, 1);
            bytes.extend_from_slice(&[0; 22]);
            number(&mut bytes, same);
            number(&mut bytes, 0);
            bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
            assert_eq!(decode(&bytes), None);
        }
    }

    #[test]
    fn only_the_latest_walks_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        for n in 0..20u8 {
            let id = Oid::from_bytes(&[n; 20]).expect("an id");
            save(dir.path(), id, &[]).expect("saved");
        }
        assert_eq!(kept(dir.path()).expect("listed").len(), KEPT);
    }
}
