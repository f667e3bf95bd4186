//! Which paths of a context a request for some of them takes along.

use super::*;

use std::sync::Arc;

fn tree(paths: &[&str]) -> Vec<ContextEntry> {
    paths
        .iter()
        .map(|spec| {
            let (path, content) = match spec.split_once(" -> ") {
                Some((path, target)) => (path, Content::Symlink { target: target.to_owned() }),
                None if spec.ends_with('/') => (spec.trim_end_matches('/'), Content::Directory),
                None => (*spec, Content::Inline { bytes: Arc::new(Vec::new()), executable: false }),
            };
            ContextEntry { path: path.to_owned(), size: 0, mtime_ns: 0, content }
        })
        .collect()
}

fn selected<'e>(entries: &'e [ContextEntry], include: &[&str], exclude: &[&str], follow: &[&str]) -> Vec<&'e str> {
    let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect();
    let filters = Filters { include: owned(include), exclude: owned(exclude), follow: owned(follow) };
    select(entries, &filters, &Effort::free())
        .expect("patterns")
        .into_iter()
        .map(|at| entries[at as usize].path.as_str())
        .collect()
}

#[test]
fn without_filters_everything_is_sent_in_order() {
    let entries = tree(&["Dockerfile", "src/", "src/a", "src/b"]);
    assert_eq!(selected(&entries, &[], &[], &[]), ["Dockerfile", "src", "src/a", "src/b"]);
}

#[test]
fn a_followed_file_is_sent_with_its_directories_and_nothing_else() {
    let entries = tree(&["a/", "a/b/", "a/b/c", "a/b/d", "a/e", "f"]);
    assert_eq!(selected(&entries, &[], &[], &["a/b/c"]), ["a", "a/b", "a/b/c"]);
}

#[test]
fn a_followed_directory_is_sent_with_all_that_is_in_it_and_not_its_namesake() {
    let entries = tree(&["a/", "a/b/", "a/b/c", "a.b", "ab/", "ab/c"]);
    assert_eq!(selected(&entries, &[], &[], &["/a/"]), ["a", "a/b", "a/b/c"]);
}

#[test]
fn following_the_root_sends_everything() {
    let entries = tree(&["a/", "a/b", "c"]);
    assert_eq!(selected(&entries, &[], &[], &["a", "."]), ["a", "a/b", "c"]);
}

#[test]
fn what_is_not_there_selects_nothing() {
    let entries = tree(&["a/", "a/b"]);
    assert!(selected(&entries, &[], &[], &[".dockerignore"]).is_empty());
}

#[test]
fn a_link_on_the_way_is_followed_inside_the_context() {
    let entries =
        tree(&["current -> releases/2", "other", "releases/", "releases/1/", "releases/1/app", "releases/2/", "releases/2/app"]);
    assert_eq!(selected(&entries, &[], &[], &["current/app"]), ["current", "releases", "releases/2", "releases/2/app"]);
}

#[test]
fn two_paths_through_one_link_are_both_followed() {
    let entries = tree(&["l -> real", "real/", "real/a", "real/b", "real/c"]);
    assert_eq!(selected(&entries, &[], &[], &["l/a", "l/b"]), ["l", "real", "real/a", "real/b"]);
}

#[test]
fn links_that_leave_the_context_or_run_in_a_circle_end_quietly() {
    let entries = tree(&["a -> b", "b -> a", "deep/", "deep/up -> ../../../etc/passwd", "etc/", "etc/passwd", "self -> self/x"]);
    assert_eq!(
        selected(&entries, &[], &[], &["a", "self", "deep/up"]),
        ["a", "b", "deep", "deep/up", "etc", "etc/passwd", "self"]
    );
}

#[test]
fn an_absolute_link_starts_at_the_contexts_root() {
    let entries = tree(&["conf -> /etc/app", "etc/", "etc/app/", "etc/app/x", "etc/y"]);
    assert_eq!(selected(&entries, &[], &[], &["conf"]), ["conf", "etc", "etc/app", "etc/app/x"]);
}

