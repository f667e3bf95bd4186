//! project.toml: the part of it that is honoured. (buildpacks/spec, extensions/project-descriptor.md, schemas 0.1 and 0.2.)

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::protocol::{Code, EnvVar, Failure};
use crate::source::{EntryKind, SourceTree};
use crate::stage::StageContext;

const FILE: &str = "project.toml";
/// A descriptor is some kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// What a repository's project.toml asks for.
#[derive(Debug, Default)]
pub struct Project {
    pub env: Vec<EnvVar>,
    /// Keys that are there and are not honoured.
    pub ignored: Vec<&'static str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Descriptor {
    io: Io,
    build: Build,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Io {
    buildpacks: Build,
}
/// `[io.buildpacks]` of 0.2 and `[build]` of 0.1 in one.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Build {
    builder: Option<IgnoredAny>,
    include: Option<IgnoredAny>,
    exclude: Option<IgnoredAny>,
    group: Option<IgnoredAny>,
    buildpacks: Option<IgnoredAny>,
    pre: Option<IgnoredAny>,
    post: Option<IgnoredAny>,
    env: Vec<Var>,
    build: Env,
}
#[derive(Deserialize, Default)]
#[serde(default)]
struct Env {
    env: Vec<Var>,
}
#[derive(Deserialize)]
struct Var {
    name: String,
    value: String,
}

/// Reads the tree's project.toml; says in the log what of it is not honoured.
pub async fn read(tree: &Arc<SourceTree>, ctx: &StageContext) -> Result<Project, Failure> {
    let Some(entry) = tree.entry(FILE).filter(|e| matches!(e.kind, EntryKind::File { .. })).cloned() else {
        return Ok(Project::default());
    };
    if entry.size > MAX_BYTES {
        return Err(unreadable("it is larger than 1 MiB"));
    }
    let tree = tree.clone();
    let reading = ctx.tasks.spawn_blocking(move || tree.read(&entry));
    let bytes = reading.await.map_err(|_| unreadable("its reader broke"))??;
    let project = parse(&String::from_utf8_lossy(&bytes)).map_err(|problem| unreadable(&problem))?;
    for key in &project.ignored {
        ctx.warn(format!(
            "project.toml: {key} is not supported and left aside; env is used, and the operator's list names the builders."
        ));
    }
    Ok(project)
}

fn unreadable(problem: &str) -> Failure {
    Failure::new(
        Code::BuildpacksDetectFailed,
        format!("The repository's project.toml cannot be read: {problem}."),
        "Correct it, or remove it.",
    )
}

fn parse(text: &str) -> Result<Project, String> {
    let descriptor: Descriptor = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut project = Project::default();
    for build in [descriptor.io.buildpacks, descriptor.build] {
        let keys = [
            ("builder", build.builder.is_some()),
            ("include", build.include.is_some()),
            ("exclude", build.exclude.is_some()),
            ("group", build.group.is_some() || build.buildpacks.is_some()),
            ("pre and post", build.pre.is_some() || build.post.is_some()),
        ];
        project.ignored.extend(keys.into_iter().filter_map(|(key, there)| there.then_some(key)));
        let vars = build.build.env.into_iter().chain(build.env);
        project.env.extend(vars.map(|var| EnvVar { key: var.name, value: var.value.into() }));
    }
    Ok(project)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::ExposeSecret;

    fn env(project: &Project) -> Vec<(&str, &str)> {
        project.env.iter().map(|var| (var.key.as_str(), var.value.expose_secret())).collect()
    }

    #[test]
    fn the_environment_of_both_schemas_is_read() {
        let new = "[_]\nschema-version = \"0.2\"\n[[io.buildpacks.build.env]]\nname = \"BP_X\"\nvalue = \"1\"\n";
        assert_eq!(env(&parse(new).unwrap()), [("BP_X", "1")]);
        let old = "[project]\nid = \"a\"\n[[build.env]]\nname = \"BP_Y\"\nvalue = \"2\"\n";
        assert_eq!(env(&parse(old).unwrap()), [("BP_Y", "2")]);
    }

    #[test]
    fn what_is_not_honoured_is_named() {
        let project =
            parse("[io.buildpacks]\nbuilder = \"evil/builder\"\nexclude = [\"a\"]\n[[io.buildpacks.group]]\nid = \"x\"\n")
                .unwrap();
        assert_eq!(project.ignored, ["builder", "exclude", "group"]);
        assert!(parse("not toml =").is_err());
    }
}
