//! A tap on the Engine's socket: how many bytes a build's session sends, and when BuildKit says that it has the context.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

const TRACE: &[u8] = b"\"moby.buildkit.trace\",\"aux\":\"";
const CONTEXT_STEP: &str = "[internal] load build context";

#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    /// Sent to the Engine in sessions.
    pub session_bytes: u64,
    /// When the newest build's context was there, by BuildKit's clock.
    pub context_done: Option<SystemTime>,
}

/// Everything it does ends when it is dropped.
pub struct Tap {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

impl Tap {
    pub fn before(engine: &Path, listen: PathBuf) -> Self {
        let listener = UnixListener::bind(&listen).unwrap();
        let (seen, engine) = (Arc::new(Mutex::new(Seen::default())), engine.to_owned());
        let noted = seen.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&engine).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                connections.spawn(up(from_client, to_server, noted.clone()));
                connections.spawn(down(from_server, to_client, noted.clone()));
            }
        });
        Self { seen, _tasks: tasks }
    }

    pub fn seen(&self) -> Seen {
        *self.seen.lock().unwrap()
    }
}

/// Client → Engine. A session is known by its first request.
async fn up(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Arc<Mutex<Seen>>) {
    let mut buffer = vec![0; 256 << 10];
    let mut session = None;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..read];
        if *session.get_or_insert_with(|| bytes.windows(9).take(40).any(|w| w == b"/session ")) {
            seen.lock().unwrap().session_bytes += read as u64;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
    // The other side may have gone first.
    let _ = to.shutdown().await;
}

/// Engine → client. Messages of a build's progress are looked into.
async fn down(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Arc<Mutex<Seen>>) {
    let mut buffer = vec![0; 256 << 10];
    let mut kept: Vec<u8> = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        kept.extend_from_slice(&buffer[..read]);
        while let Some(done) = next_trace(&mut kept) {
            if let Some(at) = context_done(&done) {
                seen.lock().unwrap().context_done = Some(at);
            }
        }
    }
    let _ = to.shutdown().await;
}

/// Takes the first whole message of progress out of what was read; what cannot become one any more goes.
fn next_trace(kept: &mut Vec<u8>) -> Option<Vec<u8>> {
    let Some(at) = kept.windows(TRACE.len()).position(|w| w == TRACE) else {
        let keep = kept.len().saturating_sub(TRACE.len());
        kept.drain(..keep);
        return None;
    };
    let begins = at + TRACE.len();
    let Some(length) = kept[begins..].iter().position(|b| *b == b'"') else {
        kept.drain(..at);
        return None;
    };
    let message = STANDARD.decode(&kept[begins..begins + length]);
    kept.drain(..begins + length);
    Some(message.unwrap_or_default())
}

fn context_done(message: &[u8]) -> Option<SystemTime> {
    let status = StatusResponse::decode(message).ok()?;
    let step = status.vertexes.into_iter().find(|vertex| vertex.name == CONTEXT_STEP && vertex.completed.is_some())?;
    let at = step.completed?;
    Some(SystemTime::UNIX_EPOCH + Duration::new(at.seconds as u64, at.nanos as u32))
}
