//! A model of queue, lease, gate and journal: two workers, a reaper, cancels, kills, freezes, cut links and lost messages, in
//! many thousands of random interleavings. The life of an attempt is the product's own ([`super::lifecycle`]); Redis and the
//! host around it are told again in their decisions alone ([`redis`], [`host`]).
//!
//! What is assumed of the world: a post that a host has sent arrives within the time that the gate shuts before its lease is
//! gone, or never; clocks run at one speed.

mod host;
mod redis;

use std::collections::HashMap;
use std::sync::LazyLock;

use self::host::{Luck, Worker};
use self::redis::{HTTP, Job, Redis};
use crate::protocol::{Code, DeploymentId, Failure, ImageRef, Outcome, RegistryType};

/// How a job ended; an image carries its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Builded(u32),
    Failed,
    /// Three workers died with it.
    GivenUp,
    Cancelled,
}

/// What is posted to the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Building(u32),
    Line(u32, u32),
    Pending(u32),
    End(End),
}

const ATTEMPTS: u32 = 40;
static BUILDED: LazyLock<Vec<Outcome>> = LazyLock::new(|| {
    let image = |attempt| ImageRef::new("r/s", &format!("d-{attempt}"), &format!("sha256:{}", "a".repeat(64))).unwrap();
    (0..ATTEMPTS).map(|attempt| Outcome::Builded { image: image(attempt), registry: RegistryType::Docker }).collect()
});

fn id(job: Job) -> DeploymentId {
    DeploymentId::parse(&format!("job{job}")).unwrap()
}

fn failure() -> Failure {
    Failure::new(Code::DockerfileStepFailed, "", "")
}

fn outcome(end: End) -> Outcome {
    match end {
        End::Builded(attempt) => BUILDED[attempt as usize].clone(),
        End::Failed => Outcome::Failed { failure: failure() },
        End::GivenUp => Outcome::Failed { failure: Failure::new(Code::JobCrashedWorkers, "", "") },
        End::Cancelled => Outcome::Cancelled { failure: super::lifecycle::cancelled() },
    }
}

