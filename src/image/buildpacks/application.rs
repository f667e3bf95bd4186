//! One app on its way through the phases: its volumes, the files that the worker carries from phase to phase, the export.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedMutexGuard;

use super::container::{self, ContainerSpec};
use super::control::{self, Controls, RegistryLogin};
use super::exit::{Limits, PhaseEnd};
use super::images::Images;
use super::phase::{Control, Phase, Target};
use super::trouble::lifecycle_failure;
use super::volumes::BuildVolumes;
use super::{BuildpacksStage, trust};
use crate::image::failure::is_shown_whole;
use crate::protocol::{Code, EnvVar, Failure};
use crate::registry::ExportTarget;
use crate::secrets::SecretString;
use crate::source::SourceTree;
use crate::stage::StageContext;

/// An ECR token is good for as long, other logins for longer.
const LOGIN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// One build's fixed facts.
pub(super) struct Parts {
    pub images: Images,
    /// The bridge of detect and build; `None`: they have no network.
    pub network: Option<String>,
    pub target: Target,
    pub environment: Vec<EnvVar>,
    pub labels: HashMap<String, String>,
    pub cache: String,
    pub tree: Arc<SourceTree>,
}

/// An app whose volumes are in the Engine. [`Application::remove`] takes them away; dropped, the attempt's tasks do.
pub struct Application<'a> {
    stage: &'a BuildpacksStage,
    ctx: &'a StageContext,
    parts: Parts,
    volumes: BuildVolumes<'a>,
    controls: Controls,
    /// The trusted creator has worked on these volumes before.
    used: bool,
    _turn: OwnedMutexGuard<()>,
}

