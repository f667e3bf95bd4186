//! PURE: lays the job's `.env` over the tree, and says what a user should know.

use std::sync::Arc;

use super::dotenv::DotEnv;
use super::excludes::{self, Excludes};
use super::ignore::{Effort, Spent};
use super::instructions::Instructions;
use super::links::link_target;
use super::{Content, ContextEntry, Tree, arguments, dockerfile, notices, wrong_root};
use crate::protocol::{Code, EnvVar, Failure, LogType};
use crate::secrets::SecretString;
use crate::source::{EntryKind, TreeEntry};

const ENV_FILE: &str = ".env";

/// A build's context, but for the times of its entries.
pub(super) struct Layout {
    /// By which BuildKit asks for it: as it was named.
    pub(super) dockerfile: String,
    pub(super) dockerfile_bytes: Vec<u8>,
    pub(super) excludes: Excludes,
    /// In BuildKit's order; every `mtime_ns` is 0.
    pub(super) entries: Vec<ContextEntry>,
    pub(super) secrets: Vec<(String, SecretString)>,
    pub(super) mounts_secrets: bool,
    pub(super) notes: Vec<(LogType, String)>,
}

pub(super) fn lay_out(tree: &dyn Tree, named: Option<&str>, env: &[EnvVar], effort: &Effort) -> Result<Layout, Failure> {
    let found = dockerfile::find(tree, named)?;
    let instructions = Instructions::read(&found.bytes);
    let excludes = Excludes::read(tree, &found)?;
    let mut dotenv = DotEnv::new(env);
    let mut notes = Vec::new();

    let own_env = tree.entry(ENV_FILE);
    if dotenv.file.is_some() && own_env.is_some_and(|e| matches!(e.kind, EntryKind::Directory | EntryKind::Submodule)) {
        if !excludes.leaves_out(ENV_FILE, effort)? {
            return Err(Failure::new(
                Code::ContextEnvIsDirectory,
                "The repository has a directory named .env, where the service's variables have to go.",
                "Rename the directory, or remove the service's environment variables.",
            ));
        }
        // No build sees a file of that name, so none has to be there.
        notes.extend(env_warning(&excludes, &instructions, effort)?.map(|warning| (LogType::Warning, warning)));
        dotenv.file = None;
    }
    let mut entries = Vec::with_capacity(tree.entries().len() + 1);
    for entry in tree.entries() {
        effort.spend_bytes(entry.path.len())?;
        if entry.path != ENV_FILE || dotenv.file.is_none() {
            entries.push(context_entry(tree, entry)?);
        }
    }
    notes.extend(dotenv.warnings.into_iter().map(|warning| (LogType::Warning, warning)));
    if let Some(file) = dotenv.file {
        if own_env.is_some() {
            let text = "The repository's own .env is not in the build: the service's environment variables take its place.";
            notes.push((LogType::Warning, text.to_owned()));
        }
        notes.extend(env_warning(&excludes, &instructions, effort)?.map(|warning| (LogType::Warning, warning)));
        let size = file.len() as u64;
        let content = Content::Inline { bytes: Arc::new(file), executable: false };
        let at = entries.partition_point(|e| e.path.split('/').lt(ENV_FILE.split('/')));
        entries.insert(at, ContextEntry { path: ENV_FILE.to_owned(), size, mtime_ns: 0, content });
    }
    if instructions.wants_git() {
        notes.push((LogType::Info, "The Dockerfile seems to use .git, which is never in the build context.".to_owned()));
    }
    if instructions.mounts_ssh() {
        let text = "The Dockerfile mounts an SSH agent; builds are given no SSH agent here. Mount a key as a secret: \
                    RUN --mount=type=secret,id=NAME, with the key in the service's variable NAME.";
        notes.push((LogType::Info, text.to_owned()));
    }
    let warnings = [
        excludes::dead_links(tree, &found)?,
        arguments::warning(&instructions, env),
        wrong_root::warning(tree, &found.folder, &instructions, effort)?,
        notices::key_files(tree.entries(), &excludes, effort)?,
        notices::submodules(tree.entries(), &excludes, effort)?,
        notices::lfs_pointers(tree, &excludes, effort)?,
        notices::missing_secrets(&instructions, &dotenv.secrets),
    ];
    notes.extend(warnings.into_iter().flatten().map(|warning| (LogType::Warning, warning)));
    let mounts_secrets = instructions.mounts_secrets();
    let dockerfile = found.path();
    Ok(Layout { dockerfile, dockerfile_bytes: found.bytes, excludes, entries, secrets: dotenv.secrets, mounts_secrets, notes })
}

fn context_entry(tree: &dyn Tree, entry: &TreeEntry) -> Result<ContextEntry, Failure> {
    let (size, content) = match entry.kind {
        // A submodule's commit is not fetched: git leaves an empty directory in its place, and so do we.
        EntryKind::Directory | EntryKind::Submodule => (0, Content::Directory),
        EntryKind::Unsendable(flaw) => (0, Content::Unsendable { flaw }),
        EntryKind::File { executable } => (entry.size, Content::Blob { entry: entry.clone(), executable }),
        EntryKind::Symlink => {
            let target = link_target(tree, entry)?;
            (target.len() as u64, Content::Symlink { target })
        }
    };
    Ok(ContextEntry { path: entry.path.clone(), size, mtime_ns: 0, content })
}

fn env_warning(excludes: &Excludes, instructions: &Instructions, effort: &Effort) -> Result<Option<String>, Spent> {
    Ok(match excludes.file() {
        Some(file) if excludes.leaves_out(ENV_FILE, effort)? => Some(format!(
            "{} leaves out .env, so the build does not see the service's environment variables there; \
             RUN --mount=type=secret,id=env reads them all the same.",
            super::shown(file)
        )),
        _ if instructions.copies(ENV_FILE) => Some(
            "The Dockerfile copies .env, with the service's environment variables, into the image: who can pull the image can read \
             them. RUN --mount=type=secret,id=env reads them without leaving them there."
                .to_owned(),
        ),
        _ => None,
    })
}
