//! Asks the Engine, before a build, whether the registries of its images answer.
//!
//! A registry that swallows connections keeps BuildKit waiting for half a minute and more, in which the job would hold a slot and do
//! nothing. The Engine is asked because it is the one that pulls: with its name resolution, its proxy and its certificates.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bollard::errors::Error as EngineApiError;
use futures_util::future::join_all;
use tokio::time::timeout;

use super::DockerfileStage;
use super::dockerfile_images::RegistryImages;
use super::remote_host::{registry_failure, registry_silent};
use crate::protocol::Failure;
use crate::stage::StageContext;

/// How long the Engine may wait for a registry.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// A registry that has answered is not asked again for so long.
const STAYS_KNOWN: Duration = Duration::from_secs(60);
/// Jobs name these hosts.
const MOST_KNOWN: usize = 256;

/// Registries that have answered a short while ago.
#[derive(Default)]
pub struct AnsweredHosts {
    hosts: Mutex<HashMap<String, Instant>>,
}

impl AnsweredHosts {
    fn contains(&self, host: &str) -> bool {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.get(host).is_some_and(|when| when.elapsed() < STAYS_KNOWN)
    }

    fn add(&self, host: String) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, when| when.elapsed() < STAYS_KNOWN);
        if hosts.len() < MOST_KNOWN {
            hosts.insert(host, Instant::now());
        }
    }
}

impl DockerfileStage {
    /// Fails where a registry cannot be reached that has an image of a Dockerfile which the Engine has not.
    pub async fn registries_answer(&self, registries: &[RegistryImages], ctx: &StageContext) -> Result<(), Failure> {
        let asked = registries.iter().map(|registry| self.registry_answers(registry));
        tokio::select! {
            () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
            answers = join_all(asked) => answers.into_iter().collect(),
        }
    }

    async fn registry_answers(&self, registry: &RegistryImages) -> Result<(), Failure> {
        if self.answered.contains(&registry.host) {
            return Ok(());
        }
        for image in &registry.images {
            match timeout(ANSWERS_WITHIN, self.engine.inspect_image(image)).await {
                // It is there: nothing is known of its registry.
                Ok(Ok(_)) => continue,
                Ok(Err(_)) => {}
                // The Engine's own trouble, which its build tells better.
                Err(_) => return Ok(()),
            }
            match timeout(ANSWERS_WITHIN, self.engine.inspect_registry_image(image, None)).await {
                Ok(Ok(_)) => {}
                // It is no name of an image: the Engine has asked nobody.
                Ok(Err(EngineApiError::DockerResponseServerError { status_code: 400, .. })) => continue,
                Ok(Err(EngineApiError::DockerResponseServerError { message, .. })) => {
                    if let Some(failure) = registry_failure(image, &message) {
                        return Err(failure);
                    }
                }
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(registry_silent(image, ANSWERS_WITHIN.as_secs())),
            }
            self.answered.add(registry.host.clone());
            return Ok(());
        }
        Ok(())
    }
}
