//! A Dockerfile that is right, and newer than the frontend of the Engine.

use super::assert_whole;
use crate::support::{Job, Repository, Rig};

#[tokio::test]
async fn a_dockerfile_newer_than_the_engines_frontend_is_told_the_syntax_line() {
    let mut rig = Rig::start().await;
    for newer in [
        "COPY --link a /a",
        "COPY --exclude=*.md . /a",
        "COPY --parents a /a",
        "ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://x.invalid/a /",
        "ADD git@github.com:x/y.git /x",
        "RUN --network=none true",
        "RUN --security=insecure true",
        "RUN --mount=type=secret,id=A,env=A true",
        "RUN <<EOF\nset -e\necho hi\nEOF",
        "COPY <<-\"EOF\" /x\n[global]\nEOF",
        "RUN cat <<EOF > /x\nRUN true\nEOF",
    ] {
        let repository = Repository::public(&[("Dockerfile", &format!("FROM busybox:base\n{newer}\n")), ("a", "a")]);
        let job = Job::of(&repository);
        rig.push(&job).await;
        let code = if newer.starts_with("ADD git@") { "dockerfile.copy_missing" } else { "dockerfile.syntax" };
        let error = rig.failed(&job, code).await;
        assert_whole(&error);
        assert!(
            error.ends_with("Put # syntax=docker/dockerfile:1 into its first line: this Engine's own frontend is older."),
            "{error}"
        );
    }
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\nRUM true\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    let error = rig.failed(&job, "dockerfile.syntax").await;
    assert!(error.ends_with("Correct the Dockerfile."), "what no frontend reads is misspelled: {error}");
    rig.finish().await;
}
