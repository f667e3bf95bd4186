//! What no build asks for is no reason to refuse a repository: it is refused where a build asks for it, and then by its name.

use crate::support::{Job, Repository, Rig};

const DOCKERFILE: &str = "FROM busybox:base\nCOPY . /app/\nCMD [\"ls\", \"-A\", \"/app\"]\n";
/// It copies another folder than the one with what is wrong.
const ONE_FOLDER: &str = "FROM busybox:base\nCOPY good /app/\nCMD [\"ls\", \"-A\", \"/app\"]\n";

/// A repository with these files and a folder `odd` of this listing, as `git ls-tree` prints one.
fn with_odd(files: &[(&str, &str)], odd: impl FnOnce(&str) -> String) -> Repository {
    let repository = Repository::public(files);
    let blob = repository.git(&["rev-parse", "main:Dockerfile"]);
    let odd = repository.make_tree(&odd(&blob));
    let root = repository.git(&["ls-tree", "main"]);
    let root = repository.make_tree(&format!("{root}\n040000 tree {odd}\todd\n"));
    repository.force_main_to_tree(&root);
    repository
}

#[tokio::test]
async fn a_name_that_is_no_utf8_is_refused_only_where_it_would_be_sent() {
    let mut rig = Rig::start().await;
    let odd = |blob: &str| format!("100644 blob {blob}\t\"caf\\351.txt\"\n");
    let ignored = with_odd(&[("Dockerfile", DOCKERFILE), (".dockerignore", "odd\nDockerfile\n"), ("keep", "k")], odd);
    let not_copied = with_odd(&[("Dockerfile", ONE_FOLDER), ("good/keep", "k")], odd);
    let asked_for = with_odd(&[("Dockerfile", DOCKERFILE), ("keep", "k")], odd);
    for (repository, printed) in [(&ignored, ".dockerignore\nkeep"), (&not_copied, "keep")] {
        let job = Job::of(repository);
        rig.push(&job).await;
        let end = rig.built(&job).await;
        assert_eq!(rig.engine.run(&end.image).await.trim(), printed);
    }
    let job = Job::of(&asked_for);
    rig.push(&job).await;
    let error = rig.failed(&job, "source.bad_path").await;
    assert!(error.contains("odd/caf\\xe9.txt"), "{error}");
    rig.finish().await;
}

#[tokio::test]
async fn a_file_above_the_limit_is_refused_only_where_it_would_be_sent() {
    let mut rig = Rig::with(|options| options.set("MAX_FILE_BYTES", "1000")).await;
    let large = "x".repeat(2000);
    let ignored =
        Repository::public(&[("Dockerfile", DOCKERFILE), (".dockerignore", "data\nDockerfile\n"), ("data/model", &large)]);
    let not_copied = Repository::public(&[("Dockerfile", ONE_FOLDER), ("good/keep", "k"), ("data/model", &large)]);
    let asked_for = Repository::public(&[("Dockerfile", DOCKERFILE), ("data/model", &large)]);
    for repository in [&ignored, &not_copied] {
        let job = Job::of(repository);
        rig.push(&job).await;
        rig.built(&job).await;
    }
    let job = Job::of(&asked_for);
    rig.push(&job).await;
    let error = rig.failed(&job, "source.too_large").await;
    assert!(error.contains("data/model") && error.contains("MAX_FILE_BYTES"), "{error}");
    rig.finish().await;
}
