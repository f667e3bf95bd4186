//! The other side: what a person would script, by the CLIs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{Repository, parts, unique};

/// `git clone --depth 1`, `docker build`, `docker push`, with a docker configuration that knows the registry's login.
pub struct Script {
    dir: TempDir,
}

impl Script {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("slipway-script-").tempdir().unwrap();
        let login = &parts().registry_login;
        let auth = STANDARD.encode(format!("{}:{}", login.username, login.password));
        let content = serde_json::json!({"auths": {parts().registry.clone(): {"auth": auth}}});
        std::fs::write(dir.path().join("config.json"), content.to_string()).unwrap();
        Self { dir }
    }

    /// The whole of it.
    pub async fn run(&self, repository: &Repository, image: &str) -> Duration {
        let began = Instant::now();
        let tree = self.clone_shallow(repository).await;
        let image = format!("{}/{image}:latest", parts().registry);
        self.must(self.docker().args(["build", "-t", &image]).arg(&tree)).await;
        self.must(self.docker().args(["push", &image])).await;
        let took = began.elapsed();
        std::fs::remove_dir_all(tree).unwrap();
        took
    }

    /// Until BuildKit has the context.
    pub async fn run_to_context(&self, repository: &Repository) -> Duration {
        let began = Instant::now();
        let tree = self.clone_shallow(repository).await;
        let mut build = self.docker();
        build.args(["build", "--progress", "plain", "-t", "script-large"]).arg(&tree).stderr(Stdio::piped());
        let mut child = build.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (mut step, mut took, mut all) = (None, None, String::new());
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((number, "[internal] load build context")) = line.split_once(' ') {
                step = Some(format!("{number} DONE"));
            }
            if step.as_ref().is_some_and(|done| line.starts_with(done)) {
                took.get_or_insert_with(|| began.elapsed());
            }
            all.push_str(&line);
            all.push('\n');
        }
        assert!(child.wait().await.unwrap().success(), "{all}");
        std::fs::remove_dir_all(tree).unwrap();
        took.unwrap_or_else(|| panic!("the context's step did not end:\n{all}"))
    }

    async fn clone_shallow(&self, repository: &Repository) -> PathBuf {
        let tree = self.dir.path().join(unique());
        let url = format!("{}/{}.git", parts().git, repository.name);
        let mut git = self.command(Path::new("git"));
        self.must(git.args(["clone", "-q", "--depth", "1", &url]).arg(&tree)).await;
        tree
    }

    /// The registry's login, as docker and the lifecycle read it.
    pub fn login_file(&self) -> PathBuf {
        self.dir.path().join("config.json")
    }

    pub fn docker(&self) -> Command {
        let mut command = self.command(&parts().docker);
        command.arg("--host").arg(format!("unix://{}", parts().engine_socket.display()));
        command.arg("--config").arg(self.dir.path());
        command
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("HOME", self.dir.path()).env("DOCKER_BUILDKIT", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn must(&self, command: &mut Command) {
        let status = command.status().await.unwrap();
        assert!(status.success(), "{command:?}: {status}");
    }
}
