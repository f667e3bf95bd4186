//! What must not be there any more when a host's jobs have ended: in the Engine, on the host, in Redis.

use std::path::Path;
use std::time::Duration;

use super::{Engine, Host, RedisServer, eventually};

const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Fails where anything of these deployments is left: containers, volumes, names of images, files, sockets, processes other than
/// `worker` itself, jobs in Redis. `worker`: the pid of the one that still runs, if any.
pub async fn assert_nothing_left(host: &Host, engine: &Engine, redis: &RedisServer, jobs: &[String], worker: Option<i32>) {
    eventually("nothing is left of the jobs", GONE_WITHIN, async || {
        let mut left = left_in_engine(engine, jobs).await;
        left.extend(left_on(host, worker));
        left.extend(jobs_in(redis).await);
        if left.is_empty() { Ok(()) } else { Err(left.join("; ")) }
    })
    .await;
}

/// Containers, volumes, images and names of images that carry the id of one of these deployments.
pub async fn left_in_engine(engine: &Engine, jobs: &[String]) -> Vec<String> {
    let of_jobs = |name: &String| jobs.iter().any(|id| name.contains(id.as_str()));
    let containers = engine.containers().await.into_iter().filter(of_jobs).map(|c| format!("container {c}"));
    // A volume without a name tells nobody whose it is: none may be left by anybody.
    let is_of_jobs = |v: &String| of_jobs(v) || !v.starts_with("slipway-");
    let volumes = engine.volumes().await.into_iter().filter(is_of_jobs).map(|v| format!("volume {v}"));
    let images = engine.tags().await.into_iter().filter(of_jobs).map(|name| format!("image {name}"));
    let built = engine.built_images().await.into_iter().filter(of_jobs).map(|image| format!("image {image}"));
    containers.chain(volumes).chain(images).chain(built).collect()
}

/// Processes other than `worker` itself, files and sockets.
pub fn left_on(host: &Host, worker: Option<i32>) -> Vec<String> {
    let processes = processes_of(host).into_iter().filter(|(pid, _)| Some(*pid) != worker);
    let mut left: Vec<String> = processes.map(|(pid, what)| format!("process {pid} {what}")).collect();
    left.extend(files_of(host));
    left
}

/// The host's processes (the worker and all that it started): pid and command line.
pub fn processes_of(host: &Host) -> Vec<(i32, String)> {
    let mark = format!("SLIPWAY_TEST_HOST={}", host.mark);
    processes(|environment, _| environment.split(|b| *b == 0).any(|variable| variable == mark.as_bytes()))
}

/// The processes with this in their command line, whoever runs them: pid and command line.
pub fn processes_with(text: &str) -> Vec<(i32, String)> {
    processes(|_, command| command.contains(text))
}

/// Those with such an environment (`NAME=value`, each ended by a zero) and command line.
fn processes(is_wanted: impl Fn(&[u8], &str) -> bool) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        let read = |name| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
        if is_wanted(&read("environ"), &command) {
            found.push((pid, command));
        }
    }
    found
}

/// The ids of delivered ends, remembered for a day against an old snapshot of Redis: no leftover.
const ENDED: &str = "ended";

/// Files in `WORK_DIR/tmp`, journals, and sockets anywhere below `WORK_DIR`.
fn files_of(host: &Host) -> Vec<String> {
    let mut left = Vec::new();
    for folder in ["tmp", "journal"] {
        walk(&host.work_dir().join(folder), &mut |path, kind| {
            if !kind.is_dir() && path.file_name() != Some(ENDED.as_ref()) {
                left.push(format!("file {}", path.display()));
            }
        });
    }
    walk(&host.work_dir(), &mut |path, kind| {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_socket() {
            left.push(format!("socket {}", path.display()));
        }
    });
    left
}

fn walk(folder: &Path, visit: &mut impl FnMut(&Path, std::fs::FileType)) {
    // A folder that is not there (any more) has nothing in it.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        visit(&entry.path(), kind);
        if kind.is_dir() {
            walk(&entry.path(), visit);
        }
    }
}

/// Jobs that somebody still owns or has just taken.
async fn jobs_in(redis: &RedisServer) -> Vec<String> {
    let mut left = Vec::new();
    for pattern in ["*:claimed:*", "*:incoming"] {
        for key in redis.command::<Vec<String>>(&["KEYS", pattern]).await {
            let length: u64 = redis.command(&["LLEN", &key]).await;
            left.push(format!("{length} in {key}"));
        }
    }
    left
}
