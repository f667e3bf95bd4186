//! Free disk space, and whether there is enough of it to claim a job.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::Docker;

use crate::protocol::{Code, Failure};

/// As the operator knows the two places.
pub const WORK_DIR: &str = "WORK_DIR";
pub const ENGINES_DATA: &str = "the Engine's data";

/// A place that builds write to, with what is free for us there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// [`WORK_DIR`] or [`ENGINES_DATA`].
    pub name: &'static str,
    pub path: PathBuf,
    /// Which disk it is on.
    pub device: u64,
    /// Bytes that a process without root's reserve can still write.
    pub free: u64,
}

/// Measures the file system that has `path`. A system call that may block on a dead network mount: not for the runtime's threads.
pub fn measure(name: &'static str, path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    let device = rustix::fs::stat(path)?.st_dev;
    Ok(Space { name, path: path.to_owned(), device, free: stat.f_bavail.saturating_mul(stat.f_frsize) })
}

/// Those of WORK_DIR and the Engine's data that are given; the latter where it is on this host (see [`engine_root`]).
pub async fn measure_all(work_dir: Option<PathBuf>, engine_root: Option<PathBuf>) -> io::Result<Vec<Space>> {
    let measuring = tokio::task::spawn_blocking(move || {
        let work = work_dir.map(|path| measure(WORK_DIR, &path)).transpose()?;
        let engine = engine_root.map(|path| measure(ENGINES_DATA, &path)).transpose()?;
        Ok(work.into_iter().chain(engine).collect())
    });
    measuring.await.map_err(io::Error::other)?
}

/// How long the Engine is asked where it keeps its images.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Where the Engine keeps images and cache, if that directory is on this host: from inside a container only the socket is.
pub async fn engine_root(engine: &Docker) -> Option<PathBuf> {
    let root = PathBuf::from(tokio::time::timeout(ANSWERS_WITHIN, engine.info()).await.ok()?.ok()?.docker_root_dir?);
    let found = root.clone();
    let is_here = tokio::task::spawn_blocking(move || found.is_dir()).await.unwrap_or(false);
    is_here.then_some(root)
}

/// `Err` says in a line which place is short of `floor` bytes (`MIN_FREE_DISK`).
pub fn enough(spaces: &[Space], floor: u64) -> Result<(), Failure> {
    let Some(short) = spaces.iter().filter(|space| space.free < floor).min_by_key(|space| space.free) else {
        return Ok(());
    };
    let (code, way_out) = match short.name == WORK_DIR {
        true => (
            Code::WorkerDiskFull,
            "Free space on that disk, set WORK_DIR to another one, or lower GIT_CACHE_MAX or MIN_FREE_DISK.",
        ),
        false => (Code::EngineDiskFull, "Free disk space (docker system prune), lower BUILD_CACHE_MAX, or lower MIN_FREE_DISK."),
    };
    Err(Failure::new(
        code,
        format!(
            "{} ({}) has {} free, less than MIN_FREE_DISK ({}): no job is claimed.",
            short.name,
            short.path.display(),
            size(short.free),
            size(floor)
        ),
        way_out,
    ))
}

/// In GiB with a tenth; below one in MiB.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1 << 30 {
        return format!("{} MiB", bytes >> 20);
    }
    let tenths = u128::from(bytes) * 10 / (1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn space(name: &'static str, free: u64) -> Space {
        Space { name, path: "/data".into(), device: 1, free }
    }

    #[test]
    fn a_job_is_claimed_only_where_every_place_has_room() {
        assert_eq!(enough(&[space("WORK_DIR", 10), space("the Engine's data", 10)], 10), Ok(()));
        let failure = enough(&[space("WORK_DIR", 3 << 30), space("the Engine's data", 1 << 29)], 1 << 30).unwrap_err();
        assert_eq!(failure.code, Code::EngineDiskFull);
        assert!(
            failure.cause.contains("the Engine's data (/data) has 512 MiB free, less than MIN_FREE_DISK (1.0 GiB)"),
            "{failure}"
        );
        assert_eq!(enough(&[space("WORK_DIR", 0)], 1).unwrap_err().code, Code::WorkerDiskFull);
    }

    #[test]
    fn a_directory_of_this_machine_is_measured() {
        assert!(measure("WORK_DIR", Path::new("/")).unwrap().free > 0);
        assert!(measure("WORK_DIR", Path::new("/no/such/place")).is_err());
    }

    proptest! {
        #[test]
        fn a_place_is_short_exactly_below_the_floor(free: u64, floor: u64) {
            prop_assert_eq!(enough(&[space("WORK_DIR", free)], floor).is_err(), free < floor);
        }
    }
}
