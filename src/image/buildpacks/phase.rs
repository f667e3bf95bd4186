//! PURE: the lifecycle's phases: which image, command, mounts, network and files each gets. What a phase is not given here, it cannot see.
//!
//! Flags and rights as proved with lifecycle 0.20.11 and platform API 0.12 (the specification: buildpacks/spec, platform.md).

/// The platform API that the worker speaks. 0.12: restore needs no network, and image extensions do not exist.
pub const PLATFORM_API: &str = "0.12";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Analyze,
    Detect,
    Restore,
    Build,
    Export,
    /// All five in one container: only for trusted builders and apps.
    Creator,
}

/// Volumes of one build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Volume {
    /// The app's files, `/workspace`.
    Workspace,
    /// What buildpacks make, `/layers`.
    Layers,
    /// Kept between builds of one service, `/cache`.
    Cache,
}

impl Volume {
    pub fn path(self) -> &'static str {
        match self {
            Volume::Workspace => "/workspace",
            Volume::Layers => "/layers",
            Volume::Cache => "/cache",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeMount {
    pub volume: Volume,
    pub read_only: bool,
}

/// Files that travel through the worker, never on a volume that the app's code can write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Control {
    Analyzed,
    Group,
    Plan,
    Report,
}

impl Control {
    pub fn file(self) -> &'static str {
        match self {
            Control::Analyzed => "analyzed.toml",
            Control::Group => "group.toml",
            Control::Plan => "plan.toml",
            Control::Report => "report.toml",
        }
    }
}

