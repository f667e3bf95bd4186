//! The bare mirrors under `WORK_DIR/cache/git`: one folder per repository URL, one fetch at a time in each, never removed while read.
//!
//! A folder holds `lock`, `url`, `used` (its time is the last use) and generations `gen-<n>`; the newest is the mirror. A generation is
//! made as `new-<n>` and renamed when its first fetch is complete. Who reads from one holds a shared lock on its `lease`:
//! the kernel lets go of it whatever happens to the process, so a crash leaves nothing that has to be believed.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::generation::{self, Generation, MAX_PACKS};

/// All mirrors of one cache folder.
pub(super) struct Mirrors {
    root: PathBuf,
    /// Whose turn it is, per folder: tokio's mutex is fair and can be waited for without a thread.
    turns: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// One mirror's folder, with nobody else fetching into it.
pub(super) struct LockedMirror {
    pub(super) dir: PathBuf,
    url: String,
    _file: File,
    _turn: tokio::sync::OwnedMutexGuard<()>,
}

impl Mirrors {
    pub(super) fn new(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        Ok(Self { root, turns: Mutex::default() })
    }

    /// Waits for the repository's turn. `Ok(None)`: the token tripped first.
    pub(super) async fn lock(&self, url: &Url, cancel: &CancellationToken) -> io::Result<Option<LockedMirror>> {
        let key = key(url);
        let turn = self.turn(&key);
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(None),
            turn = turn.lock_owned() => turn,
        };
        let dir = self.root.join(&key);
        loop {
            if let Some(file) = try_lock_folder(&dir)? {
                return Ok(Some(LockedMirror { dir, url: url.to_string(), _file: file, _turn: turn }));
            }
            // Another process (`slipway build` beside the worker) has it: there is no wake-up across processes.
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(None),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }

    /// Blocking. Bytes of all mirrors.
    pub(super) fn size(&self) -> io::Result<u64> {
        generation::size_of(&self.root)
    }

    /// Blocking. Removes what no build reads: leftovers of dead fetches, superseded generations, and whole mirrors, least recently
    /// used first, until `limit` bytes are left. Returns how many bytes went.
    pub(super) fn evict(&self, limit: u64) -> io::Result<u64> {
        let mut removed = 0;
        let mut mirrors = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let dir = entry?.path();
            if let Some(locked) = self.try_lock(&dir)? {
                removed += generation::sweep(&locked.dir)?;
                if generation::remove_if_empty(&locked.dir)? {
                    continue;
                }
            }
            let used = fs::metadata(dir.join("used")).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            mirrors.push((used, generation::size_of(&dir)?, dir));
        }
        let mut total: u64 = mirrors.iter().map(|(_, size, _)| size).sum();
        mirrors.sort();
        for (_, size, dir) in mirrors {
            if total <= limit {
                break;
            }
            let Some(_locked) = self.try_lock(&dir)? else { continue };
            if generation::remove_all(&dir)? {
                total -= size;
                removed += size;
            }
        }
        Ok(removed)
    }

    fn turn(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        turns.insert(key.to_owned(), Arc::downgrade(&turn));
        turn
    }

    /// `None`: a fetch is under way there, or the folder is none of ours.
    fn try_lock(&self, dir: &Path) -> io::Result<Option<LockedMirror>> {
        let Some(key) = dir.file_name().and_then(|n| n.to_str()).filter(|_| dir.join("lock").is_file()) else { return Ok(None) };
        let Ok(turn) = self.turn(key).try_lock_owned() else { return Ok(None) };
        let url = String::new();
        Ok(try_lock_folder(dir)?.map(|file| LockedMirror { dir: dir.to_owned(), url, _file: file, _turn: turn }))
    }
}

impl LockedMirror {
    /// Blocking. The mirror, cleaned of what a dead fetch left in it. `None` where there is none yet, where it was found broken, and
    /// where it has so many packs that fetching anew is better.
    pub(super) fn current(&self) -> io::Result<Option<Generation>> {
        generation::sweep(&self.dir)?;
        let Some(current) = Generation::newest(&self.dir)? else { return Ok(None) };
        if current.is_broken() || current.tidy()? > MAX_PACKS {
            return Ok(None);
        }
        Ok(Some(current))
    }

    /// Blocking. An empty generation to fetch into; it becomes the mirror by [`generation::Draft::adopt`].
    pub(super) fn draft(&self) -> io::Result<generation::Draft> {
        fs::write(self.dir.join("url"), &self.url)?;
        generation::Draft::new(&self.dir)
    }

    /// Blocking. Removes the folder of a repository that was never fetched whole.
    pub(super) fn forget_if_empty(&self) -> io::Result<()> {
        generation::remove_if_empty(&self.dir)?;
        Ok(())
    }

    /// Blocking. Notes that the mirror is used now.
    pub(super) fn touch(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(self.dir.join("used"))?;
        file.set_modified(SystemTime::now())
    }
}

/// The folder's name: the URL's digest. URLs differ in scheme, host and port without regard to case, in the path to the letter.
fn key(url: &Url) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, url.as_str().as_bytes());
    hex::encode(&digest.as_ref()[..20])
}

/// Takes the folder's lock if it is free; creates the folder.
fn try_lock_folder(dir: &Path) -> io::Result<Option<File>> {
    loop {
        fs::create_dir_all(dir)?;
        let path = dir.join("lock");
        let file = match OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        if !try_flock(&file, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(None);
        }
        // An eviction may have removed the folder between opening and locking: then this is the lock of nothing.
        if same_file(&file, &path)? {
            return Ok(Some(file));
        }
    }
}

/// Whether the lock was free.
pub(super) fn try_flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn same_file(open: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let open = open.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok(open.dev() == there.dev() && open.ino() == there.ino()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}
