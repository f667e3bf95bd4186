//! PURE: a Dockerfile that seems to be written for its own folder, while the build context is the whole repository.

use super::ignore::{Effort, PatternMatcher, Spent};
use super::instructions::Instructions;
use super::links::below;
use super::notices::named;
use super::{Tree, shown};

/// Sources that are looked at.
const MAX_SOURCES: usize = 200;

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
    let mut told = Vec::new();
    for source in sources.iter().filter(|source| *source != "." && !source.contains('$')) {
        let here = below(folder, source);
        let is_pattern = source.contains(['*', '?', '[']);
        let (at_root, beside) = match is_pattern {
            false => (tree.entry(source).is_some(), tree.entry(&here).is_some()),
            true => (matches_any(tree, source, effort)?, matches_any(tree, &here, effort)?),
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

fn matches_any(tree: &dyn Tree, pattern: &str, effort: &Effort) -> Result<bool, Spent> {
    let Ok(matcher) = PatternMatcher::new(&[pattern]) else { return Ok(false) };
    for entry in tree.entries() {
        if matcher.matches(&entry.path, effort)? {
            return Ok(true);
        }
    }
    Ok(false)
}
