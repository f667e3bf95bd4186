//! The producer's side, for `slipway enqueue` and `slipway cancel`.

use super::attempt::CancelFound;
use super::dial::Dial;
use super::error::QueueError;
use super::keys::Keys;
use super::link::Link;
use super::listen;
use super::script::{Call, ENQUEUE};
use crate::config::QueueConfig;
use crate::protocol::DeploymentId;

pub struct Producer {
    link: Link,
    keys: Keys,
    cancel_channel: String,
}

impl Producer {
    /// # Errors
    /// When the queue's name cannot be used, or Redis cannot be reached or refuses the login.
    pub async fn connect(config: &QueueConfig) -> Result<Producer, QueueError> {
        let keys = Keys::of(&config.queue_name)?;
        let rule = super::access::rule(&keys, &config.cancel_channel);
        let link = Link::new(Dial::new(config, rule)?);
        link.session().await?;
        Ok(Producer { link, keys, cancel_channel: config.cancel_channel.clone() })
    }
    /// Clears the id's tombstone and pushes the job (RPUSH; `front`: LPUSH). Returns the list's length.
    ///
    /// # Errors
    /// When Redis does not answer or refuses. Without an answer the job may be in the queue all the same.
    pub async fn enqueue(&self, payload: &[u8], id: &DeploymentId, front: bool) -> Result<u64, QueueError> {
        let call = Call::of(&ENQUEUE).keys(&[&self.keys.queue, &self.keys.tombs]).arg(id.as_str()).arg(payload).arg(if front {
            "1"
        } else {
            ""
        });
        match self.link.run(call).await {
            Ok(answer) => Ok(answer.number(0).unwrap_or_default()),
            Err(e) => Err(self.link.named(&self.keys, &[], e).await),
        }
    }
    /// Runs the cancel script and publishes the message, for whoever has the job. Says what it found.
    ///
    /// # Errors
    /// When Redis does not answer or refuses; it may be repeated.
    pub async fn cancel(&self, id: &DeploymentId) -> Result<CancelFound, QueueError> {
        let found = match listen::cancel(&self.link, &self.keys, id).await {
            Ok(found) => found,
            Err(e) => return Err(self.link.named(&self.keys, &[], e).await),
        };
        let message = serde_json::json!({ "deploymentId": id.as_str() }).to_string();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(&self.cancel_channel).arg(message);
        self.link.command(&publish).await?;
        Ok(found)
    }
    /// Whether the worker renews its lease. `true` also where Redis does not say.
    pub async fn is_alive(&self, worker: &str) -> bool {
        let mut lease = redis::cmd("EXISTS");
        lease.arg(self.keys.lease(worker));
        !matches!(self.link.command(&lease).await, Ok(redis::Value::Int(0)))
    }
}
