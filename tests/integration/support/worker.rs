//! The real worker as a process: started with a configuration by environment, signalled, waited for.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{Dashboard, RedisServer, StallingDisk, parts, unique};

/// The worker's environment; nothing of the test's own reaches it.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    env: BTreeMap<String, String>,
    /// Bytes of the disk that `WORK_DIR` is on, where that is one of its own.
    disk: Option<u64>,
}

/// Above MIN_FREE_DISK by default.
const ROOMY: u64 = 4 << 30;

impl WorkerOptions {
    /// Pushes to the test registry with its password; drains for 5 s.
    pub fn new(redis: &RedisServer, dashboard: &Dashboard) -> Self {
        let parts = parts();
        let options = Self { env: BTreeMap::new(), disk: None };
        options
            .redis("127.0.0.1", redis.port)
            .set("REDIS_PASSWORD", &redis.password)
            .set("API_URL", &dashboard.url())
            .set("API_KEY", &dashboard.key)
            .set("DOCKER_HOST", &format!("unix://{}", parts.engine_socket.display()))
            .set("GITHUB_URL", &parts.git)
            // The tests' git servers listen on this host.
            .set("GIT_PRIVATE_HOSTS", "all")
            .set("REGISTRY_HOST", &parts.registry)
            .set("REGISTRY_USERNAME", &parts.registry_login.username)
            .set("REGISTRY_PASSWORD", &parts.registry_login.password)
            .set("BUILDPACKS_BUILDERS", &parts.builders)
            .set("BUILDPACKS_LIFECYCLE_IMAGE", &parts.lifecycle_image)
            .set("MAX_CONCURRENT_BUILDS", "2")
            .set("DRAIN_TIMEOUT", "5")
            .set("LOG_LEVEL", "debug")
            .set("LOG_FORMAT", "text")
    }

    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn unset(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// ECR as moto plays it; images go to the test registry in place of Amazon's.
    pub fn ecr(self) -> Self {
        self.unset("REGISTRY_HOST")
            .unset("REGISTRY_USERNAME")
            .unset("REGISTRY_PASSWORD")
            .set("AWS_REGION", "eu-central-1")
            .set("AWS_ACCESS_KEY_ID", "AKIATESTKEY000000001")
            .set("AWS_SECRET_ACCESS_KEY", "aws-test-secret-key-0123456789")
            .set("AWS_ENDPOINT_URL", &parts().moto)
            .set("ECR_REGISTRY_HOST", &parts().registry)
    }

    pub fn redis(self, host: &str, port: u16) -> Self {
        self.set("REDIS_HOST", host).set("REDIS_PORT", &port.to_string())
    }

    pub fn engine(self, socket: &Path) -> Self {
        self.set("DOCKER_HOST", &format!("unix://{}", socket.display()))
    }

    /// `MAX_CONCURRENT_BUILDS`.
    pub fn builds(self, at_once: usize) -> Self {
        self.set("MAX_CONCURRENT_BUILDS", &at_once.to_string())
    }

    /// `DRAIN_TIMEOUT`, in seconds.
    pub fn drain(self, seconds: u64) -> Self {
        self.set("DRAIN_TIMEOUT", &seconds.to_string())
    }

    /// `WORK_DIR` is on a disk that can be frozen: [`Host::disk`].
    pub fn on_a_stalling_disk(mut self) -> Self {
        self.disk = Some(ROOMY);
        self
    }

    /// `WORK_DIR` is on a disk of so many MiB, which the tests see too: [`Host::work_dir`].
    pub fn on_a_disk_of(mut self, mib: u64) -> Self {
        self.disk = Some(mib << 20);
        self
    }

    /// All values, to look for the secret ones in places where they must not be.
    pub fn value(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("{name} is not set"))
    }
}

/// A build host: a `WORK_DIR` that outlives the worker's processes, and their log.
pub struct Host {
    /// `WORK_DIR` is a disk of its own with so many MiB, which only the worker sees and which goes with it.
    pub disk_mib: Option<u64>,
    /// Stands in the environment of the worker and of everything that it starts.
    pub mark: String,
    pub options: WorkerOptions,
    /// Where the options ask for it. Unmounted before the folder goes.
    disk: Option<StallingDisk>,
    dir: TempDir,
}

