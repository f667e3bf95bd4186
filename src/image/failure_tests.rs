//! Which failure a user is told for which words of the Engine and of BuildKit.

use super::*;

/// (what the Engine said, the step that failed with its own error, the code, words of the cause)
type Case = (&'static str, Option<(&'static str, &'static str)>, Code, &'static str);

/// Nothing is known of the repository.
const NO_BUILD: Build = Build { dockerfile: b"FROM x AS a", absence: &|_| Absence::Unknown };

fn step(name: &str, error: &str) -> FailedStep {
    FailedStep { name: name.to_owned(), error: error.to_owned(), wanted_git: false }
}

fn check(cases: &[Case]) {
    for (message, step, code, words) in cases {
        let step = step.map(|(name, error)| self::step(name, error));
        let failure = classify(message, step.as_ref(), &NO_BUILD);
        assert_eq!(failure.code, *code, "{message}: {failure}");
        assert!(failure.cause.contains(words), "{message}: {failure}");
        assert!(!failure.way_out.is_empty() && !failure.to_string().contains('\n'), "{failure}");
    }
}

const LOADING: &str = "[internal] load metadata for ghcr.io/team/base:1";
const SYNTAX_IMAGE: &str = "resolve image config for docker.io/docker/dockerfile:1";

#[test]
fn a_failed_step_is_named_with_its_exit_code_by_old_and_new_engines() {
    check(&[
        (
            "executor failed running [/bin/sh -c npm ci]: exit code: 1",
            Some(("[build 2/4] RUN npm ci", "executor failed running [/bin/sh -c npm ci]: exit code: 1")),
            Code::DockerfileStepFailed,
            "RUN npm ci ended with exit code 1.",
        ),
        (
            "failed to solve: process \"/bin/sh -c npm ci\" did not complete successfully: exit code: 127",
            None,
            Code::DockerfileStepFailed,
            "RUN npm ci ended with exit code 127.",
        ),
        (
            "failed to solve with frontend dockerfile.v0: failed to build LLB: executor failed running [make]: exit code: 2",
            None,
            Code::DockerfileStepFailed,
            "RUN make ended with exit code 2.",
        ),
    ]);
}

#[test]
fn a_step_that_prints_what_looks_like_another_failure_is_still_a_failed_step() {
    check(&[(
        "executor failed running [/bin/sh -c echo 'no space left on device: dial tcp' && false]: exit code: 1",
        None,
        Code::DockerfileStepFailed,
        "exit code 1",
    )]);
}

#[test]
fn a_dockerfile_that_cannot_be_read_says_where() {
    check(&[
        (
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 2: unknown instruction: RUM",
            None,
            Code::DockerfileSyntax,
            "line 2: unknown instruction: RUM",
        ),
        (
            "failed to solve: dockerfile parse error on line 7: unknown instruction: RUM",
            None,
            Code::DockerfileSyntax,
            "line 7: unknown",
        ),
        (
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: the Dockerfile cannot be empty",
            None,
            Code::DockerfileSyntax,
            "cannot be empty",
        ),
        (
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: failed to parse stage name \"A:B\": invalid reference format: repository name must be lowercase",
            None,
            Code::DockerfileSyntax,
            "repository name must be lowercase",
        ),
    ]);
}

#[test]
fn a_missing_file_is_named_by_old_and_new_engines() {
    check(&[
        (
            "failed to compute cache key: \"/nope\" not found: not found",
            Some(("[2/2] ADD nope /x/", "\"/nope\" not found: not found")),
            Code::DockerfileCopyMissing,
            "ADD nope /x/ names \"nope\"",
        ),
        (
            "failed to compute cache key: failed to walk /var/lib/docker/tmp/buildkit-mount2978/dist: lstat /var/lib/docker/tmp/buildkit-mount2978/dist: no such file or directory",
            Some((
                "[2/2] COPY dist/app.js /app/",
                "failed to walk /var/lib/docker/tmp/buildkit-mount2978/dist: lstat /var/lib/docker/tmp/buildkit-mount2978/dist: no such file or directory",
            )),
            Code::DockerfileCopyMissing,
            "COPY dist/app.js /app/ names \"dist/app.js\"",
        ),
        (
            "lstat /var/lib/docker/overlay2/03d9/merged/nope: no such file or directory",
            Some((
                "[stage-1 1/1] COPY --from=a /nope /",
                "lstat /var/lib/docker/overlay2/03d9/merged/nope: no such file or directory",
            )),
            Code::DockerfileCopyMissing,
            "COPY --from=a /nope /: \"/nope\" is not in the stage a.",
        ),
        (
            "failed to solve: failed to compute cache key: failed to calculate checksum of ref 3x::ab: \"/package.json\": not found",
            None,
            Code::DockerfileCopyMissing,
            "\"package.json\"",
        ),
    ]);
}

