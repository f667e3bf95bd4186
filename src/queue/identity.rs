//! Who this worker is: an id and a host key that stay in `WORK_DIR`, a nonce per process, and a lock against a second process.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

/// Who this worker is: from `WORK_DIR/identity` (id, kept), with a nonce per process start (kept too, to recognise the own lease).
#[derive(Debug, Clone)]
pub struct WorkerIdentity {
    /// `[a-z0-9]{16}`.
    pub id: String,
    pub nonce: String,
    /// The nonce of the process before this one, if any.
    pub previous_nonce: Option<String>,
    /// For people: the host's name.
    pub host: String,
    /// `WORK_DIR`: what the queue has to remember over a restart is kept there.
    pub dir: PathBuf,
}

/// Held for the process's life: no second process works in the same `WORK_DIR`. The kernel releases it when the process ends,
/// however it ends.
#[derive(Debug)]
pub struct IdentityLock {
    _held: File,
}

/// Why there is no identity. `Display` names the file, the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "{path} cannot be {action}: {cause}. Check that WORK_DIR is a folder that this user may write to, and that its disk is not full."
    )]
    Io { path: String, action: &'static str, cause: io::Error },
    #[error("another process{who} works in the same WORK_DIR: it holds {path}. Stop it, or give this one a WORK_DIR of its own.")]
    Locked { path: String, who: String },
    #[error(
        "{path} is damaged: {cause}. Move it away; the worker then makes a new one, and what the old one had claimed is taken over by another worker after 30 s."
    )]
    Damaged { path: String, cause: &'static str },
}

const ID_LENGTH: usize = 16;
const NONCE_LENGTH: usize = 24;

impl WorkerIdentity {
    /// Reads or makes the identity in `work_dir` (made if missing) and locks it.
    ///
    /// # Errors
    /// When another process holds the lock, or the files cannot be read or written.
    pub fn open(work_dir: &Path) -> Result<(WorkerIdentity, IdentityLock), IdentityError> {
        make_dir(work_dir)?;
        let lock = lock(&work_dir.join("identity.lock"))?;
        let id = match read(&work_dir.join("identity"))? {
            Some(text) if is_token(&text, ID_LENGTH) => text,
            Some(_) => {
                let path = shown(&work_dir.join("identity"));
                return Err(IdentityError::Damaged { path, cause: "it does not hold 16 of a-z and 0-9" });
            }
            None => {
                let id = random_token(ID_LENGTH)?;
                replace(&work_dir.join("identity"), &id, 0o644)?;
                id
            }
        };
        let nonce_file = work_dir.join("nonce");
        // A torn nonce is no nonce: the worker then waits for one lease's time rather than refuse to start.
        let previous_nonce = read(&nonce_file)?.filter(|n| is_token(n, NONCE_LENGTH));
        let nonce = random_token(NONCE_LENGTH)?;
        replace(&nonce_file, &nonce, 0o644)?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok((WorkerIdentity { id, nonce, previous_nonce, host, dir: work_dir.to_owned() }, lock))
    }

    /// The host's own key (64 hexadecimal digits, mode 0600): what keeps the tenants' caches apart is derived from it.
    ///
    /// # Errors
    /// When it cannot be read, made or written.
    pub fn host_key(&self) -> Result<SecretString, IdentityError> {
        host_key(&self.dir)
    }
}

/// The host key of a `WORK_DIR`, made if missing; also for commands that do not lock the identity.
///
/// # Errors
/// When it cannot be read, made or written.
pub fn host_key(work_dir: &Path) -> Result<SecretString, IdentityError> {
    make_dir(work_dir)?;
    let path = work_dir.join("host.key");
    for _ in 0..2 {
        if let Some(text) = read(&path)? {
            if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(IdentityError::Damaged { path: shown(&path), cause: "it does not hold 64 hexadecimal digits" });
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|e| io_error(&path, "protected", e))?;
            return Ok(SecretString::from(text));
        }
        let mut bytes = [0u8; 32];
        random(&mut bytes)?;
        let key = SecretString::from(hex::encode(bytes));
        // Two commands may start at once: only the first one's key may stay, so it is linked into place, never renamed over.
        let draft = work_dir.join(format!("host.key.{}", random_token(8)?));
        write(&draft, key.expose_secret(), 0o600)?;
        let linked = fs::hard_link(&draft, &path);
        fs::remove_file(&draft).map_err(|e| io_error(&draft, "removed", e))?;
        match linked {
            Ok(()) => return Ok(key),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(io_error(&path, "written", e)),
        }
    }
    Err(IdentityError::Damaged { path: shown(&path), cause: "it comes and goes" })
}

