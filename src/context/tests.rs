//! What a build gets to see of a repository, over trees that are made up here.

use std::collections::HashMap;

use proptest::prelude::*;

mod names;

use super::layout::{Layout, lay_out};
use super::stage::TimesOnDisk;
use super::*;
use crate::protocol::{Code, EnvVar, LogType, ServiceId};
use crate::secrets::ExposeSecret;
use crate::source::EntryKind;

/// A commit's tree in memory.
#[derive(Default)]
struct MadeTree {
    entries: Vec<TreeEntry>,
    contents: HashMap<String, Vec<u8>>,
}

impl MadeTree {
    fn new() -> Self {
        Self::default()
    }
    fn add(mut self, path: &str, kind: EntryKind, content: &[u8]) -> Self {
        for (end, _) in path.match_indices('/') {
            if self.entry(&path[..end]).is_none() {
                self = self.add(&path[..end], EntryKind::Directory, b"");
            }
        }
        let size = if matches!(kind, EntryKind::Directory | EntryKind::Submodule) { 0 } else { content.len() as u64 };
        let oid = format!("{:040x}", crc32fast::hash(content));
        self.entries.push(TreeEntry { path: path.into(), kind, oid, size });
        self.contents.insert(path.into(), content.to_vec());
        self.entries.sort_by(|a, b| a.path.split('/').cmp(b.path.split('/')));
        self
    }
    fn file(self, path: &str, content: &str) -> Self {
        self.add(path, EntryKind::File { executable: false }, content.as_bytes())
    }
    fn link(self, path: &str, target: &str) -> Self {
        self.add(path, EntryKind::Symlink, target.as_bytes())
    }
    fn lay_out(&self, named: Option<&str>, env: &[(&str, &str)]) -> Result<Layout, Failure> {
        let env: Vec<EnvVar> =
            env.iter().map(|(key, value)| EnvVar { key: (*key).into(), value: SecretString::from(*value) }).collect();
        lay_out(self, named, &env, &Effort::free())
    }
}

impl Tree for MadeTree {
    fn entries(&self) -> &[TreeEntry] {
        &self.entries
    }
    fn entry(&self, path: &str) -> Option<&TreeEntry> {
        let at = self.entries.binary_search_by(|e| e.path.split('/').cmp(path.split('/'))).ok()?;
        Some(&self.entries[at])
    }
    fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, Failure> {
        Ok(self.contents[&entry.path].clone())
    }
}

fn paths(layout: &Layout) -> Vec<&str> {
    layout.entries.iter().map(|e| e.path.as_str()).collect()
}
fn notes(layout: &Layout, wanted: LogType) -> String {
    layout.notes.iter().filter(|(kind, _)| *kind == wanted).map(|(_, note)| note.as_str()).collect::<Vec<_>>().join("\n")
}
fn failure(result: Result<Layout, Failure>) -> Failure {
    result.err().unwrap()
}

#[test]
fn a_plain_repository_goes_in_as_it_is() {
    let tree = MadeTree::new().file("Dockerfile", "FROM x").file("a/b", "1").file("a.c", "2").link("z", "../outside");
    let layout = tree.lay_out(None, &[]).unwrap();
    assert_eq!(layout.dockerfile, "Dockerfile");
    assert_eq!(layout.dockerfile_bytes, b"FROM x");
    assert_eq!(paths(&layout), ["Dockerfile", "a", "a/b", "a.c", "z"]);
    assert!(matches!(&layout.entries[4].content, Content::Symlink { target } if target == "../outside"));
    assert!(layout.notes.is_empty(), "{:?}", layout.notes);
    assert!(!layout.mounts_secrets);
}

#[test]
fn the_jobs_variables_stand_in_dotenv_at_the_root() {
    let tree = MadeTree::new().file("Dockerfile", "FROM x").file(".dockerignore", "").file(".envrc", "").file("a", "");
    let layout = tree.lay_out(None, &[("A", "1")]).unwrap();
    assert_eq!(paths(&layout), [".dockerignore", ".env", ".envrc", "Dockerfile", "a"]);
    assert!(matches!(&layout.entries[1].content, Content::Inline { bytes, .. } if bytes.as_slice() == b"A=1\n"));
    assert_eq!(layout.entries[1].size, 4);
    let ids: Vec<_> = layout.secrets.iter().map(|(id, value)| (id.as_str(), value.expose_secret())).collect();
    assert_eq!(ids, [("env", "A=1\n"), ("A", "1")]);
}

