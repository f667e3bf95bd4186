//! One worker, the cases that are thrown at it, and what has to be true after each group of them.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::front::Front;
use crate::support::{Body, Job, Repository, Rig, eventually, parts};

/// Stands behind every line break that a case tries to smuggle in: no line of any log may begin with it.
pub const FORGED: &str = "FORGED";
const GOOD: &[(&str, &str)] = &[("Dockerfile", "FROM busybox:base\nCOPY Dockerfile /\n")];
const SOON: Duration = Duration::from_secs(60);

/// How a case has to end.
#[derive(Debug, Clone)]
pub enum End {
    /// FAILED with one of these codes.
    Fails(&'static [&'static str]),
    Builds,
    /// Whose it is cannot be read: it stands in the dead letter list alone, with this code.
    Nameless(&'static str),
}

/// One hostile queue element, and all that has to live as long as it is worked on.
pub struct Case {
    pub name: String,
    pub element: Vec<u8>,
    pub job: Option<Job>,
    pub end: End,
    _repository: Option<Repository>,
}

impl Case {
    pub fn job(name: impl Into<String>, job: Job, end: End) -> Self {
        Self { name: name.into(), element: job.payload().into_bytes(), job: Some(job), end, _repository: None }
    }

    /// An element as it stands, of a deployment whose id can be read.
    pub fn element(name: impl Into<String>, job: Job, element: impl Into<Vec<u8>>, end: End) -> Self {
        Self { name: name.into(), element: element.into(), job: Some(job), end, _repository: None }
    }

    pub fn nameless(name: impl Into<String>, element: impl Into<Vec<u8>>, code: &'static str) -> Self {
        Self { name: name.into(), element: element.into(), job: None, end: End::Nameless(code), _repository: None }
    }

    pub fn of(name: impl Into<String>, repository: Repository, end: End) -> Self {
        let job = Job::of(&repository);
        Self::job(name, job, end).with(repository)
    }
}

impl Case {
    /// Its repository lives as long as the case does.
    pub fn with(self, repository: Repository) -> Self {
        Self { _repository: Some(repository), ..self }
    }
}

pub struct Group {
    name: &'static str,
    cases: Vec<Case>,
}

impl Group {
    pub fn new(name: &'static str, cases: Vec<Case>) -> Self {
        Self { name, cases }
    }

    /// The first case, and every so many after it.
    pub fn one_in(self, step: usize) -> Self {
        Self { cases: self.cases.into_iter().step_by(step).collect(), ..self }
    }
}

/// The worker, with a front before its registry and before its dashboard that can answer in their place.
pub struct Ground {
    pub rig: Rig,
    pub good: Repository,
    pub registry: Front,
    pub dashboard: Front,
    pub git: Front,
    /// Gets nothing: whoever is redirected there brings credentials to a stranger.
    pub stranger: Front,
    pid: i32,
    /// What did not end as it has to, so that one run tells of all.
    misses: Vec<String>,
    /// The codes of all elements so far that were nobody's, sorted.
    nameless: Vec<&'static str>,
}

impl Ground {
    pub async fn start() -> Self {
        let mut rig = Rig::without_worker(|options| {
            options
                .builds(2)
                .set("RETRY_LIMIT", "1")
                .set("RETRY_WINDOW", "0")
                .set("GIT_IDLE_TIMEOUT", "5")
                .set("API_TIMEOUT", "5")
                .set("MAX_FILES", "20000")
                .set("MAX_FETCH_BYTES", "100MB")
        })
        .await;
        // Its disk is not what is tested: forty megabytes a job would be synced four times.
        let _: String = rig.redis.command(&["CONFIG", "SET", "appendonly", "no"]).await;
        let registry = Front::before(Some(&parts().registry)).await;
        let dashboard = Front::before(Some(&rig.dashboard.address())).await;
        let options = rig.host.options.clone();
        rig.host.options = options.set("REGISTRY_HOST", &registry.address()).set("API_URL", &format!("{}/api", dashboard.url()));
        rig.start_worker();
        let pid = rig.worker().pid();
        let (git, stranger) = (Front::before(None).await, Front::before(None).await);
        Self {
            rig,
            good: Repository::public(GOOD),
            registry,
            dashboard,
            git,
            stranger,
            pid,
            misses: Vec::new(),
            nameless: Vec::new(),
        }
    }

    /// Runs the group, checks every end, and builds a good job after it. Returns how many cases it had.
    pub async fn run(&mut self, group: Group) -> usize {
        let started = Instant::now();
        for case in &group.cases {
            self.push(case).await;
        }
        for case in &group.cases {
            if let Err(miss) = self.check(case).await {
                eprintln!("MISS {miss}");
                self.misses.push(miss);
            }
        }
        self.check_nameless(&group).await;
        let job = Job::of(&self.good);
        self.rig.push(&job).await;
        self.rig.built(&job).await;
        assert_eq!(self.rig.worker().pid(), self.pid, "it is still the same worker after {}", group.name);
        let peak = self.rig.worker().peak_resident_kib() / 1024;
        eprintln!("{:4} {}: {:.1} s, {peak} MiB", group.cases.len(), group.name, started.elapsed().as_secs_f32());
        group.cases.len()
    }

