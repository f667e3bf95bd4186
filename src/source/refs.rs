//! PURE: the refs that the server advertises now, and what in them a job means.

use git2::Oid;

use super::site::Site;
use crate::protocol::{BranchName, Code, Failure};

/// A peeled annotated tag is advertised a second time under its name with this suffix.
const PEELED: &str = "^{}";
/// How many names a failure lists.
const LISTED: usize = 5;

/// What `info/refs` said, with annotated tags peeled.
#[derive(Debug, Default)]
pub(super) struct Refs {
    refs: Vec<Advertised>,
}

/// One ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Full: `refs/heads/main`.
    pub(super) name: String,
    /// The commit; of an annotated tag, what the tag points to.
    pub(super) commit: Oid,
}

impl Refs {
    /// `listed`: names and ids in the server's order, peeled tags right after their tag.
    pub(super) fn new<'a>(listed: impl IntoIterator<Item = (&'a str, Oid)>) -> Self {
        let mut refs: Vec<Advertised> = Vec::new();
        for (name, id) in listed {
            match name.strip_suffix(PEELED) {
                Some(tag) => {
                    if let Some(last) = refs.last_mut().filter(|last| last.name == tag) {
                        last.commit = id;
                    }
                }
                None => refs.push(Advertised { name: name.to_owned(), commit: id }),
            }
        }
        Self { refs }
    }

    /// The branch of that name, else the tag of that name.
    pub(super) fn named(&self, branch: &BranchName) -> Option<&Advertised> {
        let find = |name: String| self.refs.iter().find(|r| r.name == name);
        find(format!("refs/heads/{branch}")).or_else(|| find(format!("refs/tags/{branch}")))
    }

    /// A ref that points to the commit now; the job's own branch before others, and never `HEAD` itself.
    pub(super) fn pointing_to(&self, commit: Oid, branch: &BranchName) -> Option<&Advertised> {
        let own = self.named(branch).filter(|r| r.commit == commit);
        own.or_else(|| self.refs.iter().find(|r| r.commit == commit && r.name.starts_with("refs/")))
    }

    pub(super) fn commits(&self) -> impl Iterator<Item = Oid> {
        self.refs.iter().map(|r| r.commit)
    }

    /// Why there is nothing of that name, with the names that come near, or some that there are.
    pub(super) fn missing(&self, branch: &BranchName, site: &Site) -> Failure {
        let repository = &site.repository;
        // Names come from the server: only what is a branch name is repeated.
        let names: Vec<BranchName> = self
            .refs
            .iter()
            .filter_map(|r| r.name.strip_prefix("refs/heads/").or_else(|| r.name.strip_prefix("refs/tags/")))
            .filter_map(|name| BranchName::parse(name).ok())
            .collect();
        if names.is_empty() {
            return Failure::new(
                Code::GitBranchNotFound,
                format!("The repository {repository} is empty: it has no branch yet, so there is no {branch} to build."),
                "Push a commit first.",
            );
        }
        let near = nearest(branch.as_str(), &names);
        let way_out = if near.is_empty() {
            let more = if names.len() > LISTED { ", …" } else { "" };
            format!("It has {}{more}.", names.iter().take(LISTED).map(BranchName::as_str).collect::<Vec<_>>().join(", "))
        } else {
            format!("Did you mean {}?", near.join(" or "))
        };
        Failure::new(Code::GitBranchNotFound, format!("The repository {repository} has no branch or tag {branch}."), way_out)
    }
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
    fn some() -> Refs {
        Refs::new([
            ("HEAD", id(1)),
            ("refs/heads/main", id(1)),
            ("refs/heads/v1", id(2)),
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
        let refs = Refs::new([("HEAD", id(1)), ("refs/heads/a", id(1)), ("refs/heads/b", id(1))]);
        assert_eq!(refs.pointing_to(id(1), &branch("b")).map(|r| r.name.as_str()), Some("refs/heads/b"));
        assert_eq!(refs.pointing_to(id(1), &branch("gone")).map(|r| r.name.as_str()), Some("refs/heads/a"));
        assert_eq!(refs.pointing_to(id(9), &branch("a")), None);
    }
    #[test]
    fn a_missing_branch_names_the_nearest() {
        let failure = some().missing(&branch("mian"), &site());
        assert_eq!(failure.code, Code::GitBranchNotFound);
        assert_eq!(failure.way_out, "Did you mean main?");
        assert!(some().missing(&branch("production"), &site()).way_out.starts_with("It has main, v1"));
    }
    #[test]
    fn an_empty_repository_says_so() {
        assert!(Refs::default().missing(&branch("main"), &site()).cause.contains("is empty"));
    }
    #[test]
    fn a_hostile_ref_name_is_not_repeated() {
        let refs = Refs::new([("refs/heads/ma\x1b[31min", id(1)), ("refs/heads/dev", id(1))]);
        assert!(!refs.missing(&branch("main"), &site()).to_string().contains('\x1b'));
    }
}
