//! Trees without a Dockerfile: built by the real lifecycle, phase by phase, with a builder made from parts in the repository.

mod caches;
mod ends;
mod engine_restarts;
mod exit_codes;
mod held;
mod hostile;
mod images;
mod leaving;
mod main_way;
mod metadata;

use crate::support::{Engine, Repository, parts};

/// An app with code of its own that runs while it is built, as an install script does.
fn app(build_sh: &str) -> Repository {
    Repository::public(&[("app.sh", "echo \"$GREETING, port ${PORT:-unset}\"\n"), ("build.sh", build_sh)])
}

fn builder() -> &'static str {
    parts().builders.split_once('=').expect("builder=run-image").0
}

fn run_image() -> &'static str {
    parts().builders.split_once('=').expect("builder=run-image").1
}

/// An image with some of its files changed, under a name of its own.
async fn variant(engine: &Engine, of: &str, name: &str, commands: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = format!("FROM {of}\nUSER 0\nRUN {commands}\nUSER 1000:1000\n");
    std::fs::write(dir.path().join("Dockerfile"), text).expect("write the Dockerfile");
    let image = format!("slipway-test/{name}:1");
    engine.docker(&["build", "--quiet", "--tag", &image, &dir.path().display().to_string()]).await;
    image
}
