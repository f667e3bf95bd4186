//! `.gitattributes`: what a build gets is what git's own checkout writes.

use std::path::Path;

use slipway::source::{EntryKind, SourceTree};

use crate::job::{Job, public};
use crate::repo::{World, git};
use slipway::protocol::{BranchName, CommitRef};

impl World {
    /// Commits the files' bytes as they are, whatever attributes say of them.
    fn commit_bytes(&self, files: &[(&str, &[u8])]) {
        for (path, bytes) in files {
            let id = self.repo.object("blob", bytes);
            let into = format!("100644,{id},{path}");
            git(&self.repo.work, &["-c", "core.safecrlf=false", "update-index", "--add", "--cacheinfo", &into]);
        }
        let objects = self.repo.bare.join("objects");
        std::fs::write(self.repo.work.join(".git/objects/info/alternates"), objects.to_str().unwrap()).unwrap();
        git(&self.repo.work, &["commit", "-q", "-m", "files"]);
        self.repo.push(&["HEAD:main"]);
    }
    async fn fetch(&self) -> (SourceTree, String) {
        let job = Job::new();
        let url = public(&self.url());
        let main = BranchName::parse("main").unwrap();
        (self.stage.stage.fetch(&url, &main, &CommitRef::Tip, &job.ctx).await.unwrap(), job.log())
    }
    /// Every file has the bytes, and the size, that it has in a clone.
    async fn is_as_cloned(&self) -> String {
        let clone = tempfile::tempdir_in(self.root.path()).unwrap();
        let url = self.url();
        git(clone.path(), &["-c", "core.autocrlf=false", "clone", "-q", url.as_str(), "."]);
        // Cold, and from the kept walk.
        let (_, log) = self.fetch().await;
        let (tree, _) = self.fetch().await;
        for entry in tree.entries().iter().filter(|e| matches!(e.kind, EntryKind::File { .. })) {
            let cloned = std::fs::read(Path::new(clone.path()).join(&entry.path)).unwrap();
            let read = tree.read(entry).unwrap();
            assert_eq!(String::from_utf8_lossy(&read), String::from_utf8_lossy(&cloned), "{}", entry.path);
            assert!(read == cloned, "{}", entry.path);
            assert_eq!(entry.size, cloned.len() as u64, "{}", entry.path);
        }
        log
    }
}

#[tokio::test]
async fn line_ends_are_those_of_a_clone() {
    let w = World::new();
    let attributes = b"* text=auto\n*.bat text eol=crlf\n*.sh eol=lf\n*.auto text=auto eol=crlf\n*.old crlf=input eol=crlf\n*.raw -text eol=crlf\n\
        [attr]dos text eol=crlf\n*.macro dos\n*.bin binary eol=crlf\n/top.txt eol=crlf\n*.never eol=crlf\n*.never !eol\n\"a b.x\" eol=crlf\n\
        deep/**/x.y eol=crlf\n!*.neg eol=crlf\nfolder/ eol=crlf\n[a-c]?.set eol=crlf\n";
    let nested = b"*.bat -text\nin.sh eol=crlf\n[attr]other eol=crlf\n*.other other\n";
    let text = b"one\ntwo\r\nthree\n";
    let lone = b"one\ntwo\n";
    let mut files: Vec<(&str, &[u8])> = vec![(".gitattributes", attributes), ("d/.gitattributes", nested)];
    for path in [
        "a.bat",
        "a.sh",
        "a.txt",
        "a.old",
        "a.raw",
        "a.macro",
        "a.bin",
        "top.txt",
        "x/top.txt",
        "a.never",
        "a b.x",
        "deep/x.y",
        "deep/a/b/x.y",
        "a.neg",
        "folder/f",
        "bx.set",
        "dx.set",
        "d/a.bat",
        "d/in.sh",
        "d/e/in.sh",
        "d/a.other",
        "d/e/a.bat",
    ] {
        files.push((path, text));
    }
    files.extend([
        ("lone.auto", &lone[..]),
        ("mixed.auto", text),
        ("cr.auto", b"a\rb\n"),
        ("nul.auto", b"a\0b\n"),
        ("empty.bat", b""),
    ]);
    files.extend([("dos.auto", &b"one\n\x1a"[..]), ("odd.auto", b"\x01\x02\n")]);
    w.commit_bytes(&files);
    assert!(!w.is_as_cloned().await.contains("gitattributes"));
}

