//! Variables that a Dockerfile expects as build arguments.

use super::warnings;
use crate::support::{Job, Repository, Rig};

#[tokio::test]
async fn an_argument_named_as_a_variable_is_warned_of_with_the_mount_that_reads_it() {
    let mut rig = Rig::start().await;
    let text = "FROM busybox:base\nARG NEXT_PUBLIC_API_URL\nARG MODE=local\nARG TARGETARCH\nENV NEXT_PUBLIC_API_URL=$NEXT_PUBLIC_API_URL\n\
                RUN echo \"MARK url=[$NEXT_PUBLIC_API_URL]\"\n";
    let repository = Repository::public(&[("Dockerfile", text)]);
    let job =
        Job::of(&repository).env("NEXT_PUBLIC_API_URL", "https://api.shop.example/v1").env("MODE", "live").env("TARGETARCH", "x");
    rig.push(&job).await;
    rig.built(&job).await;
    let told: Vec<String> = warnings(&rig, &job).into_iter().filter(|line| line.contains("build argument")).collect();
    let [warning] = told.as_slice() else { panic!("one warning: {told:?}") };
    assert!(warning.contains("NEXT_PUBLIC_API_URL stays empty, MODE keeps its default."), "{warning}");
    assert!(warning.contains("RUN --mount=type=secret,id=NEXT_PUBLIC_API_URL"), "{warning}");

    let read = "FROM busybox:base\nARG URL\nRUN --mount=type=secret,id=URL echo $(cat /run/secrets/URL) > /url\nCMD [\"cat\", \"/url\"]\n";
    let repository = Repository::public(&[("Dockerfile", read)]);
    let job = Job::of(&repository).env("URL", "https://api.shop.example/v1");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "https://api.shop.example/v1\n", "the way out works");
    assert!(!warnings(&rig, &job).iter().any(|line| line.contains("build argument")));
    rig.finish().await;
}
