//! Serves the context's files to BuildKit: BuildKit says which part it wants, gets the names with size and time, and asks for the
//! contents of those alone that it does not have from an earlier build.
//!
//! The protocol is fsutil's: STAT packets in order, an empty STAT at their end; the number of a STAT is its file's id. BuildKit sends REQ
//! with an id, we send DATA packets with it and an empty one at the end; FIN from both sides ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::packet::file_sync_server::FileSync;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::reading::Readers;
use super::select::{Filters, SelectError, select};
use super::size_limits::context_within;
use super::tasks::BuildTasks;
use crate::context::{BuildContext, Content, ContextEntry, Effort, Spent};
use crate::protocol::{Failure, LogSink, LogType};

/// Data packets that wait for the connection: 32 KiB each.
const PACKETS_WAITING: usize = 8;

// Go's file modes, as fsutil sends them.
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;

/// What one build's session has sent, for its log and its failure.
#[derive(Default)]
pub struct Sent {
    pub files: AtomicU64,
    pub bytes: AtomicU64,
    /// Why a file could not be read, where that happened: BuildKit's own error is only its echo.
    pub failure: std::sync::OnceLock<Failure>,
}

/// One folder that BuildKit can ask for.
pub struct Folder {
    pub context: Arc<BuildContext>,
    /// `None`: all of the context's entries.
    entries: Option<Vec<ContextEntry>>,
}

impl Folder {
    /// All of the context.
    pub fn of(context: Arc<BuildContext>) -> Self {
        Self { context, entries: None }
    }
    fn entries(&self) -> &[ContextEntry] {
        self.entries.as_deref().unwrap_or(&self.context.entries)
    }
    pub fn file(&self, index: u32) -> Option<&ContextEntry> {
        let entry = self.entries().get(index as usize)?;
        matches!(entry.content, Content::Blob { .. } | Content::Inline { .. }).then_some(entry)
    }
}

/// The FileSync service: the folders `context` and `dockerfile`.
pub struct ContextFiles {
    context: Arc<Folder>,
    dockerfile: Arc<Folder>,
    /// `CONTEXT_MAX`; 0: no limit.
    max_bytes: u64,
    tasks: BuildTasks,
    log: Arc<dyn LogSink>,
    sent: Arc<Sent>,
}

impl ContextFiles {
    pub fn new(context: Arc<BuildContext>, max_bytes: u64, tasks: BuildTasks, log: Arc<dyn LogSink>, sent: Arc<Sent>) -> Self {
        let dockerfile = Folder { entries: Some(dockerfile_entries(&context)), context: context.clone() };
        Self { context: Arc::new(Folder::of(context)), dockerfile: Arc::new(dockerfile), max_bytes, tasks, log, sent }
    }
}

/// The Dockerfile and its own .dockerignore, which BuildKit reads by themselves, also where .dockerignore excludes them. Each is a
/// file of the name that it was given, wherever links lead to.
fn dockerfile_entries(context: &BuildContext) -> Vec<ContextEntry> {
    let parents = context.dockerfile.match_indices('/').map(|(end, _)| &context.dockerfile[..end]);
    let folder = |path: &str| ContextEntry { path: path.to_owned(), size: 0, mtime_ns: 0, content: Content::Directory };
    let mut entries: Vec<ContextEntry> = parents.map(folder).collect();
    entries.push(made(context.dockerfile.clone(), &context.dockerfile_bytes));
    if let Some(ignore) = context.excludes.own() {
        entries.push(made(format!("{}.dockerignore", context.dockerfile), ignore));
    }
    entries
}

/// A file that is not the commit's own entry. Its time follows from its bytes: BuildKit asks for it again when they change.
fn made(path: String, bytes: &[u8]) -> ContextEntry {
    const SINCE: i64 = 1_000_000_000_000_000_000;
    let hash = digest::digest(&digest::SHA256, bytes);
    let hash = hash.as_ref().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let mtime_ns = SINCE + (hash % SINCE as u64) as i64;
    let content = Content::Inline { bytes: Arc::new(bytes.to_vec()), executable: false };
    ContextEntry { path, size: bytes.len() as u64, mtime_ns, content }
}

