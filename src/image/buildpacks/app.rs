//! The app's files as an archive, streamed from the commit's tree: nothing of it touches the host's file system.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;

use super::control::header;
use super::phase::User;
use crate::protocol::Failure;
use crate::source::{EntryKind, SourceTree};

/// A piece on its way to the Engine.
const PIECE: usize = 256 * 1024;
/// So many pieces may wait.
const PIECES: usize = 4;

/// An archive on its way.
pub struct Upload {
    pub stream: ReceiverStream<std::io::Result<Bytes>>,
    /// Why the stream ended with an error: the Engine's own words are only its echo.
    pub failure: Arc<OnceLock<Failure>>,
}

/// The tree under `workspace/`, all of it the builder's user's. The archive is made on a blocking thread of `tasks`.
pub fn stream(tree: Arc<SourceTree>, user: User, tasks: &TaskTracker) -> Upload {
    let (pieces, stream) = mpsc::channel(PIECES);
    let failure = Arc::new(OnceLock::new());
    let told = failure.clone();
    tasks.spawn_blocking(move || {
        let writer = Pieces { pieces: pieces.clone(), buffer: Vec::with_capacity(PIECE) };
        if let Err(error) = write(&tree, user, writer, &told)
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            // A closed channel means that nobody wants the archive any more.
            let _nobody_listens = pieces.blocking_send(Err(error));
        }
    });
    Upload { stream: ReceiverStream::new(stream), failure }
}

fn write(tree: &SourceTree, user: User, writer: Pieces, told: &OnceLock<Failure>) -> std::io::Result<()> {
    let tell = |failure: Failure| {
        let error = std::io::Error::other(failure.to_string());
        told.get_or_init(|| failure);
        error
    };
    let mut tar = tar::Builder::new(writer);
    let mut directory = header(0, 0o755, user.uid, user.gid);
    directory.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut directory.clone(), "workspace", std::io::empty())?;
    for entry in tree.entries() {
        let path = format!("workspace/{}", entry.path);
        match entry.kind {
            EntryKind::Directory | EntryKind::Submodule => tar.append_data(&mut directory.clone(), path, std::io::empty())?,
            EntryKind::File { executable } => {
                let mode = if executable { 0o755 } else { 0o644 };
                let append =
                    |bytes: &[u8]| tar.append_data(&mut header(bytes.len() as u64, mode, user.uid, user.gid), path, bytes);
                tree.look(entry, append).map_err(tell)??;
            }
            EntryKind::Unsendable(flaw) => return Err(tell(flaw.failure(&entry.path))),
            EntryKind::Symlink => {
                // Data, never followed by us; it is resolved inside the container's own file system.
                let target = tree.read(entry).map_err(tell)?;
                let mut link = header(0, 0o777, user.uid, user.gid);
                link.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut link, path, std::ffi::OsStr::from_bytes(&target))?;
            }
        }
    }
    tar.into_inner()?.flush()
}

/// Collects what the archive writes and hands it on in pieces.
struct Pieces {
    pieces: mpsc::Sender<std::io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        self.pieces.blocking_send(Ok(piece.into())).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}
