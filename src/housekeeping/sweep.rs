//! Removes what attempts left behind that are no longer alive: containers, volumes, names and images in the Engine, files in
//! `WORK_DIR/tmp`. Ownership decides, never age. What is another worker's stays unless the process that made it is proved dead (its
//! WORK_DIR may be lost, and its id with it); what is a person's stays.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerSummary, ImageSummary};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, RemoveVolumeOptions,
};

use super::leftover::{self, Attempt, ImageVerdict};
use crate::image::{Life, ProcessMark, labels};
use crate::protocol::DeploymentId;

/// What was removed, and what could not be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub containers: usize,
    /// Of buildpacks: an app's files and layers. Caches stay.
    pub volumes: usize,
    /// Names taken from images that keep another.
    pub names: usize,
    pub images: usize,
    pub files: usize,
    /// One line each. The next sweep tries again.
    pub failures: Vec<String>,
}

impl SweepReport {
    pub fn found_nothing(&self) -> bool {
        *self == Self::default()
    }
    pub fn removed_nothing(&self) -> bool {
        let Self { containers, volumes, names, images, files, failures: _ } = self;
        [containers, volumes, names, images, files].into_iter().all(|count| *count == 0)
    }
}

/// `is_live` is asked after the lists were read: an attempt that has begun meanwhile is not taken for a dead one. It must
/// know an attempt from before it makes anything until everything of it is gone. `tmp`: `WORK_DIR/tmp`.
pub async fn sweep(
    engine: &Docker,
    worker_id: &str,
    tmp: PathBuf,
    is_live: &(dyn Fn(&DeploymentId, u32) -> bool + Sync),
) -> SweepReport {
    let mut report = SweepReport::default();
    let owner = &Owner { worker_id, is_live };
    // Containers first: a volume or an image is not removed while one stands on it.
    if let Err(error) = sweep_containers(engine, owner, &mut report).await {
        report.failures.push(format!("leftover containers: {error}"));
    }
    if let Err(error) = sweep_volumes(engine, owner, &mut report).await {
        report.failures.push(format!("leftover volumes: {error}"));
    }
    if let Err(error) = sweep_images(engine, owner, &mut report).await {
        report.failures.push(format!("leftover images: {error}"));
    }
    match sweep_files(tmp, is_live).await {
        Ok((files, failures)) => {
            report.files = files;
            report.failures.extend(failures);
        }
        Err(error) => report.failures.push(format!("leftover files: {error}")),
    }
    report
}

/// Who sweeps.
struct Owner<'a> {
    worker_id: &'a str,
    is_live: &'a (dyn Fn(&DeploymentId, u32) -> bool + Sync),
}

impl Owner<'_> {
    /// The attempt that a thing with these labels is left of. `None`: it stays.
    fn dead_attempt(&self, labels: Option<&HashMap<String, String>>) -> Option<Attempt> {
        let attempt = Attempt::of(labels)?;
        let labels = labels?;
        let is_own = labels.get(labels::WORKER).is_some_and(|id| id == self.worker_id);
        let is_dead = if is_own {
            !(self.is_live)(&attempt.deployment, attempt.number)
        } else {
            labels.get(labels::PROCESS).and_then(|mark| ProcessMark::parse(mark)).is_some_and(|mark| mark.life() == Life::Dead)
        };
        is_dead.then_some(attempt)
    }
}

/// Of any worker.
fn of_slipway() -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![labels::WORKER.to_owned()])])
}

async fn sweep_containers(engine: &Docker, owner: &Owner<'_>, report: &mut SweepReport) -> Result<(), Error> {
    let options = ListContainersOptionsBuilder::default().all(true).filters(&of_slipway()).build();
    for container in engine.list_containers(Some(options)).await? {
        let dead = owner.dead_attempt(container.labels.as_ref());
        let Some(id) = container.id.clone().filter(|_| dead.is_some()) else {
            continue;
        };
        if !is_our_own(engine, &container).await? {
            continue;
        }
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match gone(engine.remove_container(&id, Some(options)).await) {
            Ok(()) => report.containers += 1,
            Err(error) => report.failures.push(format!("container {id}: {error}")),
        }
    }
    Ok(())
}

