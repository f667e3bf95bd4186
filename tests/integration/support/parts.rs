//! Where the shared parts are: the environment that `scripts/parts run` gives.

use std::path::PathBuf;
use std::sync::OnceLock;

#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: String,
}

#[derive(Debug)]
pub struct Parts {
    pub run_dir: PathBuf,
    /// The docker client that fits the Engine.
    pub docker: PathBuf,
    pub engine_socket: PathBuf,
    /// `127.0.0.1:PORT`.
    pub registry: String,
    pub registry_login: Login,
    /// `http://127.0.0.1:PORT`, no slash at the end.
    pub git: String,
    pub git_login: Login,
    pub git_root: PathBuf,
    /// `http://127.0.0.1:PORT`.
    pub moto: String,
    /// As `BUILDPACKS_BUILDERS` has it: `builder=run-image`.
    pub builders: String,
    pub lifecycle_image: String,
}

/// The shared parts. Panics where there are none: a test is never skipped.
pub fn parts() -> &'static Parts {
    static PARTS: OnceLock<Parts> = OnceLock::new();
    PARTS.get_or_init(|| Parts {
        run_dir: variable("RUN_DIR").into(),
        docker: variable("DOCKER").into(),
        engine_socket: variable("DOCKER_HOST").trim_start_matches("unix://").into(),
        registry: variable("REGISTRY"),
        registry_login: Login { username: variable("REGISTRY_USER"), password: variable("REGISTRY_PASSWORD") },
        git: variable("GIT"),
        git_login: Login { username: variable("GIT_USER"), password: variable("GIT_TOKEN") },
        git_root: variable("GIT_ROOT").into(),
        moto: variable("MOTO"),
        builders: variable("BUILDPACKS_BUILDERS"),
        lifecycle_image: variable("BUILDPACKS_LIFECYCLE_IMAGE"),
    })
}

#[allow(clippy::disallowed_methods, reason = "the rig hands over its addresses by environment; config/ is for the product's")]
fn variable(name: &str) -> String {
    let name = format!("SLIPWAY_TEST_{name}");
    std::env::var(&name).unwrap_or_else(|_| {
        panic!("{name} is not set: the parts that the tests need are not running. Run `make test`, or `scripts/parts run -- cargo test …`.")
    })
}
