//! One phase's container from create to removal, through the Engine API. Whatever happens, the container is gone afterwards.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, MountVolumeOptions, ResourcesUlimits,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, UploadToContainerOptionsBuilder, WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;

use super::control;
use super::exit::PhaseEnd;
use super::phase::{Control, Phase, User, VolumeMount};
use crate::config::BuildpacksConfig;
use crate::protocol::{Code, Failure, LogType, safe_line};
use crate::secrets::StreamRedactor;
use crate::stage::StageContext;

/// The longest line that is passed on whole.
const MAX_LINE: usize = 16 * 1024;
/// How many of the last lines are kept for the failure's words.
const TAIL_LINES: usize = 60;
/// After the phase's first process is gone, how long its output may still come.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// How long a removal may take; housekeeping finds what is left by its labels.
const REMOVAL: Duration = Duration::from_secs(10);

/// What a container of this build is made of.
pub struct ContainerSpec {
    pub phase: Phase,
    pub image: String,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    /// Name of the Engine's volume behind each mount.
    pub mounts: Vec<(String, VolumeMount)>,
    /// `host`, `none` or a network's name.
    pub network: String,
    pub user: User,
    pub labels: HashMap<String, String>,
}

/// Removes the container when dropped without having been removed: the removal runs on the attempt's tasks.
struct Removal<'a> {
    engine: &'a Docker,
    ctx: &'a StageContext,
    id: Option<String>,
}

impl Removal<'_> {
    async fn now(&mut self) {
        if let Some(id) = self.id.take() {
            remove(self.engine.clone(), id).await;
        }
    }
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.ctx.tasks.spawn(remove(self.engine.clone(), id));
        }
    }
}

async fn remove(engine: Docker, id: String) {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match tokio::time::timeout(REMOVAL, engine.remove_container(&id, Some(options))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("a container could not be removed, the sweep will: {error}"),
        Err(_) => tracing::warn!("a container's removal took too long, the sweep will look for it"),
    }
}

/// A container that is never started: archives put into it land in its volumes.
pub async fn fill_volumes(
    engine: &Docker,
    ctx: &StageContext,
    image: &str,
    mounts: &[(String, VolumeMount)],
    labels: &HashMap<String, String>,
    archive: bollard::body::BodyType,
) -> Result<(), Failure> {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["never-started".to_owned()]),
        labels: Some(labels.clone()),
        host_config: Some(HostConfig { mounts: Some(volume_mounts(mounts)), ..Default::default() }),
        ..Default::default()
    };
    let mut removal = create(engine, ctx, body).await?;
    let id = removal.id.clone().unwrap_or_default();
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let filled = interruptible(ctx, engine.upload_to_container(&id, Some(options), archive)).await;
    removal.now().await;
    filled
}

/// Runs one phase to its end: `/ctl` is filled from `control_archive`, output goes to the job's log, outputs come back after exit 0.
pub async fn run(
    engine: &Docker,
    ctx: &StageContext,
    config: &BuildpacksConfig,
    spec: ContainerSpec,
    control_archive: Vec<u8>,
) -> Result<(PhaseEnd, Vec<(Control, Vec<u8>)>), Failure> {
    let phase = spec.phase;
    let mut removal = create(engine, ctx, body(config, spec)).await?;
    let id = removal.id.clone().unwrap_or_default();
    let ended = drive(engine, ctx, config, phase, &id, control_archive).await;
    removal.now().await;
    ended
}

