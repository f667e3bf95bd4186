//! PURE: a step asks for a path that is not there: which step, and whose file system.

use super::failure::{Build, between, is_shown_whole, quote, step_text, within};
use crate::context::{Absence, Instructions};
use crate::protocol::{Code, Failure};

/// Paths are cut to so many characters, the first that leaves room for the rest.
const PATHS: [usize; 4] = [60, 40, 25, 15];
const NO_FILE: &[&str] = &["no such file or directory", "not a directory", "no source files were specified"];

/// What a step takes, and from where.
struct Asked<'t> {
    sources: Vec<&'t str>,
    /// `--from=` of a COPY, `from=` of a mount.
    from: Option<&'t str>,
}

/// BuildKit says `"/x" not found: not found` (0.8), `"/x": not found` (since), or the system's own words with the file's name
/// before them. Which step it is stands in the name of its vertex.
pub(super) fn missing(name: &str, error: &str, message: &str, build: &Build) -> Option<Failure> {
    let text = step_text(name);
    let path = [error, message].into_iter().find_map(quoted).or_else(|| below_mount(error));
    let asked = asked(text);
    if asked.is_empty() {
        // A step that takes no file does not miss one; without a step there are only the words.
        let path = path.filter(|_| name.is_empty() && message.contains("cache key"))?;
        return Some(of_the_context("A COPY, ADD or mount", "names", path, build));
    }
    let is_mount = text.starts_with("RUN");
    let Some(path) = path else {
        let says_so = !is_mount && NO_FILE.iter().any(|words| error.to_lowercase().contains(words));
        return says_so.then(|| none_named(text));
    };
    let of_path = asked.iter().find_map(|asked| Some((asked.from, asked.sources.iter().find(|source| is_of(source, path))?)));
    let (from, path) = match of_path {
        // BuildKit may name a folder on the way to it.
        Some((from, source)) => (from, trimmed(source)),
        None if is_mount => return None,
        None => (asked[0].from, path),
    };
    if text.starts_with("ADD git@") {
        let way_out = super::newer_syntax::way_out(build.dockerfile);
        return Some(told(text, ": its Git repository is not fetched.", way_out));
    }
    Some(match from {
        Some(from) => of_another(text, from, path, build),
        None => of_the_context(text, if is_mount { "mounts" } else { "names" }, path, build),
    })
}

fn of_the_context(step: &str, verb: &str, path: &str, build: &Build) -> Failure {
    let path = path.trim_start_matches('/');
    let absence = (build.absence)(path);
    shortened(|cut| of_absence(step, verb, &cut(path), &absence, cut))
}

fn of_absence(step: &str, verb: &str, shown: &str, absence: &Absence, cut: &dyn Fn(&str) -> String) -> Failure {
    let (which, way_out) = match absence {
        Absence::Git => (
            "is never in the build context",
            "Give the build what it needs of it (a version) by a file or a variable.".to_owned(),
        ),
        Absence::Ignored { by } => ("is not there", format!("{} leaves it out; the line !{shown} brings it back.", cut(by))),
        Absence::Submodule(module) => {
            ("is not there", format!("It lies in the Git submodule {}, which is not fetched.", cut(module)))
        }
        Absence::Elsewhere(other) => {
            ("is not there", format!("The build context is the repository's root; the repository has {}.", cut(other)))
        }
        Absence::Spelled(other) => ("is not there", format!("The repository has {}: see how it is spelled.", cut(other))),
        Absence::Unknown => ("is not in the build context", "Commit it, or see its spelling and .dockerignore.".to_owned()),
    };
    told(step, &format!(" {verb} \"{shown}\", which {which}."), &way_out)
}

