//! The wake-up: a blocking move from the producer's list, on a connection of its own (on a shared one it would stall everyone).

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dial::{ANSWER, Dial, Line};
use super::error::QueueError;
use super::keys::Keys;
use super::resp::Reply;

/// How long the server blocks. The reply is always waited for: a move whose reply nobody reads has happened all the same.
const BLOCK: Duration = Duration::from_secs(1);

pub(super) struct Wake {
    dial: Dial,
    line: Option<Line>,
    /// A move was asked for and not answered yet.
    asked: bool,
    /// The server has no blocking move for this user: the list is looked at once a second instead.
    polls: bool,
}

impl Wake {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial, line: None, asked: false, polls: false }
    }
    /// Waits until an element came, at most a second. Cancel-safe: the next call waits for the same reply.
    pub(super) async fn wait(&mut self, keys: &Keys) -> Result<(), QueueError> {
        if self.polls {
            sleep(BLOCK).await;
            return Ok(());
        }
        let result = self.ask(keys).await;
        if result.as_ref().is_err_and(QueueError::is_rights) {
            (self.polls, self.line) = (true, None);
            return Ok(());
        }
        if result.is_err() {
            self.line = None;
        }
        result
    }
    /// Ends a wait that is under way at the server too: what is put back into the list from now on stays there.
    pub(super) fn hang_up(&mut self) {
        self.line = None;
    }
    async fn ask(&mut self, keys: &Keys) -> Result<(), QueueError> {
        let line = match &mut self.line {
            Some(line) if !line.is_torn() => line,
            _ => {
                self.asked = false;
                self.line.insert(self.dial.line(0).await?)
            }
        };
        if !self.asked {
            let block = BLOCK.as_secs().to_string();
            let parts: [&[u8]; 6] =
                [b"BLMOVE", keys.queue.as_bytes(), keys.incoming.as_bytes(), b"LEFT", b"RIGHT", block.as_bytes()];
            timeout(ANSWER, line.send(&self.dial, &parts))
                .await
                .unwrap_or_else(|_| Err(self.dial.unreachable("it takes no commands")))?;
            self.asked = true;
        }
        let reply = timeout(BLOCK + ANSWER, line.receive(&self.dial))
            .await
            .unwrap_or_else(|_| Err(self.dial.unreachable("no answer within 6 s to a command that blocks for 1 s")))?;
        self.asked = false;
        match reply {
            Reply::Error(text) => Err(self.dial.said(&text)),
            _ => Ok(()),
        }
    }
}