/// What the names in the commands are for one build.
#[derive(Debug, Clone)]
pub struct Target {
    /// `<repository>:<deployment>-<attempt>`: what is exported.
    pub image: String,
    /// `<repository>:latest`: the image before this one, for layer reuse.
    pub previous: Option<String>,
    pub run_image: String,
    /// After an image whose metadata cannot be read (exit 32): analyze without its layers.
    pub skip_layers: bool,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Analyze => "analyze",
            Phase::Detect => "detect",
            Phase::Restore => "restore",
            Phase::Build => "build",
            Phase::Export => "export",
            Phase::Creator => "creator",
        }
    }

    /// Registry credentials and the host's network: only where no code of the app or of a buildpack runs (but for a trusted creator).
    pub fn talks_to_registry(self) -> bool {
        matches!(self, Phase::Analyze | Phase::Export | Phase::Creator)
    }

    /// Runs code of buildpacks and of the app.
    pub fn runs_foreign_code(self) -> bool {
        matches!(self, Phase::Detect | Phase::Build | Phase::Creator)
    }

    /// Phases that run code of the builder run in the builder image, all others in the lifecycle image.
    pub fn in_builder_image(self) -> bool {
        self.runs_foreign_code()
    }

    pub fn mounts(self) -> Vec<VolumeMount> {
        let rw = |volume| VolumeMount { volume, read_only: false };
        let ro = |volume| VolumeMount { volume, read_only: true };
        match self {
            Phase::Analyze => vec![rw(Volume::Layers)],
            Phase::Detect => vec![ro(Volume::Workspace)],
            Phase::Restore => vec![rw(Volume::Layers), rw(Volume::Cache)],
            Phase::Build => vec![rw(Volume::Workspace), rw(Volume::Layers)],
            Phase::Export => vec![ro(Volume::Workspace), rw(Volume::Layers), rw(Volume::Cache)],
            Phase::Creator => vec![rw(Volume::Workspace), rw(Volume::Layers), rw(Volume::Cache)],
        }
    }

    /// Paths that may be written to and go with the container: the root file system is read-only.
    pub fn scratch(self, home: Option<&str>) -> Vec<String> {
        let mut paths = vec!["/ctl".to_owned(), "/tmp".to_owned()];
        // Public buildpacks write to the builder's HOME.
        paths.extend(home.filter(|_| self.in_builder_image()).map(str::to_owned));
        paths
    }

    /// Put into `/ctl/in` before the start, readable only.
    pub fn inputs(self) -> &'static [Control] {
        match self {
            Phase::Analyze | Phase::Creator => &[],
            Phase::Detect => &[Control::Analyzed],
            Phase::Restore => &[Control::Group],
            Phase::Build => &[Control::Analyzed, Control::Group, Control::Plan],
            Phase::Export => &[Control::Analyzed, Control::Group],
        }
    }

    /// Put into `/ctl/out`: restore rewrites analyzed.toml, so it gets a copy of its own that is forgotten afterwards.
    pub fn writable_copies(self) -> &'static [Control] {
        match self {
            Phase::Restore => &[Control::Analyzed],
            _ => &[],
        }
    }

    /// Fetched from `/ctl/out` after exit 0.
    pub fn outputs(self) -> &'static [Control] {
        match self {
            Phase::Analyze => &[Control::Analyzed],
            Phase::Detect => &[Control::Group, Control::Plan],
            Phase::Restore | Phase::Build => &[],
            Phase::Export | Phase::Creator => &[Control::Report],
        }
    }

    pub fn wants_platform_env(self) -> bool {
        self.runs_foreign_code()
    }

    /// The command line. Flags stand before the image: after it they would be taken for further images.
    pub fn command(self, target: &Target) -> Vec<String> {
        let mut cmd: Vec<&str> = Vec::with_capacity(24);
        match self {
            Phase::Analyze => {
                cmd.extend(["/cnb/lifecycle/analyzer", "-layers", "/layers", "-analyzed", "/ctl/out/analyzed.toml"]);
                cmd.extend(["-run-image", &target.run_image]);
                if let Some(previous) = &target.previous {
                    cmd.extend(["-previous-image", previous]);
                }
                if target.skip_layers {
                    cmd.push("-skip-layers");
                }
                cmd.push(&target.image);
            }
            Phase::Detect => {
                cmd.extend([
                    "/cnb/lifecycle/detector",
                    "-app",
                    "/workspace",
                    "-platform",
                    "/ctl/in/platform",
                    "-layers",
                    "/layers",
                ]);
                cmd.extend(["-order", "/cnb/order.toml", "-analyzed", "/ctl/in/analyzed.toml"]);
                cmd.extend(["-group", "/ctl/out/group.toml", "-plan", "/ctl/out/plan.toml"]);
            }
            Phase::Restore => {
                cmd.extend(["/cnb/lifecycle/restorer", "-layers", "/layers", "-cache-dir", "/cache"]);
                cmd.extend(["-group", "/ctl/in/group.toml", "-analyzed", "/ctl/out/analyzed.toml"]);
            }
            Phase::Build => {
                cmd.extend([
                    "/cnb/lifecycle/builder",
                    "-app",
                    "/workspace",
                    "-platform",
                    "/ctl/in/platform",
                    "-layers",
                    "/layers",
                ]);
                cmd.extend(["-analyzed", "/ctl/in/analyzed.toml", "-group", "/ctl/in/group.toml", "-plan", "/ctl/in/plan.toml"]);
            }
            Phase::Export => {
                cmd.extend(["/cnb/lifecycle/exporter", "-app", "/workspace", "-layers", "/layers", "-cache-dir", "/cache"]);
                cmd.extend(["-analyzed", "/ctl/in/analyzed.toml", "-group", "/ctl/in/group.toml"]);
                // Not in /layers: a build can plant a fifo there that would hang the exporter, or a rewritten file.
                cmd.extend(["-project-metadata", "/ctl/in/project-metadata.toml", "-extended", "/ctl/in/none"]);
                cmd.extend(["-report", "/ctl/out/report.toml", &target.image]);
            }
            Phase::Creator => {
                cmd.extend([
                    "/cnb/lifecycle/creator",
                    "-app",
                    "/workspace",
                    "-platform",
                    "/ctl/in/platform",
                    "-layers",
                    "/layers",
                ]);
                cmd.extend(["-cache-dir", "/cache", "-run-image", &target.run_image, "-report", "/ctl/out/report.toml"]);
                if let Some(previous) = &target.previous {
                    cmd.extend(["-previous-image", previous]);
                }
                cmd.push(&target.image);
            }
        }
        cmd.into_iter().map(str::to_owned).collect()
    }

    /// The container's environment. Credentials are a file (`DOCKER_CONFIG`), so that `docker inspect` does not show them.
    pub fn environment(self, user: User, has_ca: bool) -> Vec<String> {
        let mut env = vec![
            format!("CNB_PLATFORM_API={PLATFORM_API}"),
            "CNB_NO_COLOR=true".to_owned(),
            format!("CNB_USER_ID={}", user.uid),
            format!("CNB_GROUP_ID={}", user.gid),
        ];
        if self.talks_to_registry() {
            env.push("DOCKER_CONFIG=/ctl/in/docker".to_owned());
            // Without these the lifecycle asks the cloud's metadata address for the host's own role.
            env.push("CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AMAZON=true".to_owned());
            env.push("CNB_REGISTRY_AUTH_KEYCHAIN_SKIP_AZURE=true".to_owned());
            if has_ca {
                env.push("SSL_CERT_FILE=/ctl/in/ca.pem".to_owned());
            }
        }
        env
    }
}

