//! Trees and contexts that were made to hurt.

use git2::{ObjectType, Oid};

use super::drive::{Case, End};
use super::tree::{Entry, Wild, files};
use crate::support::{Job, Repository};

const BAD_PATH: End = End::Fails(&["source.bad_path"]);
/// Wrong in a way that git's own programs may refuse to send, or libgit2 to take.
const REFUSED: End = End::Fails(&["source.bad_path", "git.protocol", "git.unreachable"]);
const TOO_LARGE: End = End::Fails(&["source.too_large"]);

/// A repository whose `main` is the tree that is made here.
fn tree(make: impl FnOnce(&Wild) -> Oid) -> Repository {
    let wild = Wild::new();
    let tree = make(&wild);
    wild.with_main(tree)
}

pub fn names() -> Vec<Case> {
    let mut cases = Vec::new();
    let names: [&[u8]; 18] = [
        b".git",
        b".GIT",
        b".gIt",
        b"..",
        b".",
        b"git~1",
        b"GIT~1",
        b".git ",
        b".git.",
        b".git::$INDEX_ALLOCATION",
        b".g\xe2\x80\x8cit",
        b".gi\xe2\x80\x8dt",
        b"a/b",
        b"../../etc/cron.d/x",
        b"/etc/passwd",
        b".git\\hooks",
        b"\xff\xfe",
        b"\xed\xa0\x80",
    ];
    for name in names {
        let shown = String::from_utf8_lossy(name).into_owned();
        cases.push(Case::of(format!("the name {shown:?}"), tree(|w| w.tree_with(&[("100644", name, w.blob(b"x"))])), BAD_PATH));
    }
    for name in [&b".git"[..], b"..", b"git~1", b".g\xe2\x80\x8cit"] {
        let repository = tree(|w| {
            let inner = w.tree(&[("100644", name, w.blob(b"x"))]);
            w.tree_with(&[("40000", b"dir", inner)])
        });
        cases.push(Case::of(format!("the name dir/{:?}", String::from_utf8_lossy(name)), repository, BAD_PATH));
    }
    let repository = tree(|w| {
        let hooks = w.tree(&[("100755", b"post-checkout", w.blob(b"#!/bin/sh\ntouch /tmp/pwned\n"))]);
        w.tree_with(&[("40000", b".git", w.tree(&[("40000", b"hooks", hooks)]))])
    });
    cases.push(Case::of("a .git with hooks", repository, BAD_PATH));
    for (second, kind) in [("100644", ObjectType::Blob), ("120000", ObjectType::Blob), ("40000", ObjectType::Tree)] {
        let repository = tree(|w| {
            let other = if kind == ObjectType::Tree { w.tree(&[]) } else { w.blob(b"other") };
            w.tree(&[("100644", b"a", w.blob(b"x")), (second, b"a", other)])
        });
        cases.push(Case::of(format!("one name twice, the second time as {second}"), repository, BAD_PATH));
    }
    for mode in ["100600", "010000", "060000", "140000", "020000", "0", "777", "100644x", "999999"] {
        cases.push(Case::of(format!("the mode {mode}"), tree(|w| w.tree_with(&[(mode, b"fifo", w.blob(b"x"))])), REFUSED));
    }
    for mode in ["40000", "10"] {
        cases.push(Case::of(
            format!("a blob with the mode {mode}"),
            tree(|w| w.tree_with(&[(mode, b"x", w.blob(b"x"))])),
            REFUSED,
        ));
    }
    for mode in ["100644", "120000", "100755"] {
        cases.push(Case::of(
            format!("a tree with the mode {mode}"),
            tree(|w| w.tree_with(&[(mode, b"x", w.tree(&[]))])),
            REFUSED,
        ));
    }
    for (name, bytes) in [
        ("cut off in its id", &b"100644 a\x00123"[..]),
        ("without a mode", b" a\x0001234567890123456789"),
        ("of text", b"#!/bin/sh\necho"),
        ("with an empty name", b"100644 \x0001234567890123456789"),
    ] {
        cases.push(Case::of(format!("a tree {name}"), tree(|w| w.object(ObjectType::Tree, bytes)), REFUSED));
    }
    cases.push(Case::of(
        "a tree with an object that is not there",
        tree(|w| w.tree_with(&[("100644", b"x", Oid::from_bytes(&[7; 20]).expect("an id"))])),
        REFUSED,
    ));

    // What is only ugly is data: it goes into the image as it is.
    let ugly: [&[u8]; 16] = [
        b"a",
        b"A",
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
        b"a\nFORGED",
        b"a\r\nFORGED",
        b"\x1b[2J\x1b]0;x\x07",
        "\u{202e}gnp.exe".as_bytes(),
        b" ",
        b"-rf",
        b"--",
        b"*",
        b"a\\b",
        b"$(id)",
        b"CON",
        "\u{2028}FORGED".as_bytes(),
    ];
    cases.push(Case::of(
        "names that differ in case and form alone, with escapes and new lines",
        files(&ugly.map(|name| ("100644", name, &b"x"[..]))),
        End::Builds,
    ));
    let keys: [&[u8]; 3] = [b"\x1b[2J\nFORGED.pem", b"a\r\nFORGED.key", "\u{202e}FORGED.p12".as_bytes()];
    cases.push(Case::of("key files whose names forge lines", files(&keys.map(|name| ("100644", name, &b"x"[..]))), End::Builds));
    cases.push(Case::of("a name of 255 bytes", files(&[("100644", &[b'n'; 255], b"x")]), End::Builds));
    cases.push(Case::of("a name of 5,000 bytes", files(&[("100644", &[b'n'; 5000], b"x")]), BAD_PATH));
    cases
}