fn end_of(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Builded { image, .. } => End::Builded(image.tag()[2..].parse().unwrap()),
        Outcome::Failed { failure } if failure.code == Code::JobCrashedWorkers => End::GivenUp,
        Outcome::Failed { .. } => End::Failed,
        Outcome::Cancelled { .. } => End::Cancelled,
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Message {
    job: Job,
    host: usize,
    what: What,
    sent: u64,
}

/// Posts on their way, and what the dashboard took, in order.
#[derive(Debug, Default)]
pub struct Network {
    next: u64,
    under_way: Vec<(u64, Message)>,
    /// Whether the dashboard's answer comes back.
    answers: HashMap<u64, bool>,
    taken: Vec<(Job, What)>,
    contradicted: bool,
}

impl Network {
    fn post(&mut self, message: Message) -> u64 {
        self.next += 1;
        self.under_way.push((self.next, message));
        self.next
    }

    fn answer(&mut self, post: u64) -> Option<bool> {
        self.answers.remove(&post)
    }

    fn arrive_now(&mut self, job: Job, what: What) {
        self.taken.push((job, what));
    }

    /// The message at this place arrives, with or without an answer, or is lost.
    fn deliver(&mut self, at: usize, luck: Luck) {
        let (post, message) = self.under_way.remove(at);
        if luck != Luck::RequestLost {
            self.taken.push((message.job, message.what));
        }
        self.answers.insert(post, luck == Luck::Good);
    }

    /// What was sent too long ago arrives no more.
    fn forget(&mut self, now: u64) {
        while let Some(at) = self.under_way.iter().position(|(_, m)| now > m.sent + HTTP) {
            self.deliver(at, Luck::RequestLost);
        }
    }
}

struct World {
    redis: Redis,
    network: Network,
    workers: [Worker; 2],
    /// Not yet pushed, newest last.
    to_push: Vec<Job>,
    pushed: Vec<Job>,
    cancelled: Vec<Job>,
    random: u64,
    /// What happened, for a look at a run that failed.
    story: Vec<String>,
}

/// Jobs 0 and 2 are of one service.
const SERVICES: [usize; 3] = [0, 1, 0];
const STEPS: usize = 160;

impl World {
    fn new(seed: u64) -> Self {
        let mut redis = Redis::new(&SERVICES);
        let workers = [0, 1].map(|host| {
            let mut worker = Worker::new(host);
            worker.restart(&mut redis);
            worker
        });
        let to_push = vec![2, 1, 0];
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
        Self {
            redis,
            network: Network::default(),
            workers,
            to_push,
            pushed: Vec::new(),
            cancelled: Vec::new(),
            random,
            story: Vec::new(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn luck(&mut self) -> Luck {
        match self.below(12) {
            0 => Luck::ReplyLost,
            1 => Luck::RequestLost,
            _ => Luck::Good,
        }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.story.capacity() > 0 {
            let line = format!("{} {}", self.redis.now, what());
            self.story.push(line);
        }
    }

    /// One random step of anything.
    fn step(&mut self) {
        let host = self.below(2);
        match self.below(100) {
            0..=5 => {
                if let Some(job) = self.to_push.pop() {
                    self.redis.queue.push_back(job);
                    self.pushed.push(job);
                    self.tell(|| format!("push {job}"));
                }
            }
            6..=20 => {
                let luck = self.luck();
                let worker = &mut self.workers[host];
                if worker.can_act() {
                    worker.claim(&mut self.redis, luck);
                    self.tell(|| format!("host {host} claims, {luck:?}"));
                }
            }
            21..=34 => self.of_an_attempt(host, |world, job| {
                let succeeds = world.below(5) > 0;
                world.workers[host].build(job, succeeds);
                world.tell(|| format!("host {host} builds {job}, {succeeds}"));
            }),
            35..=52 => self.of_an_attempt(host, |world, job| {
                let luck = world.luck();
                world.workers[host].act(job, &mut world.redis, &mut world.network, luck);
                world.tell(|| format!("host {host} acts for {job}, {luck:?}"));
            }),
            53..=72 => self.of_an_attempt(host, |world, job| {
                let luck = world.luck();
                world.workers[host].send(job, &mut world.redis, &mut world.network, luck);
                world.tell(|| format!("host {host} sends for {job}, {luck:?}"));
            }),
            73..=82 => self.deliver(),
            83..=87 => {
                // Often a little, sometimes as long as a lease.
                let seconds = [1, 1, 3, 5, 10, 20][self.below(6)];
                self.pass(seconds);
            }
            88..=89 => {
                let job = self.below(SERVICES.len());
                self.redis.cancel(job);
                self.cancelled.push(job);
                self.tell(|| format!("cancel {job}"));
            }
            90 => {
                self.workers[host].kill();
                self.tell(|| format!("kill {host}"));
            }
            91..=92 => self.restart(host),
            93 => {
                if self.workers[host].up {
                    self.workers[host].frozen ^= true;
                    self.tell(|| format!("freeze or thaw {host}"));
                }
            }
            94 => {
                let now = self.redis.now;
                let worker = &mut self.workers[host];
                if worker.linked {
                    worker.unlink()
                } else {
                    worker.link(now)
                }
                self.tell(|| format!("cut or heal the link of {host}"));
            }
            95..=96 => self.reap(host),
            97 => {
                if self.workers[host].can_act() {
                    if self.workers[host].draining {
                        self.workers[host].end_of_drain(&mut self.redis);
                    } else {
                        self.workers[host].drain();
                    }
                    self.tell(|| format!("drain {host}"));
                }
            }
            _ => {
                let worker = &mut self.workers[host];
                if worker.can_act() {
                    worker.look(&self.redis);
                }
            }
        }
    }

    fn of_an_attempt(&mut self, host: usize, act: impl FnOnce(&mut Self, Job)) {
        if !self.workers[host].can_act() || self.workers[host].attempts.is_empty() {
            return;
        }
        let at = self.below(self.workers[host].attempts.len());
        let job = self.workers[host].attempts.keys().copied().nth(at);
        if let Some(job) = job {
            act(self, job);
        }
    }

    fn restart(&mut self, host: usize) {
        self.workers[host].restart(&mut self.redis);
        self.tell(|| format!("restart {host}"));
    }

    fn reap(&mut self, host: usize) {
        let worker = &self.workers[host];
        if worker.can_act() && worker.may_reap(self.redis.now) {
            self.redis.reap(1 - host);
            self.tell(|| format!("host {host} looks for dead workers"));
        }
    }

    fn deliver(&mut self) {
        if !self.network.under_way.is_empty() {
            let at = self.below(self.network.under_way.len());
            let luck = self.luck();
            let message = self.network.under_way[at].1;
            self.network.deliver(at, luck);
            self.tell(|| format!("from host {}: {:?} of {}, {luck:?}", message.host, message.what, message.job));
        }
    }

    /// Time passes; a worker that can renews its lease every 10 s.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.redis.now += 1;
            for worker in &mut self.workers {
                if worker.can_act() && self.redis.now.is_multiple_of(10) {
                    worker.renew(&mut self.redis);
                }
            }
        }
        self.network.forget(self.redis.now);
        self.tell(|| format!("{seconds} s pass"));
    }

    /// Nothing breaks any more: everything that can be done is done.
    fn calm_down(&mut self) {
        while let Some(job) = self.to_push.pop() {
            self.redis.queue.push_back(job);
            self.pushed.push(job);
        }
        for round in 0..80 {
            for host in 0..2 {
                if !self.workers[host].linked {
                    self.workers[host].link(self.redis.now);
                }
                self.workers[host].frozen = false;
                if self.workers[host].draining {
                    self.workers[host].end_of_drain(&mut self.redis);
                }
                self.restart(host);
                self.workers[host].claim(&mut self.redis, Luck::Good);
                let jobs: Vec<Job> = self.workers[host].attempts.keys().copied().collect();
                for job in jobs {
                    self.workers[host].look(&self.redis);
                    self.workers[host].build(job, true);
                    for _ in 0..4 {
                        self.tell(|| format!("host {host} goes on with {job}"));
                        self.workers[host].act(job, &mut self.redis, &mut self.network, Luck::Good);
                        self.workers[host].send(job, &mut self.redis, &mut self.network, Luck::Good);
                        while !self.network.under_way.is_empty() {
                            self.network.deliver(0, Luck::Good);
                        }
                    }
                }
                self.reap(host);
            }
            if round > 4 && self.is_quiet() {
                return;
            }
            self.pass(2);
        }
    }

    fn is_quiet(&self) -> bool {
        let redis = &self.redis;
        redis.queue.is_empty() && redis.incoming.is_empty() && redis.claimed.iter().all(Vec::is_empty)
    }

    fn check(&self) -> Result<(), String> {
        if self.network.contradicted {
            return Err("an end was to be stored though another may have been seen".to_owned());
        }
        if !self.is_quiet() {
            return Err(format!("jobs are left: {:?}", self.redis));
        }
        for job in &self.pushed {
            self.check_job(*job).map_err(|why| format!("job {job}: {why}"))?;
        }
        let place = |job| self.network.taken.iter().position(|(j, what)| *j == job && matches!(what, What::End(End::Builded(_))));
        let last = |job| self.network.taken.iter().rposition(|(j, what)| *j == job && matches!(what, What::End(End::Builded(_))));
        let order = |job: Job| self.redis.records.get(&job).map(|r| r.seq);
        let (older, newer) = if order(0) < order(2) { (0, 2) } else { (2, 0) };
        if let (Some(last_of_older), Some(first_of_newer)) = (last(older), place(newer))
            && last_of_older > first_of_newer
        {
            return Err(format!("an older job's BUILDED came after the newer one's: {:?}", self.network.taken));
        }
        Ok(())
    }

    fn check_job(&self, job: Job) -> Result<(), String> {
        let told: Vec<What> = self.network.taken.iter().filter(|(j, _)| *j == job).map(|(_, what)| *what).collect();
        let first = told.iter().position(|w| matches!(w, What::End(_))).ok_or_else(|| format!("no end: {told:?}"))?;
        let mut end = told[first];
        for what in &told[first + 1..] {
            match (end, *what) {
                (_, What::Line(..)) => {}
                (a, b) if a == b => {}
                (What::End(End::Builded(_)), What::End(End::Cancelled)) => end = *what,
                _ => return Err(format!("{what:?} after {end:?}: {told:?}")),
            }
        }
        if (end == What::End(End::GivenUp)) != self.redis.dead_letter.contains(&job) && end != What::End(End::Cancelled) {
            return Err(format!("told as {end:?}; the dead letter: {:?}", self.redis.dead_letter));
        }
        if end == What::End(End::Cancelled) && !self.cancelled.contains(&job) && SERVICES[job] != 0 {
            return Err(format!("cancelled by nobody: {told:?}"));
        }
        // Of each attempt the lines come in order; a line may come again where it was not answered.
        let mut next = HashMap::new();
        for what in &told {
            if let What::Line(attempt, n) = *what {
                let expected = next.entry(attempt).or_insert(0);
                if n > *expected {
                    return Err(format!("line {n} of attempt {attempt} came before line {expected}: {told:?}"));
                }
                *expected = (*expected).max(n + 1);
            }
        }
        Ok(())
    }
}

/// The same seed is the same run.
fn run(seed: u64, told: bool) -> (Result<(), String>, World) {
    let mut world = World::new(seed);
    if told {
        world.story.reserve(1);
    }
    for _ in 0..STEPS {
        world.step();
    }
    world.tell(|| "everything calms down".to_owned());
    world.calm_down();
    (world.check(), world)
}

/// What has to occur in the runs, or they show nothing.
#[derive(Debug, Default)]
struct Seen {
    taken_over: usize,
    given_up: usize,
    cancelled_after_builded: usize,
    superseded: usize,
    lines_repeated: usize,
}

impl Seen {
    fn look(&mut self, world: &World) {
        let told = |job: Job| world.network.taken.iter().filter(move |(j, _)| *j == job).map(|(_, what)| *what);
        for job in 0..SERVICES.len() {
            let ends: Vec<What> = told(job).filter(|w| matches!(w, What::End(_))).collect();
            let first = ends.first().copied();
            self.given_up += usize::from(first == Some(What::End(End::GivenUp)));
            let builded = matches!(first, Some(What::End(End::Builded(_))));
            self.cancelled_after_builded += usize::from(builded && ends.last() == Some(&What::End(End::Cancelled)));
            let by_nobody = !world.cancelled.contains(&job) && first == Some(What::End(End::Cancelled));
            self.superseded += usize::from(by_nobody);
            let lines: Vec<What> = told(job).filter(|w| matches!(w, What::Line(..))).collect();
            self.lines_repeated += usize::from(lines.windows(2).any(|two| two[0] == two[1]));
        }
        self.taken_over += world.redis.taken_over;
    }
}

/// So many interleavings for each of four tests, which run side by side.
const RUNS: u64 = 25_000;

fn explore(part: u64) {
    let mut seen = Seen::default();
    for seed in part * RUNS..(part + 1) * RUNS {
        let (checked, world) = run(seed, false);
        if let Err(miss) = checked {
            let (_, world) = run(seed, true);
            panic!("seed {seed}: {miss}\n{}", world.story.join("\n"));
        }
        seen.look(&world);
    }
    let least = [seen.taken_over, seen.given_up, seen.cancelled_after_builded, seen.superseded, seen.lines_repeated];
    assert!(least.iter().all(|n| *n >= 5), "too little happened to show anything: {seen:?}");
}

#[test]
fn no_interleaving_loses_a_job_or_contradicts_an_end() {
    explore(0);
}

#[test]
fn no_interleaving_loses_a_job_or_contradicts_an_end_second_quarter() {
    explore(1);
}

#[test]
fn no_interleaving_loses_a_job_or_contradicts_an_end_third_quarter() {
    explore(2);
}

#[test]
fn no_interleaving_loses_a_job_or_contradicts_an_end_fourth_quarter() {
    explore(3);
}
