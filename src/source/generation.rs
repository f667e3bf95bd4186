//! One generation of a mirror: a bare repository with the walks of its trees beside it, leased by those who read it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::mirror::try_flock;

/// Above so many packs every lookup is slow; the mirror is fetched anew.
pub(super) const MAX_PACKS: usize = 50;
const PREFIX: &str = "gen-";
const DRAFT: &str = "new-";
const TRASH: &str = "old-";

/// A complete generation. Cheap to clone; as long as one clone lives, it is not removed.
#[derive(Clone)]
pub(super) struct Generation {
    dir: PathBuf,
    _lease: Arc<File>,
}

impl Generation {
    pub(super) fn repository(&self) -> PathBuf {
        self.dir.join("repo.git")
    }
    /// Where the walks of trees are kept.
    pub(super) fn walks(&self) -> PathBuf {
        self.dir.join("walks")
    }
    /// The next fetch makes a new generation.
    pub(super) fn mark_broken(&self) -> io::Result<()> {
        fs::write(self.dir.join("broken"), b"")
    }
    pub(super) fn is_broken(&self) -> bool {
        self.dir.join("broken").exists()
    }

    /// The newest complete generation in a mirror's folder. The caller holds the mirror's lock.
    pub(super) fn newest(mirror: &Path) -> io::Result<Option<Generation>> {
        match complete(mirror)?.pop() {
            Some(dir) => Ok(Some(Generation::lease(dir)?)),
            None => Ok(None),
        }
    }

    /// Removes what a fetch that was killed left behind (half packs, locks, a pack without its index), and returns how many packs there are.
    /// The caller holds the mirror's lock, so nobody else writes.
    pub(super) fn tidy(&self) -> io::Result<usize> {
        let repository = self.repository();
        remove_locks(&repository, 0)?;
        let packs = repository.join("objects/pack");
        let mut count = 0;
        for entry in read_dir_or_empty(&packs)? {
            let path = entry?.path();
            let twin = match path.extension().and_then(|e| e.to_str()) {
                Some("idx") => path.with_extension("pack"),
                Some("pack") => path.with_extension("idx"),
                _ => {
                    fs::remove_file(&path)?;
                    continue;
                }
            };
            if !twin.exists() {
                fs::remove_file(&path)?;
            } else if path.extension().is_some_and(|e| e == "idx") {
                count += 1;
            }
        }
        Ok(count)
    }

    fn lease(dir: PathBuf) -> io::Result<Generation> {
        let file = open_lease(&dir)?;
        // Exclusive locks are taken under the mirror's lock alone, and for a moment: this does not wait.
        rustix::fs::flock(&file, FlockOperation::LockShared)?;
        Ok(Generation { dir, _lease: Arc::new(file) })
    }
}

/// A generation whose first fetch is not complete. Dropped before that, it is removed.
pub(super) struct Draft {
    dir: PathBuf,
    mirror: PathBuf,
    adopted: bool,
}

impl Draft {
    pub(super) fn new(mirror: &Path) -> io::Result<Draft> {
        let dir = mirror.join(format!("{DRAFT}{}", stamp(mirror)?));
        fs::create_dir(&dir)?;
        Ok(Draft { dir, mirror: mirror.to_owned(), adopted: false })
    }
    pub(super) fn repository(&self) -> PathBuf {
        self.dir.join("repo.git")
    }
    /// Makes it the mirror, in one step. The generations before it go when nobody reads them any more.
    pub(super) fn adopt(mut self) -> io::Result<Generation> {
        fs::create_dir(self.dir.join("walks"))?;
        let to = self.mirror.join(format!("{PREFIX}{}", stamp(&self.mirror)?));
        fs::rename(&self.dir, &to)?;
        self.adopted = true;
        let generation = Generation::lease(to)?;
        sweep(&self.mirror)?;
        Ok(generation)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.adopted
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove a mirror that was not completed; the next fetch tries again");
        }
    }
}

/// Removes drafts of dead fetches, trash, and generations that are superseded and read by nobody. Returns the bytes that went.
/// The caller holds the mirror's lock.
pub(super) fn sweep(mirror: &Path) -> io::Result<u64> {
    let mut removed = 0;
    let mut generations = complete(mirror)?;
    generations.pop();
    for dir in generations {
        removed += remove_if_unread(mirror, &dir)?;
    }
    for entry in read_dir_or_empty(mirror)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with(DRAFT) || name.starts_with(TRASH) {
            removed += size_of(&path)?;
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(removed)
}

/// Removes the whole folder unless one of its generations is read. Says whether it did. The caller holds the mirror's lock.
pub(super) fn remove_all(mirror: &Path) -> io::Result<bool> {
    for dir in complete(mirror)? {
        remove_if_unread(mirror, &dir)?;
    }
    remove_if_empty(mirror)
}

/// Removes a folder without a complete generation. Says whether it did. The caller holds the mirror's lock.
pub(super) fn remove_if_empty(mirror: &Path) -> io::Result<bool> {
    let empty = complete(mirror)?.is_empty();
    if empty {
        fs::remove_dir_all(mirror)?;
    }
    Ok(empty)
}

/// Bytes of all files beneath.
pub(super) fn size_of(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in read_dir_or_empty(dir)? {
        let entry = entry?;
        // A file may go while we look (a pack that is being written, a generation that is removed).
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => total += size_of(&entry.path())?,
            Ok(meta) => total += meta.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(total)
}

fn remove_if_unread(mirror: &Path, dir: &Path) -> io::Result<u64> {
    let lease = open_lease(dir)?;
    if !try_flock(&lease, FlockOperation::NonBlockingLockExclusive)? {
        return Ok(0);
    }
    let size = size_of(dir)?;
    // Renamed first: a removal that is interrupted leaves trash, never half a mirror.
    let trash = mirror.join(format!("{TRASH}{}", stamp(mirror)?));
    fs::rename(dir, &trash)?;
    fs::remove_dir_all(&trash)?;
    Ok(size)
}

/// Complete generations, the newest last.
fn complete(mirror: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in read_dir_or_empty(mirror)? {
        let path = entry?.path();
        if path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(PREFIX)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A number that is above all that are in the folder, of fixed width: also where the clock was set back.
fn stamp(mirror: &Path) -> io::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let mut highest = 0;
    for entry in read_dir_or_empty(mirror)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.split_once('-')).and_then(|(_, n)| u64::from_str_radix(n, 16).ok());
        highest = highest.max(number.unwrap_or(0));
    }
    Ok(format!("{:016x}", now.max(highest + 1)))
}

fn open_lease(dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join("lease"))
}

/// `*.lock` files of libgit2 whose writer is gone. Depth-bounded: refs are three levels deep.
fn remove_locks(dir: &Path, depth: usize) -> io::Result<()> {
    for entry in read_dir_or_empty(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            if depth < 4 && name != "objects" {
                remove_locks(&entry.path(), depth + 1)?;
            }
        } else if name.to_str().is_some_and(|n| n.ends_with(".lock")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn read_dir_or_empty(dir: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => Some(entries),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(e),
    };
    Ok(entries.into_iter().flatten())
}
