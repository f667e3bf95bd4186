//! Repositories on the test git server, made by real git.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{parts, unique};

/// A bare repository under the git server's root. Removed when dropped.
pub struct Repository {
    /// As a job names it: `octo/…`, or `private/…` for one that wants the login.
    pub name: String,
    path: PathBuf,
}

impl Repository {
    /// One that anybody may read, with these files in a first commit on `main`: `(path, content)`.
    pub fn public(files: &[(&str, &str)]) -> Self {
        Self::new(format!("octo/{}", unique()), files)
    }

    /// One that wants the rig's git login.
    pub fn private(files: &[(&str, &str)]) -> Self {
        Self::new(format!("private/{}", unique()), files)
    }

    /// One that anybody may read, without a branch.
    pub fn empty() -> Self {
        Self::bare(format!("octo/{}", unique()))
    }

    fn new(name: String, files: &[(&str, &str)]) -> Self {
        let repository = Self::bare(name);
        repository.commit(files);
        repository
    }

    fn bare(name: String) -> Self {
        let path = parts().git_root.join(format!("{name}.git"));
        std::fs::create_dir_all(&path).expect("make the repository's directory");
        let repository = Self { name, path };
        repository.git(&["init", "--quiet", "--bare", "--initial-branch=main", "."]);
        repository
    }

    /// Adds a commit with these files to `main` and returns its id.
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        self.commit_to("main", files)
    }

    /// Adds a commit to a branch, which is made from nothing if it does not exist.
    pub fn commit_to(&self, branch: &str, files: &[(&str, &str)]) -> String {
        let files: Vec<_> = files.iter().map(|(path, content)| (*path, "100644", content.as_bytes())).collect();
        self.commit_raw(branch, &files)
    }

    /// As [`Repository::commit_to`], with git's modes: `100644`, `100755`, `120000` (the content is the link's target).
    pub fn commit_raw(&self, branch: &str, files: &[(&str, &str, &[u8])]) -> String {
        let mut stream = Vec::new();
        let who = "Octo <octo@example.com> 1700000000 +0000";
        let message = format!("Commit {}", unique());
        write!(stream, "commit refs/heads/{branch}\ncommitter {who}\ndata {}\n{message}\n", message.len()).expect("to memory");
        if self.try_git(&["rev-parse", "--verify", "--quiet", &format!("refs/heads/{branch}")]).is_some() {
            writeln!(stream, "from refs/heads/{branch}^0").expect("to memory");
        }
        for (path, mode, content) in files {
            writeln!(stream, "M {mode} inline {}\ndata {}", quoted(path), content.len()).expect("to memory");
            stream.extend_from_slice(content);
            stream.push(b'\n');
        }
        stream.extend_from_slice(b"done\n");
        let mut import = self.command(&["fast-import", "--quiet", "--done"]).stdin(Stdio::piped()).spawn().expect("start git");
        import.stdin.take().expect("piped").write_all(&stream).expect("hand the commit to git");
        assert!(import.wait().expect("git ends").success(), "git fast-import failed");
        self.tip(branch)
    }

    /// The commit that a branch (or tag) points to.
    pub fn tip(&self, reference: &str) -> String {
        self.git(&["rev-parse", "--verify", &format!("{reference}^{{commit}}")])
    }

    /// An annotated tag on `main`'s tip.
    pub fn tag(&self, name: &str) {
        self.git(&["-c", "user.name=Octo", "-c", "user.email=octo@example.com", "tag", "-a", "-m", name, name, "main"]);
    }

    /// Moves `main` to another commit, as a forced push does. What is not reachable any more stays in the object store.
    pub fn force_main(&self, sha: &str) {
        self.git(&["update-ref", "refs/heads/main", sha]);
    }

    /// A tree as `git ls-tree` prints one, also one that git itself would never make. Returns its id.
    pub fn make_tree(&self, listing: &str) -> String {
        let mut make = self.command(&["mktree"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start git");
        make.stdin.take().expect("piped").write_all(listing.as_bytes()).expect("hand the tree to git");
        let done = make.wait_with_output().expect("git ends");
        assert!(done.status.success(), "git mktree failed");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// Moves `main` to a commit of this tree alone.
    pub fn force_main_to_tree(&self, tree: &str) {
        let who = ["-c", "user.name=Octo", "-c", "user.email=octo@example.com"];
        let commit = self.git(&[&who[..], &["commit-tree", "-m", "A tree", tree]].concat());
        self.force_main(&commit);
    }

    /// What this repository's server does: `uploadpack.allowReachableSHA1InWant`, `uploadpack.allowFilter` …
    pub fn config(&self, key: &str, value: &str) {
        self.git(&["config", key, value]);
    }

    /// Runs git in the repository and returns what it prints.
    pub fn git(&self, arguments: &[&str]) -> String {
        self.try_git(arguments).unwrap_or_else(|| panic!("git {arguments:?} failed in {}", self.name))
    }

    fn try_git(&self, arguments: &[&str]) -> Option<String> {
        let done = self.command(arguments).output().expect("run git");
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).trim().to_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(&self.path).args(arguments);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        // The whole root goes with the run in the end.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// A path as fast-import reads it.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
