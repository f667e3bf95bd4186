//! The subscription: cancels from the producer's channel, and the workers' own notices.

use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::attempt::{CancelFound, Notice};
use super::claim::Trouble;
use super::dial::{ANSWER, Dial};
use super::ending::millis;
use super::error::QueueError;
use super::keys::Keys;
use super::link::Link;
use super::resp::Reply;
use super::script::{CANCEL, Call};
use super::shared::Shared;
use crate::protocol::{DeploymentId, parse_cancel};

/// Silence after which the server is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A longer message is no cancel; of each message so much is kept.
const MESSAGE_BYTES: usize = 4096;
const TOMBSTONE_STAYS: Duration = Duration::from_secs(7 * 24 * 3600);
const TOMBSTONES: u64 = 100_000;
/// How much of the queue is looked through for a cancelled job.
const SEARCHED: u64 = 1000;

/// The one cancel script, for whoever cancels.
pub(super) async fn cancel(link: &Link, keys: &Keys, id: &DeploymentId) -> Result<CancelFound, QueueError> {
    let call = Call::of(&CANCEL)
        .keys(&[&keys.queue, &keys.incoming, &keys.jobs, &keys.tombs])
        .arg(id.as_str())
        .number(millis(TOMBSTONE_STAYS))
        .number(SEARCHED)
        .number(TOMBSTONES);
    let answer = link.run(call).await?;
    match answer.text(0) {
        "running" => Ok(CancelFound::Running { worker: answer.text(1).to_owned() }),
        "queued" => Ok(CancelFound::Queued),
        "ended" => Ok(CancelFound::Ended),
        "unknown" => Ok(CancelFound::Unknown),
        other => Err(link.dial.said(&format!("the cancel script answered {other:?}"))),
    }
}

impl Shared {
    /// Listens until `stop`, subscribing again after each break.
    pub(super) async fn listen(&self, dial: &Dial, notices: &Sender<Notice>, stop: &CancellationToken) {
        let mut trouble = Trouble::default();
        loop {
            let listening = self.subscription(dial, notices, &mut trouble);
            let error = tokio::select! {
                () = stop.cancelled() => return,
                error = listening => error,
            };
            if let Some(pause) = trouble.told(&error) {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => {}
                }
            }
        }
    }

    /// One subscription, until it breaks.
    async fn subscription(&self, dial: &Dial, notices: &Sender<Notice>, trouble: &mut Trouble) -> QueueError {
        match self.subscribed(dial, notices, trouble).await {
            Ok(never) => match never {},
            Err(e) => e,
        }
    }

    async fn subscribed(
        &self,
        dial: &Dial,
        notices: &Sender<Notice>,
        trouble: &mut Trouble,
    ) -> Result<std::convert::Infallible, QueueError> {
        let mut line = dial.line(MESSAGE_BYTES).await?;
        let channels = [self.cancel_channel.as_str(), self.keys.notices.as_str()];
        for channel in channels {
            line.send(dial, &[b"SUBSCRIBE", channel.as_bytes()]).await?;
        }
        let (mut confirmed, mut asked) = (0, false);
        loop {
            let patience = if asked || confirmed < channels.len() { ANSWER } else { KEEP_ALIVE };
            let Ok(reply) = timeout(patience, line.receive(dial)).await else {
                if asked || confirmed < channels.len() {
                    return Err(dial.unreachable("the subscription does not answer within 5 s"));
                }
                line.send(dial, &[b"PING"]).await?;
                asked = true;
                continue;
            };
            asked = false;
            let parts = match reply? {
                Reply::Array(parts) => parts,
                Reply::Error(text) => return Err(dial.said(&text)),
                _ => continue,
            };
            match parts.first().and_then(Reply::bytes) {
                Some(b"subscribe") => {
                    confirmed += 1;
                    if confirmed == channels.len() {
                        trouble.over();
                        // What was said while nobody listened stands in the records.
                        self.look_after(notices).await?;
                    }
                }
                Some(b"message") => {
                    let channel = parts.get(1).and_then(Reply::bytes).unwrap_or_default();
                    match parts.get(2) {
                        Some(Reply::Bulk { head, length }) if head.len() as u64 == *length => {
                            self.heard(channel, head, notices).await?;
                        }
                        _ => warn!("A message on the cancel channel is longer than a cancel can be; it is ignored."),
                    }
                }
                _ => {}
            }
        }
    }

    /// An error ends the subscription: after the next one all flags are looked at, but a tombstone would be missing, so it is
    /// tried for a while first.
    async fn heard(&self, channel: &[u8], message: &[u8], notices: &Sender<Notice>) -> Result<(), QueueError> {
        if channel != self.cancel_channel.as_bytes() {
            return self.look(notices).await;
        }
        let Some(id) = parse_cancel(message) else {
            warn!("A message on the cancel channel is neither {{\"deploymentId\":\"…\"}} nor an id; it is ignored.");
            return Ok(());
        };
        let mut trouble = Trouble::default();
        let found = loop {
            match cancel(&self.link, &self.keys, &id).await {
                Ok(found) => break found,
                Err(e) => {
                    if let Some(pause) = trouble.told(&e) {
                        sleep(pause).await;
                    }
                }
            }
        };
        info!(deployment_id = %id, "{}", told(&found));
        match found {
            CancelFound::Running { worker } if worker == self.worker() => self.look(notices).await,
            CancelFound::Queued => self.take_cancelled(notices).await,
            _ => Ok(()),
        }
    }
}

fn told(found: &CancelFound) -> &'static str {
    match found {
        CancelFound::Running { .. } => "A cancel came: the deployment is in work.",
        CancelFound::Queued => "A cancel came: the deployment waits in the queue.",
        CancelFound::Ended => "A cancel came too late: the deployment has ended.",
        CancelFound::Unknown => "A cancel came for a deployment that nobody has; it is kept for 7 days, in case it comes.",
    }
}
