//! Repositories whose objects are written byte by byte, however wrong they are.

use git2::{ObjectType, Oid, Repository as Git};

use crate::support::{Repository, parts};

/// A bare repository on the test git server that takes any object.
pub struct Wild {
    git: Git,
    pub repository: Repository,
}

pub type Entry<'a> = (&'a str, &'a [u8], Oid);

impl Wild {
    pub fn new() -> Self {
        let repository = Repository::empty();
        let git = Git::open_bare(parts().git_root.join(format!("{}.git", repository.name))).expect("the bare repository");
        Self { git, repository }
    }

    pub fn object(&self, kind: ObjectType, bytes: &[u8]) -> Oid {
        self.git.odb().and_then(|odb| odb.write(kind, bytes)).expect("write an object")
    }

    pub fn blob(&self, bytes: &[u8]) -> Oid {
        self.object(ObjectType::Blob, bytes)
    }

    /// Entries as they stand, in any order: mode, name, object.
    pub fn tree(&self, entries: &[Entry]) -> Oid {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend_from_slice(id.as_bytes());
        }
        self.object(ObjectType::Tree, &bytes)
    }

    /// A tree of a Dockerfile that copies all, and these entries.
    pub fn tree_with(&self, entries: &[Entry]) -> Oid {
        let dockerfile = self.blob(b"FROM busybox:base\nCOPY . /app\n");
        let mut all = vec![("100644", b"Dockerfile".as_slice(), dockerfile)];
        all.extend_from_slice(entries);
        all.sort_by_key(|(mode, name, _)| [*name, if *mode == "40000" { b"/".as_slice() } else { b"" }].concat());
        self.tree(&all)
    }

    pub fn commit(&self, tree: Oid) -> Oid {
        self.commit_as(&format!("tree {tree}\nauthor A <a@e> 1700000000 +0000\ncommitter A <a@e> 1700000000 +0000\n\nhostile\n"))
    }

    pub fn commit_as(&self, text: &str) -> Oid {
        self.object(ObjectType::Commit, text.as_bytes())
    }

    /// Lets a branch point to any object.
    pub fn branch(&self, name: &str, to: Oid) {
        let path = self.git.path().join("refs/heads").join(name);
        std::fs::create_dir_all(path.parent().expect("a folder"))
            .and_then(|()| std::fs::write(path, format!("{to}\n")))
            .expect("a ref");
    }

    /// `main` is a commit of this tree.
    pub fn with_main(self, tree: Oid) -> Repository {
        let commit = self.commit(tree);
        self.branch("main", commit);
        self.repository
    }
}

/// A repository with a Dockerfile that copies all, and these files: mode, name, content.
pub fn files(list: &[(&str, &[u8], &[u8])]) -> Repository {
    let wild = Wild::new();
    let entries: Vec<Entry> = list.iter().map(|(mode, name, content)| (*mode, *name, wild.blob(content))).collect();
    let has_dockerfile = list.iter().any(|(_, name, _)| *name == b"Dockerfile");
    let tree = if has_dockerfile { wild.tree(&entries) } else { wild.tree_with(&entries) };
    wild.with_main(tree)
}
