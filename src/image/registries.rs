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
use super::remote_host::{registry_failure, registry_silent};
use crate::peer::image_host;
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
    /// Fails where the registry of one of `images` cannot be reached. An image that the Engine has, or that is named by its digest, may
    /// need no registry: its build finds out.
    pub async fn registries_answer(&self, images: &[String], ctx: &StageContext) -> Result<(), Failure> {
        let mut hosts = Vec::new();
        let mut first_of_host = |image: &&String| {
            let host = image_host(image);
            let is_new = !image.contains('@') && !hosts.contains(&host);
            hosts.push(host);
            is_new
        };
        let asked: Vec<_> = images.iter().filter(&mut first_of_host).map(|image| self.registry_answers(image)).collect();
        tokio::select! {
            () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
            answers = join_all(asked) => answers.into_iter().collect(),
        }
    }

    async fn registry_answers(&self, image: &str) -> Result<(), Failure> {
        let host = image_host(image);
        if self.answered.contains(&host) {
            return Ok(());
        }
        let asking = async {
            match self.engine.inspect_image(image).await {
                Ok(_) => Ok(None),
                Err(_) => self.engine.inspect_registry_image(image, None).await.map(Some),
            }
        };
        match timeout(ANSWERS_WITHIN, asking).await {
            // It is there: nothing is known of its registry.
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(_))) => {}
            Ok(Err(EngineApiError::DockerResponseServerError { message, .. })) => {
                if let Some(failure) = registry_failure(image, &message) {
                    return Err(failure);
                }
            }
            // The Engine's own trouble, which its build tells better.
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(registry_silent(image, ANSWERS_WITHIN.as_secs())),
        }
        self.answered.add(host);
        Ok(())
    }
}
