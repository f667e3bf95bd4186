//! Trees without a Dockerfile: built by the real lifecycle, phase by phase, with a builder made from parts in the repository.

mod ends;
mod engine_restarts;
mod held;
mod hostile;
mod leaving;
mod main_way;

use crate::support::Repository;

/// An app with code of its own that runs while it is built, as an install script does.
fn app(build_sh: &str) -> Repository {
    Repository::public(&[("app.sh", "echo \"$GREETING, port ${PORT:-unset}\"\n"), ("build.sh", build_sh)])
}
