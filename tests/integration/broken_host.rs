//! A host that can start no step, beside one that can: no job fails for it, it stops claiming and says why, and comes back by itself.

use std::time::{Duration, Instant};

use crate::support::{Host, Job, OwnEngine, Repository, Rig};

const SOON: Duration = Duration::from_secs(60);
/// `SLIPWAY_TEST_BROKEN_HOST_JOBS` sets another number.
const JOBS: usize = 8;
const STOPPED: &str = "No job is claimed: this host's Docker Engine fails one build after another";
const BACK: &str = "jobs are claimed again";

fn how_many_jobs() -> usize {
    #[allow(clippy::disallowed_methods, reason = "the long form's size")]
    let asked = std::env::var("SLIPWAY_TEST_BROKEN_HOST_JOBS").ok();
    asked.map_or(JOBS, |asked| asked.parse().expect("a number"))
}

/// A job, with the repository that it is built from. No two of them are built from the cache of each other.
fn job(n: usize) -> (Repository, Job) {
    of_steps(&format!("RUN echo step {n}"))
}

fn of_steps(steps: &str) -> (Repository, Job) {
    let repository = Repository::public(&[("Dockerfile", &format!("FROM busybox:base\n{steps}\n"))]);
    let job = Job::of(&repository);
    (repository, job)
}

fn attempts_begun(host: &Host) -> usize {
    host.log().matches("build starts").count()
}

async fn wait_for_log(host: &Host, text: &str) {
    crate::support::eventually("a line in the worker's log", SOON, async || match host.log() {
        log if log.contains(text) => Ok(()),
        log => Err(log),
    })
    .await;
}

#[tokio::test]
async fn a_host_that_can_start_no_step_fails_no_job_stops_claiming_and_comes_back_when_it_is_repaired() {
    let mut engine = OwnEngine::start().await;
    let mut rig = Rig::without_worker(|options| options).await;
    let broken = Host::new(rig.host.options.clone().engine(engine.socket()));
    engine.unplug().await;
    let mut worker = broken.start();
    let (_repositories, jobs): (Vec<Repository>, Vec<Job>) = (0..how_many_jobs()).map(job).unzip();
    for job in &jobs {
        rig.push(job).await;
    }
    // Alone at first: what it takes, it takes from all of them.
    wait_for_log(&broken, STOPPED).await;
    rig.start_worker();
    let began = Instant::now();
    for job in &jobs {
        rig.built(job).await;
    }
    let touched = jobs.iter().filter(|job| broken.log().contains(&job.id)).count();
    println!(
        "{} jobs, a host that can start no step beside a healthy one: {touched} jobs touched in {} attempts, BUILDED {}, FAILED 0, all after {:.1} s",
        jobs.len(),
        attempts_begun(&broken),
        jobs.len(),
        began.elapsed().as_secs_f32()
    );
    assert!((1..=4).contains(&touched), "two slots: it has taken few jobs, not {touched}:\n{}", broken.log());
    let gone_back = jobs.iter().filter(|job| rig.dashboard.statuses(&job.id).contains(&"PENDING".to_owned()));
    for job in gone_back.clone() {
        let log = rig.dashboard.log(&job.id);
        assert!(log.contains("could not start RUN echo step") && log.contains("goes back to the queue"), "it says why: {log}");
    }
    assert!(gone_back.count() > 0, "those that it took went back");
    let warnings = broken.log().matches(STOPPED).count();
    assert_eq!(warnings, 1, "it says so once:\n{}", broken.log());
    assert!(broken.log().contains("[engine.error] Restart the Engine"), "with cause and cure:\n{}", broken.log());

    let before = attempts_begun(&broken);
    engine.plug().await;
    wait_for_log(&broken, BACK).await;
    rig.stop_worker(SOON).await;
    let (_repository, after) = job(how_many_jobs());
    rig.push(&after).await;
    rig.built(&after).await;
    assert_eq!(attempts_begun(&broken), before + 1, "the repaired host built it");
    worker.terminate();
    assert_eq!(worker.ended(SOON).await.code(), Some(0));
    engine.assert_as_at_first().await;
    rig.finish().await;
}

#[tokio::test]
async fn alone_a_broken_host_keeps_its_jobs_waiting_and_builds_them_when_it_is_repaired() {
    let mut engine = OwnEngine::start().await;
    let mut rig = Rig::with(|options| options.engine(engine.socket())).await;
    rig.engine = engine.client();
    engine.unplug().await;
    let (_repositories, jobs): (Vec<Repository>, Vec<Job>) = (0..3).map(job).unzip();
    for job in &jobs {
        rig.push(job).await;
    }
    rig.wait_for_log(STOPPED, SOON).await;
    engine.plug().await;
    for job in &jobs {
        rig.built(job).await;
    }
    rig.finish().await;
    engine.assert_as_at_first().await;
}

/// What is the Dockerfile's fault ends as early, and stays the user's.
#[tokio::test]
async fn a_program_a_user_or_a_shell_that_is_not_there_is_the_users_fault_and_stops_no_host() {
    let mut rig = Rig::start().await;
    for (step, code) in [
        ("RUN [\"nosuch\"]", "dockerfile.step_failed"),
        ("RUN [\"/etc/passwd\"]", "dockerfile.step_failed"),
        ("SHELL [\"/no/sh\", \"-c\"]\nRUN echo", "dockerfile.step_failed"),
        ("RUN --mount=type=tmpfs,target=/bin/busybox echo", "dockerfile.step_failed"),
        ("USER nobodyhere\nRUN echo", "dockerfile.build"),
        ("WORKDIR /etc/passwd\nRUN echo", "dockerfile.build"),
    ] {
        let (_repository, job) = of_steps(step);
        rig.push(&job).await;
        rig.failed(&job, code).await;
    }
    assert!(!rig.host.log().contains(STOPPED), "{}", rig.host.log());
    rig.finish().await;
}

/// The probe tells the Engine's failure from a job's words.
#[tokio::test]
async fn a_step_that_prints_what_the_engine_would_say_stops_no_host() {
    let mut rig = Rig::start().await;
    for n in 0..2 {
        let words = "runc run failed: unable to start container process: no cgroup";
        let (_repository, job) = of_steps(&format!("RUN : {n}; echo '{words}' >&2; exit 1"));
        rig.push(&job).await;
        rig.failed(&job, "engine.error").await;
    }
    assert!(!rig.host.log().contains(STOPPED), "{}", rig.host.log());
    rig.finish().await;
}