#[test]
fn a_base_image_that_is_missing_or_refused_is_named() {
    check(&[
        (
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: ghcr.io/team/base:1: not found",
            Some((LOADING, "ghcr.io/team/base:1: not found")),
            Code::DockerfileBaseImage,
            "The base image ghcr.io/team/base:1 does not exist.",
        ),
        (
            "failed to create LLB definition: pulling from host ghcr.io failed with status code [manifests 1]: 401 Unauthorized",
            Some((LOADING, "pulling from host ghcr.io failed with status code [manifests 1]: 401 Unauthorized")),
            Code::DockerfileBaseImage,
            "wants credentials",
        ),
        (
            "failed to solve: octo/x: failed to resolve source metadata for docker.io/octo/x:latest: pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
            None,
            Code::DockerfileBaseImage,
            "wants credentials",
        ),
        (
            "failed to create LLB definition: no match for platform in manifest sha256:ab: not found",
            Some((LOADING, "no match for platform in manifest sha256:ab: not found")),
            Code::DockerfileBaseImage,
            "not made for the platform",
        ),
    ]);
}

#[test]
fn a_registry_that_does_not_answer_is_not_the_users_fault() {
    for error in [
        "failed to do request: Head \"https://ghcr.io/v2/x/manifests/1\": dial tcp: lookup ghcr.io on 10.0.0.2:53: server misbehaving",
        "failed to do request: Head \"https://ghcr.io/v2/\": proxyconnect tcp: dial tcp: lookup proxy.corp: no such host",
        "failed to do request: Head \"http://127.0.0.1:1/v2/x/manifests/1\": dial tcp 127.0.0.1:1: connect: connection refused",
        "failed to do request: Head \"https://ghcr.io/v2/x/manifests/1\": net/http: TLS handshake timeout",
        "failed to copy: httpReadSeeker: failed open: unexpected status code https://ghcr.io/v2/x/blobs/sha256:ab: 503 Service Unavailable",
        "pulling from host ghcr.io failed with status code [manifests 1]: 502 Bad Gateway",
        "unexpected status code [manifests 1]: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit.",
        "failed to copy: read tcp 10.0.0.1:4->10.0.0.2:443: read: connection reset by peer",
        "failed to fetch anonymous token: Get \"https://auth.docker.io/token\": dial tcp 1.2.3.4:443: i/o timeout",
    ] {
        let failure = classify(&format!("failed to solve: {error}"), Some(&step(LOADING, error)), &NO_BUILD);
        assert_eq!(failure.code, Code::BuildPullUnreachable, "{failure}");
        assert!(failure.is_retryable() && failure.cause.contains("ghcr.io/team/base:1"), "{failure}");
    }
}

#[test]
fn the_image_of_a_syntax_line_has_a_code_of_its_own() {
    check(&[
        (
            "failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: docker.io/docker/dockerfile:1: not found",
            Some((SYNTAX_IMAGE, "docker.io/docker/dockerfile:1: not found")),
            Code::DockerfileFrontend,
            "The image of the # syntax= line, docker.io/docker/dockerfile:1, does not exist.",
        ),
        (
            "failed to solve with frontend dockerfile.v0: failed to solve with frontend gateway.v0: failed to do request: Head \"x\": dial tcp: no such host",
            Some((SYNTAX_IMAGE, "failed to do request: Head \"x\": dial tcp: no such host")),
            Code::DockerfileHostUnknown,
            "docker.io/docker/dockerfile:1",
        ),
    ]);
}

#[test]
fn a_host_that_does_not_exist_and_a_bad_certificate_are_told_apart_from_one_that_is_down() {
    let unknown = "failed to do request: Head \"https://ghcr.io/v2/x\": dial tcp: lookup ghcr.io on 10.0.0.2:53: no such host";
    let untrusted = "failed to do request: Head \"https://ghcr.io/v2/\": x509: certificate signed by unknown authority";
    check(&[
        (unknown, Some((LOADING, unknown)), Code::DockerfileHostUnknown, "the name ghcr.io cannot be resolved"),
        (untrusted, Some((LOADING, untrusted)), Code::DockerfileCertificate, "certificate signed by unknown authority"),
        (
            "Get \"https://files.example/a\": dial tcp: lookup files.example: no such host",
            Some(("https://files.example/a", "Get \"https://files.example/a\": dial tcp: lookup files.example: no such host")),
            Code::DockerfileHostUnknown,
            "the name files.example cannot be resolved",
        ),
    ]);
}

