//! `docker build` of a checkout, by the client and the Engine of the tests: what a context's files are measured against.

use std::path::Path;

use tokio::process::Command;

use super::super::support::{Engine, Repository, parts};

/// What the image prints that `docker build` makes of the repository; `None` where it does not build.
pub async fn printed_by_docker(engine: &Engine, repository: &Repository, dockerfile: Option<&str>) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let bare = parts().git_root.join(format!("{}.git", repository.name));
    let clone = Command::new("git").args(["clone", "--quiet"]).arg(&bare).arg(folder.path()).status().await;
    assert!(clone.expect("run git").success(), "git clone");
    let id = folder.path().join(".git/image");
    let mut build = Command::new(&parts().docker);
    build.arg("--host").arg(format!("unix://{}", parts().engine_socket.display())).env("DOCKER_BUILDKIT", "1");
    build.args(["build", "--no-cache", "--quiet", "--iidfile"]).arg(&id).current_dir(folder.path());
    if let Some(path) = dockerfile {
        build.args(["-f", path]);
    }
    let done = build.arg(".").output().await.expect("run docker");
    if !done.status.success() {
        return None;
    }
    let id = read(&id);
    let printed = engine.docker(&["run", "--rm", &id]).await;
    engine.docker(&["image", "rm", "--force", &id]).await;
    Some(printed)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the image's id")
}
