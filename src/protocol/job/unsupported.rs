//! PURE: fields that people expect of a job and that have no effect yet. A field that is ignored without a word looks like a broken build.

/// Fields that are named at most, and characters of each.
const NAMED: usize = 10;

/// Names without case, `_` and `-`: other producers write the same field in many ways.
const EXPECTED: [&str; 40] = [
    // which stage of the Dockerfile
    "target",
    "targetstage",
    "buildtarget",
    "buildstage",
    "dockertarget",
    "dockerfiletarget",
    // its arguments
    "buildargs",
    "buildarg",
    "buildarguments",
    "dockerbuildargs",
    // which folder of the repository
    "rootdirectory",
    "rootdir",
    "rootpath",
    "basedirectory",
    "basedir",
    "basepath",
    "workingdirectory",
    "workdir",
    "subdirectory",
    "subdir",
    "context",
    "contextpath",
    "contextdir",
    "buildcontext",
    "dockercontext",
    // which Dockerfile: that is runtimeFilePath
    "dockerfile",
    "dockerfilepath",
    // what of git
    "submodules",
    "gitsubmodules",
    "lfs",
    "gitlfs",
    // how it is built
    "platform",
    "platforms",
    "buildplatform",
    "architecture",
    "nocache",
    "buildsecrets",
    "buildcommand",
    "installcommand",
    "startcommand",
];

/// Whether a job's field of this name would be expected to change the build.
pub(super) fn is_expected(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    EXPECTED.contains(&plain.as_str())
}

/// One line for the deployment's log. `None`: the job has no such field.
pub(super) fn warning(fields: &[String]) -> Option<String> {
    let named = fields.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if fields.len() > NAMED { ", …" } else { "" };
    let hint = fields
        .iter()
        .any(|name| name.to_ascii_lowercase().starts_with("dockerfile") && !name.to_ascii_lowercase().contains("target"));
    let hint = if hint { " The Dockerfile's path goes into runtimeFilePath." } else { "" };
    (!fields.is_empty())
        .then(|| format!("The job has fields that are not supported yet and change nothing: {named}{more}.{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_known_in_every_spelling() {
        for name in ["target", "buildArgs", "build_args", "BUILD-ARGS", "rootDirectory", "root_directory", "contextPath"] {
            assert!(is_expected(name), "{name}");
        }
        for name in ["installationId", "branch", "targets_of_another_kind", "id", ""] {
            assert!(!is_expected(name), "{name}");
        }
    }
    #[test]
    fn all_are_named_in_one_line() {
        let fields = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(warning(&[]), None);
        assert_eq!(
            warning(&fields(&["target", "buildArgs"])).as_deref(),
            Some("The job has fields that are not supported yet and change nothing: target, buildArgs.")
        );
        assert!(warning(&fields(&["dockerfilePath"])).expect("a line").ends_with("runtimeFilePath."));
    }
}
