//! The journal's files: their names, and reads and writes that hold no descriptor afterwards.
//!
//! `<deployment>.<number>.journal` is a segment, `<deployment>.cursor` says how far the dashboard has answered. A journal at rest
//! costs no file descriptor: a thousand of them may wait for a dashboard that is away.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::protocol::DeploymentId;

const SEGMENT: &str = "journal";
const CURSOR: &str = "cursor";
const MAGIC: &[u8; 8] = b"SLIPJNL1";
/// magic, birth, CRC-32 of both.
pub const PREAMBLE: usize = 20;

/// Where in a journal: a segment and an offset in it. 0 is before the segment, and before the word about what is missing there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

/// How far the dashboard has answered. Not synced: after a power cut something may be repeated, nothing is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub position: Position,
    /// Ordinals of the last end that was delivered, and of the last one that a cancel voided.
    pub delivered_end: u64,
    pub voided_end: u64,
}

pub fn segment_path(dir: &Path, id: &DeploymentId, number: u64) -> PathBuf {
    dir.join(format!("{id}.{number}.{SEGMENT}"))
}

fn cursor_path(dir: &Path, id: &DeploymentId) -> PathBuf {
    dir.join(format!("{id}.{CURSOR}"))
}

/// A journal as a look at the directory shows it.
#[derive(Debug, Default)]
pub struct Found {
    /// Ascending; empty where only a cursor is left of it.
    pub segments: Vec<u64>,
    pub bytes: u64,
}

/// All journals in `dir`; names that are no journal's are passed over.
pub fn list(dir: &Path) -> io::Result<BTreeMap<DeploymentId, Found>> {
    let mut all: BTreeMap<DeploymentId, Found> = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((id, number)) = name.to_str().and_then(parse_name) else {
            continue;
        };
        let found = all.entry(id).or_default();
        if let Some(number) = number {
            found.segments.push(number);
            found.bytes += entry.metadata().map(|m| m.len()).unwrap_or(0);
        }
    }
    for found in all.values_mut() {
        found.segments.sort_unstable();
    }
    Ok(all)
}

/// `None` in the second place: the cursor.
fn parse_name(name: &str) -> Option<(DeploymentId, Option<u64>)> {
    let (rest, suffix) = name.rsplit_once('.')?;
    if suffix == CURSOR {
        return Some((DeploymentId::parse(rest).ok()?, None));
    }
    let (id, number) = rest.split_once('.')?;
    (suffix == SEGMENT).then_some(())?;
    Some((DeploymentId::parse(id).ok()?, Some(number.parse().ok()?)))
}

/// Creates a segment (0600) that begins with the preamble and `records`. Returns its length. Nothing is left of one that failed.
pub fn create_segment(path: &Path, birth: u64, records: &[u8]) -> io::Result<u64> {
    let mut bytes = Vec::with_capacity(PREAMBLE + records.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&birth.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend_from_slice(records);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if let Err(e) = file.write_all(&bytes) {
        drop(file);
        // The first error is the one to tell; a file that stays is cut away at the next start.
        std::fs::remove_file(path).ok();
        return Err(e);
    }
    Ok(bytes.len() as u64)
}

/// The journal's birth as the segment's preamble has it; `None` where that is not whole.
pub fn birth_of(bytes: &[u8]) -> Option<u64> {
    let (preamble, _) = bytes.split_at_checked(PREAMBLE)?;
    let (body, crc) = preamble.split_at(16);
    (body.starts_with(MAGIC) && crc32fast::hash(body).to_le_bytes() == crc).then_some(())?;
    Some(u64::from_le_bytes(body[8..].try_into().ok()?))
}

/// Writes `bytes` at `len`, the segment's end. Where that fails the segment ends at `len` as before.
pub fn append(path: &Path, len: u64, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    if let Err(e) = file.write_all_at(bytes, len) {
        file.set_len(len)?;
        return Err(e);
    }
    Ok(())
}

/// Up to `max` bytes at `offset`; fewer only at the end of the file.
pub fn read(path: &Path, offset: u64, max: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; max];
    let mut filled = 0;
    while filled < max {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

pub fn truncate(path: &Path, len: u64) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.set_len(len)
}

/// Syncs a segment; one that is gone was delivered meanwhile.
pub fn sync(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub fn remove_cursor(dir: &Path, id: &DeploymentId) -> io::Result<()> {
    remove(&cursor_path(dir, id))
}

/// One write of a few bytes: a process that dies leaves the old cursor or the new one.
pub fn write_cursor(dir: &Path, id: &DeploymentId, birth: u64, cursor: &Cursor) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(44);
    for n in [birth, cursor.position.segment, cursor.position.offset, cursor.delivered_end, cursor.voided_end] {
        bytes.extend_from_slice(&n.to_le_bytes());
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(cursor_path(dir, id))?;
    file.write_all_at(&bytes, 0)
}

/// `None`: nothing was answered yet, or the cursor is not whole, or it belongs to an earlier journal of this deployment.
pub fn read_cursor(dir: &Path, id: &DeploymentId, birth: u64) -> io::Result<Option<Cursor>> {
    let mut bytes = Vec::new();
    match File::open(cursor_path(dir, id)) {
        Ok(file) => file.take(44).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let Some((body, crc)) = bytes.split_at_checked(40) else {
        return Ok(None);
    };
    let n: Vec<u64> = body.chunks_exact(8).map(|c| c.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))).collect();
    if crc32fast::hash(body).to_le_bytes() != crc || n[0] != birth {
        return Ok(None);
    }
    let position = Position { segment: n[1], offset: n[2] };
    Ok(Some(Cursor { position, delivered_end: n[3], voided_end: n[4] }))
}
