//! A Docker Engine of a test's own, so that it can be stopped, killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};

use super::Engine;

/// `scripts/parts engine`, with `busybox:base` in it. Dropped, it is gone with all that it ran.
pub struct OwnEngine {
    driver: Child,
    /// `None`: told to end.
    words: Option<ChildStdin>,
    answers: Lines<BufReader<ChildStdout>>,
    socket: PathBuf,
    /// Those that were in it at first.
    images: Vec<String>,
}

impl OwnEngine {
    pub async fn start() -> Self {
        Self::driven(&["engine"]).await
    }

    /// With the images that apps without a Dockerfile are built with.
    pub async fn with_builder() -> Self {
        Self::driven(&["engine", "--builder"]).await
    }

    /// With so many MiB for images, containers and the build cache.
    pub async fn on_a_disk_of(mib: u64) -> Self {
        Self::driven(&["engine", "--disk", &mib.to_string()]).await
    }

    /// As hosts have it, with docker0 and firewall rules, in a network namespace of its own.
    pub async fn as_host() -> Self {
        Self::driven(&["engine", "--as-host"]).await
    }

    async fn driven(arguments: &[&str]) -> Self {
        let mut driver = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/parts"))
            .args(arguments)
            // It ends by itself, after the run's strays are looked for.
            .env_remove("SLIPWAY_TEST_RUN_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start scripts/parts");
        let words = ChildStdin::from_std(driver.stdin.take().expect("piped")).expect("a pipe");
        let answers = ChildStdout::from_std(driver.stdout.take().expect("piped")).expect("a pipe");
        let answers = BufReader::new(answers).lines();
        let mut engine = Self { driver, words: Some(words), answers, socket: PathBuf::new(), images: Vec::new() };
        engine.socket = engine.answer().await.into();
        engine.images = engine.client().images().await;
        engine
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// To look into it.
    pub fn client(&self) -> Engine {
        Engine::at(&self.socket)
    }

    /// Stops it as systemd does, with all that it runs. Returns when it has ended.
    pub async fn terminate(&mut self) {
        self.order("terminate").await;
    }

    /// kill -9 of the Engine alone: the containers run on.
    pub async fn kill(&mut self) {
        self.order("kill").await;
    }

    /// kill -9 of everything at once: Engine, containerd, shims, containers. What only memory held is gone.
    pub async fn cut(&mut self) {
        self.order("cut").await;
    }

    /// Starts it again, on the same socket and with what it had on disk. Returns when it answers.
    pub async fn start_again(&mut self) {
        self.order("start").await;
    }

    /// Deletes its bridge, as another program may: no step's network can be made any more.
    pub async fn unplug(&mut self) {
        self.order("unplug").await;
    }

    /// Makes the bridge anew.
    pub async fn plug(&mut self) {
        self.order("plug").await;
    }

    /// Nothing is in it that was not in it at first, but for the services' caches.
    pub async fn assert_as_at_first(&self) {
        let client = self.client();
        assert_eq!(client.containers().await, [""; 0], "containers");
        assert_eq!(client.volumes().await, [""; 0], "volumes");
        assert_eq!(client.images().await, self.images, "images");
    }

    async fn order(&mut self, word: &str) {
        let words = self.words.as_mut().expect("it was not told to end");
        words.write_all(format!("{word}\n").as_bytes()).await.expect("scripts/parts takes a word");
        assert_eq!(self.answer().await, "done", "{word}");
    }

    async fn answer(&mut self) -> String {
        let line = self.answers.next_line().await.expect("scripts/parts answers");
        line.expect("scripts/parts goes on: its message stands above")
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        // The end of its input is its end; waited for, so that nothing is left when the test is over.
        self.words = None;
        if let Err(error) = self.driver.wait() {
            eprintln!("scripts/parts cannot be waited for: {error}");
        }
    }
}
