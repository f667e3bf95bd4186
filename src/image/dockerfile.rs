//! The Dockerfile stage: one build from its session to the image's id, its cancellation, and the removal of images.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::fill;
use bollard::errors::Error as EngineApiError;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use tokio::time::timeout;

use super::BuiltImage;
use super::build::{End, RunningBuild};
use super::engine::{open_connection, takes_requests};
use super::failure::{engine_error, engine_lost};
use super::filesync::{ContextFiles, Sent};
use super::labels;
use super::registries::AnsweredHosts;
use super::request::{BuildRequest, attempt_filter, build_query, source_labels};
use super::services::{PullCredentialsService, SecretsService};
use super::session::{SessionServices, open_session};
use super::size_limits::image_within;
use super::tasks::BuildTasks;
use super::tenant::TenantNames;
use crate::config::BuildConfig;
use crate::context::BuildContext;
use crate::protocol::{Code, Failure, Job};
use crate::secrets::SecretString;
use crate::source::CommitInfo;
use crate::stage::StageContext;

/// An Engine that takes longer to remove an image hangs: housekeeping removes it later.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A build that prints nothing waits so long for the Engine's word that it is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Builds Dockerfiles through the Engine's BuildKit, each in a session of its own.
pub struct DockerfileStage {
    config: BuildConfig,
    pub(super) engine: bollard::Docker,
    pub(super) answered: AnsweredHosts,
    host_key: SecretString,
    worker: String,
}

impl DockerfileStage {
    /// `host_key`: this WORK_DIR's random key; it keeps tenants' caches apart. `worker_id` goes into labels.
    pub fn new(config: BuildConfig, engine: bollard::Docker, host_key: SecretString, worker_id: String) -> Self {
        Self { config, engine, answered: AnsweredHosts::default(), host_key, worker: worker_id }
    }

