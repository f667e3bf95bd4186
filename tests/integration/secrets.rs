//! No secret is in any log, report, file, label, argument, Redis key or image history. In the image's layers `.env` stands by contract.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Job, Leaks, Needles, Repository, Rig, Trouble, parts, processes_of, sinks, unique};

const SOON: Duration = Duration::from_secs(30);

/// Prints the job's variables in every way that builds do by accident.
const LEAKY: &str = "FROM busybox:base
COPY .env /.env
RUN cat /.env; sed s/=.*// /.env
RUN --mount=type=secret,id=API_TOKEN cat /run/secrets/API_TOKEN; base64 -w 0 /run/secrets/API_TOKEN; sed 's/./&\\n/' /run/secrets/API_TOKEN
RUN --mount=type=secret,id=API_TOKEN for p in $(head -c 9 /run/secrets/API_TOKEN) $(tail -c +10 /run/secrets/API_TOKEN); do printf %s $p; sleep 0.3; done; echo
RUN echo started; sleep 3
";

const WAITS: &str = "FROM busybox:base\nRUN echo started; sleep 600\n";

/// What must be nowhere: name and value.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    /// Fails where a secret stands in the text, as it is or in base64.
    fn assert_none_in(&self, place: &str, text: &[u8]) {
        for (name, value) in &self.0 {
            for form in [value.clone(), STANDARD.encode(value)] {
                let at = text.windows(form.len()).position(|window| window == form.as_bytes());
                if let Some(at) = at {
                    let around = String::from_utf8_lossy(&text[at.saturating_sub(80)..(at + form.len() + 20).min(text.len())]);
                    panic!("{name} stands in {place}: …{around}…");
                }
            }
        }
    }

    fn assert_none_below(&self, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("a folder of WORK_DIR").flatten() {
            let kind = entry.file_type().expect("a kind");
            if kind.is_dir() {
                self.assert_none_below(&entry.path());
            } else if kind.is_file() {
                // A file may be renamed or removed while it is looked at.
                let content = std::fs::read(entry.path()).unwrap_or_default();
                self.assert_none_in(&entry.path().display().to_string(), &content);
            }
        }
    }
}

/// Everywhere that something of a job may stand while it runs: arguments and WORK_DIR.
fn assert_none_while_it_runs(rig: &Rig, secrets: &Secrets) {
    let processes = processes_of(&rig.host);
    assert!(!processes.is_empty(), "the worker runs");
    for (pid, _) in processes {
        secrets.assert_none_in(
            &format!("the arguments of {pid}"),
            &std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default(),
        );
    }
    secrets.assert_none_below(&rig.host.work_dir());
}

/// Everywhere that something of a job may stand after its end.
async fn assert_none_after_the_end(rig: &Rig, image: &str, secrets: &Secrets) {
    for post in rig.dashboard.posts() {
        secrets.assert_none_in("a post to the dashboard", post.raw.as_bytes());
    }
    secrets.assert_none_in("the image's config and history", rig.registry.config(image).await.to_string().as_bytes());
    secrets.assert_none_in("the image's manifest", rig.registry.manifest(image).await.to_string().as_bytes());
    secrets.assert_none_in("Redis", rig.redis.dump().await.as_bytes());
    secrets.assert_none_below(&rig.host.work_dir());
    secrets.assert_none_in("the worker's log", rig.host.log().as_bytes());
}