impl<'a> Application<'a> {
    pub(super) async fn new(
        stage: &'a BuildpacksStage,
        ctx: &'a StageContext,
        parts: Parts,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self, Failure> {
        stage.note_cache_use(&parts.cache).await;
        let volumes = BuildVolumes::create(&stage.engine, ctx, &parts.cache, &parts.labels, &stage.owner.worker_id).await?;
        let application = Self { stage, ctx, parts, volumes, controls: Controls::default(), used: false, _turn: turn };
        match application.fill().await {
            Ok(()) => Ok(application),
            Err(failure) => {
                application.remove().await;
                Err(failure)
            }
        }
    }

    async fn fill(&self) -> Result<(), Failure> {
        let Images { user, lifecycle, .. } = &self.parts.images;
        self.volumes.fill(*user, lifecycle, &self.parts.tree).await
    }

    /// analyze, detect, restore, build.
    pub(super) async fn build(&mut self, to: &ExportTarget) -> Result<(), Failure> {
        self.analyze(to).await?;
        let analyzed = self.controls.get(Control::Analyzed).unwrap_or_default();
        let run_image = control::check_analyzed(analyzed, &self.parts.target.run_image)?;
        self.ctx.info(format!("Run image: {run_image}"));
        self.phase(Phase::Detect, to).await?;
        self.restore(to).await?;
        self.phase(Phase::Build, to).await
    }

    /// Writes the image to the registry and returns its digest, `sha256:…`. May be called again after a failure. `to`: with a fresh login.
    pub async fn export(&mut self, to: &ExportTarget) -> Result<String, Failure> {
        if self.stage.config.trusted {
            if std::mem::replace(&mut self.used, true) {
                self.volumes.renew().await?;
                self.fill().await?;
            }
            self.phase(Phase::Creator, to).await?;
        } else {
            self.phase(Phase::Export, to).await?;
        }
        let report = self.controls.get(Control::Report).unwrap_or_default();
        control::report_digest(report).ok_or_else(|| lifecycle_failure("the exporter's report names no digest"))
    }

    /// The service's cache stays, everything else goes.
    pub async fn remove(self) {
        self.volumes.remove().await;
    }

    /// The image before this one may have metadata that nobody can read (its labels are the app's to choose): once more without.
    async fn analyze(&mut self, to: &ExportTarget) -> Result<(), Failure> {
        let end = self.run(Phase::Analyze, to).await?;
        if end.exit_code != 32 {
            return end.into_result(Phase::Analyze, self.limits());
        }
        self.ctx.warn("The previous image's metadata cannot be read: building without its layers.");
        self.parts.target.skip_layers = true;
        self.phase(Phase::Analyze, to).await
    }

    /// A cache that cannot be restored would end every build of its service: it is thrown away, and what was restored of it.
    async fn restore(&mut self, to: &ExportTarget) -> Result<(), Failure> {
        let end = self.run(Phase::Restore, to).await?;
        if end.exit_code != 42 {
            return end.into_result(Phase::Restore, self.limits());
        }
        self.ctx.warn("The service's cache cannot be used: it is thrown away, and everything built anew.");
        self.volumes.renew_with_cache().await?;
        self.fill().await
    }

    async fn phase(&mut self, phase: Phase, to: &ExportTarget) -> Result<(), Failure> {
        self.run(phase, to).await?.into_result(phase, self.limits()).map_err(|failure| self.with_dockerfiles(failure))
    }

    /// An app that no buildpack knows may have its Dockerfile where nobody looked.
    fn with_dockerfiles(&self, failure: Failure) -> Failure {
        let named = |most| {
            let list = crate::context::dockerfiles(&self.parts.tree, most)?;
            // Short, so that the dashboard shows the way out; which buildpacks looked stands in the log.
            Some(Failure {
                cause: "No Dockerfile at the root, and no buildpack recognised the repository.".to_owned(),
                way_out: format!("Set runtimeFilePath; the repository has {list}."),
                ..failure.clone()
            })
        };
        if failure.code != Code::BuildpacksNothingDetected {
            return failure;
        }
        (1..=5).rev().filter_map(named).find(is_shown_whole).or_else(|| named(1)).unwrap_or(failure)
    }

    async fn run(&mut self, phase: Phase, to: &ExportTarget) -> Result<PhaseEnd, Failure> {
        let (started, config) = (Instant::now(), &self.stage.config);
        self.ctx.info(format!("===> {}", phase.name().to_uppercase()));
        let ca = if phase.talks_to_registry() { trust::host_certificates().await } else { None };
        let images = &self.parts.images;
        let spec = ContainerSpec {
            phase,
            image: if phase.in_builder_image() { images.builder.clone() } else { images.lifecycle.clone() },
            command: phase.command(&self.parts.target),
            environment: phase.environment(images.user, ca.is_some()),
            mounts: phase.mounts().into_iter().map(|mount| (self.volumes.name(mount.volume).to_owned(), mount)).collect(),
            scratch: phase.scratch(images.home.as_deref()),
            network: self.network(phase),
            user: images.user,
            labels: self.parts.labels.clone(),
        };
        if phase.talks_to_registry() {
            self.mask_logins(to);
        }
        let archive =
            control::archive(phase, images.user, &self.controls, &self.parts.environment, &self.logins(to), ca.as_deref())
                .map_err(|error| lifecycle_failure(&format!("the {} phase's files cannot be packed: {error}", phase.name())))?;
        let (end, outputs) = container::run(&self.stage.engine, self.ctx, config, spec, archive).await?;
        for (control, bytes) in outputs {
            self.controls.insert(control, bytes);
        }
        let seconds = started.elapsed().as_secs_f32();
        match end.exit_code {
            0 => self.ctx.info(format!("{} done in {seconds:.1} s", phase.name())),
            code => self.ctx.info(format!("{} ended with exit code {code} after {seconds:.1} s", phase.name())),
        }
        Ok(end)
    }

    /// The host's network goes with the credentials, the bridge with foreign code.
    fn network(&self, phase: Phase) -> String {
        match (&self.parts.network, phase) {
            (_, phase) if phase.talks_to_registry() => "host".to_owned(),
            (Some(bridge), phase) if phase.runs_foreign_code() => bridge.clone(),
            _ => "none".to_owned(),
        }
    }

    /// The push's login for its own registry, the operator's read-only ones for all others.
    fn logins<'l>(&'l self, to: &'l ExportTarget) -> Vec<RegistryLogin<'l>> {
        let pulls = self.stage.pull.iter().filter(|pull| pull.host != to.host());
        let pulls = pulls.map(|pull| RegistryLogin { host: &pull.host, username: &pull.username, password: &pull.password });
        let push = to.login().map(|(username, password)| RegistryLogin { host: to.host(), username, password });
        pulls.chain(push).collect()
    }

    /// A trusted app can read the file that they stand in, and print it as a whole in base64: there a login's digits depend on what
    /// stands before it, and on where the lines break.
    fn mask_logins(&self, to: &ExportTarget) {
        let file = control::docker_config(&self.logins(to));
        self.ctx.redactor.fetched().add([SecretString::from(file)], LOGIN_LIFETIME);
    }

    fn limits(&self) -> Limits {
        let config = &self.stage.config;
        Limits { memory_bytes: config.memory_bytes, pids: config.pids, file_bytes: config.file_bytes }
    }
}
