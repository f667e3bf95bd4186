//! Cloud Native Buildpacks without `pack`: the lifecycle's phases, each in a container of its own, exported straight to the registry.
//!
//! What a hostile app could do, and which line stops it, is told where the line is: [`phase`] (who sees what), [`control`] (which
//! files are trusted), [`container`] (limits, removal), [`volumes`] (whose volumes).

mod app;
mod container;
mod control;
mod exit;
mod phase;
mod volumes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bollard::Docker;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;
use tokio::sync::Mutex;

use self::container::{ContainerSpec, engine_failure, interruptible, lifecycle_failure};
use self::control::{Controls, RegistryLogin};
use self::exit::{Limits, PhaseEnd};
use self::phase::{Control, Phase, Target, User};
use self::volumes::BuildVolumes;
use super::labels;
use crate::config::{Builder, BuildpacksConfig, BuildpacksNetwork, PullCredentials};
use crate::protocol::{Code, EnvVar, Failure, Job};
use crate::registry::ExportTarget;
use crate::secrets::SecretString;
use crate::source::SourceTree;
use crate::stage::StageContext;

/// The bridge of detect and build: no traffic between containers on it.
const NETWORK: &str = "slipway-buildpacks";

/// Builds trees without a Dockerfile.
pub struct BuildpacksStage {
    config: BuildpacksConfig,
    pull: Vec<PullCredentials>,
    engine: Docker,
    host_key: SecretString,
    worker_id: String,
    /// Two exports on one cache volume at once lose one of the caches.
    cache_locks: std::sync::Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

/// One build's fixed facts.
struct Build<'a> {
    stage: &'a BuildpacksStage,
    ctx: &'a StageContext,
    builder_image: String,
    user: User,
    target: Target,
    export: &'a ExportTarget,
    environment: Vec<EnvVar>,
    volumes: BuildVolumes<'a>,
    labels: HashMap<String, String>,
}

impl BuildpacksStage {
    pub fn new(config: BuildpacksConfig, pull: Vec<PullCredentials>, engine: Docker, host_key: SecretString, worker_id: String) -> Self {
        Self { config, pull, engine, host_key, worker_id, cache_locks: std::sync::Mutex::default() }
    }

    /// Builds the tree and exports it to `export`. Returns the digest of what the registry has now.
    /// No container and no volume but the service's cache is left, whatever happens.
    pub async fn build(&self, tree: Arc<SourceTree>, job: &Job, export: &ExportTarget, tag: &str, ctx: &StageContext) -> Result<String, Failure> {
        let builder = self.config.builder(job.builder.as_deref()).map_err(|allowed| not_allowed(&allowed))?;
        ctx.info(format!("No Dockerfile: building with buildpacks, builder {}", builder.image));
        let (builder_image, user) = self.prepare_images(builder, ctx).await?;
        let labels = labels::of_attempt(ctx, &self.worker_id);
        let cache = volumes::cache_name(&self.host_key, &ctx.service);
        let lock = self.cache_lock(&cache);
        let _turn = tokio::select! {
            turn = lock.lock() => turn,
            () = ctx.cancel.cancelled() => return Err(Failure::interrupted()),
        };
        let volumes = BuildVolumes::create(&self.engine, ctx, cache, labels.clone(), &self.worker_id).await?;
        let target = Target {
            image: format!("{}:{tag}", export.repository),
            previous: Some(format!("{}:latest", export.repository)),
            run_image: builder.run_image.clone(),
            skip_layers: false,
        };
        let environment = platform_environment(job, ctx);
        let mut build = Build { stage: self, ctx, builder_image, user, target, export, environment, volumes, labels };
        let digest = build.run(&tree).await;
        build.volumes.remove().await;
        digest
    }

    fn cache_lock(&self, cache: &str) -> Arc<Mutex<()>> {
        let mut locks = self.cache_locks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Locks that nobody holds or waits for are forgotten: the map stays as small as what is being built.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(cache.to_owned()).or_default().clone()
    }

    /// Makes sure that builder and lifecycle image are there; pins the builder by its id.
    async fn prepare_images(&self, builder: &Builder, ctx: &StageContext) -> Result<(String, User), Failure> {
        self.ensure_image(&self.config.lifecycle_image, ctx).await?;
        let inspected = self.ensure_image(&builder.image, ctx).await?;
        let env = inspected.config.and_then(|c| c.env).unwrap_or_default();
        let user = User::from_image_env(&env).ok_or_else(|| {
            lifecycle_failure(format!("the builder {} names no user other than root (CNB_USER_ID, CNB_GROUP_ID)", builder.image))
        })?;
        if self.config.network == BuildpacksNetwork::Own {
            volumes::ensure_network(&self.engine, NETWORK, ctx).await?;
        }
        Ok((inspected.id.unwrap_or_else(|| builder.image.clone()), user))
    }

    async fn ensure_image(&self, image: &str, ctx: &StageContext) -> Result<bollard::models::ImageInspect, Failure> {
        match interruptible(ctx, async { Ok(self.engine.inspect_image(image).await) }).await? {
            Ok(inspected) => return Ok(inspected),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(engine_failure(error)),
        }
        ctx.info(format!("Pulling {image}"));
        let options = CreateImageOptionsBuilder::new().from_image(image).build();
        let host = image.split('/').next().unwrap_or_default();
        // Read-only credentials for this host, never those of the push.
        let credentials = self.pull.iter().find(|p| p.host == host).map(|p| bollard::auth::DockerCredentials {
            username: Some(p.username.clone()),
            password: Some(crate::secrets::ExposeSecret::expose_secret(&p.password).to_owned()),
            serveraddress: Some(p.host.clone()),
            ..Default::default()
        });
        let mut pull = self.engine.create_image(Some(options), None, credentials);
        while let Some(progress) = tokio::select! {
            progress = pull.next() => progress,
            () = ctx.cancel.cancelled() => return Err(Failure::interrupted()),
        } {
            if let Err(error) = progress {
                return Err(Failure::new(
                    Code::BuildpacksBuilder,
                    format!("The image {image} cannot be pulled: {error}"),
                    "Check BUILDPACKS_BUILDERS and BUILDPACKS_LIFECYCLE_IMAGE, and that this host may pull them.",
                ));
            }
        }
        interruptible(ctx, self.engine.inspect_image(image)).await
    }
}

