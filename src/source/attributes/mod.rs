//! What `.gitattributes` make of a commit's files, as git's checkout writes them.
//!
//! The blobs stay as they are. An entry that a checkout changes has the size that it has then, and says in its `oid` what is done to the
//! blob; whoever reads it gets the content that a clone has.

mod convert;
mod encoding;
mod rules;
mod wildmatch;

use std::sync::{Mutex, PoisonError};

use git2::{Odb, Oid};
use tokio_util::sync::CancellationToken;

use convert::Conversion;

use super::failures::{Trouble, printable};
use super::{EntryKind, TreeEntry};
use crate::protocol::Failure;
use convert::LineEnds;
use encoding::{Encoding, Named};
use rules::{Rules, Value};

const FILE: &str = ".gitattributes";
/// Larger files, and more than these, are not read.
const MAX_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 1_000;
/// Above this a file and what becomes of it are in memory by themselves: one at a time in this process.
const LARGE_FILE: u64 = 8 << 20;
static ONE_LARGE_FILE: Mutex<()> = Mutex::new(());
/// Files named in one warning.
const NAMED: usize = 5;

/// Gives the entries the sizes and the identities that a checkout's files have. Returns what a user should know. A tree without
/// `.gitattributes` that change anything costs a look at its names.
pub(super) fn apply(
    odb: &Odb<'_>,
    entries: &mut [TreeEntry],
    max_file_bytes: u64,
    cancel: &CancellationToken,
) -> Result<Vec<String>, Trouble> {
    let Some(rules) = read(odb, entries)? else { return Ok(Vec::new()) };
    let (mut unknown, mut unwritable) = (Vec::new(), Vec::new());
    for entry in entries.iter_mut().filter(|e| matches!(e.kind, EntryKind::File { .. })) {
        if cancel.is_cancelled() {
            return Err(Failure::interrupted().into());
        }
        let (conversion, is_unknown) = conversion(&rules, &entry.path);
        if is_unknown {
            unknown.push(entry.path.clone());
        }
        // A file above the limit is refused where it is read.
        if conversion.is_none() || entry.size > max_file_bytes {
            continue;
        }
        let id = Oid::from_str(&entry.oid).map_err(|e| Trouble::Broken(e.message().to_owned()))?;
        let _alone = (entry.size > LARGE_FILE).then(|| ONE_LARGE_FILE.lock().unwrap_or_else(PoisonError::into_inner));
        let object = odb.read(id)?;
        let content = conversion.apply(object.data(), &entry.oid);
        if content.is_err() {
            unwritable.push(entry.path.clone());
        }
        let (Ok(content) | Err(content)) = content;
        if *content != *object.data() {
            entry.size = content.len() as u64;
            entry.oid.push_str(&conversion.describe());
        }
    }
    let warnings = [
        (&unknown, "have a working-tree-encoding that is not known here, and are taken as they are in the repository"),
        (&unwritable, "cannot be written in their working-tree-encoding, and are taken as UTF-8"),
    ];
    let mut told: Vec<String> = warnings.iter().filter_map(|(paths, what)| warning(paths, what)).collect();
    if rules.is_spent() {
        told.push("The patterns of .gitattributes take too long; some files are taken as they are in the repository.".to_owned());
    }
    Ok(told)
}

/// The rules of the tree; `None`: no line of them changes a file.
fn read(odb: &Odb<'_>, entries: &[TreeEntry]) -> Result<Option<Rules>, Trouble> {
    let is_rules = |entry: &&TreeEntry| {
        matches!(entry.kind, EntryKind::File { .. })
            && entry.path.strip_suffix(FILE).is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
            && entry.size <= MAX_BYTES
    };
    let mut files: Vec<(&str, &str)> = entries
        .iter()
        .filter(is_rules)
        .take(MAX_FILES)
        .map(|entry| (entry.path.strip_suffix(FILE).unwrap_or_default(), entry.oid.as_str()))
        .collect();
    if files.is_empty() {
        return Ok(None);
    }
    // A folder's file overrules those of the folders around it.
    files.sort_by_key(|(folder, _)| (folder.matches('/').count(), *folder));
    let mut rules = Rules::new();
    for (folder, id) in files {
        let id = Oid::from_str(id).map_err(|e| Trouble::Broken(e.message().to_owned()))?;
        if !rules.add(folder, odb.read(id)?.data()) {
            break;
        }
    }
    let changes = |name: &str, value: &Value| match (name, value) {
        ("eol", Value::Is(eol)) => eol == "crlf",
        ("ident", Value::Set) => true,
        ("working-tree-encoding", Value::Is(_)) => true,
        _ => false,
    };
    Ok(rules.mention(changes).then_some(rules))
}

/// What a checkout does to the file, and whether it names an encoding that nobody knows.
fn conversion(rules: &Rules, path: &str) -> (Conversion, bool) {
    let [text, crlf, eol, ident, encoding] = rules.of(path, ["text", "crlf", "eol", "ident", "working-tree-encoding"]);
    // git's convert.c, `convert_attrs`: `crlf` is the old name of `text`.
    let is_auto = |value: &Value| *value == Value::Is("auto".to_owned());
    let known =
        |value: &Value| matches!(value, Value::Set | Value::Unset) || is_auto(value) || *value == Value::Is("input".to_owned());
    let text = text.filter(known).or(crlf.filter(known));
    let is_crlf = eol == Some(Value::Is("crlf".to_owned()));
    let line_ends = match text {
        Some(Value::Unset) => LineEnds::Keep,
        Some(value) if is_crlf && is_auto(&value) => LineEnds::AutoCrlf,
        _ if is_crlf => LineEnds::Crlf,
        _ => LineEnds::Keep,
    };
    let (encoding, is_unknown) = match encoding {
        Some(Value::Is(name)) => match Encoding::look_up(&name) {
            Named::Known(encoding) => (Some(encoding), false),
            Named::Utf8 => (None, false),
            Named::Unknown => (None, true),
        },
        _ => (None, false),
    };
    (Conversion { ident: ident == Some(Value::Set), line_ends, encoding }, is_unknown)
}

fn warning(paths: &[String], what: &str) -> Option<String> {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| printable(path, 200)).collect();
    let more = if paths.len() > NAMED { format!(" and {} more", paths.len() - NAMED) } else { String::new() };
    (!paths.is_empty()).then(|| format!("Files {what}: {}{more}.", named.join(", ")))
}

/// An entry's blob, and what is done to it.
pub(super) fn blob_of(oid: &str) -> Option<(Oid, Option<Conversion>)> {
    let (id, words) = match oid.split_once(' ') {
        Some((id, words)) => (id, Some(words)),
        None => (oid, None),
    };
    Some((Oid::from_str(id).ok()?, words.map(Conversion::parse)))
}
