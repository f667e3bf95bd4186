//! What all attempts of this worker share: configuration, queue, reporter, stages.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::disk_watch::DiskWatch;
use super::pipeline::Stages;
use super::slots::Slots;
use super::tries::full_jitter;
use crate::config::Config;
use crate::housekeeping::Housekeeper;
use crate::queue::{Gate, Queue, QueueError};
use crate::report::Reporter;
use crate::secrets::{ActiveSecrets, SecretString};

/// What all attempts of this worker share.
pub struct Shared {
    pub config: Config,
    pub host: String,
    pub queue: Arc<Queue>,
    pub gate: Gate,
    pub reporter: Arc<Reporter>,
    pub stages: Stages,
    /// What is masked in the worker's own log.
    pub secrets: Arc<ActiveSecrets>,
    /// What is masked of each job in the logs of the others.
    pub for_others: Arc<ActiveSecrets>,
    /// How many jobs may build at once.
    pub slots: Arc<Slots>,
    /// Trips when the drain is over: effects that are still waiting for a peer leave their job to the next start.
    pub halt: CancellationToken,
    pub housekeeper: Housekeeper,
    /// Whether WORK_DIR's disk answers.
    pub disk: DiskWatch,
}

impl Shared {
    /// Repeats a call to Redis until it answers. `None`: the worker stops first.
    pub(super) async fn until_redis_answers<T, F: Future<Output = Result<T, QueueError>>>(
        &self,
        what: &str,
        mut call: impl FnMut() -> F,
    ) -> Option<T> {
        let mut longest = Duration::from_millis(200);
        let mut said = false;
        loop {
            let error = tokio::select! {
                answer = call() => match answer {
                    Ok(value) => return Some(value),
                    Err(error) => error,
                },
                () = self.halt.cancelled() => return None,
            };
            if !std::mem::replace(&mut said, true) {
                tracing::warn!("{what} waits until Redis answers: {error}");
            }
            tokio::select! {
                () = sleep(full_jitter(longest)) => longest = (longest * 2).min(Duration::from_secs(10)),
                () = self.halt.cancelled() => return None,
            }
        }
    }

    /// The worker's own secrets, which no job may show either.
    pub(super) fn own_secrets(&self) -> Vec<SecretString> {
        let mut secrets = self.config.secrets();
        secrets.extend(self.stages.registry.iter().flat_map(crate::registry::RegistryStage::secrets));
        secrets
    }
}
