//! A registry of a test's own, with a password or without, and one that accepts connections and then says nothing.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::support::docker;

/// `only-for-reading` by bcrypt.
const HASH: &str = "$2b$05$FdXNOlzirHhJGp2c2zniwudFsgaDKRQVHiMGD2zE1Aeqe.uU8d3Lu";

/// Ends with the test.
pub struct Registry {
    /// `127.0.0.1:<port>`
    pub host: String,
    credentials: Option<(&'static str, &'static str)>,
    process: Child,
    folder: tempfile::TempDir,
}

impl Registry {
    pub async fn start(credentials: Option<(&'static str, &'static str)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").await.and_then(|free| free.local_addr()).expect("a free port");
        let mut settings = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
            folder.path().join("data").display()
        );
        if let Some((user, _)) = credentials {
            let passwords = folder.path().join("htpasswd");
            std::fs::write(&passwords, format!("{user}:{HASH}\n")).expect("the password file");
            settings += &format!("auth:\n  htpasswd:\n    realm: tests\n    path: {}\n", passwords.display());
        }
        let file = folder.path().join("config.yml");
        std::fs::write(&file, settings).expect("the settings");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry");
        let answers = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), answers).await.expect("the registry answers");
        Self { host: address.to_string(), credentials, process, folder }
    }
    /// Pushes an image of the Engine and removes its name there again. The reference is for a FROM.
    pub fn push(&self, image: &str, name: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        let settings = self.folder.path().join("docker");
        let settings = settings.to_str().expect("a plain path");
        if let Some((user, password)) = self.credentials {
            docker(&["--config", settings, "login", "-u", user, "-p", password, &self.host]);
        }
        docker(&["tag", image, &reference]);
        docker(&["--config", settings, "push", &reference]);
        docker(&["rmi", &reference]);
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A registry that begins to answer and then says nothing more.
pub struct StallingRegistry {
    /// `127.0.0.1:<port>`
    pub host: String,
    stalled: std::sync::Arc<tokio::sync::Semaphore>,
    left: std::sync::Arc<tokio::sync::Semaphore>,
    task: tokio::task::JoinHandle<()>,
}

const LAYER: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

impl StallingRegistry {
    /// Accepts and never answers.
    pub async fn before_the_manifest() -> Self {
        Self::start(false).await
    }
    /// Answers up to the middle of the image's layer.
    pub async fn in_a_layer() -> Self {
        Self::start(true).await
    }
    async fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let host = listener.local_addr().expect("an address").to_string();
        let (stalled, left) =
            (std::sync::Arc::new(tokio::sync::Semaphore::new(0)), std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
        let (tell_stalled, tell_left) = (stalled.clone(), left.clone());
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, answers, tell_stalled.clone(), tell_left.clone()));
            }
        });
        Self { host, stalled, left, task }
    }
    /// Waits until the Engine waits for this registry.
    pub async fn stalls(&self) {
        let waiting = tokio::time::timeout(Duration::from_secs(30), self.stalled.acquire());
        waiting.await.expect("the Engine asks this registry").expect("open").forget();
    }
    /// Waits until the Engine has closed the connection that it waited on.
    pub async fn is_left(&self) {
        tokio::time::timeout(Duration::from_secs(5), self.left.acquire())
            .await
            .expect("the Engine lets go")
            .expect("open")
            .forget();
    }
}

impl Drop for StallingRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: bool,
    stalled: std::sync::Arc<tokio::sync::Semaphore>,
    left: std::sync::Arc<tokio::sync::Semaphore>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let config =
        r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["LAYER"]},"history":[{}]}"#
            .replace("LAYER", LAYER);
    let config_digest = format!("sha256:{}", sha256(config.as_bytes()));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{config_digest}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":100000000,"digest":"{LAYER}"}}]}}"#,
        config.len()
    );
    let manifest_digest = format!("sha256:{}", sha256(manifest.as_bytes()));
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return,
            Ok(length) => request.extend_from_slice(&part[..length]),
        }
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        request.clear();
        let is_layer = text.contains(LAYER);
        if !answers || is_layer {
            if is_layer {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nbegin").await;
            }
            stalled.add_permits(1);
            while !matches!(stream.read(&mut part).await, Ok(0) | Err(_)) {}
            left.add_permits(1);
            return;
        }
        let (body, kind) = match text.contains("/blobs/") {
            true => (&config, "application/octet-stream"),
            false => (&manifest, "application/vnd.docker.distribution.manifest.v2+json"),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {manifest_digest}\r\n\r\n"
        );
        let body = if text.starts_with("HEAD") { "" } else { body.as_str() };
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}
