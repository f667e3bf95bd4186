//! PURE: which .dockerignore counts, and what is left out where there is none.

use super::ignore::{Effort, PatternMatcher, Spent, read_patterns};
use super::instructions::Instructions;
use super::{Tree, dockerfile, shown};
use crate::protocol::{Code, Failure};
use crate::source::{EntryKind, TreeEntry};

/// A larger .dockerignore is none.
const MAX_IGNORE_BYTES: u64 = 4 * 1024 * 1024;
/// What its patterns may take where BuildKit hands them on as headers (`image::session` takes a little more): its bytes, and so
/// many more for each.
const MAX_PATTERNS_BYTES: usize = 15 * 1024 * 1024;
const HEADER_BYTES: usize = 64;

/// Names that are left out at any depth where the repository has no .dockerignore: what is made on a machine and not meant for
/// another one. Never what a Dockerfile may want (tests, logs, keys), and none that it copies by name.
pub(super) const DEFAULT_EXCLUDES: &[&str] = &[
    "node_modules",
    ".env.local",
    ".env.development",
    ".env.test",
    ".env.production",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    ".idea",
    ".vscode",
    "*.swp",
    "*.swo",
    "*~",
];

/// Who decides what goes in.
pub(super) enum Excludes {
    /// The repository's own file. BuildKit reads and applies it; here it is only asked for warnings.
    Own { file: String, matcher: PatternMatcher },
    /// [`DEFAULT_EXCLUDES`], applied here.
    Default { matcher: PatternMatcher },
}

impl Excludes {
    pub(super) fn read(tree: &dyn Tree, dockerfile: &str, instructions: &Instructions) -> Result<Self, Failure> {
        // BuildKit looks for these two, in this order.
        for file in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
            let Ok(entry) = dockerfile::resolve(tree, &file)? else { continue };
            if matches!(entry.kind, EntryKind::File { .. }) {
                let matcher = own(tree, entry, &file)?;
                return Ok(Self::Own { file, matcher });
            }
        }
        let names = DEFAULT_EXCLUDES.iter().filter(|name| !instructions.copies_by_name(name));
        let patterns: Vec<String> = names.map(|name| format!("**/{name}")).collect();
        let matcher = PatternMatcher::new(&patterns)
            .map_err(|e| Failure::new(Code::WorkerInternal, format!("a default exclude cannot be read: {e}"), ""))?;
        Ok(Self::Default { matcher })
    }

    /// Whether `path` stays out of the build, whoever sees to it.
    pub(super) fn leaves_out(&self, path: &str, effort: &Effort) -> Result<bool, Spent> {
        match self {
            Self::Own { matcher, .. } | Self::Default { matcher } => matcher.matches(path, effort),
        }
    }

    /// For each entry whether it is served: all where BuildKit applies the repository's own file.
    pub(super) fn served(&self, entries: &[TreeEntry], effort: &Effort) -> Result<Vec<bool>, Spent> {
        match self {
            Self::Own { .. } => Ok(vec![true; entries.len()]),
            Self::Default { matcher } => {
                let mut walk = matcher.walk(effort);
                let excluded = entries.iter().map(|entry| walk.excludes(&entry.path, entry.kind == EntryKind::Directory));
                excluded.map(|excluded| excluded.map(|excluded| !excluded)).collect()
            }
        }
    }
}

fn own(tree: &dyn Tree, entry: &TreeEntry, file: &str) -> Result<PatternMatcher, Failure> {
    let invalid = |problem: String, way_out| {
        Failure::new(Code::ContextIgnoreInvalid, format!("{}: {}.", shown(file), shown(&problem)), way_out)
    };
    if entry.size > MAX_IGNORE_BYTES {
        let problem = format!("it has {} bytes; at most {MAX_IGNORE_BYTES} are read", entry.size);
        return Err(invalid(problem, "Exclude directories in place of their files."));
    }
    let bytes = tree.read(entry)?;
    let patterns = read_patterns(&bytes).map_err(|e| invalid(e.to_string(), "Correct or remove that line."))?;
    if patterns.iter().map(|p| p.len() + HEADER_BYTES).sum::<usize>() > MAX_PATTERNS_BYTES {
        let problem = format!("its {} patterns are more than BuildKit can be given", patterns.len());
        return Err(invalid(problem, "Exclude directories in place of their files."));
    }
    PatternMatcher::new(&patterns).map_err(|e| invalid(e.to_string(), "Correct or remove that line."))
}
