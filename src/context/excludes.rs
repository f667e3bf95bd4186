//! PURE: which .dockerignore counts. Without one everything that is committed is in the build context, as with `docker build`.

use super::dockerfile::Found;
use super::ignore::{Effort, PatternMatcher, Spent, read_patterns};
use super::links::file_below;
use super::{Tree, links, shown};
use crate::protocol::{Code, Failure};
use crate::source::EntryKind;

/// A larger .dockerignore is none.
const MAX_IGNORE_BYTES: u64 = 4 * 1024 * 1024;
/// What its patterns may take where BuildKit hands them on as headers (`image::session` takes a little more): its bytes, and so
/// many more for each.
const MAX_PATTERNS_BYTES: usize = 15 * 1024 * 1024;
const HEADER_BYTES: usize = 64;
const AT_THE_ROOT: &str = ".dockerignore";

/// The repository's .dockerignore, if it has one. BuildKit reads and applies it; here it is only asked.
#[derive(Debug, Default)]
pub struct Excludes {
    file: Option<IgnoreFile>,
}

#[derive(Debug)]
struct IgnoreFile {
    /// As it is named, which may be a link.
    path: String,
    matcher: PatternMatcher,
    /// What the Dockerfile's own one says; `None` where it is the root's.
    own: Option<Vec<u8>>,
}

impl Excludes {
    /// BuildKit looks for `<Dockerfile as named>.dockerignore` beside the name, then for the root's.
    pub(super) fn read(tree: &dyn Tree, dockerfile: &Found) -> Result<Self, Failure> {
        let own = format!("{}.dockerignore", dockerfile.name);
        for (folder, name) in [(dockerfile.folder.as_str(), own.as_str()), ("", AT_THE_ROOT)] {
            let Some(entry) = file_below(tree, folder, name)? else { continue };
            let path = links::below(folder, name);
            if entry.size > MAX_IGNORE_BYTES {
                let problem = format!("it has {} bytes; at most {MAX_IGNORE_BYTES} are read", entry.size);
                return Err(invalid(&path, &problem, "Exclude directories in place of their files."));
            }
            return Self::of(&path, tree.read(entry)?, name == own);
        }
        Ok(Self::default())
    }

    /// What a file of this path says; `is_own`: it is the Dockerfile's own.
    pub fn of(path: &str, bytes: Vec<u8>, is_own: bool) -> Result<Self, Failure> {
        let correct = "Correct or remove that line.";
        let patterns = read_patterns(&bytes).map_err(|e| invalid(path, &e.to_string(), correct))?;
        if patterns.iter().map(|p| p.len() + HEADER_BYTES).sum::<usize>() > MAX_PATTERNS_BYTES {
            let problem = format!("its {} patterns are more than BuildKit can be given", patterns.len());
            return Err(invalid(path, &problem, "Exclude directories in place of their files."));
        }
        let matcher = PatternMatcher::new(&patterns).map_err(|e| invalid(path, &e.to_string(), correct))?;
        Ok(Self { file: Some(IgnoreFile { path: path.to_owned(), matcher, own: is_own.then_some(bytes) }) })
    }

    /// The file that counts, as it is named.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_ref().map(|file| file.path.as_str())
    }

    /// The bytes of the Dockerfile's own .dockerignore.
    pub fn own(&self) -> Option<&[u8]> {
        self.file.as_ref()?.own.as_deref()
    }

    /// Whether `path` stays out of the build.
    pub(super) fn leaves_out(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        self.file.as_ref().map_or(Ok(false), |file| file.matcher.matches(path, effort))
    }
}

/// A warning about ignore files that are links to nothing that a build can see.
pub(super) fn dead_links(tree: &dyn Tree, dockerfile: &Found) -> Result<Option<String>, Failure> {
    let own = format!("{}.dockerignore", dockerfile.name);
    let mut dead = Vec::new();
    for (folder, name) in [(dockerfile.folder.as_str(), own.as_str()), ("", AT_THE_ROOT)] {
        let path = links::below(folder, name);
        let is_link = tree.entry(&path).is_some_and(|entry| entry.kind == EntryKind::Symlink);
        if is_link && file_below(tree, folder, name)?.is_none() {
            dead.push(shown(&path).into_owned());
        }
    }
    Ok((!dead.is_empty()).then(|| {
        format!("{} is a link to nothing in its folder's tree and counts for nothing, as with docker build.", dead.join(", "))
    }))
}

fn invalid(file: &str, problem: &str, way_out: &str) -> Failure {
    Failure::new(Code::ContextIgnoreInvalid, format!("{}: {}.", shown(file), shown(problem)), way_out)
}
