//! One phase's container from create to removal, through the Engine API. Whatever happens, the container is gone afterwards.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, ResourcesUlimits,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder,
    WaitContainerOptions,
};
use bollard::{body_full, body_try_stream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio_stream::wrappers::ReceiverStream;

use super::control;
use super::exit::PhaseEnd;
use super::lines::Lines;
use super::phase::{Control, Phase, User, VolumeMount};
use super::trouble::{engine_failure, interruptible, lifecycle_failure};
use crate::config::BuildpacksConfig;
use crate::protocol::{Code, Failure};
use crate::stage::StageContext;

/// After the phase's first process is gone, how long its output may still come.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long the Engine may take to make a container. Never given up for a cancel: one that appears later would be left behind.
const CREATION: Duration = Duration::from_secs(30);
/// How long a removal is tried; housekeeping finds what is left by its labels.
const REMOVAL: Duration = Duration::from_secs(10);
const REMOVE_AGAIN: Duration = Duration::from_millis(250);
/// A control file is some kilobytes.
const MAX_FETCHED: usize = 8 << 20;

/// What a container of this build is made of.
pub struct ContainerSpec {
    pub phase: Phase,
    pub image: String,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    /// Name of the Engine's volume behind each mount.
    pub mounts: Vec<(String, VolumeMount)>,
    /// Further paths that may be written to, each an anonymous volume that goes with the container.
    pub scratch: Vec<String>,
    /// `host`, `none` or a network's name.
    pub network: String,
    pub user: User,
    pub labels: HashMap<String, String>,
}

/// A phase's end, and the files that it left for the worker.
pub type PhaseOutcome = (PhaseEnd, Vec<(Control, Vec<u8>)>);

/// A container that is removed in every ending: awaited where the build goes on, by the attempt's tasks where it was dropped.
struct Container<'a> {
    engine: &'a Docker,
    ctx: &'a StageContext,
    name: Option<String>,
}

impl Container<'_> {
    async fn remove(mut self) {
        if let Some(name) = self.name.take() {
            remove(self.engine.clone(), name).await;
        }
    }
    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.ctx.tasks.spawn(remove(self.engine.clone(), name));
        }
    }
}

/// With its anonymous volumes. An Engine that restarts is waited for.
async fn remove(engine: Docker, name: String) {
    let removing = async {
        loop {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let error = match engine.remove_container(&name, Some(options)).await {
                Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => return,
                Err(error) => error,
            };
            tracing::debug!(container = %name, %error, "a container could not be removed yet");
            tokio::time::sleep(REMOVE_AGAIN).await;
        }
    };
    if tokio::time::timeout(REMOVAL, removing).await.is_err() {
        tracing::warn!(container = %name, "a container could not be removed in time; the sweep will look for it");
    }
}

async fn create<'a>(engine: &'a Docker, ctx: &'a StageContext, body: ContainerCreateBody) -> Result<Container<'a>, Failure> {
    if ctx.cancel.is_cancelled() {
        return Err(Failure::interrupted());
    }
    let name = super::unique_name(ctx)?;
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    // Known by name from the first moment: a create whose answer is lost is removed all the same.
    let container = Container { engine, ctx, name: Some(name) };
    let failure = match tokio::time::timeout(CREATION, engine.create_container(Some(options), body)).await {
        Ok(Ok(_)) if ctx.cancel.is_cancelled() => Failure::interrupted(),
        Ok(Ok(_)) => return Ok(container),
        Ok(Err(error)) => engine_failure(&error),
        Err(_) => crate::image::failure::engine_lost("it did not make a container in time."),
    };
    container.remove().await;
    Err(failure)
}

/// Removes what an earlier try of this attempt could not, for the Engine was away: where that keeps containers alive over its own
/// restart, one of them still runs.
pub async fn remove_earlier(engine: &Docker, ctx: &StageContext, labels: &HashMap<String, String>) -> Result<(), Failure> {
    for name in interruptible(ctx, all_with(engine, labels)).await? {
        remove(engine.clone(), name).await;
    }
    Ok(())
}

