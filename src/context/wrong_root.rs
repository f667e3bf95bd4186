//! PURE: a Dockerfile that seems to be written for its own folder, while the build context is the whole repository.

use super::ignore::{Effort, PatternMatcher, Spent};
use super::instructions::Instructions;
use super::links::below;
use super::notices::named;
use super::{Tree, shown};

/// Sources that are looked at.
const MAX_SOURCES: usize = 200;
/// Each of those with a wildcard is looked for in the whole tree.
const MAX_PATTERNS: usize = 20;

/// One warning about sources that take the root's file (or nothing) where the Dockerfile's own folder has one of that name.
///
/// A Dockerfile that names its own folder knows what its context is.
pub(super) fn warning(
    tree: &dyn Tree,
    folder: &str,
    instructions: &Instructions,
    effort: &Effort,
) -> Result<Option<String>, Spent> {
    if folder.is_empty() {
        return Ok(None);
    }
    let sources: Vec<String> = instructions.sources().take(MAX_SOURCES).collect();
    if sources.iter().any(|source| source == folder || source.starts_with(&format!("{folder}/"))) {
        return Ok(None);
    }
    let (mut told, mut patterns) = (Vec::new(), 0);
    for source in sources.iter().filter(|source| *source != "." && !source.contains('$')) {
        let here = below(folder, source);
        let is_pattern = source.contains(['*', '?', '[']);
        patterns += usize::from(is_pattern);
        let (at_root, beside) = match is_pattern {
            true if patterns > MAX_PATTERNS => continue,
            true => (matches_any(tree, source, effort)?, matches_any(tree, &here, effort)?),
            false => (tree.entry(source).is_some(), tree.entry(&here).is_some()),
        };
        match (at_root, beside) {
            (true, true) => told.push(format!("{} (there is {} too)", shown(source), shown(&here))),
            (false, true) if is_pattern => told.push(format!("{} (nothing there; there is {})", shown(source), shown(&here))),
            _ => {}
        }
    }
    Ok(named(told.iter().map(String::as_str)).map(|list| {
        format!(
            "The build context is the repository's root, not the Dockerfile's folder: COPY takes from the root {list}. Where \
             the folder's is meant, write its path from the root."
        )
    }))
}

/// Whether the folder of the pattern has something that its last segment matches. (Wildcards in folders' names are nobody's slip.)
fn matches_any(tree: &dyn Tree, pattern: &str, effort: &Effort) -> Result<bool, Spent> {
    let Ok(matcher) = PatternMatcher::new(&[pattern]) else { return Ok(false) };
    let folder = parent(pattern);
    for entry in tree.entries().iter().filter(|entry| parent(&entry.path) == folder) {
        if matcher.matches(&entry.path, effort)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
