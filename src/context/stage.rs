//! The context stage: the pure layout, with the times that a service's entries had before.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;

use super::times::{SALT_BYTES, Times};
use super::{BuildContext, Content, ContextEntry, Effort, dockerfile, layout};
use crate::protocol::{Code, Failure, Job, ServiceId};
use crate::source::SourceTree;
use crate::stage::StageContext;

/// A larger state is not read: all entries get new times.
const MAX_STATE_BYTES: u64 = 256 * 1024 * 1024;
const STATE_ENDING: &str = "times";

/// The context stage. Remembers per service which blob had which time under `WORK_DIR/cache/context`.
pub struct ContextStage {
    worker_id: String,
    times: Arc<TimesOnDisk>,
}

impl ContextStage {
    /// `state`: the folder for the fingerprints, made when missing. `worker_id`: this WORK_DIR's id.
    pub fn new(state: PathBuf, worker_id: String) -> Self {
        Self { worker_id, times: Arc::new(TimesOnDisk::new(state)) }
    }

    /// Chooses the Dockerfile, lays the job's `.env` over the tree, gives every entry its
    /// time, and says in the log what a user should know.
    pub async fn assemble(&self, tree: Arc<SourceTree>, job: &Job, ctx: &StageContext) -> Result<BuildContext, Failure> {
        let (times, service) = (self.times.clone(), job.service.clone());
        let (named, env, source) = (job.dockerfile.clone(), job.env.clone(), tree.clone());
        let cancel = ctx.cancel.clone();
        let work = ctx.tasks.spawn_blocking(move || -> Result<_, Failure> {
            let is_stopped = || cancel.is_cancelled();
            let mut laid = layout::lay_out(source.as_ref(), named.as_deref(), &env, &Effort::new(&is_stopped))?;
            times.give(&service, &mut laid.entries);
            Ok(laid)
        });
        let laid = tokio::select! {
            biased;
            () = ctx.cancel.cancelled() => return Err(Failure::interrupted()),
            done = work => done.map_err(|e| Failure::new(Code::WorkerInternal, format!("The context could not be made: {e}."), ""))??,
        };
        for (kind, note) in &laid.notes {
            ctx.log.line(*kind, note);
        }
        Ok(BuildContext {
            dockerfile: laid.dockerfile,
            dockerfile_bytes: laid.dockerfile_bytes,
            excludes: laid.excludes,
            entries: laid.entries,
            secrets: laid.secrets,
            shared_key: format!("{}-{}", self.worker_id, job.service),
            mounts_secrets: laid.mounts_secrets,
            tree,
        })
    }

    /// The Dockerfile's bytes. `None` where there is none that can be read: [`ContextStage::assemble`] says why.
    pub async fn dockerfile(&self, tree: Arc<SourceTree>, job: &Job, ctx: &StageContext) -> Option<Vec<u8>> {
        let named = job.dockerfile.clone();
        let read = ctx.tasks.spawn_blocking(move || dockerfile::find(tree.as_ref(), named.as_deref()));
        read.await.ok()?.ok().map(|found| found.bytes)
    }

    /// Removes the states of services that have not been built for so long; their next build sends all files. Returns how many.
    pub async fn forget_unused(&self, older_than: Duration) -> io::Result<usize> {
        let times = self.times.clone();
        tokio::task::spawn_blocking(move || times.forget_unused(older_than)).await.map_err(io::Error::other)?
    }
}

/// One file per service.
pub(super) struct TimesOnDisk {
    folder: PathBuf,
    /// Two builds of a service read and replace the same file.
    one_at_a_time: Mutex<()>,
}

impl TimesOnDisk {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, one_at_a_time: Mutex::new(()) }
    }

    /// Gives every entry its time. A state that cannot be read or kept costs a transfer of all files, never a build.
    pub(super) fn give(&self, service: &ServiceId, entries: &mut [ContextEntry]) {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder.join(format!("{service}.{STATE_ENDING}"));
        let state = read_state(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "the times of earlier builds cannot be read; all files are sent anew");
            }
            Vec::new()
        });
        let known = Times::read(&state).unwrap_or_else(|| Times::lost(new_salt()));
        let contents: Vec<(&str, Vec<u8>)> =
            entries.iter().map(|entry| (entry.path.as_str(), stands_for(&entry.content, known.salt()))).collect();
        let given = known.give(&contents, now_ns());
        if let Err(error) = self.keep(&path, given.state.as_deref()) {
            tracing::warn!(path = %path.display(), %error, "the times of this build cannot be kept; the next one sends all files anew");
            // What is known now must not be taken for true later.
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %error, "the times of earlier builds cannot be removed");
            }
        }
        for (entry, time) in entries.iter_mut().zip(given.times) {
            entry.mtime_ns = time;
        }
    }

    /// Replaces the file at once; without a sync: after a crash of the host a lost or damaged file costs a transfer.
    fn keep(&self, path: &Path, state: Option<&[u8]>) -> io::Result<()> {
        match state {
            None => std::fs::File::options().append(true).open(path)?.set_modified(SystemTime::now()),
            Some(state) => {
                std::fs::create_dir_all(&self.folder)?;
                let new = path.with_extension("new");
                std::fs::write(&new, state)?;
                std::fs::rename(&new, path)
            }
        }
    }

    fn forget_unused(&self, older_than: Duration) -> io::Result<usize> {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let files = match std::fs::read_dir(&self.folder) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(e),
        };
        let mut removed = 0;
        for file in files {
            let file = file?;
            let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > older_than {
                std::fs::remove_file(file.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn read_state(path: &Path) -> io::Result<Vec<u8>> {
    let mut state = Vec::new();
    std::fs::File::open(path)?.take(MAX_STATE_BYTES).read_to_end(&mut state)?;
    Ok(state)
}

/// Kind, mode and content of an entry in a few bytes. Directories are all alike: what is in them has times of its own.
fn stands_for(content: &Content, salt: &[u8]) -> Vec<u8> {
    let (kind, content): (u8, &[u8]) = match content {
        Content::Directory | Content::Unsendable { .. } => (b'd', b""),
        Content::Blob { entry, executable: false } => (b'f', entry.oid.as_bytes()),
        Content::Blob { entry, executable: true } => (b'x', entry.oid.as_bytes()),
        Content::Symlink { target } => (b'l', target.as_bytes()),
        Content::Inline { bytes, .. } => {
            // The variables themselves stand in no file of the worker.
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), bytes);
            return [b"i", tag.as_ref()].concat();
        }
    };
    let mut out = Vec::with_capacity(1 + content.len());
    out.push(kind);
    out.extend_from_slice(content);
    out
}

fn new_salt() -> [u8; SALT_BYTES] {
    let mut salt = [0; SALT_BYTES];
    // Without random numbers the salt is a known one: it only keeps states of different services apart.
    if aws_lc_rs::rand::fill(&mut salt).is_err() {
        tracing::warn!("the system gives no random numbers");
    }
    salt
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
