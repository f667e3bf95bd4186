//! A host swaps the predecessor for Slipway and changes nothing else.

use serde_json::json;

use crate::support::{Job, Repository, Rig, parts};

#[tokio::test]
async fn an_unchanged_env_file_of_the_predecessor_starts_the_worker() {
    let mut rig = Rig::without_worker(|options| options.ecr()).await;
    let moved = [
        "REDIS_HOST",
        "REDIS_PORT",
        "REDIS_PASSWORD",
        "AWS_REGION",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "API_URL",
        "API_KEY",
    ];
    let mut file = String::from("# build host\nREDIS_USERNAME=\nREDIS_QUEUE_NAME=builder-queue\nLOG_LEVEL=info\n");
    let mut options = rig.host.options.clone();
    for name in moved {
        file += &format!("{name}={}\n", options.value(name));
        options = options.unset(name);
    }
    rig.host.options = options.unset("LOG_LEVEL");
    std::fs::write(rig.host.current_dir().join(".env"), file).expect("write .env");
    rig.start_worker();
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    assert_eq!(rig.built(&job).await.registry, "ecr");
    rig.finish().await;
}

#[tokio::test]
async fn a_job_with_every_optional_field_left_out_builds() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let mut job = Job::of(&repository).provider(json!({"type": "custom", "url": parts().git}));
    for field in ["commitSha", "runtimeFilePath", "environmentVariables", "ports"] {
        job = job.without(field);
    }
    rig.push(&job).await;
    rig.built(&job).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_job_with_fields_of_tomorrow_and_escapes_of_the_producer_builds() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nCOPY .env /e\nCMD [\"cat\", \"/e\"]\n")]);
    let job = Job::of(&repository).env("HTML", "<b>&</b>").set("priority", json!({"level": 1}));
    rig.push_element(&job, &job.payload().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "HTML=<b>&</b>\n");
    rig.finish().await;
}

#[tokio::test]
async fn odd_variables_are_written_as_a_reader_of_dotenv_files_takes_them_and_impossible_ones_are_left_out_with_a_warning() {
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nCOPY .env /e\nCMD [\"cat\", \"/e\"]\n")]);
    let job = Job::of(&repository).env("EMPTY", "").env("LINES", "a\n\"b\"").env("A=B", "x").env("A B", "x").env("LAST", "l");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "EMPTY=\nLINES='a\n\"b\"'\nLAST=l\n");
    let warnings: Vec<_> = rig.dashboard.lines(&job.id).into_iter().filter(|(kind, _)| kind == "WARNING").collect();
    assert!(
        warnings
            .iter()
            .any(|(_, line)| line.starts_with("Left out of .env") && line.contains("number 3") && line.contains("number 4")),
        "{warnings:?}"
    );
    rig.finish().await;
}
