//! Secrets that come into being while a job runs: masked in that job, in those beside it and in the worker's own log.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{Job, Repository, Rig, Sleeper, WorkerOptions, parts, sinks, unique};

const SOON: Duration = Duration::from_secs(60);
const TOKEN: &str = "123456789012-auth-token";

/// Prints the login that a trusted app can read, as it stands, decoded, and encoded as a whole.
const PRINTS_THE_LOGIN: &str = r#"
file=/ctl/in/docker/config.json
echo "file: $(cat $file)"
auth=$(sed 's/.*"auth":"\([^"]*\)".*/\1/' $file)
echo "login: $(echo "$auth" | base64 -d)"
echo "encoded: $(base64 -w 0 <$file)"
echo "lines:"; base64 <$file
echo "hex: $(od -An -v -tx1 <$file | tr -d ' \n')"
printf '%s' "$auth" | sed 's/./&\n/g' | while read -r c; do printf %s "$c"; done; echo
echo "printed all"
"#;

/// Every form in which the app above has the login.
fn forms() -> Vec<(&'static str, String)> {
    let login = format!("AWS:{TOKEN}");
    let auth = STANDARD.encode(&login);
    let file = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, parts().registry);
    let whole = STANDARD.encode(&file);
    let mut forms = vec![
        ("the token", TOKEN.to_owned()),
        ("the login in base64", auth),
        ("the file in hex", hex::encode(&login)[8..].to_owned()),
    ];
    // Digits of base64 that are the login's alone, whatever stands around it.
    let at = file.find(&forms[1].1).expect("it stands in the file") * 4 / 3 + 4;
    forms.push(("the file in base64", whole[at..at + 24].to_owned()));
    let lines = whole.as_bytes().chunks(76).skip(1).filter(|line| line.len() >= 24);
    forms.extend(lines.map(|line| ("a line of the file in base64", String::from_utf8_lossy(line).into_owned())));
    forms
}

async fn assert_seen_nowhere(rig: &Rig, images: &[String]) {
    for (place, content) in sinks(rig, images).await {
        let content = String::from_utf8_lossy(&content);
        for (what, form) in forms() {
            assert!(!content.contains(&form), "{what} stands in {place}");
        }
    }
}

#[tokio::test]
async fn a_login_that_the_first_job_after_a_start_fetches_is_masked_wherever_its_app_prints_it() {
    let mut rig = Rig::with(|options| options.ecr().set("BUILDPACKS_TRUSTED", "true")).await;
    let prints = |ends: &str| Repository::public(&[("app.sh", "true\n"), ("build.sh", &format!("{PRINTS_THE_LOGIN}{ends}"))]);
    let (good, bad) = (prints("exit 0\n"), prints("echo \"$(cat $file)\" >&2; exit 7\n"));
    let first = Job::of(&good);
    rig.push(&first).await;
    let end = rig.built(&first).await;
    let second = Job::of(&bad);
    rig.push(&second).await;
    rig.failed(&second, "buildpacks.build_failed").await;

    for job in [&first, &second] {
        let log = rig.dashboard.log(&job.id);
        assert!(log.contains("printed all"), "{log}");
        for line in ["file: ", "login: ", "encoded: ", "hex: "] {
            assert!(log.lines().any(|l| l.contains(line) && l.contains("***")), "{line} is masked, not dropped: {log}");
        }
    }
    assert_seen_nowhere(&rig, &[end.image]).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_login_that_one_job_fetches_is_masked_in_the_middle_of_a_line_of_another_that_runs_already() {
    let mut rig = Rig::with(|options| options.ecr()).await;
    let (one, other) = TOKEN.split_at(9);
    let sleeper = Sleeper::new();
    let waits =
        format!("FROM busybox:base\nRUN echo start''ed; printf 'half {one}'; {}; echo '{other} over'\n", sleeper.command());
    let (waiting, quick) =
        (Repository::public(&[("Dockerfile", &waits)]), Repository::public(&[("Dockerfile", "FROM busybox:base\n")]));
    let runs = Job::of(&waiting);
    rig.push(&runs).await;
    rig.dashboard.wait_for_line(&runs.id, "started", SOON).await;
    let fetches = Job::of(&quick);
    rig.push(&fetches).await;
    rig.built(&fetches).await;
    sleeper.wake();
    rig.built(&runs).await;
    let log = rig.dashboard.log(&runs.id);
    // Its first part was printed before anybody had the login.
    assert!(log.contains("half *** over"), "{log}");
    rig.finish().await;
}

/// What gives a container's role its temporary keys.
async fn role(tasks: &mut JoinSet<()>, session_token: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let keys = serde_json::json!({ "AccessKeyId": "ASIATESTROLE00000001", "SecretAccessKey": "a-key-of-the-role-0123456789",
        "Token": session_token, "Expiration": "2100-01-01T00:00:00Z" });
    let router = axum::Router::new().route("/keys", axum::routing::get(async move || axum::Json(keys)));
    tasks.spawn(async move { axum::serve(listener, router).await.expect("serve") });
    format!("http://{address}/keys")
}

#[tokio::test]
async fn keys_that_the_sdk_finds_by_itself_are_masked_as_soon_as_they_are_there() {
    let mut tasks = JoinSet::new();
    let session_token = format!("session-{}", unique());
    let keys = role(&mut tasks, &session_token).await;
    let by_role = |options: WorkerOptions| options.unset("AWS_ACCESS_KEY_ID").unset("AWS_SECRET_ACCESS_KEY");
    let mut rig = Rig::with(|options| by_role(options.ecr()).set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &keys)).await;
    let plain = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let first = Job::of(&plain);
    rig.push(&first).await;
    rig.built(&first).await;
    let prints = format!("FROM busybox:base\nRUN echo printed {session_token}; echo {session_token} | base64\n");
    let prints = Repository::public(&[("Dockerfile", &prints)]);
    let second = Job::of(&prints);
    rig.push(&second).await;
    rig.built(&second).await;
    let log = rig.dashboard.log(&second.id);
    assert!(log.contains("printed ***"), "{log}");
    for form in [session_token.clone(), STANDARD.encode(&session_token)[..24].to_owned()] {
        assert!(!log.contains(&form), "{log}");
        assert!(!rig.host.log().contains(&form), "the worker's log");
    }
    rig.finish().await;
}
