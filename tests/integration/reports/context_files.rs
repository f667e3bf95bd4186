//! Which files a build sees: the same as `docker build` of a checkout shows.

use super::docker_build::printed_by_docker;
use super::{assert_whole, warnings};
use crate::support::{Job, Repository, Rig, unique};

/// Lists what a `COPY . /a` took.
const LIST: &str = "FROM busybox:base\nCOPY . /a\nRUN cd /a && find . -path ./.git -prune -o ! -type d -print | sort > /list\nCMD [\"cat\", \"/list\"]\n";

/// A repository with files (`path`, content) and links (`path -> target`, ignored).
fn repository(files: &[(&str, &str)]) -> Repository {
    let repository = Repository::empty();
    let entries: Vec<(&str, &str, &[u8])> = files
        .iter()
        .map(|(path, content)| match path.split_once(" -> ") {
            Some((path, target)) => (path, "120000", target.as_bytes()),
            None => (*path, "100644", content.as_bytes()),
        })
        .collect();
    repository.commit_raw("main", &entries);
    repository
}

/// Builds it by a job and by `docker build`, and compares what both images print.
async fn assert_as_docker_build(rig: &mut Rig, repository: &Repository, dockerfile: Option<&str>, case: &str) -> String {
    let job = match dockerfile {
        Some(path) => Job::of(repository).dockerfile(path),
        None => Job::of(repository),
    };
    rig.push(&job).await;
    let end = rig.built(&job).await;
    let ours = rig.engine.run(&end.image).await;
    let theirs = printed_by_docker(&rig.engine, repository, dockerfile).await;
    assert_eq!(Some(&ours), theirs.as_ref(), "{case}");
    ours
}

#[tokio::test]
async fn the_ignore_file_of_a_linked_dockerfile_is_the_one_beside_the_link() {
    let mut rig = Rig::start().await;
    let linked = repository(&[
        ("docker/prod.Dockerfile", LIST),
        ("Dockerfile -> docker/prod.Dockerfile", ""),
        ("Dockerfile.dockerignore", "customers.csv\n"),
        ("customers.csv", "private"),
        ("keep", "y"),
    ]);
    let seen = assert_as_docker_build(&mut rig, &linked, None, "the link's").await;
    assert!(seen.contains("./keep") && !seen.contains("customers.csv"), "{seen}");
    rig.finish().await;
}

#[tokio::test]
async fn ignore_files_that_are_links_count_where_docker_build_follows_them() {
    let mut rig = Rig::start().await;
    let base =
        [("docker/prod", LIST), ("docker/rules", "customers.csv\n"), ("rules", "keep\n"), ("customers.csv", ""), ("keep", "")];
    for (more, dockerfile) in [
        (&[(".dockerignore -> docker/rules", "")][..], "docker/prod"),
        (&[(".dockerignore -> /rules", "")][..], "docker/prod"),
        (&[(".dockerignore -> ../rules", "")][..], "docker/prod"),
        (&[("b -> docker", ""), ("a -> b/rules", ""), (".dockerignore -> a", "")][..], "docker/prod"),
        (&[(".dockerignore -> none", "")][..], "docker/prod"),
        (&[(".dockerignore -> .dockerignore", "")][..], "docker/prod"),
        (&[("docker/prod.dockerignore -> rules", "")][..], "docker/prod"),
        (&[("docker/prod.dockerignore -> ../rules", "")][..], "docker/prod"),
        (&[("docker/prod.dockerignore -> none", ""), (".dockerignore", "keep\n")][..], "docker/prod"),
        (&[("docker/prod.dockerignore", ""), (".dockerignore", "keep\n")][..], "docker/prod"),
        (&[("current -> docker", ""), ("docker/prod.dockerignore", "keep\n")][..], "current/prod"),
        (&[("Dockerfile -> docker/prod", ""), ("Dockerfile.dockerignore -> docker/rules", "")][..], "Dockerfile"),
        (&[("Dockerfile -> docker/prod", ""), ("docker/prod.dockerignore", "keep\n")][..], "Dockerfile"),
    ] {
        let files: Vec<(&str, &str)> = base.iter().chain(more).copied().collect();
        assert_as_docker_build(&mut rig, &repository(&files), Some(dockerfile), &format!("{more:?}")).await;
    }
    rig.finish().await;
}

#[tokio::test]
async fn everything_that_is_committed_is_in_the_context_as_with_docker_build() {
    let mut rig = Rig::start().await;
    let files = [
        ("Dockerfile", LIST),
        (".env.production", "VITE_API=https://api.shop.example\n"),
        (".env.local", "A=1"),
        (".env", "OWN=1"),
        ("node_modules/left-pad/index.js", "//"),
        (".vscode/settings.json", "{}"),
        (".DS_Store", ""),
        ("a.swp", ""),
        ("src/main.js~", ""),
    ];
    let seen = assert_as_docker_build(&mut rig, &repository(&files), None, "no .dockerignore").await;
    assert!(seen.contains("./.env.production") && seen.contains("./node_modules/left-pad/index.js"), "{seen}");

    let repository = repository(&files);
    let job = Job::of(&repository).env("A", "1");
    rig.push(&job).await;
    rig.built(&job).await;
    let told = warnings(&rig, &job);
    assert_eq!(told.iter().filter(|line| line.contains("own .env is not in the build")).count(), 1, "{told:?}");
    rig.finish().await;
}

