//! Every relative link leads to a file that is there, and to a heading in it.

use std::path::Path;

use super::markdown::documents;
use super::repository::{files_below, read, root};

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading_that_are_there() {
    let documents = documents();
    let mut broken = Vec::new();
    for document in &documents {
        for (place, target) in document.links() {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let folder = Path::new(&document.path).parent().unwrap();
            let path = if file.is_empty() { root().join(&document.path) } else { root().join(folder).join(file) };
            let Ok(path) = path.canonicalize() else {
                broken.push(format!("{place}: {target}: there is no such file"));
                continue;
            };
            let linked = documents.iter().find(|d| root().join(&d.path) == path);
            let has_anchor = linked.is_some_and(|d| d.anchors().iter().any(|a| a == anchor));
            if !anchor.is_empty() && !has_anchor {
                broken.push(format!("{place}: {target}: there is no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_page_and_every_decision_is_linked_from_its_index() {
    let (readme, decisions) = (read("README.md"), read("docs/decisions/README.md"));
    for path in files_below("docs", ".md") {
        let linked = match path.strip_prefix("docs/decisions/") {
            Some("README.md") => readme.contains("docs/decisions/README.md"),
            Some(page) => decisions.contains(&format!("({page})")),
            None => readme.contains(&format!("({path})")),
        };
        assert!(linked, "{path} is linked from no index");
    }
}

#[test]
fn the_readme_is_read_in_five_minutes() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: move what is more than a first look into docs/");
}
