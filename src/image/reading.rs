//! Reads the files that BuildKit asks for: a few blocking readers that exist only while there is something to read.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::fsutil::types::Packet;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use tokio::sync::mpsc;
use tonic::Status;

use super::filesync::{Folder, Sent, packet};
use super::tasks::BuildTasks;
use crate::protocol::safe_line;

/// Files read at the same time, and so in memory.
const READERS: usize = 4;
/// Of files above this size one is in memory at a time.
const LARGE_FILE: u64 = 1 << 20;
/// Of files above this size one is inflated at a time, of all builds together, which can take its size twice (what a delta is made
/// from); while it is sent it is in memory once, one for each transfer.
const HUGE_FILE: u64 = 8 << 20;
/// How often one that waits for that looks whether its build is over.
const LOOK: Duration = Duration::from_millis(200);
/// fsutil's own size of a DATA packet.
const PACKET: usize = 32 * 1024;

/// The queue of requested files and its readers.
pub struct Readers {
    folder: Arc<Folder>,
    selected: Arc<[u32]>,
    data: mpsc::Sender<Result<Packet, Status>>,
    tasks: BuildTasks,
    sent: Arc<Sent>,
    queue: Mutex<Queue>,
    large: Mutex<()>,
}

struct Queue {
    waiting: VecDeque<u32>,
    /// A file is asked for once: this bounds the queue by the number of files.
    requested: Vec<bool>,
    readers: usize,
}

impl Readers {
    pub fn new(
        folder: Arc<Folder>,
        selected: Arc<[u32]>,
        data: mpsc::Sender<Result<Packet, Status>>,
        tasks: BuildTasks,
        sent: Arc<Sent>,
    ) -> Arc<Self> {
        let queue = Queue { waiting: VecDeque::new(), requested: vec![false; selected.len()], readers: 0 };
        Arc::new(Self { folder, selected, data, tasks, sent, queue: Mutex::new(queue), large: Mutex::new(()) })
    }

    /// Queues the file with BuildKit's `id`. Refuses an id that is no file, or was asked for before.
    pub fn request(self: &Arc<Self>, id: u32) -> Result<(), Status> {
        let is_file = self.selected.get(id as usize).is_some_and(|index| self.folder.file(*index).is_some());
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_file || std::mem::replace(&mut queue.requested[id as usize], true) {
            return Err(Status::invalid_argument(format!("id {id} is no file, or was asked for before")));
        }
        queue.waiting.push_back(id);
        if queue.readers < READERS {
            queue.readers += 1;
            let readers = self.clone();
            self.tasks.spawn_blocking(move || readers.read_all());
        }
        Ok(())
    }

    /// Reads until nothing waits, or nobody takes the data any more.
    fn read_all(&self) {
        while let Some(id) = self.next() {
            if self.send_file(id).is_none() {
                return;
            }
        }
    }

    fn next(&self) -> Option<u32> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queue.waiting.pop_front();
        if next.is_none() {
            queue.readers -= 1;
        }
        next
    }

    /// `None`: the transfer is over.
    fn send_file(&self, id: u32) -> Option<()> {
        let entry = self.folder.file(self.selected[id as usize])?;
        let _alone = (entry.size > LARGE_FILE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        if self.data.is_closed() {
            return None;
        }
        let turn = if entry.size > HUGE_FILE { Some(Turn::take(|| self.data.is_closed())?) } else { None };
        let sent = self.folder.context.look(entry, |bytes| {
            // given back before the file is sent: how fast BuildKit takes it is its own build's business
            drop(turn);
            self.send_bytes(id, bytes)
        });
        match sent {
            Ok(sent) => sent,
            Err(failure) => {
                let text = format!("{}: {}", safe_line(entry.path.as_bytes()), failure.cause).into_bytes();
                // the first failure is the build's
                let _ = self.sent.failure.set(failure);
                let _ = self.data.blocking_send(Ok(packet(PacketType::PacketErr, id, text)));
                None
            }
        }
    }

    fn send_bytes(&self, id: u32, bytes: &[u8]) -> Option<()> {
        self.sent.files.fetch_add(1, Ordering::Relaxed);
        for part in bytes.chunks(PACKET) {
            self.data.blocking_send(Ok(packet(PacketType::PacketData, id, part.to_vec()))).ok()?;
            self.sent.bytes.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        self.data.blocking_send(Ok(packet(PacketType::PacketData, id, Vec::new()))).ok()
    }
}

static TAKEN: Mutex<bool> = Mutex::new(false);
static GIVEN_BACK: Condvar = Condvar::new();

/// The right to read a huge file. There is one.
struct Turn;

impl Turn {
    /// `None`: it is not wanted any more.
    fn take(is_over: impl Fn() -> bool) -> Option<Self> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken {
            if is_over() {
                return None;
            }
            (taken, _) = GIVEN_BACK.wait_timeout(taken, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        *taken = true;
        Some(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        GIVEN_BACK.notify_one();
    }
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