#[tonic::async_trait]
impl FileSync for ContextFiles {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;
    type TarStreamStream = stream::Empty<Result<Packet, Status>>;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::DiffCopyStream>, Status> {
        let name = values(request.metadata(), "dir-name").unwrap_or_default().pop();
        let (folder, is_context) = match name.as_deref() {
            Some("context") => (self.context.clone(), true),
            Some("dockerfile") => (self.dockerfile.clone(), false),
            _ => return Err(Status::not_found("this session has the folders context and dockerfile")),
        };
        let filters = Filters {
            include: values(request.metadata(), "include-patterns")?,
            exclude: values(request.metadata(), "exclude-patterns")?,
            follow: values(request.metadata(), "followpaths")?,
        };
        // BuildKit looks for .dockerignore by a request of its own, which is none of the context's transfer
        let tells = is_context && filters.follow != [".dockerignore"];
        let selected: Arc<[u32]> = self.select(folder.clone(), filters).await?.into();
        if is_context {
            self.of_allowed_size(&folder, &selected)?;
            self.of_sendable_entries(&folder, &selected)?;
        }

        let (data, waiting) = mpsc::channel(PACKETS_WAITING);
        let readers = Readers::new(folder.clone(), selected.clone(), data.clone(), self.tasks.clone(), self.sent.clone());
        let transfer = Transfer { selected: selected.len(), folder: folder.clone(), readers, data, sent: self.sent.clone() };
        let (log, stop) = (self.log.clone(), self.tasks.stop.clone());
        let incoming = request.into_inner();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                finished = transfer.answer(incoming) => if let (Some(text), true) = (finished, tells) {
                    log.line(LogType::Info, &text);
                }
            }
        });
        let stats = (0..selected.len()).map(move |at| Ok(stat(&folder.entries()[selected[at] as usize])));
        let end = std::iter::once(Ok(packet(PacketType::PacketStat, 0, Vec::new())));
        Ok(Response::new(stream::iter(stats.chain(end)).chain(ReceiverStream::new(waiting)).boxed()))
    }

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("not offered by this session"))
    }
}

impl ContextFiles {
    /// What is sent and what BuildKit still has of an earlier build count alike: the build works on all of it.
    fn of_allowed_size(&self, folder: &Folder, selected: &[u32]) -> Result<(), Status> {
        let bytes = selected.iter().map(|at| folder.entries()[*at as usize].size).fold(0, u64::saturating_add);
        context_within(bytes, self.max_bytes).map_err(|failure| {
            let status = Status::resource_exhausted(failure.to_string());
            // the first failure is the build's
            let _ = self.sent.failure.set(failure);
            status
        })
    }

    /// What is left out by .dockerignore, or not copied, is not selected: only here is it known what a build asks for.
    fn of_sendable_entries(&self, folder: &Folder, selected: &[u32]) -> Result<(), Status> {
        for at in selected {
            let entry = &folder.entries()[*at as usize];
            if let Content::Unsendable { flaw } = entry.content {
                let failure = flaw.failure(&entry.path);
                let status = Status::invalid_argument(failure.to_string());
                // the first failure is the build's
                let _ = self.sent.failure.set(failure);
                return Err(status);
            }
        }
        Ok(())
    }