impl Host {
    pub fn new(options: WorkerOptions) -> Self {
        let dir = tempfile::Builder::new().prefix("slipway-host-").tempdir().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("work")).expect("make WORK_DIR");
        let disk = options.disk.map(|bytes| StallingDisk::at(&dir.path().join("work"), bytes));
        Self { disk_mib: None, mark: unique(), options, disk, dir }
    }

    /// The disk that `WORK_DIR` is on.
    pub fn disk(&self) -> &StallingDisk {
        self.disk.as_ref().expect("a host on a disk that stalls")
    }

    pub fn work_dir(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The files that hold its journals' records.
    pub fn journal_files(&self) -> Vec<PathBuf> {
        // There is no folder before the worker has started.
        let files = std::fs::read_dir(self.work_dir().join("journal")).into_iter().flatten();
        files.flatten().map(|file| file.path()).filter(|path| path.extension() == Some("journal".as_ref())).collect()
    }

    /// All that stands in its journals.
    pub fn journal(&self) -> String {
        // A file may be removed while it is looked at.
        let contents = self.journal_files().into_iter().filter_map(|path| std::fs::read(path).ok());
        contents.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
    }

    /// Where the worker is started, and so where its `.env` is looked for.
    pub fn current_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Everything that the worker's processes on this host have printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("worker.log")
    }

    /// Starts `slipway worker`.
    pub fn start(&self) -> Worker {
        let mut command = match self.disk_mib {
            None => self.command(),
            Some(mib) => {
                let mut command = self.command_of("unshare");
                let as_root = if rustix::process::geteuid().is_root() { None } else { Some(["--user", "--map-root-user"]) };
                let mount = format!("mount -t tmpfs -o size={mib}m tmpfs \"$WORK_DIR\" && exec \"$0\" \"$@\"");
                command.args(as_root.into_iter().flatten()).args(["--mount", "sh", "-c", &mount, env!("CARGO_BIN_EXE_slipway")]);
                command
            }
        };
        Worker { child: command.arg("worker").spawn().expect("start slipway worker") }
    }

    /// `slipway` with this host's configuration, output going to this host's log.
    pub fn command(&self) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_slipway"))
    }

    fn command_of(&self, program: &str) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("the worker's log");
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(&self.options.env)
            .env("WORK_DIR", self.work_dir())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.dir.path())
            .env("RUST_BACKTRACE", "1")
            // How strays are found: by `scripts/parts` and by the leftover check.
            .env("SLIPWAY_TEST_RUN_DIR", &parts().run_dir)
            .env("SLIPWAY_TEST_HOST", &self.mark)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the worker's log"))
            .stderr(log)
            .kill_on_drop(true);
        command
    }
}

impl Drop for Host {
    /// What the worker said is the first thing to know about a test that failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the worker's log on host {}:\n{}", self.mark, self.log());
        }
    }
}

/// A running worker. Killed when dropped.
pub struct Worker {
    child: Child,
}

impl Worker {
    pub fn pid(&self) -> i32 {
        self.child.id().expect("the worker runs") as i32
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill the worker");
    }

    /// No memory is given to it from now on: an allocation that needs more than it has ends it.
    pub fn take_all_memory(&self) {
        let none = rustix::process::Rlimit { current: Some(0), maximum: None };
        // It may have ended just now.
        rustix::process::prlimit(Some(self.raw_pid()), rustix::process::Resource::Data, none).ok();
    }

    /// As a process ends itself that cannot go on.
    pub fn abort(&self) {
        self.signal(Signal::ABORT);
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// SIGSTOP.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.expect("wait for the worker"),
            Err(_) => panic!("the worker (pid {}) did not end within {within:?}", self.pid()),
        }
    }

    /// Waits for its end, however long that takes.
    pub async fn wait(&mut self) -> ExitStatus {
        self.child.wait().await.expect("wait for the worker")
    }

    /// Waits for its end by this exit code.
    pub async fn ended_with(&mut self, code: i32, within: Duration) {
        let status = self.ended(within).await;
        assert_eq!(status.code(), Some(code), "the worker's end: {status}, signal {:?}", status.signal());
    }

    /// Number of open file descriptors, sockets included.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the worker runs").count()
    }

    pub fn threads(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the worker runs").count()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The most that it ever had resident, in KiB.
    pub fn peak_resident_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the worker runs");
        let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a line of the process's memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.raw_pid(), signal).expect("signal the worker");
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_raw(self.pid()).expect("a pid")
    }
}