#[test]
fn the_repositorys_dotenv_is_replaced_only_by_variables() {
    for tree in [MadeTree::new().file(".env", "OWN=1"), MadeTree::new().link(".env", "/etc/passwd")] {
        let tree = tree.file("Dockerfile", "FROM x");
        assert!(!matches!(tree.lay_out(None, &[]).unwrap().entries[0].content, Content::Inline { .. }));
        let layout = tree.lay_out(None, &[("A", "1")]).unwrap();
        assert!(matches!(layout.entries[0].content, Content::Inline { .. }));
        assert_eq!(paths(&layout), [".env", "Dockerfile"]);
        assert!(notes(&layout, LogType::Warning).contains("own .env is not in the build"));
    }
}

#[test]
fn a_directory_named_dotenv_fails_only_where_variables_have_to_go() {
    let tree = MadeTree::new().file(".env/x", "").file("Dockerfile", "FROM x");
    assert_eq!(failure(tree.lay_out(None, &[("A", "1")])).code, Code::ContextEnvIsDirectory);
    assert_eq!(paths(&tree.lay_out(None, &[]).unwrap()), [".env", ".env/x", "Dockerfile"]);
}

#[test]
fn one_warning_says_where_the_variables_do_not_arrive_or_stay_behind() {
    let dropped = MadeTree::new().file("Dockerfile", "FROM x\nCOPY . .").file(".dockerignore", "# secrets\n.env*\n");
    let warning = notes(&dropped.lay_out(None, &[("A", "1")]).unwrap(), LogType::Warning);
    assert!(warning.contains(".dockerignore leaves out .env") && warning.lines().count() == 1, "{warning}");
    let layer = MadeTree::new().file("Dockerfile", "FROM x\nCOPY . .");
    let warning = notes(&layer.lay_out(None, &[("A", "1")]).unwrap(), LogType::Warning);
    assert!(warning.contains("into the image") && warning.lines().count() == 1, "{warning}");
    assert!(notes(&layer.lay_out(None, &[]).unwrap(), LogType::Warning).is_empty());
}

#[test]
fn without_a_dockerignore_everything_that_is_committed_goes_in() {
    let tree = MadeTree::new()
        .file("Dockerfile", "FROM x\nCOPY . .")
        .file("node_modules/a/b", "")
        .file("web/.DS_Store", "")
        .file(".env.production", "")
        .file("x.swp", "")
        .file("server.key", "k");
    let layout = tree.lay_out(None, &[]).unwrap();
    let all: Vec<&str> = tree.entries.iter().map(|e| e.path.as_str()).collect();
    assert_eq!(paths(&layout), all);
    assert!(notes(&layout, LogType::Info).is_empty());
    assert!(notes(&layout, LogType::Warning).contains("server.key"));
}

#[test]
fn with_a_dockerignore_of_its_own_the_repository_decides() {
    for ignore in [".dockerignore", "docker/Dockerfile.dockerignore"] {
        let tree = MadeTree::new()
            .file("docker/Dockerfile", "FROM x")
            .file(ignore, "*.pem\n")
            .file("node_modules/a", "")
            .file("a.pem", "");
        let layout = tree.lay_out(Some("docker/Dockerfile"), &[]).unwrap();
        assert!(paths(&layout).contains(&"node_modules/a") && paths(&layout).contains(&"a.pem"), "BuildKit applies it");
        assert!(layout.notes.is_empty(), "{:?}", layout.notes);
    }
    let broken = MadeTree::new().file("Dockerfile", "FROM x").file(".dockerignore", "ok\na[\n");
    let failure = failure(broken.lay_out(None, &[]));
    assert_eq!(failure.code, Code::ContextIgnoreInvalid);
    assert!(failure.cause.contains(".dockerignore") && failure.cause.contains("a["), "{failure}");
}