async fn drive(
    engine: &Docker,
    ctx: &StageContext,
    config: &BuildpacksConfig,
    phase: Phase,
    id: &str,
    control_archive: Vec<u8>,
) -> Result<(PhaseEnd, Vec<(Control, Vec<u8>)>), Failure> {
    let put = UploadToContainerOptionsBuilder::new().path("/ctl").build();
    let archive = bollard::body_full(Bytes::from(control_archive));
    interruptible(ctx, engine.upload_to_container(id, Some(put), archive)).await?;
    let attach = AttachContainerOptionsBuilder::new().stream(true).stdout(true).stderr(true).build();
    let AttachContainerResults { output, input } = interruptible(ctx, engine.attach_container(id, Some(attach))).await?;
    drop(input);
    interruptible(ctx, engine.start_container(id, None::<StartContainerOptions>)).await?;

    let mut lines = Lines::new(ctx);
    let finished = tokio::select! {
        finished = follow(engine, id, output, &mut lines) => finished,
        () = tokio::time::sleep(config.phase_timeout) => return Err(Failure::new(
            Code::BuildTimeout,
            format!("The {} phase took longer than {} s.", phase.name(), config.phase_timeout.as_secs()),
            "Make the build quicker, or have BUILDPACKS_PHASE_TIMEOUT raised.",
        )),
        () = ctx.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    lines.finish();
    finished.map_err(engine_failure)?;
    let state = interruptible(ctx, engine.inspect_container(id, None)).await?.state.unwrap_or_default();
    let end = PhaseEnd {
        exit_code: state.exit_code.unwrap_or(-1),
        out_of_memory: state.oom_killed.unwrap_or(false),
        tail: lines.tail.into(),
    };
    let mut outputs = Vec::new();
    if end.exit_code == 0 {
        for &control in phase.outputs() {
            outputs.push((control, fetch(engine, ctx, id, control).await?));
        }
    }
    Ok((end, outputs))
}

/// Passes output on until the container has ended. A process in the background that keeps its output open does not outlive pid 1.
async fn follow(
    engine: &Docker,
    id: &str,
    mut output: impl futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Unpin,
    lines: &mut Lines<'_>,
) -> Result<(), bollard::errors::Error> {
    let mut wait = engine.wait_container(id, None::<WaitContainerOptions>);
    let mut ended = false;
    let last = tokio::time::sleep(Duration::MAX / 4);
    tokio::pin!(last);
    loop {
        tokio::select! {
            biased;
            piece = output.next() => match piece {
                Some(Ok(LogOutput::StdErr { message })) => lines.push(LogType::Stderr, &message),
                Some(Ok(other)) => lines.push(LogType::Stdout, other.as_ref()),
                Some(Err(error)) => return Err(error),
                None if ended => return Ok(()),
                None => {
                    // Output is over; the exit code comes with the wait.
                    return match wait.next().await {
                        Some(Err(error)) if !matches!(error, bollard::errors::Error::DockerContainerWaitError { .. }) => Err(error),
                        _ => Ok(()),
                    };
                }
            },
            waited = wait.next(), if !ended => match waited {
                Some(Err(error)) if !matches!(error, bollard::errors::Error::DockerContainerWaitError { .. }) => return Err(error),
                _ => {
                    ended = true;
                    last.as_mut().reset(tokio::time::Instant::now() + LAST_OUTPUT);
                }
            },
            () = &mut last => return Ok(()),
        }
    }
}

async fn create<'a>(engine: &'a Docker, ctx: &'a StageContext, body: ContainerCreateBody) -> Result<Removal<'a>, Failure> {
    let name = container_name(ctx);
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    // By name from the first moment: a create whose answer never comes is removed all the same.
    let mut removal = Removal { engine, ctx, id: Some(name) };
    match interruptible(ctx, engine.create_container(Some(options), body)).await {
        Ok(created) => {
            removal.id = Some(created.id);
            Ok(removal)
        }
        Err(failure) => Err(failure),
    }
}

fn container_name(ctx: &StageContext) -> String {
    let mut random = [0u8; 4];
    let unique = match aws_lc_rs::rand::fill(&mut random) {
        Ok(()) => hex::encode(random),
        Err(_) => "x".to_owned(),
    };
    format!("slipway-{}-{}-{unique}", ctx.deployment, ctx.attempt)
}

fn body(config: &BuildpacksConfig, spec: ContainerSpec) -> ContainerCreateBody {
    let memory = i64::try_from(config.memory_bytes).unwrap_or(i64::MAX);
    let scratch = |path: &str| Mount { target: Some(path.to_owned()), typ: Some(MountType::VOLUME), ..Default::default() };
    let mut mounts = volume_mounts(&spec.mounts);
    mounts.extend([scratch("/ctl"), scratch("/tmp")]);
    let file_bytes = i64::try_from(config.file_bytes).unwrap_or(i64::MAX);
    ContainerCreateBody {
        image: Some(spec.image),
        // The image's own entrypoint must not stand before the phase.
        entrypoint: Some(spec.command.iter().take(1).cloned().collect()),
        cmd: Some(spec.command.iter().skip(1).cloned().collect()),
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
            ulimits: Some(vec![ResourcesUlimits { name: Some("fsize".to_owned()), soft: Some(file_bytes), hard: Some(file_bytes) }]),
            // A build that prints for ever must not fill the Engine's disk: its output goes to us alone.
            log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
            mounts: Some(mounts),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn volume_mounts(mounts: &[(String, VolumeMount)]) -> Vec<Mount> {
    mounts
        .iter()
        .map(|(name, mount)| Mount {
            source: Some(name.clone()),
            target: Some(mount.volume.path().to_owned()),
            typ: Some(MountType::VOLUME),
            read_only: Some(mount.read_only),
            // Nothing of the image is copied into the volume: its owner comes from the worker.
            volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..Default::default() }),
            ..Default::default()
        })
        .collect()
}

async fn fetch(engine: &Docker, ctx: &StageContext, id: &str, control: Control) -> Result<Vec<u8>, Failure> {
    let path = format!("/ctl/out/{}", control.file());
    let options = DownloadFromContainerOptionsBuilder::new().path(&path).build();
    let mut stream = engine.download_from_container(id, Some(options));
    let mut archive = Vec::new();
    while let Some(piece) = interruptible_next(ctx, &mut stream).await? {
        archive.extend_from_slice(&piece);
        if archive.len() > 8 << 20 {
            return Err(lifecycle_failure(format!("{} is larger than any such file", control.file())));
        }
    }
    control::first_file(&archive).map_err(|error| lifecycle_failure(format!("{} cannot be read: {error}", control.file())))
}

pub fn lifecycle_failure(cause: String) -> Failure {
    Failure::new(
        Code::BuildpacksLifecycle,
        format!("The lifecycle did not do as expected: {cause}."),
        "Check BUILDPACKS_LIFECYCLE_IMAGE and BUILDPACKS_BUILDERS.",
    )
}

pub fn engine_failure(error: bollard::errors::Error) -> Failure {
    crate::image::engine_failure(&error)
}

/// Waits for the Engine unless the job is stopped first.
pub async fn interruptible<T>(
    ctx: &StageContext,
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
        answer = call => answer.map_err(engine_failure),
    }
}