pub fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    let targets: [&[u8]; 9] = [
        b"/etc/passwd",
        b"../../../../etc/passwd",
        b"link",
        b".",
        b"/proc/self/environ",
        b"/dev/zero",
        b"\x1b[2J\nFORGED",
        b"/var/run/docker.sock",
        b"a/../../b",
    ];
    for target in targets {
        let shown = String::from_utf8_lossy(target).into_owned();
        cases.push(Case::of(format!("a link to {shown:?}"), files(&[("120000", b"link", target)]), End::Builds));
    }
    for (name, target) in [("nothing", &b""[..]), ("5,000 bytes", &[b'a'; 5000])] {
        cases.push(Case::of(format!("a link to {name}"), files(&[("120000", b"link", target)]), BAD_PATH));
    }
    let invalid = End::Fails(&["context.dockerfile_invalid"]);
    for target in [&b"/etc/passwd"[..], b"../Dockerfile", b"../../../../root/.ssh/id_rsa", b"Dockerfile", b"/proc/self/environ"] {
        let shown = String::from_utf8_lossy(target).into_owned();
        cases.push(Case::of(
            format!("a Dockerfile that is a link to {shown}"),
            files(&[("120000", b"Dockerfile", target)]),
            invalid.clone(),
        ));
    }
    cases.push(Case::of(
        "a Dockerfile that is a link to nothing",
        files(&[("120000", b"Dockerfile", b"nowhere")]),
        End::Fails(&["context.no_dockerfile"]),
    ));
    cases.push(Case::of(
        "a Dockerfile that is a link to a file",
        files(&[("120000", b"Dockerfile", b"build"), ("100644", b"build", b"FROM busybox:base\n")]),
        End::Builds,
    ));
    let chain = tree(|w| {
        let mut entries: Vec<(String, Vec<u8>)> =
            (0..60).map(|n| (format!("l{n:02}"), format!("l{:02}", n + 1).into_bytes())).collect();
        entries.insert(0, ("Dockerfile".to_owned(), b"l00".to_vec()));
        w.tree(&entries.iter().map(|(name, target)| ("120000", name.as_bytes(), w.blob(target))).collect::<Vec<Entry>>())
    });
    cases.push(Case::of("a Dockerfile behind sixty links", chain, invalid.clone()));
    cases.push(Case::of(
        "a Dockerfile that is a folder",
        tree(|w| w.tree(&[("40000", b"Dockerfile", w.tree(&[]))])),
        invalid.clone(),
    ));
    let module = || Oid::from_bytes(&[9; 20]).expect("an id");
    cases.push(Case::of(
        "a Dockerfile that is a submodule",
        tree(|w| w.tree(&[("160000", b"Dockerfile", module())])),
        invalid.clone(),
    ));
    cases.push(Case::of(
        "a Dockerfile of fifty megabytes",
        files(&[("100644", b"Dockerfile", &vec![b'#'; 49_000_000])]),
        invalid.clone(),
    ));
    let modules = b"[submodule \"--upload-pack=touch /tmp/pwned\"]\n\tpath = ../../x\n\turl = --upload-pack=touch\n\tupdate = !touch /tmp/pwned\n";
    let submodule =
        tree(|w| w.tree_with(&[("100644", b".gitmodules", w.blob(modules)), ("160000", b"\x1b[2J\nFORGED", module())]));
    cases.push(Case::of("a submodule that names commands", submodule, End::Builds));
    let attributes = files(&[("100644", b".gitattributes", b"* filter=lfs diff=lfs merge=lfs -text export-subst ident\n*.c filter=evil\n"), ("100644", b".lfsconfig", b"[lfs]\n\turl = http://169.254.169.254\n"), ("100644", b"a", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n")]);
    cases.push(Case::of("attributes that name filters", attributes, End::Builds));

    let deep = tree(|w| {
        let mut inner = w.tree(&[("100644", b"a", w.blob(b"x"))]);
        for _ in 0..250 {
            inner = w.tree(&[("40000", b"d", inner)]);
        }
        w.tree_with(&[("40000", b"d", inner)])
    });
    cases.push(Case::of("250 folders deep", deep, BAD_PATH));
    let long = tree(|w| {
        let mut inner = w.tree(&[("100644", b"a", w.blob(b"x"))]);
        for _ in 0..25 {
            inner = w.tree(&[("40000", &[b'n'; 200], inner)]);
        }
        w.tree_with(&[("40000", b"d", inner)])
    });
    cases.push(Case::of("a path of 5,000 bytes", long, BAD_PATH));
    let bomb = tree(|w| {
        let mut entry = ("100644", w.blob(b"x"));
        for _ in 0..10 {
            let names: Vec<String> = (0..10).map(|n| format!("f{n}")).collect();
            entry = ("40000", w.tree(&names.iter().map(|n| (entry.0, n.as_bytes(), entry.1)).collect::<Vec<Entry>>()));
        }
        w.tree_with(&[("40000", b"bomb", entry.1)])
    });
    cases.push(Case::of("a tree that unfolds to ten billion files", bomb, TOO_LARGE));
    let many = tree(|w| {
        let (names, blob) = ((0..30_000).map(|n| format!("f{n:05}")).collect::<Vec<_>>(), w.blob(b"x"));
        w.tree_with(&[("40000", b"many", w.tree(&names.iter().map(|n| ("100644", n.as_bytes(), blob)).collect::<Vec<Entry>>()))])
    });
    cases.push(Case::of("30,000 files in one folder", many, TOO_LARGE));
    cases.push(Case::of(
        "a file of sixty megabytes that packs to nothing",
        files(&[("100644", b"zeros", &vec![0; 60_000_000])]),
        TOO_LARGE,
    ));
    cases.push(Case::of(
        "a file of forty megabytes that packs to nothing",
        files(&[("100644", b"zeros", &vec![0; 40_000_000])]),
        End::Builds,
    ));

    let ignored = |bytes: &[u8], end: End, name: &str| {
        Case::of(format!("a .dockerignore {name}"), files(&[("100644", b".dockerignore", bytes), ("100644", b"a", b"x")]), end)
    };
    let lines: String = (0..100_000).map(|n| format!("folder{n}/file\n")).collect();
    cases.push(ignored(lines.as_bytes(), End::Builds, "of 100,000 lines"));
    let lines: String = (0..100_000).map(|n| format!("folder{n}/**/*.tmp{n}\n")).collect();
    cases.push(ignored(lines.as_bytes(), End::Fails(&["context.ignore_invalid"]), "of 100,000 wildcards"));
    cases.push(ignored("!x\nx\n".repeat(50_000).as_bytes(), End::Builds, "of 100,000 contradictions"));
    cases.push(ignored(format!("{}a\n", "**/".repeat(500)).as_bytes(), End::Builds, "of five hundred double stars"));
    cases.push(ignored(format!("{}b\n", "*a".repeat(1000)).as_bytes(), End::Builds, "of a thousand stars"));
    cases.push(ignored(b"../../etc\n/etc/passwd\n!../..\n..\n.\n", End::Builds, "that leaves the tree"));
    cases.push(ignored(b"\xff\xfe\n\xed\xa0\x80\n\r\r\r\n", End::Builds, "of bytes that are no text"));
    cases.push(ignored(b"a\x00b\n", End::Fails(&["context.ignore_invalid"]), "of zeros"));
    cases.push(ignored(b"a\x1bcb\n", End::Fails(&["context.ignore_invalid"]), "of escapes"));
    let invalid = End::Fails(&["context.ignore_invalid"]);
    cases.push(ignored(b"[\n", invalid.clone(), "with an open bracket"));
    cases.push(ignored(b"[\x1b[2JFORGED\n", invalid.clone(), "whose mistake has escapes"));
    cases.push(ignored(&vec![b'a'; 70_000], invalid.clone(), "with a line of 70 KB"));
    cases.push(ignored(&b"abcdefghijklmno\n".repeat(330_000), invalid, "of five megabytes"));
    cases.push(Case::of(
        "a .dockerignore that is a link to /etc/passwd",
        files(&[("120000", b".dockerignore", b"/etc/passwd")]),
        End::Builds,
    ));
    let folder = tree(|w| w.tree_with(&[("40000", b".dockerignore", w.tree(&[("100644", b"a", w.blob(b"x"))]))]));
    cases.push(Case::of("a .dockerignore that is a folder", folder, End::Builds));

    let folder = tree(|w| w.tree_with(&[("40000", b".env", w.tree(&[("100644", b"a", w.blob(b"x"))]))]));
    let job = Job::of(&folder).env("A", "hunter22");
    cases.push(Case::job("a .env that is a folder", job, End::Fails(&["context.env_is_directory"])).with(folder));
    let link = files(&[("120000", b".env", b"/etc/passwd")]);
    let job = Job::of(&link).env("A", "hunter22");
    cases.push(Case::job("a .env that is a link to /etc/passwd", job, End::Builds).with(link));
    cases
}