#[test]
fn a_missing_dockerfile_names_what_was_looked_for_and_what_there_is() {
    let tree = MadeTree::new()
        .file("docker/prod/Dockerfile", "")
        .file("Dockerfile.dev", "")
        .file("x/y.dockerfile", "")
        .file("README", "");
    let none = failure(tree.lay_out(None, &[]));
    assert_eq!(none.code, Code::ContextNoDockerfile);
    assert!(none.way_out.contains("Dockerfile.dev, x/y.dockerfile, docker/prod/Dockerfile"), "{none}");
    let named = failure(tree.lay_out(Some("docker/Dockerfile"), &[]));
    assert!(named.cause.contains("docker/Dockerfile"), "{named}");
    let lower = MadeTree::new().file("dockerfile", "FROM x");
    let lower = lower.lay_out(None, &[]).unwrap();
    assert_eq!((lower.dockerfile.as_str(), lower.dockerfile_bytes.as_slice()), ("Dockerfile", &b"FROM x"[..]));
}

#[test]
fn a_dockerfile_is_a_file_of_its_size() {
    let tree = MadeTree::new()
        .file("docker/Dockerfile", "FROM x")
        .file("big", &"#".repeat(2_000_000))
        .file("lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
        .add("module", EntryKind::Submodule, b"");
    for (path, code, words) in [
        ("docker", Code::ContextDockerfileInvalid, "docker/Dockerfile"),
        ("big", Code::ContextDockerfileInvalid, "2000000 bytes"),
        ("lfs", Code::ContextDockerfileInvalid, "Git LFS"),
        ("module", Code::ContextDockerfileInvalid, "no regular file"),
        ("module/Dockerfile", Code::ContextUnsupported, "submodule module"),
        ("big/Dockerfile", Code::ContextNoDockerfile, "big/Dockerfile"),
    ] {
        let failure = failure(tree.lay_out(Some(path), &[]));
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

#[test]
fn a_linked_dockerfile_is_found_inside_the_tree_and_nowhere_else() {
    let tree = MadeTree::new()
        .file("images/api/Dockerfile", "FROM x")
        .link("Dockerfile", "images/current/./Dockerfile")
        .link("images/current", "api")
        .link("images/api/up", "../../images/api/Dockerfile")
        .link("absolute", "/etc/passwd")
        .link("above", "images/../../etc/passwd")
        .link("loop", "loop2")
        .link("loop2", "loop")
        .link("gone", "images/nothing");
    for (path, name) in [("Dockerfile", "Dockerfile"), ("images/api/up", "images/api/up"), ("images/current/up", "images/api/up")]
    {
        let layout = tree.lay_out(Some(path), &[]).unwrap();
        assert_eq!((layout.dockerfile.as_str(), layout.dockerfile_bytes.as_slice()), (name, &b"FROM x"[..]));
    }
    for (path, words) in
        [("absolute", "out of the repository"), ("above", "out of the repository"), ("loop", "itself"), ("gone", "no Dockerfile")]
    {
        let failure = failure(tree.lay_out(Some(path), &[]));
        assert!(failure.cause.contains(words), "{failure}");
    }
}

#[test]
fn submodules_and_lfs_files_are_told_and_not_silently_missing() {
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n", "a".repeat(64));
    let tree = MadeTree::new()
        .file("Dockerfile", "FROM x")
        .add("vendor/lib", EntryKind::Submodule, b"")
        .file(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
        .file("model.bin", &pointer)
        .file("same-size", &"x".repeat(pointer.len()));
    let layout = tree.lay_out(None, &[]).unwrap();
    let module = layout.entries.iter().find(|e| e.path == "vendor/lib").unwrap();
    assert!(matches!(module.content, Content::Directory));
    let warnings = notes(&layout, LogType::Warning);
    assert!(warnings.contains("submodules") && warnings.contains(": vendor/lib."), "{warnings}");
    assert!(warnings.contains(": model.bin."), "{warnings}");
}

#[test]
fn a_hostile_name_cannot_write_into_the_log() {
    let tree = MadeTree::new().file("Dockerfile", "FROM x").file("a\nBUILDED\x1b[2J.pem", "");
    let warning = notes(&tree.lay_out(None, &[]).unwrap(), LogType::Warning);
    assert!(warning.contains("a BUILDED.pem") && !warning.contains('\n'), "{warning:?}");
    let bad = MadeTree::new().file("Dockerfile", "FROM x").link("l", "");
    assert_eq!(failure(bad.lay_out(None, &[])).code, Code::SourceBadPath);
}

#[test]
fn an_ssh_mount_is_told() {
    let tree = MadeTree::new().file("Dockerfile", "FROM x\nRUN --mount=type=ssh git clone git@host:x/y");
    assert!(notes(&tree.lay_out(None, &[]).unwrap(), LogType::Info).contains("no SSH agent"));
}

#[test]
fn a_secret_that_a_step_mounts_and_the_job_does_not_have_is_told() {
    let steps = "FROM x\nRUN --mount=type=secret,id=NPM_TOKEN npm ci\nRUN --mount=id=env,type=secret --mount=type=secret,id=OTHER true\n# RUN --mount=type=secret,id=OLD x";
    let tree = MadeTree::new().file("Dockerfile", steps);
    let warning = notes(&tree.lay_out(None, &[("OTHER", "x")]).unwrap(), LogType::Warning);
    assert!(warning.contains("are not there: NPM_TOKEN. Add"), "{warning}");
    assert!(notes(&tree.lay_out(None, &[("OTHER", "x"), ("NPM_TOKEN", "y")]).unwrap(), LogType::Warning).is_empty());
}

#[test]
fn the_want_of_history_is_told() {
    let tree = MadeTree::new().file("Dockerfile", "FROM x\nCOPY .git .git");
    assert!(notes(&tree.lay_out(None, &[]).unwrap(), LogType::Info).contains(".git"));
}

fn service() -> ServiceId {
    ServiceId::parse("svc_91").unwrap()
}

#[test]
fn the_next_build_sends_only_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("times");
    let times = |tree: &MadeTree, env: &[(&str, &str)]| {
        let mut layout = tree.lay_out(None, env).unwrap();
        // A new one each time: the worker was started again.
        TimesOnDisk::new(path.clone()).give(&service(), &mut layout.entries);
        layout.entries.iter().map(|e| e.mtime_ns).collect::<Vec<_>>()
    };
    let tree = |a: &str| MadeTree::new().file("Dockerfile", "FROM x").file("a", a).file("b", "same");
    let first = times(&tree("1"), &[("K", "secret-value")]);
    assert_eq!(times(&tree("1"), &[("K", "secret-value")]), first);
    let second = times(&tree("2"), &[("K", "secret-value")]);
    assert_eq!((second[0], second[1], second[3]), (first[0], first[1], first[3]));
    assert!(second[2] > first[2]);
    let third = times(&tree("1"), &[("K", "other-value")]);
    assert!(third[2] > second[2] && third[0] > second[0] && third[1] == first[1]);

    let file = path.join("svc_91.times");
    let state = std::fs::read(&file).unwrap();
    assert!(!String::from_utf8_lossy(&state).contains("value"));
    std::fs::write(&file, &state[..state.len() / 2]).unwrap();
    assert!(times(&tree("1"), &[("K", "other-value")]).iter().all(|t| *t > third[2]));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn states_that_cannot_be_kept_cost_a_transfer_and_no_build() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("times");
    std::fs::write(&in_the_way, "a file").unwrap();
    let mut layout = MadeTree::new().file("Dockerfile", "FROM x").lay_out(None, &[]).unwrap();
    TimesOnDisk::new(in_the_way).give(&service(), &mut layout.entries);
    assert!(layout.entries[0].mtime_ns > 0);
}

proptest! {
    #[test]
    fn every_context_is_in_buildkits_order(names in prop::collection::btree_set("[-.0a]{1,3}(/[-.0a]{1,2})?", 0..12), env: bool) {
        let mut tree = MadeTree::new().file("Dockerfile", "FROM x");
        for name in names {
            let is_dir = |path: &str| tree.entry(path).is_some_and(|e| e.kind == EntryKind::Directory);
            let taken = tree.entry(&name).is_some() || name.split_once('/').is_some_and(|(dir, _)| tree.entry(dir).is_some() && !is_dir(dir));
            if !taken {
                tree = tree.file(&name, "x");
            }
        }
        let layout = tree.lay_out(None, if env { &[("A", "1")] } else { &[] }).unwrap();
        let listed = paths(&layout);
        prop_assert!(listed.is_sorted_by(|a, b| a.split('/').lt(b.split('/'))), "{listed:?}");
    }
}

#[test]
fn a_layout_that_nobody_waits_for_any_more_ends() {
    let tree = MadeTree::new().file("Dockerfile", "FROM x").file("a", "");
    let Err(failure) = lay_out(&tree, None, &[], &Effort::new(&|| true)) else { panic!("it went on") };
    assert_eq!(failure.code, Failure::interrupted().code);
}