    /// Serves the context, follows the build, writes its steps and output to the job's log.
    /// When the token trips nothing of the build is left: an image that appears while exporting is removed before this returns.
    pub async fn build(
        &self,
        context: BuildContext,
        commit: &CommitInfo,
        job: &Job,
        ctx: &StageContext,
    ) -> Result<BuiltImage, Failure> {
        let tasks = BuildTasks::new(&ctx.tasks);
        // also where this future is dropped half-way: the tasks end by themselves then
        let _stop = tasks.stop.clone().drop_guard();
        let end = self.run(context, commit, job, ctx, &tasks).await;
        tasks.end().await;
        match end {
            Ok(End::Built(id)) => self.of_allowed_size(BuiltImage { id }, ctx).await,
            Ok(End::Stopped(image)) => {
                if let Some(id) = image {
                    self.remove(&BuiltImage { id }).await;
                }
                self.remove_attempt(ctx).await;
                Err(Failure::interrupted())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn run(
        &self,
        context: BuildContext,
        commit: &CommitInfo,
        job: &Job,
        ctx: &StageContext,
        tasks: &BuildTasks,
    ) -> Result<End, Failure> {
        let socket = &self.config.engine_socket;
        let mounted = if context.mounts_secrets { context.secrets.as_slice() } else { &[] };
        let tenant = TenantNames::new(&self.host_key, job.service.as_str(), mounted);
        let mut labels = source_labels(job, commit);
        // No two builds share an image id because of these.
        labels.extend(labels::of_attempt(&job.service, &job.deployment, ctx.attempt, &self.worker));
        let (session, build_id) = (random_name()?, random_name()?);
        let query = build_query(
            &self.config,
            &BuildRequest {
                dockerfile: &context.dockerfile,
                session: &session,
                build_id: &build_id,
                tenant: &tenant,
                labels: &labels,
            },
        );

        let sent = Arc::new(Sent::default());
        let (shared_key, secrets) = (context.shared_key.clone(), SecretsService::new(context.secrets.clone()));
        let context = Arc::new(context);
        let files =
            ContextFiles::new(context.clone(), self.config.context_max_bytes, tasks.clone(), ctx.log.clone(), sent.clone());
        let services = SessionServices::new(files, secrets, PullCredentialsService::new(&self.config.pull_registries));
        let opening = async {
            let session_over = open_session(socket, &session, &shared_key, services, tasks).await?;
            Ok::<_, Failure>((session_over, open_connection(socket, tasks).await?))
        };
        let (session_over, connection) = tokio::select! {
            () = ctx.cancel.cancelled() => return Ok(End::Stopped(None)),
            opened = opening => opened?,
        };
        let version = self.engine.client_version();
        let running = RunningBuild {
            socket,
            version: &version.to_string(),
            query: &query,
            build_id: &build_id,
            context: &context,
            tasks,
            ctx,
        };
        let end = running.follow(connection).await;
        let failure = match (end, sent.failure.get()) {
            // BuildKit's error for a file that could not be read is the echo of our own
            (Err(_), Some(failure)) => return Err(failure.clone()),
            (Err(failure), None) if !failure.is_retryable() || failure.code == Code::EngineError => failure,
            (end, _) => return end,
        };
        // A step that an Engine begins while it is being stopped fails as if by itself (measured on 20.10: runc's exit code 1).
        tokio::select! {
            () = ctx.cancel.cancelled() => Ok(End::Stopped(None)),
            here = takes_requests(socket, tasks) => match here && !session_over.is_cancelled() {
                true => Err(failure),
                false => Err(engine_lost(&format!("it was being stopped when it said: {}", failure.cause))),
            },
        }
    }

    /// An image that is larger than `IMAGE_MAX` is removed again.
    async fn of_allowed_size(&self, image: BuiltImage, ctx: &StageContext) -> Result<BuiltImage, Failure> {
        let max = self.config.image_max_bytes;
        if max == 0 {
            return Ok(image);
        }
        let measured = tokio::select! {
            () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
            inspected = self.engine.inspect_image(&image.id) => match inspected {
                Ok(inspected) => image_within(inspected.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0), max),
                Err(error) => Err(engine_lost(&format!("{error}."))),
            },
        };
        if measured.is_err() {
            self.remove(&image).await;
        }
        measured.map(|()| image)
    }

    /// Whether the Engine answers now. One that hangs costs a few seconds.
    pub async fn engine_answers(&self, ctx: &StageContext) -> bool {
        let tasks = BuildTasks::new(&ctx.tasks);
        let _stop = tasks.stop.clone().drop_guard();
        let asked = timeout(ANSWERS_WITHIN, takes_requests(&self.config.engine_socket, &tasks)).await;
        tasks.end().await;
        asked.unwrap_or(false)
    }

    /// Removes this build's untagged image when nothing else needs it (after the push, or when the job was cancelled),
    /// without taking another service's. Build cache stays.
    ///
    /// An id's removal without force takes the one name with it that an image has: so an image with a name is left alone. Labels make
    /// the id this attempt's own, so the name would be one that somebody gave it by hand.
    pub async fn remove(&self, image: &BuiltImage) {
        match timeout(REMOVE_TIMEOUT, self.try_remove(&image.id)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(image = %image.id, %error, "an image of a build could not be removed; housekeeping tries again");
            }
            Err(_) => {
                tracing::warn!(image = %image.id, "the Engine does not answer; housekeeping removes a build's image later");
            }
        }
    }

    async fn try_remove(&self, id: &str) -> Result<(), EngineApiError> {
        let inspected = match self.engine.inspect_image(id).await {
            Ok(inspected) => inspected,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let names = inspected.repo_tags.unwrap_or_default();
        if !names.is_empty() {
            tracing::debug!(image = %id, ?names, "the image has a name and stays");
            return Ok(());
        }
        let options = RemoveImageOptionsBuilder::default().force(false).noprune(true).build();
        match self.engine.remove_image(id, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what this attempt left in the Engine without telling us: an image whose id was still on its way when the build was stopped.
    async fn remove_attempt(&self, ctx: &StageContext) {
        let filters = HashMap::from([("label".to_owned(), attempt_filter(&ctx.deployment, ctx.attempt, &self.worker))]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        match timeout(REMOVE_TIMEOUT, self.engine.list_images(Some(options))).await {
            Err(_) => tracing::warn!("the Engine does not answer; housekeeping looks for what a stopped build left"),
            Ok(Ok(images)) => {
                for image in images {
                    self.remove(&BuiltImage { id: image.id }).await;
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the Engine did not say whether the stopped build left an image; housekeeping asks again")
            }
        }
    }
}

fn is_gone(error: &EngineApiError) -> bool {
    matches!(error, EngineApiError::DockerResponseServerError { status_code: 404, .. })
}

/// Names sessions and builds: nobody can guess it, and none comes twice.
fn random_name() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    fill(&mut bytes).map_err(|_| engine_error("the system gave no random bytes"))?;
    Ok(hex::encode(bytes))
}
