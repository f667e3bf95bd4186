//! PURE: the refs that a server has now, and what in them a job means.

use git2::Oid;

use super::advertisement::RefLine;
use super::site::Site;
use crate::protocol::{BranchName, Code, Failure};

/// A peeled annotated tag is advertised in v0 a second time, under its name with this suffix.
pub(super) const PEELED: &str = "^{}";
/// How many names a failure lists.
const LISTED: usize = 5;

/// The full names that a job's `branch` may mean, the likeliest first. A name that is full already is taken so at once, as git does; else a
/// branch goes before a tag: the field's name says so.
pub(super) fn meanings(name: &str) -> Vec<String> {
    let full = (name == "HEAD" || name.starts_with("refs/")).then(|| name.to_owned());
    let short = ["refs/heads/", "refs/tags/", "refs/", "refs/remotes/"].map(|space| format!("{space}{name}"));
    full.into_iter().chain(short).collect()
}

pub(super) fn is_branch_or_tag(name: &str) -> bool {
    name.starts_with("refs/heads/") || name.starts_with("refs/tags/")
}

/// What a server listed, with annotated tags peeled.
#[derive(Debug, Default)]
pub(super) struct Refs {
    refs: Vec<Advertised>,
    /// The branch that `HEAD` stands for, without `refs/heads/`.
    default_branch: Option<String>,
}

/// One ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Full: `refs/heads/main`.
    pub(super) name: String,
    /// What it points to: a commit, or an annotated tag.
    pub(super) id: Oid,
    /// The commit; of an annotated tag, what the tag points to in the end.
    pub(super) commit: Oid,
}

impl Refs {
    /// In the server's order: in v0 a peeled tag comes right after its tag.
    pub(super) fn add(&mut self, read: RefLine) {
        if let Some(tag) = read.name.strip_suffix(PEELED) {
            if let Some(last) = self.refs.last_mut().filter(|last| last.name == tag) {
                last.commit = read.id;
            }
            return;
        }
        if read.name == "HEAD"
            && let Some(target) = &read.target
        {
            self.head_is(target);
        }
        self.refs.push(Advertised { name: read.name, id: read.id, commit: read.peeled.unwrap_or(read.id) });
    }
    pub(super) fn add_all(&mut self, others: Refs) {
        self.refs.extend(others.refs);
        self.default_branch = self.default_branch.take().or(others.default_branch);
    }
    /// `target`: full.
    pub(super) fn head_is(&mut self, target: &str) {
        self.default_branch = target.strip_prefix("refs/heads/").map(str::to_owned);
    }
    pub(super) fn len(&self) -> usize {
        self.refs.len()
    }

    /// The ref that the name means.
    pub(super) fn named(&self, branch: &BranchName) -> Option<&Advertised> {
        meanings(branch.as_str()).iter().find_map(|name| self.refs.iter().find(|r| r.name == *name))
    }

    /// A ref that points to the commit, or to the tag of this id, now; the job's own branch before others, and never `HEAD` itself.
    pub(super) fn pointing_to(&self, id: Oid, branch: &BranchName) -> Option<&Advertised> {
        let points = |r: &&Advertised| r.commit == id || r.id == id;
        let own = self.named(branch).filter(points);
        own.or_else(|| self.refs.iter().filter(|r| r.name.starts_with("refs/")).find(points))
    }

    pub(super) fn commits(&self) -> impl Iterator<Item = Oid> {
        self.refs.iter().map(|r| r.commit)
    }

    /// Why there is nothing of that name, with the names that come near, or some that there are.
    pub(super) fn missing(&self, branch: &BranchName, site: &Site) -> Failure {
        let repository = &site.repository;
        let short = |name: &str| ["refs/heads/", "refs/tags/"].iter().find_map(|s| name.strip_prefix(s)).map(str::to_owned);
        // Names come from the server: only what is a branch name is repeated.
        let names: Vec<BranchName> =
            self.refs.iter().filter_map(|r| short(&r.name)).filter_map(|name| BranchName::parse(&name).ok()).collect();
        if self.refs.is_empty() {
            return Failure::new(
                Code::GitBranchNotFound,
                format!("The repository {repository} is empty: it has no branch yet, so there is no {branch} to build."),
                "Push a commit first.",
            );
        }
        let near = nearest(bare_name(branch.as_str()), &names);
        let way_out = if near.is_empty() { self.some_names(&names) } else { format!("Did you mean {}?", near.join(" or ")) };
        let kind = if branch.as_str().starts_with("refs/") { "ref" } else { "branch or tag" };
        Failure::new(Code::GitBranchNotFound, format!("The repository {repository} has no {kind} {branch}."), way_out)
    }

    /// The default branch, and a few more.
    fn some_names(&self, names: &[BranchName]) -> String {
        let default = self.default_branch.as_deref().filter(|d| names.iter().any(|name| name.as_str() == *d));
        let others = names.iter().map(BranchName::as_str).filter(|name| Some(*name) != default);
        let mut listed: Vec<&str> = default.into_iter().chain(others).take(LISTED).collect();
        if names.len() > listed.len() {
            listed.push("…");
        }
        match default {
            _ if listed.is_empty() => "It has neither branches nor tags.".to_owned(),
            Some(default) if listed.len() > 1 => {
                format!("Its default branch is {default}; it also has {}.", listed[1..].join(", "))
            }
            Some(default) => format!("Its only branch is {default}."),
            None => format!("It has {}.", listed.join(", ")),
        }
    }
}