#[test]
fn the_rest_is_told_apart() {
    check(&[
        ("write /var/lib/docker/overlay2/ab/x: no space left on device", None, Code::EngineDiskFull, "no disk space"),
        (
            "failed to solve: failed to copy files: copy file range failed: no space left on device",
            Some(("[2/2] COPY . /", "failed to copy files: copy file range failed: no space left on device")),
            Code::EngineDiskFull,
            "no disk space",
        ),
        (
            "secret NPM_TOKEN not found: not found",
            Some(("[2/2] RUN --mount=type=secret,id=NPM_TOKEN,required=true x", "secret NPM_TOKEN not found: not found")),
            Code::DockerfileSecretMissing,
            "\"NPM_TOKEN\"",
        ),
        ("failed to solve: secret K: not found", None, Code::DockerfileSecretMissing, "\"K\""),
        ("no active session for abc: context deadline exceeded", None, Code::EngineLost, "went away"),
        ("failed to solve: network.host is not allowed", None, Code::DockerfileBuild, "network.host"),
        ("something the Engine never said before", None, Code::EngineError, "never said before"),
        (
            "failed to mount: strange",
            Some(("[2/2] RUN --mount=type=bind,from=x true", "failed to mount: strange")),
            Code::DockerfileBuild,
            "RUN --mount=type=bind,from=x true failed: failed to mount: strange",
        ),
    ]);
}

#[test]
fn foreign_text_is_one_line_and_not_too_long() {
    let failure = classify(&format!("failed to solve: \x1b[2Ja\nb{}", "x".repeat(5000)), None, &NO_BUILD);
    assert!(failure.cause.len() < 500 && failure.cause.contains("a b"), "{failure}");
    let name = format!("[2/2] RUN {}", "é".repeat(5000));
    let step = step(&name, "process \"x\" did not complete successfully: exit code: 1");
    let failure = classify("x", Some(&step), &NO_BUILD);
    assert!(failure.cause.contains('…') && failure.cause.ends_with("é ended with exit code 1."), "{failure}");
    assert!(failure.cause.chars().count() < 400, "{failure}");
}

/// With names as long as they get: what is cut is the name, and never the cure.
#[test]
fn a_failure_with_the_longest_names_is_told_with_its_cure() {
    let command = format!("[build 12/34] RUN {}echo done", "npm run build-of-a-part && ".repeat(40));
    let image = format!("registry.{}example:5000/{}base:{}", "part.".repeat(30), "team/".repeat(30), "v".repeat(100));
    let loading = format!("[internal] load metadata for {image}");
    let about = |words: &str| format!("{image}: failed to resolve source metadata for {image}: {words}");
    let dial = "failed to do request: Head \"https://x.example/v2/\": dial tcp 10.0.0.1:443: connect: connection refused";
    let cases: &[(&str, String, Code, &str, &str)] = &[
        (
            &command,
            "process \"/bin/sh -c x\" did not complete successfully: exit code: 3".into(),
            Code::DockerfileStepFailed,
            "exit code 3.",
            "says why.",
        ),
        (
            &command,
            "process \"/bin/sh -c x\" did not complete successfully: exit code: 127".into(),
            Code::DockerfileStepFailed,
            "exit code 127.",
            "see its spelling.",
        ),
        (
            &loading,
            about("pull access denied, repository does not exist or may require authorization"),
            Code::DockerfileBaseImage,
            "wants credentials.",
            "PULL_REGISTRIES.",
        ),
        (&loading, about("manifest unknown: not found"), Code::DockerfileBaseImage, "does not exist.", "name and tag."),
        (&loading, about(dial), Code::BuildPullUnreachable, "connection refused", "own status."),
        (
            &loading,
            about("dial tcp: lookup x.example: no such host"),
            Code::DockerfileHostUnknown,
            "cannot be resolved.",
            "in the Dockerfile.",
        ),
        (
            &loading,
            about("x509: certificate signed by unknown authority"),
            Code::DockerfileCertificate,
            "unknown authority",
            "trust its issuer.",
        ),
        (
            &loading,
            about("no match for platform in manifest: not found"),
            Code::DockerfileBaseImage,
            "in manifest: not found",
            "BUILD_PLATFORM.",
        ),
        (&command, "no SSH key \"default\" forwarded from the client".into(), Code::DockerfileBuild, "no", "id=NAME."),
        (
            &command,
            format!("secret {}: not found", "NAME_".repeat(60)),
            Code::DockerfileSecretMissing,
            "does not have",
            "out of the mount.",
        ),
    ];
    for (name, error, code, cause, cure) in cases {
        let failure = classify(error, Some(&step(name, error)), &NO_BUILD);
        let told = failure.within(191);
        assert_eq!(failure.code, *code, "{failure}");
        assert!(told.chars().count() <= 191 && told.contains(&format!("[{code}]")), "{told}");
        assert!(told.contains(cause) && told.ends_with(&failure.way_out) && told.ends_with(cure), "{told}");
    }
}

#[test]
fn a_repository_over_ssh_is_told_to_be_named_by_https() {
    let error = "no SSH key \"default\" forwarded from the client";
    let failure = classify(error, Some(&step("[2/3] ADD git@github.com:octo/hello.git /src", error)), &NO_BUILD);
    assert!(failure.cause.starts_with("ADD git@github.com:octo/hello.git /src needs an SSH agent"), "{failure}");
    assert!(failure.way_out.contains("https URL"), "{failure}");
}
