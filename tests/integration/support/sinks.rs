//! Everywhere that something of a job may stand after its end.

use std::path::Path;

use super::{Body, Rig};

/// Name and content of each: posts, logs, files, Redis, the Engine's containers and images. The images that were pushed, by their
/// references.
pub async fn sinks(rig: &Rig, pushed: &[String]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for post in rig.dashboard.posts() {
        if let Body::Log { text, .. } = post.body {
            all.push((format!("a line of {}", post.deployment), text.into_bytes()));
        }
        all.push((format!("a post for {}", post.deployment), post.raw.into_bytes()));
    }
    for image in pushed {
        all.push((format!("config and history of {image}"), rig.registry.config(image).await.to_string().into_bytes()));
        all.push((format!("the manifest of {image}"), rig.registry.manifest(image).await.to_string().into_bytes()));
    }
    all.push(("Redis".to_owned(), rig.redis.dump().await.into_bytes()));
    // Its log and WORK_DIR.
    all.extend(files_below(rig.host.current_dir()));
    for kind in ["ps --all --quiet --no-trunc", "images --all --quiet --no-trunc"] {
        let ids = rig.engine.docker(&kind.split(' ').collect::<Vec<_>>()).await;
        let inspect = ["inspect"].into_iter().chain(ids.lines()).collect::<Vec<_>>();
        // One may go while it is looked at.
        all.push((format!("docker inspect of {kind}"), rig.engine.try_docker(&inspect).await.stdout));
    }
    all
}

/// All files of a folder: name and content.
pub fn files_below(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => all.extend(files_below(&entry.path())),
            // A file may be renamed or removed while it is looked at.
            Ok(kind) if kind.is_file() => {
                all.push((entry.path().display().to_string(), std::fs::read(entry.path()).unwrap_or_default()));
            }
            _ => {}
        }
    }
    all
}
