//! Commits, branches and tags that were made to hurt.

use git2::{ObjectType, Oid};

use super::drive::{Case, End, FORGED};
use super::tree::Wild;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let who = "A <a@e> 1700000000 +0000";
    let mut commit = |name: &str, text: &dyn Fn(Oid) -> String, end: End| {
        let wild = Wild::new();
        let commit = wild.commit_as(&text(wild.tree_with(&[])));
        wild.branch("main", commit);
        cases.push(Case::of(format!("a commit {name}"), wild.repository, end));
    };
    let odd = || End::Fails(&["git.protocol", "git.unreachable", "git.commit_gone", "git.branch_not_found", "source.bad_path"]);
    commit(
        "with a forged message",
        &|t| {
            format!(
                "tree {t}\nauthor {who}\ncommitter {who}\n\n\x1b[2J\x1b]0;x\x07\r{FORGED} \u{202e}{}\nmore",
                "x".repeat(1_000_000)
            )
        },
        End::Builds,
    );
    commit(
        "with a forged author",
        &|t| format!("tree {t}\nauthor \x1b[2J\r{FORGED} <> 1 +0000\ncommitter {who}\n\nx"),
        End::Builds,
    );
    commit("of the far future", &|t| format!("tree {t}\nauthor {who}\ncommitter A <a@e> 99999999999999 +0000\n\nx"), End::Builds);
    commit(
        "of a time that no number holds",
        &|t| format!("tree {t}\nauthor {who}\ncommitter A <a@e> 99999999999999999999999 +9999\n\nx"),
        End::Fails(&["git.protocol"]),
    );
    commit(
        "in an encoding that is none",
        &|t| format!("tree {t}\nauthor {who}\ncommitter {who}\nencoding \x1b[2J\n\nx"),
        End::Builds,
    );
    commit("without a tree", &|_| format!("author {who}\ncommitter {who}\n\nx"), odd());
    commit("of nothing", &|_| String::new(), odd());
    commit("of a tree that is not there", &|_| format!("tree {}\nauthor {who}\ncommitter {who}\n\nx", "7".repeat(40)), odd());
    commit(
        "whose parent is not there",
        &|t| format!("tree {t}\nparent {}\nauthor {who}\ncommitter {who}\n\nx", "7".repeat(40)),
        End::Builds,
    );

    let wild = Wild::new();
    wild.branch("main", wild.blob(b"x"));
    cases.push(Case::of("a branch that is a file", wild.repository, odd()));
    let wild = Wild::new();
    wild.branch("main", wild.tree(&[]));
    cases.push(Case::of("a branch that is a tree", wild.repository, odd()));
    let wild = Wild::new();
    let mut tag = wild.commit(wild.tree_with(&[]));
    for n in 0..100 {
        tag = wild.object(
            ObjectType::Tag,
            format!("object {tag}\ntype {}\ntag \x1b[2J\ntagger {who}\n\nx", if n == 0 { "commit" } else { "tag" }).as_bytes(),
        );
    }
    wild.branch("main", tag);
    cases.push(Case::of("a branch behind a hundred tags", wild.repository, End::Builds));
    let wild = Wild::new();
    let commit = wild.commit(wild.tree_with(&[]));
    for name in ["maim", "main\u{202e}", "main\u{2028}FORGED", "mai"] {
        wild.branch(name, commit);
    }
    cases.push(Case::of(
        "branches that are nearly the one, with escapes",
        wild.repository,
        End::Fails(&["git.branch_not_found"]),
    ));
    cases
}