/// `from`: a stage's name or number, else an image.
fn of_another(step: &str, from: &str, path: &str, build: &Build) -> Failure {
    let instructions = Instructions::read(build.dockerfile);
    let stages = instructions.stages();
    let is_stage = from.parse::<usize>().is_ok_and(|number| number < stages.len())
        || stages.iter().flatten().any(|stage| stage.eq_ignore_ascii_case(from));
    let (whose, way_out) = match is_stage {
        true => ("stage", "See what its steps write, and where."),
        false => ("image", "See where the image has it."),
    };
    let path = path.trim_start_matches('/');
    shortened(|cut| told(step, &format!(": \"/{}\" is not in the {whose} {}.", cut(path), cut(from)), way_out))
}

fn none_named(step: &str) -> Failure {
    told(step, " names files that are not there.", "Commit them, or see their spelling and .dockerignore.")
}

/// The step is cut so that the dashboard shows the rest and the way out.
fn told(step: &str, rest: &str, way_out: &str) -> Failure {
    within(Code::DockerfileCopyMissing, step, rest, way_out)
}

/// With its paths cut as little as the dashboard allows.
fn shortened(failure: impl Fn(&dyn Fn(&str) -> String) -> Failure) -> Failure {
    let with = |max: usize| failure(&|text| cut(text, max));
    let fits = PATHS.iter().map(|max| with(*max)).find(is_shown_whole);
    fits.unwrap_or_else(|| with(PATHS[PATHS.len() - 1]))
}

/// The end of a path says more than its beginning.
fn cut(text: &str, max: usize) -> String {
    let line = quote(text);
    match line.chars().count() {
        count if count > max => std::iter::once('…').chain(line.chars().skip(count - max + 1)).collect(),
        _ => line,
    }
}

fn quoted(text: &str) -> Option<&str> {
    let (before, _) = text.split_once("\": not found").or_else(|| text.split_once("\" not found"))?;
    before.rsplit_once('"').map(|(_, path)| path)
}

/// `lstat /…/buildkit-mount123/dist: no such file or directory` (a context), `lstat /…/merged/dist: …` (an earlier stage) → `dist`.
fn below_mount(error: &str) -> Option<&str> {
    let path = NO_FILE.iter().find_map(|words| between(error, "lstat ", &format!(": {words}")))?;
    let below = path.split_once("/buildkit-mount").and_then(|(_, rest)| rest.split_once('/'));
    below.or_else(|| path.split_once("/merged/")).map(|(_, below)| below)
}

/// What the step takes from other file systems, as its vertex is named.
fn asked(text: &str) -> Vec<Asked<'_>> {
    let mut words = text.split_whitespace();
    match words.next() {
        Some("COPY" | "ADD") => {
            let (flags, mut sources): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with("--"));
            sources.pop();
            let sources = sources.into_iter().map(|word| word.trim_matches(['[', ']', ',', '"'])).collect();
            vec![Asked { sources, from: flags.iter().find_map(|flag| flag.strip_prefix("--from=")) }]
        }
        Some("RUN") => words.map_while(|word| word.strip_prefix("--")).filter_map(mount).collect(),
        _ => Vec::new(),
    }
}

/// `mount=type=bind,from=build,source=/app`: a mount that takes files.
fn mount(flag: &str) -> Option<Asked<'_>> {
    let options = || flag.strip_prefix("mount=").unwrap_or_default().split(',');
    let value =
        |keys: &[&str]| options().find_map(|option| option.split_once('=').filter(|(key, _)| keys.contains(key))).map(|(_, v)| v);
    let takes_files = matches!(value(&["type"]), None | Some("bind" | "cache")) && flag.starts_with("mount=");
    let source = value(&["source", "src"])?;
    takes_files.then(|| Asked { sources: vec![source], from: value(&["from"]) })
}

/// Whether `path` is the source, or a folder on the way to it.
fn is_of(source: &str, path: &str) -> bool {
    let (source, path) = (trimmed(source), path.trim_matches('/'));
    source == path || source.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}

fn trimmed(source: &str) -> &str {
    let source = source.trim_matches('/');
    source.strip_prefix("./").unwrap_or(source)
}

#[cfg(test)]
#[path = "missing_tests.rs"]
mod tests;