    async fn push(&mut self, case: &Case) {
        match &case.job {
            Some(job) => self.rig.push_bytes(job, &case.element).await,
            None => self.rig.push_raw_bytes(&case.element).await,
        }
    }

    async fn check(&self, case: &Case) -> Result<(), String> {
        let Some(job) = &case.job else { return Ok(()) };
        let end = self.rig.end(job).await;
        let told = || format!("\"{}\" ended {}: {}\n{}", case.name, end.status, end.error, cut(&self.rig.dashboard.log(&job.id)));
        match &case.end {
            End::Builds if end.status == "BUILDED" => {}
            End::Fails(codes) if end.status == "FAILED" => {
                let code = self.code_of(job);
                if !codes.contains(&code.as_str()) {
                    return Err(format!("not {codes:?} but {code}: {}", told()));
                }
            }
            _ => return Err(format!("not {:?}: {}", case.end, told())),
        }
        for post in self.rig.dashboard.taken(&job.id) {
            match post.body {
                Body::Log { text, .. } => text.split('\n').try_for_each(|line| plain_line(&case.name, line))?,
                Body::Status { error, .. } => plain(&case.name, &error.unwrap_or_default())?,
                Body::Other => return Err(format!("{}: the dashboard was posted {}", case.name, post.raw)),
            }
        }
        Ok(())
    }

    /// The code in the last line of the job's log; the dashboard's `error` is cut.
    fn code_of(&self, job: &Job) -> String {
        let (_, last) = self.rig.dashboard.lines(&job.id).pop().unwrap_or_default();
        let code = |word: &str| Some(word.strip_prefix('[')?.split_once(']')?.0.to_owned());
        last.split_whitespace().filter_map(code).next_back().unwrap_or(last)
    }

    /// One note for each of them, with its code: nobody else is told of them.
    async fn check_nameless(&mut self, group: &Group) {
        let codes = group.cases.iter().filter_map(|case| match case.end {
            End::Nameless(code) => Some(code),
            _ => None,
        });
        self.nameless.extend(codes);
        self.nameless.sort_unstable();
        eventually("a dead letter for each element that is nobody's", SOON, async || {
            let notes = self.dead_letters().await;
            let mut codes: Vec<&str> =
                notes.iter().filter(|note| note["deploymentId"].is_null()).filter_map(|note| note["code"].as_str()).collect();
            codes.sort_unstable();
            if codes == self.nameless {
                Ok(())
            } else {
                Err(format!("{} in place of {}: {codes:?}", codes.len(), self.nameless.len()))
            }
        })
        .await;
    }

    pub async fn dead_letters(&self) -> Vec<Value> {
        let notes: Vec<String> = self.rig.redis.command(&["LRANGE", "{builder-queue}:dead", "0", "-1"]).await;
        notes.iter().map(|note| serde_json::from_str(note).expect("a dead letter is JSON")).collect()
    }

    /// Every case ended as it has to, nothing is forged in the worker's log or the dead letters, nothing went to strangers, and
    /// nothing is left.
    pub async fn end(mut self) {
        for note in self.dead_letters().await {
            for text in [&note["reason"], &note["payload"]] {
                self.misses.extend(plain("a dead letter", text.as_str().unwrap_or_default()).err());
            }
        }
        let begins_an_event = regex::Regex::new(r"^\d{4}-\d\d-\d\dT[0-9:.]+Z +(ERROR|WARN|INFO|DEBUG|TRACE) ").expect("a regex");
        for line in self.rig.host.log().lines() {
            self.misses.extend(plain("the worker's log", line.trim_start_matches("    | ")).err());
            if !begins_an_event.is_match(line) && !line.starts_with("    | ") {
                self.misses.push(format!("a line of the worker's log is none: {line:?}"));
            }
        }
        if !self.stranger.requests().is_empty() {
            self.misses.push(format!("somebody was sent to a stranger and went: {:?}", self.stranger.requests()));
        }
        assert!(self.misses.is_empty(), "{} did not go as they have to:\n{}", self.misses.len(), self.misses.join("\n---\n"));
        self.rig.finish().await;
    }
}

/// Its beginning and its end, each at most a thousand characters.
fn cut(text: &str) -> String {
    let head: String = text.chars().take(1000).collect();
    let tail: Vec<char> = text.chars().skip(1000).collect();
    let tail: String = tail[tail.len().saturating_sub(1000)..].iter().collect();
    head + " … " + &tail
}

/// One line of a job's log: text and colours.
fn plain_line(what: &str, line: &str) -> Result<(), String> {
    let colours = regex::Regex::new("\x1b\\[[0-9;:]*m").expect("a regex");
    plain(what, &colours.replace_all(line, ""))
}

/// Nothing in it moves a cursor, ends a line, or turns text around.
fn plain(what: &str, text: &str) -> Result<(), String> {
    let bad = |c: char| (c.is_control() && c != '\t') || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if text.chars().any(bad) || text.starts_with(FORGED) {
        let shown: String = text.chars().take(300).collect();
        return Err(format!("forged in {what}: {shown:?}"));
    }
    Ok(())
}