#[tokio::test]
async fn a_lower_case_dockerfile_at_the_root_is_built_as_docker_build_does() {
    let mut rig = Rig::start().await;
    let lower = repository(&[("dockerfile", LIST), ("Dockerfile.dockerignore", "private\n"), ("private", ""), ("keep", "")]);
    assert_as_docker_build(&mut rig, &lower, None, "dockerfile").await;
    rig.finish().await;
}

#[tokio::test]
async fn a_copy_whose_wildcard_matches_nothing_ends_as_with_docker_build() {
    const FILES: &[(&str, &str)] = &[
        ("certs/.gitkeep", ""),
        ("a/b/x.json", "{}"),
        ("a/c/y.json", "{}"),
        ("src/y", "y"),
        ("package.json", "{}"),
        ("linked -> certs", ""),
        ("way -> a", ""),
    ];
    let mut rig = Rig::start().await;
    let nothing = [
        "certs/*.crt",
        "*.none",
        "linked/*.crt",
        "*/x.none",
        "a/*/none.json",
        "certs/**/*.crt",
        "/certs/*.crt",
        "../certs/*.crt",
    ];
    let something = [
        "way/b/*.json",
        "way/*/x.json",
        "*/b/x.json",
        "a/**",
        "**/x.json",
        "a/[bc]/x.json",
        "certs",
        "certs/*.crt src/y",
        "a/*",
        "c*",
        "c?rts/*",
        "package*.json certs/*.pem",
    ];
    // By themselves those that match nothing: the others have their folders sent.
    for patterns in [&nothing[..], &something[..]] {
        // Each time into a new folder: what the Engine has in its cache is built whatever is sent.
        let to = unique();
        let copies: String = patterns.iter().enumerate().map(|(i, pattern)| format!("COPY {pattern} /{to}/{i}/\n")).collect();
        let text =
            format!("FROM busybox:base\n{copies}RUN mkdir -p /{to}; find /{to} | sort > /list\nCMD [\"cat\", \"/list\"]\n");
        let files: Vec<(&str, &str)> = FILES.iter().copied().chain([("Dockerfile", text.as_str())]).collect();
        let seen = assert_as_docker_build(&mut rig, &repository(&files), None, &format!("{patterns:?}")).await;
        assert_eq!(seen.contains("/x.json"), patterns.len() == something.len(), "{seen}");
    }

    for missing in ["nodir/*.crt", "certs/sub/*.crt", "a/b/none.json", "src/y/z"] {
        let text = format!("FROM busybox:base\nCOPY {missing} /{}/\n", unique());
        let files: Vec<(&str, &str)> = FILES.iter().copied().chain([("Dockerfile", text.as_str())]).collect();
        let repository = repository(&files);
        let job = Job::of(&repository);
        rig.push(&job).await;
        let error = rig.failed(&job, "dockerfile.copy_missing").await;
        assert_whole(&error);
        assert!(error.contains(&format!("names \"{missing}\"")), "{error}");
        assert_eq!(printed_by_docker(&rig.engine, &repository, None).await, None, "{missing}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_dockerfile_that_is_written_for_its_own_folder_is_told_what_its_context_is() {
    let mut rig = Rig::start().await;
    let text = "FROM busybox:base\nWORKDIR /app\nCOPY package.json ./\nCMD [\"cat\", \"/app/package.json\"]\n";
    let api = [("services/api/Dockerfile", text), ("services/api/package.json", "api")];
    let lacking = repository(&api);
    let job = Job::of(&lacking).dockerfile("services/api/Dockerfile");
    rig.push(&job).await;
    let error = rig.failed(&job, "dockerfile.copy_missing").await;
    assert_whole(&error);
    assert!(
        error.ends_with("The build context is the repository's root; the repository has services/api/package.json."),
        "{error}"
    );

    let both = repository(&[api[0], api[1], ("package.json", "root")]);
    let job = Job::of(&both).dockerfile("services/api/Dockerfile");
    rig.push(&job).await;
    let end = rig.built(&job).await;
    assert_eq!(rig.engine.run(&end.image).await, "root");
    let told: Vec<String> = warnings(&rig, &job).into_iter().filter(|line| line.contains("services/api/package.json")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    rig.finish().await;
}

#[tokio::test]
async fn dockerfiles_that_lie_elsewhere_are_named_where_none_is_at_the_root() {
    let mut rig = Rig::start().await;
    let elsewhere = repository(&[
        ("docker/Dockerfile", "FROM busybox:base\n"),
        ("Containerfile", "FROM x\n"),
        ("web.Dockerfile", "FROM x\n"),
        ("README.md", ""),
    ]);
    let job = Job::of(&elsewhere);
    rig.push(&job).await;
    let error = rig.failed(&job, "buildpacks.nothing_detected").await;
    assert_whole(&error);
    assert!(
        error.ends_with("Set runtimeFilePath; the repository has Containerfile, web.Dockerfile, docker/Dockerfile."),
        "{error}"
    );
    let log = rig.dashboard.log(&job.id);
    let said = "No Dockerfile at the repository root (found Containerfile, web.Dockerfile, docker/Dockerfile; set runtimeFilePath to use one). \
                Building with buildpacks.";
    assert!(log.contains(said), "{log}");
    rig.finish().await;
}
