//! A build's files and its image have limits: above them a job fails, and says how large, how large at most, and which key says so.

use crate::support::{Job, Repository, Rig, noise};

const DOCKERFILE: &str = "FROM busybox:base\nCOPY . /app\n";

#[tokio::test]
async fn a_build_whose_files_or_whose_image_are_too_large_fails_with_size_limit_and_key() {
    let mut rig = Rig::with(|o| o.builds(3).set("CONTEXT_MAX", "1MiB").set("IMAGE_MAX", "8MiB")).await;
    let with_much = |files: &[(&str, &str)]| {
        let repository = Repository::public(files);
        let much = noise(1536 * 1024);
        let files = files.iter().map(|(path, content)| (*path, "100644", content.as_bytes()));
        let files: Vec<_> = files.chain([("much", "100644", much.as_slice())]).collect();
        repository.commit_raw("main", &files);
        repository
    };
    let large_context = with_much(&[("Dockerfile", DOCKERFILE)]);
    let large_app = with_much(&[("app.sh", "true\n")]);
    let left_out = with_much(&[("Dockerfile", DOCKERFILE), (".dockerignore", "much\n")]);
    let large_image = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN dd if=/dev/urandom of=/x bs=1M count=9\n")]);
    let app = Repository::public(&[("app.sh", "true\n")]);
    let large_layer = Job::of(&app).env("BP_SHELL_DEPS_MB", "9");
    let (small, small_app) = (Job::of(&left_out), Job::of(&app));
    let cases = [
        (
            Job::of(&large_context),
            "context.too_large",
            "The files of the build have 1.5 MiB together, more than the 1.0 MiB of CONTEXT_MAX",
        ),
        (Job::of(&large_app), "context.too_large", "more than the 1.0 MiB of CONTEXT_MAX"),
        (Job::of(&large_image), "image.too_large", "more than the 8.0 MiB of IMAGE_MAX"),
        (large_layer, "image.too_large", "more than the 8.0 MiB of IMAGE_MAX"),
    ];
    for job in cases.iter().map(|(job, ..)| job).chain([&small, &small_app]) {
        rig.push(job).await;
    }
    for (job, code, words) in &cases {
        let error = rig.failed(job, code).await;
        println!("{error}");
        assert!(error.contains(words), "{words}: {error}");
        let latest = format!("{}/{}:latest", crate::support::parts().registry, job.service);
        assert_eq!(rig.registry.digest(&latest).await, None, "no too large image becomes the service's latest");
    }
    rig.built(&small).await;
    rig.built(&small_app).await;
    rig.finish().await;
}
