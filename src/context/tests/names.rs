//! Which file a name means: the ignore file's, the Dockerfile folder's, and one that is not there.

use super::*;

#[test]
fn the_ignore_file_has_the_name_that_the_dockerfile_was_given_and_links_stay_in_its_folder() {
    let tree = || MadeTree::new().file("docker/prod", "FROM x").file("docker/rules", "docker-rules").file("rules", "root-rules");
    for (tree, named, own, file) in [
        (
            tree().link("Dockerfile", "docker/prod").file("Dockerfile.dockerignore", "own"),
            None,
            Some("own"),
            "Dockerfile.dockerignore",
        ),
        (
            tree().link("Dockerfile", "docker/prod").file("docker/prod.dockerignore", "no").file(".dockerignore", ""),
            None,
            None,
            ".dockerignore",
        ),
        (tree().link("docker/prod.dockerignore", "rules"), Some("docker/prod"), Some("docker-rules"), "docker/prod.dockerignore"),
        (
            tree().link("docker/prod.dockerignore", "../rules"),
            Some("docker/prod"),
            Some("docker-rules"),
            "docker/prod.dockerignore",
        ),
        (
            tree().link("docker/prod.dockerignore", "/rules"),
            Some("docker/prod"),
            Some("docker-rules"),
            "docker/prod.dockerignore",
        ),
        (
            tree().link("cur", "docker").file("docker/prod.dockerignore", "own"),
            Some("cur/prod"),
            Some("own"),
            "docker/prod.dockerignore",
        ),
        (
            tree().file("dockerfile", "FROM x").file("Dockerfile.dockerignore", "own"),
            None,
            Some("own"),
            "Dockerfile.dockerignore",
        ),
        (tree().link(".dockerignore", "/rules"), Some("docker/prod"), None, ".dockerignore"),
        (tree().link(".dockerignore", "../rules"), Some("docker/prod"), None, ".dockerignore"),
        (tree().link("docker/prod.dockerignore", "none").file(".dockerignore", ""), Some("docker/prod"), None, ".dockerignore"),
    ] {
        let layout = tree.lay_out(named, &[]).unwrap();
        assert_eq!(layout.excludes.own().map(String::from_utf8_lossy).as_deref(), own, "{file}");
        assert_eq!(layout.excludes.file(), Some(file));
    }
    let dead = tree().link(".dockerignore", ".dockerignore").lay_out(Some("docker/prod"), &[]).unwrap();
    assert_eq!(dead.excludes.file(), None);
    assert!(notes(&dead, LogType::Warning).contains(".dockerignore is a link to nothing"), "{:?}", dead.notes);
}

#[test]
fn a_dockerfile_that_takes_the_roots_file_for_its_folders_is_warned_of_once() {
    let tree = |copies: &str| {
        MadeTree::new()
            .file("services/api/Dockerfile", &format!("FROM x\n{copies}"))
            .file("services/api/package.json", "api")
            .file("services/api/lock.yml", "")
            .file("package.json", "root")
            .file("src/x", "")
    };
    let warned = |copies: &str| {
        let layout = tree(copies).lay_out(Some("services/api/Dockerfile"), &[]).unwrap();
        assert!(layout.notes.len() <= 1, "{:?}", layout.notes);
        notes(&layout, LogType::Warning)
    };
    for (copies, words) in [
        ("COPY package.json ./", "package.json (there is services/api/package.json too)"),
        ("COPY ./package*.json src /app/", "package*.json (there is services/api/package*.json too)"),
        ("ADD [\"lock.*\", \"/app/\"]", "lock.* (nothing there; there is services/api/lock.*)"),
    ] {
        assert!(warned(copies).contains(words), "{}", warned(copies));
    }
    for copies in
        ["COPY . .", "COPY src .", "COPY --from=x package.json .", "COPY package.json .\nCOPY services/api services/api"]
    {
        assert_eq!(warned(copies), "", "{copies}");
    }
}

#[test]
fn why_a_path_is_not_in_the_context_is_looked_up_in_the_commit() {
    let tree = MadeTree::new()
        .file("services/api/Dockerfile", "FROM x")
        .file("services/api/package.json", "")
        .file("services/api/.dockerignore", "")
        .file("web/src/deep/app.js", "")
        .file("README.md", "")
        .file("secret/a", "")
        .file(".dockerignore", "secret\n")
        .add("lib", EntryKind::Submodule, b"");
    let layout = tree.lay_out(Some("services/api/Dockerfile"), &[]).unwrap();
    let elsewhere = |path: &str| Absence::Elsewhere(path.to_owned());
    for (path, why) in [
        (".git", Absence::Git),
        (".git/HEAD", Absence::Git),
        (".gitmodules", Absence::Unknown),
        ("package.json", elsewhere("services/api/package.json")),
        ("deep/app.js", elsewhere("web/src/deep/app.js")),
        ("readme.md", Absence::Spelled("README.md".into())),
        ("/secret/a", Absence::Ignored { by: ".dockerignore".into() }),
        ("lib/x.c", Absence::Submodule("lib".into())),
        ("dist", Absence::Unknown),
    ] {
        assert_eq!(absence::explain(&tree, &layout.excludes, "services/api", path), why, "{path}");
    }
}
