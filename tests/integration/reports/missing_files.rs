//! A step that asks for what is not there: the error names the step, the path, and whose file system lacks it.

use super::{assert_whole, lines};
use crate::support::{Job, Repository, Rig};

/// Each Dockerfile fails with this code, and its error, shown whole, has these words.
async fn assert_told(cases: &[(&str, &str, &[&str])]) {
    let mut rig = Rig::start().await;
    for (dockerfile, code, words) in cases {
        let repository = Repository::public(&[
            ("Dockerfile", dockerfile),
            ("package.json", "{}"),
            (".dockerignore", "ignored\n"),
            ("ignored", ""),
        ]);
        let job = Job::of(&repository);
        rig.push(&job).await;
        let error = rig.failed(&job, code).await;
        assert_whole(&error);
        for word in *words {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_mount_of_a_file_that_is_not_committed_names_the_run_step() {
    let copy = "dockerfile.copy_missing";
    assert_told(&[
        (
            "FROM busybox:base\nWORKDIR /a\nRUN --mount=type=bind,source=package.json,target=package.json \
             --mount=type=bind,source=package-lock.json,target=package-lock.json cat package.json\n",
            copy,
            &["RUN --mount=type=bind", "mounts \"package-lock.json\", which is not in the build context"],
        ),
        (
            "FROM busybox:base\nWORKDIR /a\nRUN --mount=type=bind,source=.git,target=.git cat .git/HEAD\n",
            copy,
            &["RUN --mount", "mounts \".git\", which is never in the build context"],
        ),
        ("FROM busybox:base\nRUN --mount=type=bind,source=ignored,target=/x true\n", copy, &[".dockerignore leaves it out"]),
    ])
    .await;
}

#[tokio::test]
async fn what_an_earlier_stage_or_another_image_lacks_is_not_looked_for_in_the_context() {
    let copy = "dockerfile.copy_missing";
    assert_told(&[
        (
            "FROM busybox:base AS build\nRUN mkdir -p /app/build\nFROM busybox:base\nCOPY --from=build /app/dist /srv\n",
            copy,
            &["COPY --from=build /app/dist /srv: \"/app/dist\" is not in the stage build. ", "See what its steps write"],
        ),
        (
            "FROM busybox:base\nRUN mkdir -p /app/build\nFROM busybox:base\nCOPY --from=0 /app/dist /srv\n",
            copy,
            &["\"/app/dist\" is not in the stage 0."],
        ),
        (
            "FROM busybox:base AS build\nRUN true\nFROM busybox:base\nRUN --mount=type=bind,from=build,source=/app/dist,target=/x ls /x\n",
            copy,
            &["RUN --mount", "\"/app/dist\" is not in the stage build."],
        ),
        ("FROM busybox:base\nCOPY --from=busybox:base /none/here /srv\n", copy, &["\"/none/here\" is not in the image busybox:base."]),
    ])
    .await;
}

#[tokio::test]
async fn a_build_that_wants_git_is_told_that_it_is_never_in_the_context() {
    assert_told(&[
        (
            "FROM busybox:base\nCOPY .git /a/.git\n",
            "dockerfile.copy_missing",
            &["names \".git\", which is never in the build context"],
        ),
        (
            "FROM busybox:base\nRUN echo 'fatal: not a git repository (or any of the parent directories): .git' >&2; exit 128\n",
            "dockerfile.step_failed",
            &["exit code 128", ".git is never in the build context"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_step_that_wants_an_ssh_agent_is_told_of_secrets() {
    assert_told(&[(
        "FROM busybox:base\nRUN --mount=type=ssh,required=true echo sock=$SSH_AUTH_SOCK\n",
        "dockerfile.build",
        &["builds are given no SSH agent here", "Mount a key as a secret: RUN --mount=type=secret,id="],
    )])
    .await;
    let mut rig = Rig::start().await;
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUN --mount=type=ssh echo sock=$SSH_AUTH_SOCK\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    let told = lines(&rig, &job, "INFO");
    assert_eq!(told.iter().filter(|line| line.contains("builds are given no SSH agent here")).count(), 1, "{told:?}");
    rig.finish().await;
}