#[tokio::test]
async fn keywords_and_encodings_are_those_of_a_clone() {
    let w = World::new();
    let attributes = b"*.c ident\n*.ps1 working-tree-encoding=UTF-16LE-BOM eol=crlf\n*.16 working-tree-encoding=UTF-16\n\
        *.be working-tree-encoding=UTF-16BE\n*.le working-tree-encoding=utf-16le\n*.l1 working-tree-encoding=ISO-8859-1\n\
        *.8 working-tree-encoding=UTF-8\n*.jis working-tree-encoding=SHIFT-JIS\n*.win working-tree-encoding=CP1252\n*.32 working-tree-encoding=UTF-32LE\n";
    w.commit_bytes(&[
        (".gitattributes", attributes),
        ("a.c", b"$Id$ and $Id: 1234 $ and $Id: a b c $ and $Id: x\n$ $Idx$ $Id"),
        ("b.c", b"no keyword\n"),
        ("a.ps1", "hi €\nthere\n".as_bytes()),
        ("a.16", "hé\n".as_bytes()),
        ("a.be", "hé\n".as_bytes()),
        ("a.le", "hé\u{10348}\n".as_bytes()),
        ("a.l1", "hé\n".as_bytes()),
        ("a.8", "hé\n".as_bytes()),
        ("a.jis", "あ\n".as_bytes()),
        ("a.win", "€\n".as_bytes()),
        ("a.32", "hé\n".as_bytes()),
        ("empty.16", b""),
    ]);
    assert!(!w.is_as_cloned().await.contains("working-tree-encoding"));
}

#[tokio::test]
async fn an_encoding_that_is_not_known_or_cannot_hold_the_text_is_told_and_the_blob_stays() {
    let w = World::new();
    w.commit_bytes(&[
        (".gitattributes", b"*.x working-tree-encoding=no-such\n*.l1 working-tree-encoding=ISO-8859-1 eol=crlf\n"),
        ("a.x", b"as it is\n"),
        ("b.l1", "no € in there\n".as_bytes()),
    ]);
    let (tree, log) = w.fetch().await;
    let read = |path: &str| String::from_utf8(tree.read(tree.entry(path).unwrap()).unwrap()).unwrap();
    assert_eq!((read("a.x").as_str(), read("b.l1").as_str()), ("as it is\n", "no € in there\r\n"));
    assert!(log.contains("not known here") && log.contains("a.x"), "{log}");
    assert!(log.contains("cannot be written") && log.contains("b.l1"), "{log}");
}

#[tokio::test]
async fn another_attribute_makes_another_file_of_the_same_blob() {
    let w = World::new();
    w.commit_bytes(&[(".gitattributes", b"*.c ident\n"), ("d/a.c", b"$Id$\n")]);
    let (before, _) = w.fetch().await;
    w.commit_bytes(&[(".gitattributes", b"*.c eol=crlf\n")]);
    let (after, _) = w.fetch().await;
    let of = |tree: &SourceTree| tree.entry("d/a.c").unwrap().oid.clone();
    assert_ne!(of(&before), of(&after), "who remembers the file by its identity takes it for another one");
    assert_eq!(after.read(after.entry("d/a.c").unwrap()).unwrap(), b"$Id$\r\n");
    w.commit_bytes(&[(".gitattributes", b"*.c -text\n")]);
    let (plain, _) = w.fetch().await;
    assert_eq!(of(&plain).len(), 40);
}