async fn interruptible_next(
    ctx: &StageContext,
    stream: &mut (impl futures_util::Stream<Item = Result<Bytes, bollard::errors::Error>> + Unpin),
) -> Result<Option<Bytes>, Failure> {
    interruptible(ctx, async { stream.next().await.transpose() }).await
}

/// Output pieces → redacted lines in the job's log; keeps the tail for the failure's words.
struct Lines<'a> {
    ctx: &'a StageContext,
    streams: [(LogType, StreamRedactor, Vec<u8>); 2],
    tail: VecDeque<String>,
}

impl<'a> Lines<'a> {
    fn new(ctx: &'a StageContext) -> Self {
        let stream = |kind| (kind, ctx.redactor.stream(), Vec::new());
        Self { ctx, streams: [stream(LogType::Stdout), stream(LogType::Stderr)], tail: VecDeque::new() }
    }

    fn push(&mut self, kind: LogType, piece: &[u8]) {
        let index = usize::from(kind == LogType::Stderr);
        let masked = self.streams[index].1.push(piece);
        self.streams[index].2.extend_from_slice(&masked);
        self.flush(index, false);
    }

    fn finish(&mut self) {
        for index in 0..self.streams.len() {
            let rest = self.streams[index].1.finish();
            self.streams[index].2.extend_from_slice(&rest);
            self.flush(index, true);
        }
    }

    fn flush(&mut self, index: usize, all: bool) {
        let (kind, _, buffer) = &mut self.streams[index];
        let mut start = 0;
        while start < buffer.len() {
            let rest = &buffer[start..];
            let (line, next) = match rest.iter().take(MAX_LINE).position(|&b| b == b'\n') {
                Some(end) => (&rest[..end], start + end + 1),
                None if rest.len() >= MAX_LINE => (&rest[..MAX_LINE], start + MAX_LINE),
                None if all => (rest, buffer.len()),
                None => break,
            };
            let line = safe_line(line);
            self.ctx.log.line(*kind, &line);
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            let end = line.floor_char_boundary(500);
            self.tail.push_back(line[..end].to_owned());
            start = next;
        }
        buffer.drain(..start);
    }
}