#[test]
fn a_wildcard_sends_what_it_matches_and_where_its_links_lead() {
    let entries = tree(&["a.txt", "b.txt -> real/b", "c.md", "real/", "real/b", "real/d"]);
    assert_eq!(selected(&entries, &[], &[], &["*.txt"]), ["a.txt", "b.txt", "real", "real/b"]);
}

#[test]
fn a_folder_on_the_way_is_sent_though_nothing_in_it_matches() {
    let entries =
        tree(&["a/", "a/b/", "a/b/x", "a/c/", "certs/", "certs/.gitkeep", "lib/", "lib/d/", "lib/d/e/", "link -> certs"]);
    for (follow, sent) in [
        ("certs/*.crt", &["certs"][..]),
        ("a/b/none", &["a", "a/b"]),
        ("a/*/none", &["a", "a/b", "a/c"]),
        ("*/*/x", &["a", "a/b", "a/b/x", "a/c", "certs", "lib", "lib/d", "link"]),
        ("link/*.crt", &["certs", "link"]),
        ("none/*.crt", &[]),
    ] {
        assert_eq!(selected(&entries, &[], &[], &[follow]), sent, "{follow}");
    }
    assert!(selected(&entries, &[], &["certs"], &["certs/*.crt"]).is_empty());
}

#[test]
fn an_excluded_directory_goes_with_all_that_is_in_it() {
    let entries = tree(&["node_modules/", "node_modules/x/", "node_modules/x/y", "node_modules.txt", "src/", "src/a"]);
    assert_eq!(selected(&entries, &[], &["node_modules"], &[]), ["node_modules.txt", "src", "src/a"]);
}

#[test]
fn an_exception_brings_a_file_back_with_its_directories() {
    let entries = tree(&["docs/", "docs/a/", "docs/a/README.md", "docs/a/x", "docs/b/", "docs/b/y", "src"]);
    assert_eq!(selected(&entries, &[], &["docs", "!docs/a/README.md"], &[]), ["docs", "docs/a", "docs/a/README.md", "src"]);
}

#[test]
fn include_and_exclude_hold_together() {
    let entries = tree(&["src/", "src/a.rs", "src/a.txt", "x.rs"]);
    assert_eq!(selected(&entries, &[], &["**/*.txt"], &["src"]), ["src", "src/a.rs"]);
}

#[test]
fn slow_patterns_over_many_files_end_when_the_build_is_stopped() {
    let paths: Vec<String> = (0..20_000).map(|n| format!("{}{n}", "abcdefg/".repeat(120))).collect();
    let entries = tree(&paths.iter().map(String::as_str).collect::<Vec<_>>());
    let slow = format!("{}[n]", "**/".repeat(1300));
    let looks = std::cell::Cell::new(0);
    let is_stopped = || {
        looks.set(looks.get() + 1);
        looks.get() > 3
    };
    let lists = [
        Filters { exclude: vec![slow.clone(); 3], ..Default::default() },
        Filters { include: vec![slow.clone(); 3], ..Default::default() },
    ];
    for filters in lists {
        looks.set(0);
        assert_eq!(select(&entries, &filters, &Effort::new(&is_stopped)), Err(SelectError::Spent(Spent::Stopped)));
    }
}

#[test]
fn links_that_are_looked_for_by_wildcards_end_when_the_build_is_stopped() {
    let links: Vec<String> = (0..2_000).map(|n| format!("{}{n} -> x", "a".repeat(1_000))).collect();
    let entries = tree(&links.iter().map(String::as_str).collect::<Vec<_>>());
    let filters = Filters { follow: vec![format!("{}[n]", "*a".repeat(1_000))], ..Default::default() };
    let looks = std::cell::Cell::new(0);
    let is_stopped = || {
        looks.set(looks.get() + 1);
        looks.get() > 3
    };
    assert_eq!(select(&entries, &filters, &Effort::new(&is_stopped)), Err(SelectError::Spent(Spent::Stopped)));
}