    /// Patterns over many thousand paths are work for a thread of its own.
    async fn select(&self, folder: Arc<Folder>, filters: Filters) -> Result<Vec<u32>, Status> {
        let (answer, selected) = oneshot::channel();
        let stop = self.tasks.stop.clone();
        self.tasks.spawn_blocking(move || {
            let is_stopped = || stop.is_cancelled();
            let result = select(folder.entries(), &filters, &Effort::new(&is_stopped));
            // nobody waits any more where the session has ended
            let _ = answer.send(result);
        });
        match selected.await {
            Ok(Ok(selected)) => Ok(selected),
            Ok(Err(error)) => {
                if error == SelectError::Spent(Spent::TooMuch) {
                    // the first failure is the build's
                    let _ = self.sent.failure.set(Spent::TooMuch.into());
                }
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(_) => Err(Status::internal("the selection of files broke off")),
        }
    }
}

/// One DiffCopy call: what BuildKit asks for while the names go out.
struct Transfer {
    selected: usize,
    folder: Arc<Folder>,
    readers: Arc<Readers>,
    data: mpsc::Sender<Result<Packet, Status>>,
    sent: Arc<Sent>,
}

impl Transfer {
    /// Answers requests until BuildKit is done; then says what was sent. `None` where the transfer broke off.
    async fn answer(self, mut incoming: Streaming<Packet>) -> Option<String> {
        let before = (self.sent.files.load(Ordering::Relaxed), self.sent.bytes.load(Ordering::Relaxed));
        loop {
            let packet = match incoming.message().await {
                Ok(Some(packet)) => packet,
                Ok(None) => return None,
                Err(status) => {
                    tracing::debug!(%status, "BuildKit ended a transfer of files");
                    return None;
                }
            };
            match PacketType::try_from(packet.r#type) {
                Ok(PacketType::PacketReq) => {
                    if let Err(status) = self.readers.request(packet.id) {
                        // the other side of the channel is gone only when the session is
                        let _ = self.data.send(Err(status)).await;
                        return None;
                    }
                }
                Ok(PacketType::PacketFin) => {
                    let _ = self.data.send(Ok(self::packet(PacketType::PacketFin, 0, Vec::new()))).await;
                    let files = self.sent.files.load(Ordering::Relaxed) - before.0;
                    let bytes = self.sent.bytes.load(Ordering::Relaxed) - before.1;
                    tracing::debug!(entries = self.selected, files, bytes, "context sent");
                    let total = self.folder.entries().len();
                    return Some(format!(
                        "Context: the build asks for {} of {total} files and folders; new or changed: {files}, {bytes} bytes sent.",
                        self.selected
                    ));
                }
                Ok(PacketType::PacketErr) => {
                    tracing::debug!(error = %String::from_utf8_lossy(&packet.data), "BuildKit refused a file");
                    return None;
                }
                Ok(PacketType::PacketStat | PacketType::PacketData) | Err(_) => {}
            }
        }
    }
}

pub fn packet(kind: PacketType, id: u32, data: Vec<u8>) -> Packet {
    Packet { r#type: kind as i32, stat: None, id, data }
}

fn stat(entry: &ContextEntry) -> Packet {
    let (mode, link) = match &entry.content {
        Content::Directory => (MODE_DIRECTORY | 0o755, None),
        Content::Symlink { target } => (MODE_SYMLINK | 0o777, Some(target)),
        Content::Blob { executable: true, .. } | Content::Inline { executable: true, .. } => (0o755, None),
        Content::Blob { .. } | Content::Inline { .. } | Content::Unsendable { .. } => (0o644, None),
    };
    let stat = Stat {
        path: entry.path.clone(),
        mode,
        uid: 0,
        gid: 0,
        size: entry.size as i64,
        mod_time: entry.mtime_ns,
        linkname: link.cloned().unwrap_or_default(),
        devmajor: 0,
        devminor: 0,
        xattrs: Default::default(),
    };
    Packet { stat: Some(stat), ..packet(PacketType::PacketStat, 0, Vec::new()) }
}

/// A list in the request's headers: raw bytes from Engine 20.10, `<key>-encoded: 1` and query-escaped from newer ones.
fn values(metadata: &MetadataMap, key: &str) -> Result<Vec<String>, Status> {
    let encoded_key = format!("{key}-encoded");
    let is_encoded = metadata.get(&encoded_key).is_some_and(|value| value.as_encoded_bytes() == b"1");
    let decode = |bytes: &[u8]| match is_encoded {
        true => {
            let spaces: Vec<u8> = bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
            percent_encoding::percent_decode(&spaces).decode_utf8().map(|text| text.into_owned()).ok()
        }
        false => std::str::from_utf8(bytes).map(str::to_owned).ok(),
    };
    metadata
        .get_all(key)
        .iter()
        .map(|value| decode(value.as_encoded_bytes()).ok_or_else(|| Status::invalid_argument(format!("{key} is not UTF-8"))))
        .collect()
}

#[cfg(test)]
#[path = "filesync_tests.rs"]
mod tests;
