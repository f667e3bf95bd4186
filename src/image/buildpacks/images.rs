//! The builder and the lifecycle image in the Engine: pulled when missing, pinned by id, and what they say about themselves.

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt;

use super::control::repository_of;
use super::phase::{PLATFORM_API, User};
use super::trouble::{engine_failure, interruptible, lifecycle_failure};
use crate::config::{PullCredentials, with_tag};
use crate::protocol::{Code, Failure};
use crate::secrets::ExposeSecret;
use crate::stage::StageContext;

/// Where no image says otherwise, as the builders that are around have it.
const USUAL_HOME: &str = "/home/cnb";
/// Paths that hold something of their own: a HOME there gets no volume.
const TAKEN: [&str; 8] = ["/", "/cnb", "/workspace", "/layers", "/cache", "/ctl", "/tmp", "/platform"];

/// One build's images, by id.
#[derive(Debug)]
pub struct Images {
    pub builder: String,
    /// What stands behind the builder's name on this host, for the job's log.
    pub builder_is: String,
    pub lifecycle: String,
    pub user: User,
    /// The builder's HOME, made writable for its buildpacks.
    pub home: Option<String>,
}

impl Images {
    /// `name`: the builder's, for words.
    pub fn read(name: &str, builder: ImageInspect, lifecycle: ImageInspect) -> Result<Self, Failure> {
        let builder_is = identity(name, &builder);
        let config = builder.config.unwrap_or_default();
        let env = config.env.unwrap_or_default();
        let user = User::from_image_env(&env).ok_or_else(|| {
            lifecycle_failure(&format!("the builder {name} names no user other than root (CNB_USER_ID, CNB_GROUP_ID)"))
        })?;
        let apis = config.labels.and_then(|mut labels| labels.remove("io.buildpacks.lifecycle.apis"));
        if let Some(apis) = apis
            && !speaks(&apis, PLATFORM_API)
        {
            return Err(lifecycle_failure(&format!("the builder {name} does not speak platform API {PLATFORM_API}")));
        }
        let id = |id: Option<String>| id.ok_or_else(|| lifecycle_failure("an image has no id"));
        Ok(Self { builder: id(builder.id)?, builder_is, lifecycle: id(lifecycle.id)?, user, home: home(&env) })
    }
}

/// The id, and the digest that the registry knows it by: one that was made or loaded on the host has none.
fn identity(name: &str, image: &ImageInspect) -> String {
    let id = image.id.as_deref().unwrap_or_default();
    let known = image.repo_digests.iter().flatten().find(|known| repository_of(known) == repository_of(name));
    match known.and_then(|known| known.split_once('@')) {
        Some((_, digest)) => format!("{id}, in its registry {digest}"),
        None => id.to_owned(),
    }
}

/// Whether the label `io.buildpacks.lifecycle.apis` lists the platform API.
fn speaks(label: &str, api: &str) -> bool {
    let apis: serde_json::Value = serde_json::from_str(label).unwrap_or_default();
    let listed = |which: &str| apis["platform"][which].as_array().is_some_and(|all| all.iter().any(|one| one == api));
    listed("supported") || listed("deprecated")
}

fn home(env: &[String]) -> Option<String> {
    let home = env.iter().find_map(|line| line.strip_prefix("HOME=")).unwrap_or(USUAL_HOME);
    let inside = |taken: &&str| home == *taken || (**taken != *"/" && home.starts_with(&format!("{taken}/")));
    (home.starts_with('/') && !home.contains("..") && !TAKEN.iter().any(inside)).then(|| home.to_owned())
}

/// Brings images into the Engine.
pub struct Puller<'a> {
    pub engine: &'a Docker,
    /// Read-only ones, never those of the push.
    pub logins: &'a [PullCredentials],
    /// os/architecture that they have to be for.
    pub platform: &'a str,
    pub ctx: &'a StageContext,
}

