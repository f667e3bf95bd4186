//! One subscription, by hand: the library's own gives up after about 10 s of outage, and keeps what it receives without bound.

use std::time::Duration;

use tokio::time::timeout;

use super::dial::{ANSWER, Dial, Line};
use super::error::QueueError;
use super::resp::Reply;

/// Silence after which the server is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Of each message so much is kept; a longer one is no cancel.
const MESSAGE_BYTES: usize = 4096;

/// A connection that listens. Messages that are not taken wait in the socket.
pub(super) struct Subscription<'a> {
    dial: &'a Dial,
    line: Line,
    asked: bool,
}

pub(super) struct Message {
    pub(super) channel: Vec<u8>,
    /// `None`: it was too long to be one of ours.
    pub(super) text: Option<Vec<u8>>,
}

impl<'a> Subscription<'a> {
    /// Returns when the server has confirmed all channels: what is published from now on is heard.
    pub(super) async fn open(dial: &'a Dial, channels: &[&str]) -> Result<Self, QueueError> {
        let mut this = Self { line: dial.line(MESSAGE_BYTES).await?, dial, asked: false };
        for channel in channels {
            this.line.send(dial, &[b"SUBSCRIBE", channel.as_bytes()]).await?;
        }
        let mut left = channels.len();
        while left > 0 {
            let late = |_| Err(dial.unreachable("it does not confirm a subscription within 5 s"));
            match timeout(ANSWER, this.line.receive(dial)).await.unwrap_or_else(late)? {
                Reply::Array(parts) if parts.first().and_then(Reply::bytes) == Some(b"subscribe") => left -= 1,
                Reply::Error(text) => return Err(dial.said(&text)),
                // A message of a channel that is confirmed already: the flags are looked at next anyway.
                _ => {}
            }
        }
        Ok(this)
    }
    /// The next message; an error when the server is gone. Not cancel-safe while it asks for a sign of life: drop both.
    pub(super) async fn next(&mut self) -> Result<Message, QueueError> {
        loop {
            let patience = if self.asked { ANSWER } else { KEEP_ALIVE };
            let Ok(reply) = timeout(patience, self.line.receive(self.dial)).await else {
                if self.asked {
                    return Err(self.dial.unreachable("the subscription does not answer within 5 s"));
                }
                self.line.send(self.dial, &[b"PING"]).await?;
                self.asked = true;
                continue;
            };
            let reply = reply?;
            let was_asked = std::mem::replace(&mut self.asked, false);
            let mut parts = match reply {
                Reply::Array(parts) => parts.into_iter(),
                // A refused PING is a sign of life too.
                Reply::Error(_) if was_asked => continue,
                Reply::Error(text) => return Err(self.dial.said(&text)),
                _ => continue,
            };
            let kind = parts.next();
            let (Some(Reply::Bulk { head: channel, .. }), Some(Reply::Bulk { head, length })) = (parts.next(), parts.next())
            else {
                continue;
            };
            if kind.as_ref().and_then(Reply::bytes) == Some(b"message") {
                let text = (head.len() as u64 == length).then_some(head);
                return Ok(Message { channel, text });
            }
        }
    }
}