impl Build<'_> {
    async fn run(&mut self, tree: &Arc<SourceTree>) -> Result<String, Failure> {
        self.volumes.give_owner(self.user, &self.stage.config.lifecycle_image, tree, &self.ctx.log).await?;
        let mut controls = Controls::default();
        if self.stage.config.trusted {
            self.phase(Phase::Creator, &mut controls).await?;
        } else {
            self.analyze(&mut controls).await?;
            control::check_analyzed(controls.get(Control::Analyzed).unwrap_or_default(), &self.target.run_image)?;
            for phase in [Phase::Detect, Phase::Restore, Phase::Build, Phase::Export] {
                self.phase(phase, &mut controls).await?;
            }
        }
        let report = controls.get(Control::Report).unwrap_or_default();
        control::report_digest(report).ok_or_else(|| lifecycle_failure("the exporter's report names no digest".to_owned()))
    }

    /// The image before this one may have metadata that nobody can read (its labels are the app's to choose): once more without.
    async fn analyze(&mut self, controls: &mut Controls) -> Result<(), Failure> {
        match self.phase_end(Phase::Analyze, controls).await? {
            PhaseEnd { exit_code: 32, .. } if !self.target.skip_layers => {
                self.ctx.warn("The previous image's metadata cannot be read: building without its layers.");
                self.target.skip_layers = true;
                self.phase(Phase::Analyze, controls).await
            }
            end => end.into_result(Phase::Analyze, self.limits()),
        }
    }

    async fn phase(&self, phase: Phase, controls: &mut Controls) -> Result<(), Failure> {
        self.phase_end(phase, controls).await?.into_result(phase, self.limits())
    }

    async fn phase_end(&self, phase: Phase, controls: &mut Controls) -> Result<PhaseEnd, Failure> {
        let started = Instant::now();
        self.ctx.info(format!("===> {}", phase.name().to_uppercase()));
        let config = &self.stage.config;
        let spec = ContainerSpec {
            phase,
            image: if phase.in_builder_image() { self.builder_image.clone() } else { config.lifecycle_image.clone() },
            command: phase.command(&self.target),
            environment: phase.environment(self.user, self.export.ca.is_some()),
            mounts: phase.mounts().into_iter().map(|mount| (self.volumes.name(mount.volume), mount)).collect(),
            network: self.network(phase),
            user: self.user,
            labels: self.labels.clone(),
        };
        let archive = self.control_archive(phase, controls)?;
        let (end, outputs) = container::run(&self.stage.engine, self.ctx, config, spec, archive).await?;
        for (control, bytes) in outputs {
            controls.insert(control, bytes);
        }
        if end.exit_code == 0 {
            self.ctx.info(format!("{} took {:.1} s", phase.name(), started.elapsed().as_secs_f32()));
        }
        Ok(end)
    }

    fn network(&self, phase: Phase) -> String {
        match (phase.talks_to_registry(), phase.runs_foreign_code(), self.stage.config.network) {
            (true, _, _) => "host",
            (false, true, BuildpacksNetwork::Own) => NETWORK,
            (false, _, _) => "none",
        }
        .to_owned()
    }

    fn control_archive(&self, phase: Phase, controls: &Controls) -> Result<Vec<u8>, Failure> {
        let mut logins: Vec<RegistryLogin<'_>> = self
            .stage
            .pull
            .iter()
            .filter(|p| p.host != self.export.host)
            .map(|p| RegistryLogin { host: &p.host, username: &p.username, password: &p.password })
            .collect();
        if let Some((username, password)) = &self.export.login {
            logins.push(RegistryLogin { host: &self.export.host, username, password });
        }
        control::archive(phase, self.user, controls, &self.environment, &logins, self.export.ca.as_deref())
            .map_err(|error| lifecycle_failure(format!("the {} phase's files cannot be packed: {error}", phase.name())))
    }

    fn limits(&self) -> Limits {
        let config = &self.stage.config;
        Limits { memory_bytes: config.memory_bytes, pids: config.pids, file_bytes: config.file_bytes }
    }
}

fn not_allowed(allowed: &[&str]) -> Failure {
    Failure::new(
        Code::BuildpacksBuilder,
        "The job's builder is not on this host's list.",
        format!("Use one of: {} (BUILDPACKS_BUILDERS).", allowed.join(", ")),
    )
}

/// The job's variables, and `PORT` from its first port where the job does not set it.
fn platform_environment(job: &Job, ctx: &StageContext) -> Vec<EnvVar> {
    let mut environment: Vec<EnvVar> = Vec::with_capacity(job.env.len() + 1);
    for var in &job.env {
        if control::is_file_name(&var.key) {
            environment.push(var.clone());
        } else {
            ctx.warn(format!("The variable {:?} is left out: its name cannot be a variable's.", var.key));
        }
    }
    if let Some(port) = job.ports.first()
        && !environment.iter().any(|v| v.key == "PORT")
    {
        environment.push(EnvVar { key: "PORT".to_owned(), value: port.container_port.to_string().into() });
    }
    environment
}
