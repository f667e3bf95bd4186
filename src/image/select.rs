//! PURE: which entries of the context one FileSync request gets: include and exclude patterns and followed paths, as BuildKit's own
//! client filters a directory, by path logic alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use crate::context::{Content, ContextEntry, Effort, IgnoreError, PatternMatcher, Spent};

/// The filters of one FileSync request, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// Paths (wildcards allowed) whose symlinks are followed inside the context; what they name is included.
    pub follow: Vec<String>,
}

/// Why there is no selection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error(transparent)]
    Pattern(#[from] IgnoreError),
    #[error(transparent)]
    Spent(#[from] Spent),
}

/// Longer paths are in no context; they come from links that lead into themselves.
const MAX_PATH: usize = 4096;
/// How many paths are followed for one request at most. A Dockerfile's sources and their links are far fewer.
const MAX_FOLLOWED: usize = 10_000;

/// Patterns are followed so many folders down.
const MAX_DEPTH: usize = 32;
/// So many bytes may the patterns of those folders have together.
const MAX_WAY_BYTES: usize = 1 << 20;

/// Indices of the entries to send, in order. A directory that is not selected itself is sent where something in it is, and where it
/// lies on the way to something that is asked for: `COPY certs/*.crt` needs a folder `certs`, though nothing in it may match.
pub fn select(entries: &[ContextEntry], filters: &Filters, effort: &Effort) -> Result<Vec<u32>, SelectError> {
    let include = Include::new(entries, filters, effort)?;
    let exclude = match filters.exclude.is_empty() {
        true => None,
        false => Some(PatternMatcher::new(&filters.exclude)?),
    };
    if include.is_everything() && exclude.is_none() {
        return Ok((0..entries.len() as u32).collect());
    }
    let may_come_back = exclude.as_ref().is_some_and(PatternMatcher::has_exceptions);
    let mut selected = Vec::with_capacity(entries.len());
    // the directories around the current entry, and whether each has been sent
    let mut open: Vec<(usize, bool)> = Vec::new();
    let mut pruned: Option<&str> = None;
    for (index, entry) in entries.iter().enumerate() {
        let path = entry.path.as_str();
        effort.spend_bytes(path.len())?;
        if pruned.is_some_and(|dir| is_inside(path, dir)) {
            continue;
        }
        pruned = None;
        while open.last().is_some_and(|(dir, _)| !is_inside(path, &entries[*dir].path)) {
            open.pop();
        }
        let is_directory = matches!(entry.content, Content::Directory);
        let excluded = match &exclude {
            Some(matcher) => matcher.matches(path, effort)?,
            None => false,
        };
        if excluded && is_directory && !may_come_back {
            // nothing in it can come back
            pruned = Some(path);
            continue;
        }
        let sent = !excluded && (include.matches(path, effort)? || is_directory && include.is_on_the_way(path, effort)?);
        if sent {
            for (dir, dir_sent) in &mut open {
                if !std::mem::replace(dir_sent, true) {
                    selected.push(*dir as u32);
                }
            }
            selected.push(index as u32);
        }
        if is_directory {
            open.push((index, sent));
        }
    }
    Ok(selected)
}

fn is_inside(path: &str, directory: &str) -> bool {
    path.len() > directory.len() && path.as_bytes()[directory.len()] == b'/' && path.starts_with(directory)
}

/// What is asked for: everything, or plain paths (the usual case, matched without patterns) and patterns.
struct Include {
    everything: bool,
    plain: BTreeSet<String>,
    patterns: Option<PatternMatcher>,
    /// The folders that the patterns go through, by how deep they lie.
    ways: Vec<PatternMatcher>,
}

impl Include {
    fn new(entries: &[ContextEntry], filters: &Filters, effort: &Effort) -> Result<Self, SelectError> {
        let mut wanted = filters.include.clone();
        let followed = follow_links(entries, &filters.follow, effort)?;
        // a followed path that is the root lifts the filter of the followed paths, as it does in BuildKit's client
        if !followed.iter().any(|path| path == ".") {
            wanted.extend(followed);
        }
        // exceptions make the order count: then the matcher gets all of it
        let ordered = wanted.iter().any(|pattern| pattern.starts_with('!'));
        let (plain, patterns): (Vec<String>, Vec<String>) =
            wanted.into_iter().partition(|pattern| !ordered && !has_wildcard(pattern));
        let plain: BTreeSet<String> = plain.iter().map(|path| clean(path)).collect();
        let ways = if ordered { Vec::new() } else { ways(&patterns) };
        Ok(Self {
            ways,
            everything: plain.contains(".") || plain.is_empty() && patterns.is_empty(),
            plain,
            patterns: match patterns.is_empty() {
                true => None,
                false => Some(PatternMatcher::new(&patterns)?),
            },
        })
    }
    fn is_everything(&self) -> bool {
        self.everything
    }
    fn matches(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        match &self.patterns {
            _ if self.everything || self.plain_matches(path) => Ok(true),
            Some(matcher) => matcher.matches(path, effort),
            None => Ok(false),
        }
    }
    /// Whether the directory leads to something that is asked for, there or not.
    fn is_on_the_way(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        let below = format!("{path}/");
        let next = self.plain.range::<str, _>((Bound::Excluded(below.as_str()), Bound::Unbounded)).next();
        if next.is_some_and(|plain| plain.starts_with(&below)) {
            return Ok(true);
        }
        self.ways.get(path.matches('/').count()).map_or(Ok(false), |way| way.matches(path, effort))
    }
    fn plain_matches(&self, path: &str) -> bool {
        if self.plain.is_empty() {
            return false;
        }
        self.plain.contains(path) || path.bytes().enumerate().any(|(at, byte)| byte == b'/' && self.plain.contains(&path[..at]))
    }
}

/// The beginnings of the patterns, by their number of segments. Too much of it is left out: then only folders with something in
/// them are sent.
fn ways(patterns: &[String]) -> Vec<PatternMatcher> {
    let mut by_depth: Vec<Vec<&str>> = Vec::new();
    let mut bytes = 0;
    for pattern in patterns {
        for (depth, (end, _)) in pattern.match_indices('/').enumerate().take(MAX_DEPTH) {
            bytes += end;
            if bytes > MAX_WAY_BYTES {
                return Vec::new();
            }
            by_depth.resize_with(by_depth.len().max(depth + 1), Vec::new);
            by_depth[depth].push(&pattern[..end]);
        }
    }
    by_depth.iter().map(|ways| PatternMatcher::new(ways).unwrap_or_default()).collect()
}

fn has_wildcard(pattern: &str) -> bool {
    pattern.bytes().any(|byte| matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^'))
}

/// The path without `.`, `..`, and double slashes, relative to the root; never above it. The root is `.`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// The followed paths themselves and everything that their symlinks lead to, cleaned, sorted, without those that lie in another.
/// Links are read from the entries; none is resolved on a file system, and none leads out of the context.
fn follow_links(entries: &[ContextEntry], paths: &[String], effort: &Effort) -> Result<Vec<String>, Spent> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let links: HashMap<&str, &str> = entries
        .iter()
        .filter_map(|entry| match &entry.content {
            Content::Symlink { target } => Some((entry.path.as_str(), target.as_str())),
            _ => None,
        })
        .collect();
    let mut found = BTreeSet::new();
    let mut seen = HashSet::new();
    let mut open: Vec<String> = paths.iter().map(|path| clean(path)).collect();
    while let Some(path) = open.pop() {
        // a link into itself makes ever longer paths: those that no file system has end it
        if path.len() > MAX_PATH || seen.len() > MAX_FOLLOWED || !seen.insert(path.clone()) {
            continue;
        }
        let mut resolved = None;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            effort.spend_bytes(end)?;
            let targets = links_at(&links, &path[..end], effort)?;
            if !targets.is_empty() {
                resolved = Some((targets, path[end..].trim_start_matches('/')));
                break;
            }
        }
        let Some((targets, rest)) = resolved else {
            found.insert(path);
            continue;
        };
        for (link, target) in targets {
            found.insert(link.to_owned());
            open.push(clean(&format!("{target}/{rest}")));
        }
        if has_wildcard(&path) {
            found.insert(path);
        }
    }
    let mut kept: Vec<String> = Vec::with_capacity(found.len());
    for path in found {
        if !kept.last().is_some_and(|last| is_inside(&path, last)) {
            kept.push(path);
        }
    }
    Ok(kept)
}

/// The link at `path` and where it leads, or all links that its last segment matches as a wildcard.
fn links_at<'e>(links: &HashMap<&'e str, &'e str>, path: &str, effort: &Effort) -> Result<Vec<(&'e str, String)>, Spent> {
    let resolve = |link: &'e str, target: &str| {
        let from = if target.starts_with('/') { "" } else { parent(link) };
        (link, clean(&format!("{from}/{target}")))
    };
    let base = &path[path.rfind('/').map_or(0, |at| at + 1)..];
    if !has_wildcard(base) {
        return Ok(links.get_key_value(path).map(|(link, target)| resolve(link, target)).into_iter().collect());
    }
    let Ok(matcher) = PatternMatcher::new(&[path]) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for (link, target) in links {
        effort.spend_bytes(link.len())?;
        if parent(link) == parent(path) && matcher.matches(link, effort)? {
            found.push(resolve(link, target));
        }
    }
    found.sort();
    Ok(found)
}

fn parent(path: &str) -> &str {
    path.rfind('/').map_or("", |at| &path[..at])
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
