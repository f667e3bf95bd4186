//! Repositories made by the git command line, and the world around one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slipway::protocol::Failure;
use slipway::source::SourceTree;

use crate::job::{Stage, exact, public};
use crate::server::GitServer;

/// One repository on a git server, and a stage that has fetched nothing yet.
pub struct World {
    pub root: tempfile::TempDir,
    pub repo: Repo,
    pub server: GitServer,
    pub stage: Stage,
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let repo = Repo::new(root.path(), "octo/hello");
        let server = GitServer::start(root.path());
        let stage = Stage::new(root.path());
        Self { root, repo, server, stage }
    }
    pub fn url(&self) -> url::Url {
        self.server.url("octo/hello")
    }
    pub async fn tip(&self, branch: &str) -> Result<SourceTree, Failure> {
        self.stage.tip(&self.url(), branch).await
    }
    pub async fn commit(&self, branch: &str, id: &str) -> Result<SourceTree, Failure> {
        self.stage.fetch(&public(&self.url()), branch, exact(id)).await
    }
}

/// A work tree and the bare repository that it is pushed to.
pub struct Repo {
    pub bare: PathBuf,
    pub work: PathBuf,
}

impl Repo {
    /// `<root>/<name>.git`, empty, with a work tree beside it on branch main.
    pub fn new(root: &Path, name: &str) -> Self {
        let bare = root.join(format!("{name}.git"));
        let work = root.join(format!("{name}.work"));
        std::fs::create_dir_all(&bare).unwrap();
        std::fs::create_dir_all(&work).unwrap();
        let repo = Self { bare, work };
        git(&repo.bare, &["init", "-q", "--bare", "-b", "main"]);
        git(&repo.work, &["init", "-q", "-b", "main"]);
        repo
    }
    /// Writes files and commits them; the commit's id.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.work.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        git(&self.work, &["add", "-A"]);
        git(&self.work, &["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }
    pub fn head(&self) -> String {
        git(&self.work, &["rev-parse", "HEAD"])
    }
    /// Pushes (by force) what the arguments name.
    pub fn push(&self, what: &[&str]) {
        let bare = self.bare.to_str().unwrap();
        git(&self.work, &[&["push", "-q", "-f", bare], what].concat());
    }
    pub fn commit_and_push(&self, message: &str, files: &[(&str, &str)]) -> String {
        let id = self.commit(message, files);
        self.push(&["HEAD:main"]);
        id
    }
    /// Sets a configuration value of the bare repository.
    pub fn set(&self, key: &str, value: &str) {
        git(&self.bare, &["config", key, value]);
    }
    /// Writes an object as it stands, however wrong; its id.
    pub fn object(&self, kind: &str, bytes: &[u8]) -> String {
        git_with_input(&self.bare, &["hash-object", "-t", kind, "--literally", "-w", "--stdin"], bytes)
    }
    /// A tree object of entries as they stand: mode, name, id.
    pub fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(&hex::decode(id).unwrap());
        }
        self.object("tree", &bytes)
    }
    /// Makes a commit of a tree and lets main point to it.
    pub fn main_is(&self, tree: &str) -> String {
        let commit = git(&self.bare, &["commit-tree", "-m", "hostile", tree]);
        git(&self.bare, &["update-ref", "refs/heads/main", &commit]);
        commit
    }
}

/// Runs git and returns its output, trimmed.
pub fn git(dir: &Path, args: &[&str]) -> String {
    git_with_input(dir, args, b"")
}

fn git_with_input(dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(["-c", "safe.directory=*", "-c", "gc.auto=0"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
