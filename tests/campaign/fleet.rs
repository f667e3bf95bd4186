//! Workers on hosts of their own with one Redis, one dashboard and links that can be broken; the jobs that were pushed to them.

use std::time::{Duration, Instant};

use crate::fault::{Break, Part};
use crate::small_disk;
use crate::support::{
    BlackHole, Dashboard, Engine, Fault, Host, Job, OwnEngine, Proxy, RedisServer, Registry, Repository, Trouble, Worker,
    WorkerOptions, parts,
};

pub const QUEUE: &str = "builder-queue";
pub const JOBS: &str = "{builder-queue}:jobs";

/// How the workers are configured.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// `MAX_CONCURRENT_BUILDS`.
    pub builds: usize,
    /// `DRAIN_TIMEOUT`, in seconds.
    pub drain: u64,
    /// Images go to ECR, and not to a registry with a password.
    pub ecr: bool,
    pub disks: Disks,
}

/// What the hosts' disks are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// There is always room.
    Roomy,
    /// Each `WORK_DIR` is on a disk of its own that can be frozen.
    Stalling,
    /// Each `WORK_DIR`, and the Engine's data, on a small disk of its own.
    Small,
}

/// A host with its own link to Redis.
pub struct Node {
    /// As the dashboard's record has it.
    pub name: String,
    pub host: Host,
    pub worker: Option<Worker>,
    pub redis: Proxy,
}

/// The links that all hosts share.
pub struct Links {
    pub git: Proxy,
    pub registry: Proxy,
    pub engine: Proxy,
    pub ecr: Proxy,
    _sockets: tempfile::TempDir,
}

#[derive(Debug, Clone)]
pub struct Sent {
    pub job: Job,
    /// How many lines its step prints.
    pub lines: usize,
    /// A cancel was published, so that it may end as CANCELLED.
    pub cancelled: bool,
    /// A newer job of its service was pushed.
    pub superseded: bool,
    /// The dashboard refuses its end for ever.
    pub refused: bool,
}

pub struct Fleet {
    pub redis: RedisServer,
    pub dashboard: Dashboard,
    pub engine: Engine,
    pub registry: Registry,
    pub links: Links,
    pub nodes: Vec<Node>,
    /// Hosts that are gone for good, and their workers' ids.
    pub lost: Vec<(Host, String)>,
    pub jobs: Vec<Sent>,
    /// They live as long as their jobs.
    pub repositories: Vec<Repository>,
    pub disturbances: Vec<(Instant, Instant)>,
    pub frozen: bool,
    /// They stay as long as jobs may ask them.
    black_holes: Vec<BlackHole>,
    /// The jobs may end in the dead letter: workers are killed at random moments.
    pub may_crash: bool,
    /// A failure with one of these codes is an end as it should be.
    pub may_fail: Vec<&'static str>,
    /// Where the Engine is the fleet's alone.
    _own_engine: Option<OwnEngine>,
    setup: Setup,
}

impl Fleet {
    pub async fn start(hosts: usize, setup: Setup) -> Self {
        let own_engine = match setup.disks {
            Disks::Small => Some(OwnEngine::on_a_disk_of(small_disk::ENGINE_MIB).await),
            Disks::Roomy | Disks::Stalling => None,
        };
        let engine = own_engine.as_ref().map_or_else(Engine::new, OwnEngine::client);
        let engine_socket = own_engine.as_ref().map_or(parts().engine_socket.as_path(), OwnEngine::socket);
        let sockets = tempfile::Builder::new().prefix("slipway-sockets-").tempdir().expect("a temporary directory");
        let links = Links {
            git: Proxy::tcp(&parts().git).await,
            registry: Proxy::tcp(&parts().registry).await,
            engine: Proxy::unix(engine_socket, sockets.path().join("engine.sock")),
            ecr: Proxy::tcp(&parts().moto).await,
            _sockets: sockets,
        };
        let (redis, dashboard) = (RedisServer::start().await, Dashboard::start().await);
        let mut fleet = Self {
            redis,
            dashboard,
            engine,
            registry: Registry::new(),
            links,
            nodes: Vec::new(),
            lost: Vec::new(),
            jobs: Vec::new(),
            repositories: Vec::new(),
            disturbances: Vec::new(),
            frozen: false,
            black_holes: Vec::new(),
            may_crash: false,
            may_fail: Vec::new(),
            _own_engine: own_engine,
            setup,
        };
        for _ in 0..hosts {
            fleet.add_host().await;
        }
        fleet
    }

    /// A new host with a running worker.
    pub async fn add_host(&mut self) -> usize {
        let name = format!("host{}", self.nodes.len() + self.lost.len());
        let redis = Proxy::tcp(&self.redis.address()).await;
        let login = &parts().registry_login;
        let pull = format!("{}={}:{}", self.links.registry.address(), login.username, login.password);
        let options = WorkerOptions::new(&self.redis, &self.dashboard)
            .set("API_URL", &self.dashboard.url_of(&name))
            .set("PULL_REGISTRIES", &pull)
            // An outage of the git server is one of the operator's parts.
            .set("UPSTREAM_HOSTS", &self.links.git.address())
            .engine(self.links.engine.socket())
            .redis("127.0.0.1", redis.port())
            .builds(self.setup.builds)
            .drain(self.setup.drain);
        let options = if self.setup.ecr {
            options.ecr().set("AWS_ENDPOINT_URL", &self.links.ecr.url()).set("ECR_REGISTRY_HOST", &self.links.registry.address())
        } else {
            options.set("REGISTRY_HOST", &self.links.registry.address())
        };
        let options = match self.setup.disks {
            Disks::Roomy => options,
            Disks::Stalling => options.on_a_stalling_disk(),
            Disks::Small => options.on_a_disk_of(small_disk::WORK_DIR_MIB).set("MIN_FREE_DISK", small_disk::MIN_FREE_DISK),
        };
        // A disk of its own takes a while to be made; the other cases run on this thread.
        let host = tokio::task::spawn_blocking(move || Host::new(options)).await.expect("a host");
        let worker = Some(host.start());
        self.nodes.push(Node { name, host, worker, redis });
        self.nodes.len() - 1
    }