#[tokio::test]
async fn no_secret_of_job_or_worker_is_seen_anywhere() {
    let mut rig = Rig::start().await;
    let (token, database) = (format!("tok_{}", unique()), format!("postgres://app:{}@db/app", unique()));
    let repository = Repository::private(&[("Dockerfile", LEAKY)]);
    let job = Job::of(&repository).env("API_TOKEN", &token).env("DATABASE_URL", &database);
    let secrets = Secrets(vec![
        ("the environment value API_TOKEN", token),
        ("the environment value DATABASE_URL", database),
        ("the git token", parts().git_login.password.clone()),
        ("the registry's password", parts().registry_login.password.clone()),
        ("Redis' password", rig.redis.password.clone()),
        ("the dashboard's key", rig.dashboard.key.clone()),
    ]);

    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    // While it runs, and while the journal cannot be delivered.
    rig.dashboard.set(Trouble::Answer(503));
    assert_none_while_it_runs(&rig, &secrets);
    rig.wait_for_record(&job, "BUILDED", SOON).await;
    secrets.assert_none_below(&rig.host.work_dir());
    rig.dashboard.set(Trouble::None);
    let end = rig.built(&job).await;

    assert!(rig.dashboard.log(&job.id).contains("***"), "what was printed is masked, not dropped");
    let env = rig.registry.file(&end.image, ".env").await.expect(".env stands in the layer by contract");
    assert!(String::from_utf8_lossy(&env).starts_with("API_TOKEN=tok_"));
    rig.assert_nothing_left().await;
    assert_none_after_the_end(&rig, &end.image, &secrets).await;
    rig.finish().await;
}

#[tokio::test]
async fn no_secret_of_a_refused_job_is_seen_anywhere() {
    let mut rig = Rig::start().await;
    let repository = Repository::private(&[("Dockerfile", LEAKY)]);
    let value = format!("tok_{}", unique());
    let job = Job::of(&repository).env("API_TOKEN", &value).branch("--option");
    let secrets = Secrets(vec![("the environment value", value), ("the git token", parts().git_login.password.clone())]);
    rig.push(&job).await;
    rig.failed(&job, "job.malformed").await;
    rig.assert_nothing_left().await;
    secrets.assert_none_in("Redis, the dead letter list included", rig.redis.dump().await.as_bytes());
    secrets.assert_none_in("the worker's log", rig.host.log().as_bytes());
    rig.finish().await;
}

#[tokio::test]
async fn aws_credentials_are_seen_nowhere() {
    const TOKEN: &str = "123456789012-auth-token";
    let mut rig = Rig::with(|options| options.ecr()).await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN env; echo started; sleep 3\n")]);
    let job = Job::of(&repository);
    let secrets = Secrets(vec![
        ("the AWS key's id", rig.host.options.value("AWS_ACCESS_KEY_ID").to_owned()),
        ("the AWS key", rig.host.options.value("AWS_SECRET_ACCESS_KEY").to_owned()),
        ("the ECR token", TOKEN.to_owned()),
        // looked for in base64 too, which is how ECR hands it out and what a registry is sent
        ("the ECR login", format!("AWS:{TOKEN}")),
    ]);
    rig.push(&job).await;
    rig.dashboard.wait_for_line(&job.id, "started", SOON).await;
    assert_none_while_it_runs(&rig, &secrets);
    let end = rig.built(&job).await;
    rig.assert_nothing_left().await;
    assert_none_after_the_end(&rig, &end.image, &secrets).await;
    rig.finish().await;
}

#[tokio::test]
async fn what_another_job_prints_of_this_jobs_secrets_is_masked_while_this_one_runs() {
    let mut rig = Rig::start().await;
    let (leaks, waits) = (Leaks::generate(100, 1), Repository::public(&[("Dockerfile", WAITS)]));
    let owner = leaks.given_to(Job::of(&waits));
    rig.push(&owner).await;
    rig.dashboard.wait_for_line(&owner.id, "started", SOON).await;
    let thief = leaks.repository("");
    let other = Job::of(&thief).env("ITS_OWN", "a value of no interest");
    rig.push(&other).await;
    let end = rig.built(&other).await;
    rig.cancel(&owner).await;
    rig.cancelled(&owner).await;

    let log = rig.dashboard.log(&other.id);
    let masked = log.lines().filter(|line| line.contains("leak ") && line.contains("***")).count();
    assert_eq!(masked, leaks.lines(), "each was printed, and masked");
    let mut needles = Needles::default();
    needles.add(&leaks);
    for (place, content) in sinks(&rig, &[end.image]).await {
        needles.none_in(&place, &content).unwrap_or_else(|seen| panic!("{seen}"));
    }
    rig.finish().await;
}