fn make_dir(dir: &Path) -> Result<(), IdentityError> {
    fs::DirBuilder::new().recursive(true).mode(0o750).create(dir).map_err(|e| io_error(dir, "made", e))
}

fn lock(path: &Path) -> Result<IdentityLock, IdentityError> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .open(path)
        .map_err(|e| io_error(path, "opened", e))?;
    match file.try_lock() {
        Ok(()) => {
            let pid = format!("{}\n", std::process::id());
            file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(|e| io_error(path, "written", e))?;
            Ok(IdentityLock { _held: file })
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let readable = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
            let pid = readable.ok().and_then(|_| text.trim().parse::<u32>().ok());
            let who = pid.map(|p| format!(" (pid {p})")).unwrap_or_default();
            Err(IdentityError::Locked { path: shown(path), who })
        }
        Err(TryLockError::Error(e)) => Err(io_error(path, "locked", e)),
    }
}

/// The file's text without the last new line; `None` where there is no file.
fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error(path, "read", e)),
    }
}

/// Whole or not at all, also when the power goes: a new file is synced and renamed over the old one.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let draft = path.with_extension("new");
    write(&draft, text, mode)?;
    fs::rename(&draft, path).map_err(|e| io_error(path, "written", e))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| io_error(dir, "synced", e))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let attempt = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    attempt().map_err(|e| io_error(path, "written", e))
}

fn random(bytes: &mut [u8]) -> Result<(), IdentityError> {
    let source = Path::new("/dev/urandom");
    File::open(source).and_then(|mut f| f.read_exact(bytes)).map_err(|e| io_error(source, "read", e))
}

/// `length` of `[a-z0-9]`, evenly distributed.
fn random_token(length: usize) -> Result<String, IdentityError> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut token = String::with_capacity(length);
    let mut bytes = [0u8; 64];
    while token.len() < length {
        random(&mut bytes)?;
        // 252 = 7 × 36: above it the first letters would come more often.
        let fair = bytes.iter().filter(|b| **b < 252).map(|b| char::from(ALPHABET[usize::from(*b) % 36]));
        token.extend(fair.take(length - token.len()));
    }
    Ok(token)
}

fn is_token(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn io_error(path: &Path, action: &'static str, cause: io::Error) -> IdentityError {
    IdentityError::Io { path: shown(path), action, cause }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stays_and_the_nonce_of_the_process_before_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let (first, lock) = WorkerIdentity::open(dir.path()).unwrap();
        assert!(is_token(&first.id, 16) && first.previous_nonce.is_none());
        drop(lock);
        let (second, _lock) = WorkerIdentity::open(dir.path()).unwrap();
        assert_eq!(second.id, first.id);
        assert_eq!(second.previous_nonce, Some(first.nonce.clone()));
        assert_ne!(second.nonce, first.nonce);
    }

    #[test]
    fn a_second_process_is_refused_with_the_file_and_the_pid_that_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let _held = WorkerIdentity::open(dir.path()).unwrap();
        let error = WorkerIdentity::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("identity.lock") && error.contains(&format!("pid {}", std::process::id())), "{error}");
    }

    #[test]
    fn the_host_key_stays_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = host_key(dir.path()).unwrap();
        let again = host_key(dir.path()).unwrap();
        assert_eq!(first.expose_secret(), again.expose_secret());
        assert_eq!(first.expose_secret().len(), 64);
        let mode = fs::metadata(dir.path().join("host.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(fs::read_dir(dir.path()).unwrap().count() == 1, "no draft is left behind");
    }

    #[test]
    fn a_damaged_identity_is_named_and_a_torn_nonce_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        drop(WorkerIdentity::open(dir.path()).unwrap());
        fs::write(dir.path().join("nonce"), "torn").unwrap();
        assert_eq!(WorkerIdentity::open(dir.path()).unwrap().0.previous_nonce, None);
        fs::write(dir.path().join("identity"), "../../etc").unwrap();
        let error = WorkerIdentity::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("damaged") && error.contains("identity"), "{error}");
    }
}
