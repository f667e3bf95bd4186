//! Looks into an Engine by the docker client, and runs what was pushed.

use std::path::{Path, PathBuf};
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use tokio::process::Command;

use super::{noise, parts};

/// The label that names the deployment.
const DEPLOYMENT: &str = "dev.slipway.deployment";

pub struct Engine {
    /// The client's configuration: knows the registry's login, without a `docker login`.
    config: TempDir,
    socket: PathBuf,
}

impl Engine {
    /// The shared one.
    #[allow(clippy::new_without_default, reason = "it is opened, not made")]
    pub fn new() -> Self {
        Self::at(&parts().engine_socket)
    }

    pub fn at(socket: &Path) -> Self {
        let config = tempfile::Builder::new().prefix("slipway-docker-").tempdir().expect("a temporary directory");
        write_login(&config, &parts().registry);
        Self { config, socket: socket.to_owned() }
    }

    /// All containers, also stopped ones: `id name image deployment`.
    pub async fn containers(&self) -> Vec<String> {
        let format = format!("{{{{.ID}}}} {{{{.Names}}}} {{{{.Image}}}} {{{{.Label \"{DEPLOYMENT}\"}}}}");
        self.lines(&["ps", "--all", "--no-trunc", "--format", &format]).await
    }

    /// All images that a build has made, also those without a name: `id deployment`.
    pub async fn built_images(&self) -> Vec<String> {
        let ids = self.lines(&["images", "--all", "--quiet", "--no-trunc", "--filter", &format!("label={DEPLOYMENT}")]).await;
        if ids.is_empty() {
            return ids;
        }
        let format = format!("{{{{.Id}}}} {{{{index .Config.Labels \"{DEPLOYMENT}\"}}}}");
        let inspect = ["image", "inspect", "--format", &format].into_iter().chain(ids.iter().map(String::as_str));
        // One may go while it is looked at: the others are printed all the same.
        let printed = self.try_docker(&inspect.collect::<Vec<_>>()).await.stdout;
        String::from_utf8_lossy(&printed).lines().map(str::to_owned).collect()
    }

    /// All volumes that have a name, the services' caches left out, and all others that no container uses.
    pub async fn volumes(&self) -> Vec<String> {
        let mut left = self.lines(&["volume", "ls", "--quiet", "--filter", "name=slipway-"]).await;
        left.retain(|name| !name.starts_with("slipway-cache-"));
        let unused = self.lines(&["volume", "ls", "--quiet", "--filter", "dangling=true"]).await;
        left.extend(unused.into_iter().filter(|name| name.len() == 64));
        left
    }

    /// The ids of all images, with a name or without.
    pub async fn images(&self) -> Vec<String> {
        let mut all = self.lines(&["images", "--all", "--quiet", "--no-trunc"]).await;
        all.sort();
        all.dedup();
        all
    }

    /// Every name of every image: `repository:tag`.
    pub async fn tags(&self) -> Vec<String> {
        let all = self.lines(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).await;
        all.into_iter().filter(|name| !name.contains("<none>")).collect()
    }

    /// Pulls a reference from the registry, runs it and returns what it prints. Leaves neither container nor name behind.
    pub async fn run(&self, image: &str) -> String {
        self.docker(&["pull", "--quiet", image]).await;
        let printed = self.docker(&["run", "--rm", image]).await;
        self.docker(&["image", "rm", image]).await;
        printed
    }

    /// Pushes `busybox:base` to the registry under this name and returns the reference.
    pub async fn push_base(&self, repository: &str) -> String {
        let name = format!("{}/{repository}:base", parts().registry);
        self.docker(&["tag", "busybox:base", &name]).await;
        self.docker(&["push", "--quiet", &name]).await;
        self.docker(&["image", "rm", &name]).await;
        name
    }

    /// Pushes an image of one layer with so many bytes that nobody has yet, removes it from the Engine, and returns its
    /// reference: whoever builds from it has to download it.
    pub async fn push_cold_base(&self, repository: &str, bytes: usize) -> String {
        let name = format!("{}/{repository}:base", parts().registry);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, archive) = (dir.path().join("noise"), dir.path().join("noise.tar"));
        std::fs::write(&file, noise(bytes)).expect("write the layer's file");
        let tar = Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(dir.path()).arg("noise").status().await;
        assert!(tar.expect("run tar").success(), "tar failed");
        self.docker(&["import", &archive.display().to_string(), &name]).await;
        self.docker(&["push", "--quiet", &name]).await;
        self.docker(&["image", "rm", &name]).await;
        name
    }

    /// Pulls an image of the registry by its digest from `proxy`, which stands before the registry, and returns the reference.
    pub async fn pull_through(&self, proxy: &str, image: &str, digest: &str) -> String {
        let config = tempfile::tempdir().expect("a temporary directory");
        write_login(&config, proxy);
        let (_, path) = image.split_once('/').expect("an image with its registry");
        let (repository, _) = path.rsplit_once(':').expect("an image with a tag");
        let reference = format!("{proxy}/{repository}@{digest}");
        self.docker(&["--config", &config.path().display().to_string(), "pull", "--quiet", &reference]).await;
        reference
    }

    async fn lines(&self, arguments: &[&str]) -> Vec<String> {
        self.docker(arguments).await.lines().map(str::to_owned).collect()
    }

    /// Runs the client; fails the test when it fails.
    pub async fn docker(&self, arguments: &[&str]) -> String {
        let done = self.try_docker(arguments).await;
        assert!(done.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    pub async fn try_docker(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&parts().docker);
        command.arg("--host").arg(format!("unix://{}", self.socket.display()));
        command.arg("--config").arg(self.config.path()).args(arguments).kill_on_drop(true);
        command.output().await.expect("run the docker client")
    }
}

/// The client's configuration, with the login of the rig's registry for this address.
fn write_login(directory: &TempDir, registry: &str) {
    let login = &parts().registry_login;
    let auth = STANDARD.encode(format!("{}:{}", login.username, login.password));
    let content = serde_json::json!({"auths": {registry: {"auth": auth}}});
    std::fs::write(directory.path().join("config.json"), content.to_string()).expect("write the client's configuration");
}
