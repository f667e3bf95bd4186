//! PURE: an ARG that is named as one of the job's variables and does not get its value.

use std::collections::HashMap;

use super::instructions::Instructions;
use super::notices::named;
use crate::protocol::EnvVar;
use crate::secrets::ExposeSecret;

/// BuildKit gives these a value, or takes them from the operator's proxy settings.
const PREDEFINED: [&str; 11] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
    "SOURCE_DATE_EPOCH",
];
const BUILD_ONES: [&str; 4] = ["BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"];

/// One warning about all of them. The variables are never build arguments: those stand in the image's history.
pub(super) fn warning(instructions: &Instructions, env: &[EnvVar]) -> Option<String> {
    let values: HashMap<&str, &str> = env.iter().map(|var| (var.key.as_str(), var.value.expose_secret())).collect();
    let mut global = HashMap::new();
    let mut in_stage = false;
    let (mut found, mut first) = (Vec::new(), None);
    for (at, line) in instructions.lines().iter().enumerate() {
        let Some((word, rest)) = line.split_once(char::is_whitespace) else { continue };
        in_stage |= word.eq_ignore_ascii_case("FROM");
        if !word.eq_ignore_ascii_case("ARG") {
            continue;
        }
        for argument in rest.split_whitespace() {
            let (name, default) = match argument.split_once('=') {
                Some((name, default)) => (name, Some(default.trim_matches(['"', '\'']))),
                None => (argument, global.get(argument).copied()),
            };
            if !in_stage {
                global.insert(name, default.unwrap_or_default());
            }
            let Some(value) = values.get(name) else { continue };
            let is_told = *value == default.unwrap_or_default() || is_predefined(name) || instructions.mounts_secret(name);
            let is_new = !found.iter().any(|told: &String| told.split(' ').next() == Some(name));
            if !is_told && is_new && is_used(&instructions.lines()[at + 1..], in_stage, name) {
                found.push(format!(
                    "{name} {}",
                    if default.is_some_and(|d| !d.is_empty()) { "keeps its default" } else { "stays empty" }
                ));
                first.get_or_insert(name);
            }
        }
    }
    let (list, first) = (named(found.iter().map(String::as_str))?, first?);
    Some(format!(
        "The service's variables are no build arguments: ARG {list}. RUN --mount=type=secret,id={first} reads the value from /run/secrets/{first} in that step."
    ))
}

fn is_predefined(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    PREDEFINED.contains(&upper.as_str()) || BUILD_ONES.contains(&name) || name.starts_with("BUILDKIT_")
}

/// Whether something behind the ARG can see it: a RUN of its stage has it in its environment, other lines name it.
fn is_used(after: &[String], in_stage: bool, name: &str) -> bool {
    let is_from = |line: &str| line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("FROM"));
    let scope = after.iter().take_while(|line| !in_stage || !is_from(line));
    let mut relevant = scope.filter(|line| in_stage || is_from(line));
    relevant.any(|line| {
        let runs = in_stage && line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case("RUN "));
        runs || line.contains(&format!("${name}")) || line.contains(&format!("${{{name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::SecretString;

    fn told(dockerfile: &str, env: &[(&str, &str)]) -> Option<String> {
        let env: Vec<EnvVar> =
            env.iter().map(|(key, value)| EnvVar { key: (*key).into(), value: SecretString::from(*value) }).collect();
        warning(&Instructions::read(dockerfile.as_bytes()), &env)
    }

    #[test]
    fn an_argument_that_a_step_can_see_and_that_stays_empty_is_told_with_the_way_out() {
        for text in [
            "FROM x\nARG URL\nENV URL=$URL",
            "FROM x\nARG URL\nRUN npm run build",
            "FROM x\nARG OTHER URL\nENV A=${URL:-none}",
            "ARG URL\nFROM base:$URL",
            "FROM x\narg URL\nFROM y\nARG URL\nrun make",
        ] {
            let warning = told(text, &[("URL", "hunter22")]).unwrap_or_else(|| panic!("{text}"));
            assert!(warning.contains("ARG URL stays empty.") && warning.contains("type=secret,id=URL"), "{warning}");
            assert!(!warning.contains("hunter22"), "{warning}");
        }
    }

    #[test]
    fn an_argument_whose_default_is_another_value_is_told_too() {
        for text in ["FROM x\nARG URL=http://localhost\nRUN make", "ARG URL=\"http://localhost\"\nFROM x\nARG URL\nRUN make"] {
            assert!(told(text, &[("URL", "https://api")]).unwrap().contains("ARG URL keeps its default."));
            assert_eq!(told(text, &[("URL", "http://localhost")]), None);
        }
    }

    #[test]
    fn what_is_not_used_not_the_jobs_predefined_or_read_as_a_secret_is_not_told() {
        for text in [
            "FROM x\nARG URL",
            "FROM x\nARG URL\nFROM y\nRUN make",
            "ARG URL\nFROM x\nRUN make $URL",
            "FROM x\nARG OTHER\nRUN make",
            "FROM x\n# ARG URL\nRUN make",
            "FROM x\nARG URL\nRUN --mount=type=secret,id=URL make",
        ] {
            assert_eq!(told(text, &[("URL", "1")]), None, "{text}");
        }
        for name in ["http_proxy", "TARGETPLATFORM", "BUILDARCH", "BUILDKIT_SYNTAX"] {
            assert_eq!(told(&format!("FROM x\nARG {name}\nRUN echo ${name}"), &[(name, "1")]), None);
        }
        assert_eq!(told("FROM x\nARG URL\nRUN make", &[("URL", "")]), None);
    }
}