/// The builder's user: `CNB_USER_ID` and `CNB_GROUP_ID` of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// From the image's environment. Root is refused: the phases run without any capability.
    pub fn from_image_env(env: &[String]) -> Option<User> {
        let get = |key: &str| env.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')?.parse::<u32>().ok());
        let user = User { uid: get("CNB_USER_ID")?, gid: get("CNB_GROUP_ID")? };
        (user.uid != 0 && user.gid != 0).then_some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { image: "r/x:t".into(), previous: Some("r/x:latest".into()), run_image: "run:1".into(), skip_layers: false }
    }
    const USER: User = User { uid: 1000, gid: 1000 };
    /// Each in a container of its own.
    const SEPARATE: [Phase; 5] = [Phase::Analyze, Phase::Detect, Phase::Restore, Phase::Build, Phase::Export];

    #[test]
    fn no_phase_that_runs_foreign_code_sees_credentials_or_the_cache_unless_it_is_the_trusted_creator() {
        for phase in SEPARATE.into_iter().filter(|p| p.runs_foreign_code()) {
            assert!(!phase.talks_to_registry(), "{phase:?}");
            assert!(phase.mounts().iter().all(|m| m.volume != Volume::Cache), "{phase:?}");
            assert!(
                phase.environment(USER, true).iter().all(|e| !e.starts_with("DOCKER_CONFIG") && !e.starts_with("SSL_")),
                "{phase:?}"
            );
        }
    }

    #[test]
    fn what_decides_over_the_exported_image_never_lies_where_the_build_can_write() {
        for phase in SEPARATE {
            let cmd = phase.command(&target()).join(" ");
            for file in ["analyzed.toml", "group.toml", "plan.toml", "report.toml", "project-metadata.toml"] {
                assert!(!cmd.contains(&format!("/layers/{file}")) && !cmd.contains(&format!("/workspace/{file}")), "{cmd}");
            }
        }
    }

    #[test]
    fn the_image_stands_after_all_flags() {
        for phase in [Phase::Analyze, Phase::Export, Phase::Creator] {
            assert_eq!(phase.command(&target()).last().map(String::as_str), Some("r/x:t"), "{phase:?}");
        }
    }

    #[test]
    fn a_builder_that_wants_root_is_refused() {
        let env = |uid: &str| vec![format!("CNB_USER_ID={uid}"), "CNB_GROUP_ID=1000".to_owned()];
        assert_eq!(User::from_image_env(&env("1000")), Some(USER));
        assert_eq!(User::from_image_env(&env("0")), None);
        assert_eq!(User::from_image_env(&[]), None);
    }
}