impl Puller<'_> {
    /// An image that is there is used as it is: the operator decides when a newer one is pulled.
    pub async fn ensure(&self, image: &str) -> Result<ImageInspect, Failure> {
        let image = with_tag(image);
        match interruptible(self.ctx, async { Ok(self.engine.inspect_image(&image).await) }).await? {
            Ok(inspected) => return self.fits(&image, inspected),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(engine_failure(&error)),
        }
        self.ctx.info(format!("Pulling {image}"));
        let options = CreateImageOptionsBuilder::new().from_image(&image).platform(self.platform).build();
        let host = registry_of(&image);
        let login = self.logins.iter().find(|login| same_registry(&login.host, host)).map(|login| DockerCredentials {
            username: Some(login.username.clone()),
            password: Some(login.password.expose_secret().to_owned()),
            serveraddress: Some(login.host.clone()),
            ..Default::default()
        });
        let mut pull = self.engine.create_image(Some(options), None, login);
        while let Some(progress) = interruptible(self.ctx, async { Ok(pull.next().await) }).await? {
            progress.map_err(|error| not_pulled(&image, &error))?;
        }
        let inspected = interruptible(self.ctx, self.engine.inspect_image(&image)).await?;
        self.fits(&image, inspected)
    }

    fn fits(&self, image: &str, inspected: ImageInspect) -> Result<ImageInspect, Failure> {
        let is_for =
            [inspected.os.as_deref().unwrap_or_default(), inspected.architecture.as_deref().unwrap_or_default()].join("/");
        if is_of_platform(&is_for, self.platform) {
            return Ok(inspected);
        }
        Err(Failure::new(
            Code::BuildpacksLifecycle,
            format!("The image {image} in the Engine is for {is_for}, and images are built for {}.", self.platform),
            "Pull it for that platform (docker pull --platform), or correct BUILD_PLATFORM.",
        ))
    }
}

/// A variant behind the architecture (`linux/arm64/v8`) is not looked at: images often do not name theirs.
fn is_of_platform(is_for: &str, wanted: &str) -> bool {
    is_for.split('/').eq(wanted.split('/').take(2))
}

fn not_pulled(image: &str, error: &Error) -> Failure {
    let said = error.to_string();
    let away = ["dial tcp", "no such host", "timeout", "connection refused", "connection reset", "EOF", "toomanyrequests", "TLS"];
    let (code, way_out) = if away.iter().any(|word| said.contains(word)) {
        (Code::BuildPullUnreachable, "Check the network of the build host, and its registry mirror.")
    } else {
        (
            Code::BuildpacksLifecycle,
            "Check BUILDPACKS_BUILDERS and BUILDPACKS_LIFECYCLE_IMAGE, and PULL_REGISTRIES for their logins.",
        )
    };
    Failure::new(code, format!("The image {image} cannot be pulled: {}.", said.trim_end_matches('.')), way_out)
}

/// The host in a reference; Docker Hub's where there is none.
fn registry_of(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Docker Hub has several names.
pub fn same_registry(a: &str, b: &str) -> bool {
    let is_hub =
        |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com");
    a.eq_ignore_ascii_case(b) || (is_hub(a) && is_hub(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builders_home_gets_a_volume_unless_it_is_something_else() {
        assert_eq!(home(&["HOME=/home/x".into()]).as_deref(), Some("/home/x"));
        assert_eq!(home(&[]).as_deref(), Some("/home/cnb"));
        for taken in ["/", "/layers", "/cnb/lifecycle", "/tmp/x", "home", "/home/../cnb"] {
            assert_eq!(home(&[format!("HOME={taken}")]), None, "{taken}");
        }
    }

    #[test]
    fn an_image_is_of_a_platform_by_system_and_architecture() {
        assert!(is_of_platform("linux/amd64", "linux/amd64"));
        assert!(is_of_platform("linux/arm64", "linux/arm64/v8"));
        assert!(!is_of_platform("linux/arm64", "linux/amd64"));
        assert!(!is_of_platform("/", "linux/amd64"));
    }

    #[test]
    fn a_builder_says_which_platform_apis_it_speaks() {
        let label = r#"{"buildpack":{"supported":["0.12"]},"platform":{"deprecated":["0.3"],"supported":["0.11","0.12"]}}"#;
        assert!(speaks(label, "0.12") && speaks(label, "0.3"));
        assert!(!speaks(label, "0.13") && !speaks("no json", "0.12"));
    }

    #[test]
    fn a_login_for_docker_hub_counts_for_short_names() {
        assert!(same_registry("index.docker.io", registry_of("paketobuildpacks/builder:base")));
        assert!(same_registry("docker.io", registry_of("busybox:1")));
        assert!(!same_registry("docker.io", registry_of("127.0.0.1:5000/a:1")));
    }
}