    /// Pushes a job that prints so many lines; `dockerfile` ends with what else it does.
    pub async fn push(&mut self, repository: Repository, lines: usize, change: impl FnOnce(Job) -> Job) -> Job {
        let job = change(Job::of(&repository).git_at(&self.links.git.url(), None));
        self.repositories.push(repository);
        for older in self.jobs.iter_mut().filter(|s| s.job.service == job.service) {
            older.superseded = true;
        }
        self.jobs.push(Sent { job: job.clone(), lines, cancelled: false, superseded: false, refused: false });
        let _: u64 = self.redis.command(&["RPUSH", QUEUE, &job.payload()]).await;
        job
    }

    /// Jobs that name hosts of their own: a git server that swallows connections, one that has no name, and a registry that refuses.
    pub async fn push_jobs_of_dead_hosts(&mut self) {
        self.may_fail.extend(["[git.unreachable]", "[git.host_unknown]", "[build.pull_unreachable]"]);
        let hole = BlackHole::open().await;
        let hello: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\n")];
        for url in [hole.url(), "http://nosuch.invalid".to_owned()] {
            self.push(Repository::public(hello), 0, |job| job.git_at(&url, None)).await;
        }
        let dead_base: &[(&str, &str)] = &[("Dockerfile", "FROM 127.0.0.1:1/team/base:1\n")];
        self.push(Repository::public(dead_base), 0, |job| job).await;
        self.black_holes.push(hole);
    }

    pub async fn cancel(&mut self, job: &Job) {
        if let Some(sent) = self.jobs.iter_mut().find(|s| s.job.id == job.id) {
            sent.cancelled = true;
        }
        let message = serde_json::json!({"deploymentId": job.id}).to_string();
        let _: u64 = self.redis.command(&["PUBLISH", "builder:cancel", &message]).await;
    }

    /// The dashboard answers this job's end with 500 from now on.
    pub fn refuse_end(&mut self, job: &Job) {
        if let Some(sent) = self.jobs.iter_mut().find(|s| s.job.id == job.id) {
            sent.refused = true;
        }
        self.dashboard.fail_end(&job.id);
    }

    /// The notes in the dead letter list.
    pub async fn dead_letters(&self) -> Vec<String> {
        self.redis.command(&["LRANGE", "{builder-queue}:dead", "0", "-1"]).await
    }

    /// The host whose worker has the job, by its record in Redis.
    pub async fn owner(&self, job: &Job) -> Option<usize> {
        let record: Option<String> = self.redis.command(&["HGET", JOBS, &job.id]).await;
        let record: serde_json::Value = serde_json::from_str(&record?).ok()?;
        let worker = record["worker"].as_str()?;
        self.nodes.iter().position(|n| worker_id(&n.host).as_deref() == Some(worker))
    }

    /// kill -9.
    pub async fn kill(&mut self, node: usize) {
        self.note_disturbance(Duration::ZERO);
        if let Some(worker) = self.nodes[node].worker.take() {
            worker.kill().await;
        }
    }

    pub fn restart(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if node.worker.is_none() {
            node.worker = Some(node.host.start());
        }
    }

    /// The host is gone for good; another takes its place.
    pub async fn lose(&mut self, node: usize) {
        let new = self.add_host().await;
        let fresh = self.nodes.remove(new);
        let old = std::mem::replace(&mut self.nodes[node], fresh);
        let id = worker_id(&old.host).unwrap_or_default();
        self.lost.push((old.host, id));
    }

    /// Answers given from now on, for so long, may go unheard.
    pub fn note_disturbance(&mut self, lasts: Duration) {
        let now = Instant::now();
        self.disturbances.push((now, now + lasts));
    }

    pub fn breaks(&self, part: Part, kind: Break) {
        let fault = kind.of_link();
        match part {
            Part::Redis => self.nodes.iter().for_each(|n| n.redis.set(fault)),
            Part::Git => self.links.git.set(fault),
            Part::Registry => self.links.registry.set(fault),
            Part::Engine => self.links.engine.set(fault),
            Part::Ecr => self.links.ecr.set(fault),
            Part::Dashboard => self.dashboard.set(match kind {
                Break::Busy => Trouble::Answer(503),
                Break::TooMany => Trouble::TooMany { retry_after: 1 },
                _ => Trouble::Link(fault),
            }),
        }
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.nodes.iter().for_each(|n| n.redis.set(Fault::Pass));
        for link in [&self.links.git, &self.links.registry, &self.links.engine, &self.links.ecr] {
            link.set(Fault::Pass);
        }
        self.dashboard.set(Trouble::None);
    }

    /// The log of every host, for a look at a miss.
    pub fn logs(&self) -> String {
        let hosts = self.nodes.iter().map(|n| &n.host).chain(self.lost.iter().map(|(host, _)| host));
        hosts.map(|host| format!("==== worker {}\n{}\n", worker_id(host).unwrap_or_default(), host.log())).collect()
    }
}

pub fn worker_id(host: &Host) -> Option<String> {
    let text = std::fs::read_to_string(host.work_dir().join("identity")).ok()?;
    Some(text.trim_end().to_owned())
}
