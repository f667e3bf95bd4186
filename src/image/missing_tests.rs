//! Which step misses which file of which file system, for the words of old and new Engines.

use super::super::failure::{FailedStep, classify};
use super::*;

const STAGES: &str = "FROM x AS build\nRUN y\nFROM z\nCOPY a b\n";

fn failure(step: &str, error: &str, absence: Absence) -> Failure {
    let step = FailedStep { name: step.to_owned(), error: error.to_owned(), wanted_git: false };
    let build = Build { dockerfile: STAGES.as_bytes(), absence: &move |_| absence.clone() };
    let failure = classify(&format!("failed to compute cache key: {error}"), Some(&step), &build);
    assert!(failure.to_string().chars().count() <= 191, "the dashboard shows all of it: {failure}");
    failure
}

fn told(step: &str, error: &str, absence: Absence) -> String {
    let failure = failure(step, error, absence);
    assert_eq!(failure.code, Code::DockerfileCopyMissing, "{failure}");
    failure.to_string()
}

#[test]
fn a_mount_of_a_file_that_is_not_there_names_the_run_step_and_the_mount() {
    let run = "[3/3] RUN --mount=type=bind,source=package.json,target=package.json \
               --mount=type=bind,source=package-lock.json,target=package-lock.json npm ci --omit=dev";
    for error in [
        "\"/package-lock.json\" not found: not found",
        "failed to calculate checksum of ref a::b: \"/package-lock.json\": not found",
    ] {
        let told = told(run, error, Absence::Unknown);
        assert!(
            told.starts_with("RUN --mount=type=bind")
                && told.contains("mounts \"package-lock.json\", which is not in the build context"),
            "{told}"
        );
    }
    let told = told("[2/2] RUN --mount=type=bind,source=.git,target=.git true", "\"/.git\" not found: not found", Absence::Git);
    assert!(told.contains("mounts \".git\", which is never in the build context."), "{told}");
}

#[test]
fn what_a_stage_did_not_make_is_the_stages_and_what_an_image_lacks_is_the_images() {
    for (step, error, words) in [
        (
            "[stage-1 2/2] COPY --from=build /app/dist /srv",
            "\"/app/dist\" not found: not found",
            "\"/app/dist\" is not in the stage build.",
        ),
        (
            "[stage-1 2/2] COPY --from=0 /app/dist /srv",
            "failed to walk /v/tmp/buildkit-mount2/app: lstat /v/tmp/buildkit-mount2/app: no such file or directory",
            "\"/app/dist\" is not in the stage 0.",
        ),
        (
            "[stage-1 2/2] COPY --from=Build /app/dist /srv",
            "lstat /v/overlay2/ab/merged/app/dist: no such file or directory",
            "\"/app/dist\" is not in the stage Build.",
        ),
        (
            "[stage-1 2/2] RUN --mount=type=bind,from=build,source=/app/dist,target=/x ls",
            "\"/app/dist\" not found: not found",
            "\"/app/dist\" is not in the stage build.",
        ),
        (
            "[stage-1 2/2] COPY --from=busybox:base /etc/none /srv",
            "lstat /v/merged/etc/none: no such file or directory",
            "\"/etc/none\" is not in the image busybox:base.",
        ),
        ("[stage-1 2/2] COPY --from=7 /x /srv", "\"/x\" not found: not found", "\"/x\" is not in the image 7."),
    ] {
        let told = told(step, error, Absence::Git);
        assert!(told.contains(words) && !told.contains("build context"), "{told}");
    }
}

#[test]
fn a_file_that_the_repository_has_in_another_way_is_named() {
    let copy = |absence| told("[2/3] COPY package.json ./", "\"/package.json\" not found: not found", absence);
    for (absence, words) in [
        (
            Absence::Elsewhere("services/api/package.json".into()),
            "The build context is the repository's root; the repository has services/api/package.json.",
        ),
        (Absence::Ignored { by: "Dockerfile.dockerignore".into() }, "Dockerfile.dockerignore leaves it out"),
        (Absence::Spelled("Package.json".into()), "The repository has Package.json"),
        (Absence::Submodule("lib".into()), "the Git submodule lib, which is not fetched"),
        (Absence::Unknown, "Commit it"),
    ] {
        let told = copy(absence);
        assert!(told.starts_with("COPY package.json ./ names \"package.json\"") && told.contains(words), "{told}");
    }
}

#[test]
fn a_long_step_and_a_long_path_leave_room_for_the_way_out() {
    let path = format!("/{}/x", "folder/".repeat(40));
    let told =
        told(&format!("[2/2] COPY {path} {}", "dir/".repeat(60)), &format!("\"{path}\" not found: not found"), Absence::Git);
    assert!(told.starts_with("COPY /folder") && told.ends_with("by a file or a variable."), "{told}");
}

#[test]
fn a_run_step_that_takes_no_such_file_is_not_told_to_miss_it() {
    for (step, error) in [
        ("[2/2] RUN make", "\"/bin/sh\": not found"),
        ("[2/2] RUN --mount=type=bind,source=a,target=a make", "failed to create task: \"/bin/sh\": not found"),
        ("[2/2] RUN --mount=type=cache,target=/c make", "exec: \"make\": not found"),
    ] {
        assert_ne!(failure(step, error, Absence::Unknown).code, Code::DockerfileCopyMissing, "{error}");
    }
}

#[test]
fn a_git_repository_that_an_old_frontend_takes_for_a_file_needs_a_newer_one() {
    let told = told("[2/2] ADD git@github.com:x/y.git /x", "\"/git@github.com:x/y.git\" not found: not found", Absence::Unknown);
    assert!(told.contains("Put # syntax=docker/dockerfile:1 into its first line"), "{told}");
}