async fn sweep_volumes(engine: &Docker, owner: &Owner<'_>, report: &mut SweepReport) -> Result<(), Error> {
    let options = ListVolumesOptionsBuilder::default().filters(&of_slipway()).build();
    for volume in engine.list_volumes(Some(options)).await?.volumes.unwrap_or_default() {
        // A service's cache names no attempt, and stays.
        if owner.dead_attempt(Some(&volume.labels)).is_none() {
            continue;
        }
        match gone(engine.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await) {
            Ok(()) => report.volumes += 1,
            Err(error) => report.failures.push(format!("volume {}: {error}", volume.name)),
        }
    }
    Ok(())
}

/// A container has its image's labels as well as its own: one that somebody runs from a built image carries a worker's.
/// A worker's own is only one whose image does not.
async fn is_our_own(engine: &Docker, container: &ContainerSummary) -> Result<bool, Error> {
    let worker = container.labels.as_ref().and_then(|all| all.get(labels::WORKER));
    let Some(image) = &container.image_id else {
        return Ok(false);
    };
    match engine.inspect_image(image).await {
        Ok(image) => {
            let inherited = image.config.and_then(|config| config.labels).and_then(|mut all| all.remove(labels::WORKER));
            Ok(inherited.as_ref() != worker)
        }
        // The image is gone, so nobody can tell: leave it to a person.
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn sweep_images(engine: &Docker, owner: &Owner<'_>, report: &mut SweepReport) -> Result<(), Error> {
    let options = ListImagesOptionsBuilder::default().filters(&of_slipway()).build();
    for image in engine.list_images(Some(options)).await? {
        let ImageSummary { id, repo_tags, labels, .. } = image;
        let Some(attempt) = owner.dead_attempt(Some(&labels)) else {
            continue;
        };
        let ImageVerdict { names, then_remove } = leftover::judge_image(&attempt, &id, &repo_tags);
        for name in &names {
            match gone(engine.remove_image(name, None::<RemoveImageOptions>, None).await.map(drop)) {
                Ok(()) if then_remove => {}
                Ok(()) => report.names += 1,
                Err(error) => report.failures.push(format!("image name {name}: {error}")),
            }
        }
        if !then_remove {
            continue;
        }
        // Unforced: an image that got a second name meanwhile, or has a container, stays. It went already with its last name.
        match gone(engine.remove_image(&id, None::<RemoveImageOptions>, None).await.map(drop)) {
            Ok(()) => report.images += 1,
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => {}
            Err(error) => report.failures.push(format!("image {id}: {error}")),
        }
    }
    Ok(())
}

/// Already gone is gone.
fn gone(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        other => other,
    }
}

async fn sweep_files(tmp: PathBuf, is_live: &(dyn Fn(&DeploymentId, u32) -> bool + Sync)) -> io::Result<(usize, Vec<String>)> {
    let listing = tokio::task::spawn_blocking(move || leftover_entries(&tmp));
    let found = listing.await.map_err(io::Error::other)??;
    let dead: Vec<PathBuf> = found.into_iter().filter(|(a, _)| !is_live(&a.deployment, a.number)).map(|(_, path)| path).collect();
    let removing = tokio::task::spawn_blocking(move || {
        let mut removed = 0;
        let mut failures = Vec::new();
        for path in dead {
            match remove_entry(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => failures.push(format!("{}: {error}", path.display())),
            }
        }
        (removed, failures)
    });
    removing.await.map_err(io::Error::other)
}

fn leftover_entries(tmp: &Path) -> io::Result<Vec<(Attempt, PathBuf)>> {
    let entries = match std::fs::read_dir(tmp) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.extend(entry.file_name().to_str().and_then(Attempt::of_file).map(|attempt| (attempt, entry.path())));
    }
    Ok(found)
}

/// Never follows a symbolic link.
fn remove_entry(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
}
