//! The subscription: cancels from the producer's channel, and the workers' own notices.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::attempt::{CancelFound, Notice};
use super::cancel_log::{CancelLog, Kind};
use super::dial::Dial;
use super::ending::millis;
use super::error::QueueError;
use super::keys::Keys;
use super::link::Link;
use super::plain::Plain;
use super::script::{CANCEL, Call};
use super::shared::Shared;
use super::subscription::{Message, Subscription};
use super::trouble::Trouble;
use crate::protocol::{DeploymentId, parse_cancel};

pub(super) const TOMBSTONE_STAYS: Duration = Duration::from_secs(7 * 24 * 3600);
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
    /// Listens until `stop`, subscribing again after each break. Runs on the control thread.
    pub(super) async fn listen(&self, dial: &Dial, notices: &Sender<Notice>, stop: &CancellationToken) {
        let listening = async {
            let mut trouble = Trouble::new(&self.link.dial.board);
            loop {
                let Err(error) = self.subscribed(dial, notices, &mut trouble).await;
                sleep(trouble.told(&self.named(error).await)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = listening => {}
        }
    }

    /// One subscription, until it breaks.
    async fn subscribed(&self, dial: &Dial, notices: &Sender<Notice>, trouble: &mut Trouble) -> Result<Infallible, QueueError> {
        let mut subscription = Subscription::open(dial, &[&self.cancel_channel, &self.keys.notices]).await?;
        // What was said while nobody listened stands in the records.
        self.look_after(notices).await?;
        trouble.over();
        loop {
            let message = subscription.next().await?;
            if message.channel != self.cancel_channel.as_bytes() {
                self.look(notices).await?;
            } else if let Some(id) = cancelled_id(&message, &self.cancels) {
                self.heard(&id, notices).await?;
            }
        }
    }

    /// A cancel must not get lost with an error: Redis keeps no message, and a tombstone would be missing.
    async fn heard(&self, id: &DeploymentId, notices: &Sender<Notice>) -> Result<(), QueueError> {
        let mut trouble = Trouble::new(&self.link.dial.board);
        let found = loop {
            match cancel(&self.control, &self.keys, id).await {
                Ok(found) => break found,
                Err(e) => sleep(trouble.told(&self.named(e).await)).await,
            }
        };
        if self.cancels.count(Kind::of(&found)) {
            info!(deployment_id = %id, "{}", told(&found));
        }
        match found {
            CancelFound::Running { worker } if worker == self.worker() => self.look(notices).await.map(drop),
            CancelFound::Queued => self.take_cancelled(notices).await,
            _ => Ok(()),
        }
    }
}

impl Plain {
    /// The same without records: only what is heard counts.
    pub(super) async fn listen(&self, dial: &Dial, channel: &str, notices: &Sender<Notice>, stop: &CancellationToken) {
        let listening = async {
            let mut trouble = Trouble::new(&dial.board);
            loop {
                let Err(error) = self.subscribed(dial, channel, notices, &mut trouble).await;
                sleep(trouble.told(&error)).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = listening => {}
        }
    }

    async fn subscribed(
        &self,
        dial: &Dial,
        channel: &str,
        notices: &Sender<Notice>,
        trouble: &mut Trouble,
    ) -> Result<Infallible, QueueError> {
        let mut subscription = Subscription::open(dial, &[channel]).await?;
        trouble.over();
        loop {
            if let Some(id) = cancelled_id(&subscription.next().await?, &self.cancels) {
                self.heard(id, notices).await;
            }
        }
    }
}

fn cancelled_id(message: &Message, cancels: &CancelLog) -> Option<DeploymentId> {
    let id = message.text.as_deref().and_then(parse_cancel);
    if id.is_none() && cancels.count(Kind::Unreadable) {
        warn!("A message on the cancel channel is neither {{\"deploymentId\":\"…\"}} nor an id; it is ignored.");
    }
    cancels.tell_held();
    id
}

fn told(found: &CancelFound) -> &'static str {
    match found {
        CancelFound::Running { .. } => "A cancel came: the deployment is in work.",
        CancelFound::Queued => "A cancel came: the deployment waits in the queue.",
        CancelFound::Ended => "A cancel came too late: the deployment has ended.",
        CancelFound::Unknown => "A cancel came for a deployment that nobody has; it is kept for 7 days, in case it comes.",
    }
}