/// The name without what people put before a branch's.
fn bare_name(name: &str) -> &str {
    let before = ["refs/heads/", "refs/tags/", "refs/remotes/origin/", "heads/", "tags/", "remotes/origin/", "origin/"];
    before.iter().find_map(|before| name.strip_prefix(before)).unwrap_or(name)
}

/// Up to three names that look like a slip of the same name, the nearest first.
fn nearest<'a>(wanted: &str, names: &'a [BranchName]) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let mut scored: Vec<(f64, &str)> = names
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(&wanted, &name.as_str().to_lowercase()), name.as_str()))
        .filter(|(score, _)| *score >= 0.6)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> Oid {
        Oid::from_bytes(&[n; 20]).expect("20 bytes")
    }
    fn branch(name: &str) -> BranchName {
        BranchName::parse(name).expect("a branch name")
    }
    fn site() -> Site {
        Site { host: "github.com".into(), repository: "octo/hello".into() }
    }
    fn listed(lines: &[(&str, Oid)]) -> Refs {
        let mut refs = Refs::default();
        for (name, id) in lines {
            refs.add(RefLine { id: *id, name: (*name).to_owned(), peeled: None, target: None });
        }
        refs
    }
    fn some() -> Refs {
        listed(&[
            ("HEAD", id(1)),
            ("refs/heads/main", id(1)),
            ("refs/heads/v1", id(2)),
            ("refs/pull/7/head", id(6)),
            ("refs/tags/v1", id(3)),
            ("refs/tags/v2", id(4)),
            ("refs/tags/v2^{}", id(5)),
        ])
    }

    #[test]
    fn a_branch_goes_before_a_tag_of_the_same_name() {
        assert_eq!(some().named(&branch("v1")).map(|r| r.commit), Some(id(2)));
    }
    #[test]
    fn an_annotated_tag_means_the_commit_that_it_points_to() {
        let refs = some();
        let tag = refs.named(&branch("v2")).expect("the tag");
        assert_eq!((tag.name.as_str(), tag.commit), ("refs/tags/v2", id(5)));
    }
    #[test]
    fn a_commit_is_found_under_any_ref_but_first_under_the_jobs_branch() {
        let refs = listed(&[("HEAD", id(1)), ("refs/heads/a", id(1)), ("refs/heads/b", id(1))]);
        assert_eq!(refs.pointing_to(id(1), &branch("b")).map(|r| r.name.as_str()), Some("refs/heads/b"));
        assert_eq!(refs.pointing_to(id(1), &branch("gone")).map(|r| r.name.as_str()), Some("refs/heads/a"));
        assert_eq!(refs.pointing_to(id(9), &branch("a")), None);
    }
    #[test]
    fn a_missing_branch_names_the_nearest() {
        let failure = some().missing(&branch("mian"), &site());
        assert_eq!(failure.code, Code::GitBranchNotFound);
        assert_eq!(failure.way_out, "Did you mean main?");
        for full in ["refs/heads/mian", "origin/mian", "refs/tags/main"] {
            assert_eq!(some().missing(&branch(full), &site()).way_out, "Did you mean main?", "{full}");
        }
    }
    #[test]
    fn where_no_name_comes_near_the_default_branch_is_named_first() {
        let mut refs = listed(&[]);
        for name in ["a", "b", "c", "d", "e", "f", "main"] {
            refs.add(RefLine { id: id(1), name: format!("refs/heads/{name}"), peeled: None, target: None });
        }
        assert_eq!(refs.missing(&branch("production"), &site()).way_out, "It has a, b, c, d, e, ….");
        refs.head_is("refs/heads/main");
        let way_out = refs.missing(&branch("production"), &site()).way_out;
        assert_eq!(way_out, "Its default branch is main; it also has a, b, c, d, ….");
        assert_eq!(
            refs.missing(&branch("refs/pull/9/head"), &site()).cause,
            "The repository octo/hello has no ref refs/pull/9/head."
        );
    }
    #[test]
    fn a_full_name_a_shortened_one_and_head_are_taken_as_git_takes_them() {
        let refs = some();
        let commit = |name: &str| refs.named(&branch(name)).map(|r| r.commit);
        assert_eq!(commit("refs/heads/v1"), Some(id(2)));
        assert_eq!(commit("refs/tags/v1"), Some(id(3)));
        assert_eq!(commit("tags/v1"), Some(id(3)));
        assert_eq!(commit("heads/main"), Some(id(1)));
        assert_eq!(commit("refs/pull/7/head"), Some(id(6)));
        assert_eq!(commit("pull/7/head"), Some(id(6)));
        assert_eq!(commit("HEAD"), Some(id(1)));
        assert_eq!(commit("refs/pull/8/head"), None);
    }
    #[test]
    fn a_tags_own_id_means_the_commit_that_it_points_to() {
        let refs = some();
        assert_eq!(refs.pointing_to(id(4), &branch("main")).map(|r| r.commit), Some(id(5)));
    }
    #[test]
    fn an_empty_repository_says_so() {
        assert!(Refs::default().missing(&branch("main"), &site()).cause.contains("is empty"));
    }
    #[test]
    fn a_hostile_ref_name_is_not_repeated() {
        let refs = listed(&[("refs/heads/ma\x1b[31min", id(1)), ("refs/heads/dev", id(1))]);
        assert!(!refs.missing(&branch("main"), &site()).to_string().contains('\x1b'));
    }
}