/// The same at the end of a try, for what still holds its volumes.
pub async fn remove_left(engine: &Docker, labels: &HashMap<String, String>) -> Result<(), Error> {
    for name in all_with(engine, labels).await? {
        remove(engine.clone(), name).await;
    }
    Ok(())
}

/// The names of an attempt's containers.
async fn all_with(engine: &Docker, labels: &HashMap<String, String>) -> Result<Vec<String>, Error> {
    let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&HashMap::from([("label", wanted)])).build();
    let containers = engine.list_containers(Some(options)).await?;
    let names = containers.into_iter().filter_map(|container| container.names?.into_iter().next());
    // One that a person runs has the labels of its image, and another name.
    Ok(names.filter_map(|name| name.strip_prefix('/').filter(|name| name.starts_with("slipway-")).map(str::to_owned)).collect())
}

/// What is put into volumes.
pub enum Archive {
    Whole(Vec<u8>),
    Stream(ReceiverStream<std::io::Result<Bytes>>),
}

/// A container that is never started: archives put into it land in its volumes.
pub async fn fill_volumes(
    engine: &Docker,
    ctx: &StageContext,
    image: &str,
    mounts: &[(String, VolumeMount)],
    labels: &HashMap<String, String>,
    archive: Archive,
) -> Result<(), Failure> {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["never-started".to_owned()]),
        labels: Some(labels.clone()),
        host_config: Some(HostConfig {
            mounts: Some(volume_mounts(mounts)),
            network_mode: Some("none".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let container = create(engine, ctx, body).await?;
    let archive = match archive {
        Archive::Whole(bytes) => body_full(bytes.into()),
        Archive::Stream(pieces) => body_try_stream(pieces),
    };
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let filled = interruptible(ctx, engine.upload_to_container(container.name(), Some(options), archive)).await;
    container.remove().await;
    filled
}

/// Runs one phase to its end: `/ctl` is filled from `control_archive`, output goes to the job's log, outputs come back after exit 0.
pub async fn run(
    engine: &Docker,
    ctx: &StageContext,
    config: &BuildpacksConfig,
    spec: ContainerSpec,
    control_archive: Vec<u8>,
) -> Result<PhaseOutcome, Failure> {
    let phase = spec.phase;
    let container = create(engine, ctx, body(config, spec)).await?;
    let driving = drive(engine, ctx, phase, container.name(), control_archive);
    let ended = match tokio::time::timeout(config.phase_timeout, driving).await {
        Ok(ended) => ended,
        Err(_) => Err(Failure::new(
            Code::BuildTimeout,
            format!("The {} phase took longer than {} s.", phase.name(), config.phase_timeout.as_secs()),
            "Make the build quicker, or have BUILDPACKS_PHASE_TIMEOUT raised.",
        )),
    };
    container.remove().await;
    ended
}

async fn drive(engine: &Docker, ctx: &StageContext, phase: Phase, name: &str, archive: Vec<u8>) -> Result<PhaseOutcome, Failure> {
    let put = UploadToContainerOptionsBuilder::new().path("/ctl").build();
    interruptible(ctx, engine.upload_to_container(name, Some(put), body_full(Bytes::from(archive)))).await?;
    let attach = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
    let AttachContainerResults { output, input } = interruptible(ctx, engine.attach_container(name, Some(attach))).await?;
    interruptible(ctx, engine.start_container(name, None::<StartContainerOptions>)).await?;
    let mut lines = Lines::new(ctx);
    let followed = interruptible(ctx, follow(engine, name, output, &mut lines)).await;
    let tail = lines.finish();
    drop(input);
    followed?;
    let state = interruptible(ctx, engine.inspect_container(name, None)).await?.state.unwrap_or_default();
    let end = PhaseEnd { exit_code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or(false), tail };
    let mut outputs = Vec::new();
    if end.exit_code == 0 {
        for &control in phase.outputs() {
            outputs.push((control, fetch(engine, ctx, name, control).await?));
        }
    }
    Ok((end, outputs))
}

/// Passes output on until the container has ended. A process in the background that keeps its output open does not outlive pid 1.
async fn follow(
    engine: &Docker,
    name: &str,
    mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
    lines: &mut Lines<'_>,
) -> Result<(), Error> {
    let mut wait = engine.wait_container(name, None::<WaitContainerOptions>);
    let mut output_ended = false;
    loop {
        lines.room().await;
        tokio::select! {
            piece = output.next(), if !output_ended => match piece {
                Some(Ok(LogOutput::StdErr { message })) => lines.stderr(&message),
                Some(Ok(other)) => lines.stdout(other.as_ref()),
                Some(Err(error)) => return Err(error),
                None => output_ended = true,
            },
            ended = wait.next() => {
                // An exit code other than 0 comes as an error.
                if let Some(Err(error)) = ended && !matches!(error, Error::DockerContainerWaitError { .. }) {
                    return Err(error);
                }
                break;
            }
        }
    }
    // What comes later than that is nobody's last word. The time in which the log has no room does not count.
    let mut left = LAST_OUTPUT;
    while !output_ended {
        lines.room().await;
        let asked = Instant::now();
        match tokio::time::timeout(left, output.next()).await {
            Ok(Some(Ok(LogOutput::StdErr { message }))) => lines.stderr(&message),
            Ok(Some(Ok(other))) => lines.stdout(other.as_ref()),
            Ok(Some(Err(error))) => return Err(error),
            Ok(None) | Err(_) => output_ended = true,
        }
        left = left.saturating_sub(asked.elapsed());
    }
    Ok(())
}

fn body(config: &BuildpacksConfig, spec: ContainerSpec) -> ContainerCreateBody {
    let memory = i64::try_from(config.memory_bytes).unwrap_or(i64::MAX);
    let file_bytes = i64::try_from(config.file_bytes).unwrap_or(i64::MAX);
    let mut mounts = volume_mounts(&spec.mounts);
    mounts.extend(spec.scratch.iter().map(|path| Mount {
        target: Some(path.clone()),
        typ: Some(MountType::VOLUME),
        ..Default::default()
    }));
    let mut command = spec.command.into_iter();
    ContainerCreateBody {
        image: Some(spec.image),
        // The image's own entrypoint must not stand before the phase.
        entrypoint: Some(command.by_ref().take(1).collect()),
        cmd: Some(command.collect()),
        user: Some(format!("{}:{}", spec.user.uid, spec.user.gid)),
        env: Some(spec.environment),
        labels: Some(spec.labels),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        host_config: Some(HostConfig {
            network_mode: Some(spec.network),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            memory: Some(memory),
            memory_swap: Some(memory),
            nano_cpus: Some((config.cpus * 1e9) as i64),
            pids_limit: Some(i64::from(config.pids)),
            ulimits: Some(vec![ResourcesUlimits {
                name: Some("fsize".to_owned()),
                soft: Some(file_bytes),
                hard: Some(file_bytes),
            }]),
            // A build that prints for ever must not fill the Engine's disk: its output goes to us alone.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(mounts),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn volume_mounts(mounts: &[(String, VolumeMount)]) -> Vec<Mount> {
    let mount = |(name, mount): &(String, VolumeMount)| Mount {
        source: Some(name.clone()),
        target: Some(mount.volume.path().to_owned()),
        typ: Some(MountType::VOLUME),
        read_only: Some(mount.read_only),
        // Nothing of the image is copied into the volume: its owner comes from the worker.
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
        ..Default::default()
    };
    mounts.iter().map(mount).collect()
}

async fn fetch(engine: &Docker, ctx: &StageContext, name: &str, control: Control) -> Result<Vec<u8>, Failure> {
    let path = format!("/ctl/out/{}", control.file());
    let options = DownloadFromContainerOptionsBuilder::new().path(&path).build();
    let mut stream = engine.download_from_container(name, Some(options));
    let mut archive = Vec::new();
    while let Some(piece) = interruptible(ctx, async { stream.next().await.transpose() }).await? {
        archive.extend_from_slice(&piece);
        if archive.len() > MAX_FETCHED {
            return Err(lifecycle_failure(&format!("{} is larger than any such file", control.file())));
        }
    }
    control::first_file(&archive).map_err(|error| lifecycle_failure(&format!("{} cannot be read: {error}", control.file())))
}
