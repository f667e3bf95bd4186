//! PURE: what a job keeps of a server's refs while their list streams by. The list may be as long as the server likes; what is kept is not.
//!
//! Kept are the refs that the job's `branch` may mean, one ref that points to the commit it names, some names for the failure that says that
//! there is no such branch, and, only where the mirror has the commit already, the ids that a walk to it may begin at.

use git2::Oid;

use super::advertisement::RefLine;
use super::site::Site;
use crate::protocol::{BranchName, Code, Failure};

/// A peeled annotated tag is advertised in v0 a second time, under its name with this suffix.
const PEELED: &str = "^{}";
/// How many names a failure lists.
const LISTED: usize = 5;
/// How many names a failure asks whether they were meant.
const GUESSES: usize = 3;
/// Names are compared with the one that is missing when so many have come, in characters.
const COMPARED_TOGETHER: usize = 16 << 10;
/// Names of which the nearest are looked for.
const MAX_COMPARED: usize = 100_000;
/// Ids that a walk to a commit may begin at: 2 MB.
const MAX_TIPS: usize = 100_000;

/// The full names that a job's `branch` may mean, the likeliest first. A name that is full already is taken so at once, as git does; else a
/// branch goes before a tag: the field's name says so.
pub(super) fn meanings(name: &str) -> Vec<String> {
    let full = (name == "HEAD" || name.starts_with("refs/")).then(|| name.to_owned());
    let short = ["refs/heads/", "refs/tags/", "refs/", "refs/remotes/"].map(|space| format!("{space}{name}"));
    full.into_iter().chain(short).collect()
}

/// What a job looks for among the refs.
#[derive(Debug, Clone)]
pub(super) enum Sought {
    /// The tip of the branch.
    Tip,
    /// A ref that points to this commit, or to the tag of this id.
    Commit {
        id: Oid,
        /// The mirror has the commit: some ref may lead to it.
        with_tips: bool,
    },
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

/// What was kept of a list that has been read.
#[derive(Debug)]
pub(super) struct Refs {
    branch: BranchName,
    sought: Sought,
    /// The ref of each meaning of `branch`, the likeliest first.
    meant: Vec<(String, Option<Advertised>)>,
    pointing: Option<Advertised>,
    tips: Vec<Oid>,
    names: Names,
    is_empty: bool,
}

/// A list that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    refs: Refs,
    /// In v0 the id that a tag points to comes right after it.
    last: Option<Advertised>,
}

impl Reading {
    pub(super) fn new(branch: &BranchName, sought: Sought) -> Self {
        let meant = meanings(branch.as_str()).into_iter().map(|name| (name, None)).collect();
        let names = Names::near(branch);
        let refs = Refs { branch: branch.clone(), sought, meant, pointing: None, tips: Vec::new(), names, is_empty: true };
        Self { refs, last: None }
    }

    /// The list of all branches and tags, after one of those alone that could be meant.
    pub(super) fn all_after(refs: Refs) -> Self {
        let names = Names { default_branch: refs.names.default_branch, ..Names::near(&refs.branch) };
        Self { refs: Refs { names, ..refs }, last: None }
    }

    /// In the server's order.
    pub(super) fn add(&mut self, read: RefLine) {
        if let Some(tag) = read.name.strip_suffix(PEELED) {
            if let Some(last) = self.last.as_mut().filter(|last| last.name == tag) {
                last.commit = read.id;
            }
            return;
        }
        if read.name == "HEAD"
            && let Some(target) = &read.target
        {
            self.head_is(target);
        }
        let next = Advertised { name: read.name, id: read.id, commit: read.peeled.unwrap_or(read.id) };
        if let Some(last) = self.last.replace(next) {
            self.refs.keep(last);
        }
    }

    /// `target`: full.
    pub(super) fn head_is(&mut self, target: &str) {
        self.refs.names.default_branch = target.strip_prefix("refs/heads/").and_then(|name| BranchName::parse(name).ok());
    }

    pub(super) fn end(mut self) -> Refs {
        if let Some(last) = self.last.take() {
            self.refs.keep(last);
        }
        self.refs
    }
}

impl Refs {
    fn keep(&mut self, read: Advertised) {
        self.is_empty = false;
        let meant = self.meant.iter_mut().find(|(name, _)| *name == read.name);
        if let Some((_, place)) = meant {
            place.get_or_insert_with(|| read.clone());
        }
        match self.sought {
            // The names are for the failure that there is none.
            Sought::Tip if self.named().is_some() => {}
            Sought::Tip => {
                let short = ["refs/heads/", "refs/tags/"].iter().find_map(|space| read.name.strip_prefix(space));
                if let Some(short) = short {
                    self.names.add(short);
                }
            }
            Sought::Commit { id, with_tips } => {
                if with_tips && self.tips.len() < MAX_TIPS {
                    self.tips.push(read.commit);
                }
                if self.pointing.is_none() && read.name.starts_with("refs/") && read.points_to(id) {
                    self.pointing = Some(read);
                }
            }
        }
    }

    /// The ref that the branch's name means.
    pub(super) fn named(&self) -> Option<&Advertised> {
        self.meant.iter().find_map(|(_, found)| found.as_ref())
    }

    /// A ref that points to the commit that is sought now; the job's own branch before others, and another only if it is not `HEAD`.
    pub(super) fn pointing(&self) -> Option<&Advertised> {
        let Sought::Commit { id, .. } = self.sought else { return None };
        self.named().filter(|named| named.points_to(id)).or(self.pointing.as_ref())
    }

    /// What all refs point to, tags peeled; nothing where the mirror does not have the commit that is sought.
    pub(super) fn tips(&self) -> impl Iterator<Item = Oid> {
        self.tips.iter().copied()
    }

    /// Why there is nothing of that name, with the names that come near, or some that there are.
    pub(super) fn missing(&mut self, site: &Site) -> Failure {
        let (repository, branch) = (&site.repository, &self.branch);
        if self.is_empty {
            return Failure::new(
                Code::GitBranchNotFound,
                format!("The repository {repository} is empty: it has no branch yet, so there is no {branch} to build."),
                "Push a commit first.",
            );
        }
        let kind = if branch.as_str().starts_with("refs/") { "ref" } else { "branch or tag" };
        Failure::new(
            Code::GitBranchNotFound,
            format!("The repository {repository} has no {kind} {branch}."),
            self.names.way_out(),
        )
    }
}

impl Advertised {
    fn points_to(&self, id: Oid) -> bool {
        self.commit == id || self.id == id
    }
}

/// Names of branches and tags for the failure that says that one is missing. They come from the server: only what is a branch name is kept.
#[derive(Debug)]
struct Names {
    wanted: String,
    default_branch: Option<BranchName>,
    has_default_branch: bool,
    first: Vec<BranchName>,
    /// The nearest so far, and those that have come since they were looked for.
    near: Vec<BranchName>,
    /// The characters of those that have come since.
    waiting: usize,
    count: usize,
}

impl Names {
    fn near(branch: &BranchName) -> Self {
        Self {
            wanted: bare_name(branch.as_str()).to_lowercase(),
            default_branch: None,
            has_default_branch: false,
            first: Vec::new(),
            near: Vec::new(),
            waiting: 0,
            count: 0,
        }
    }

    fn add(&mut self, name: &str) {
        let Ok(name) = BranchName::parse(name) else { return };
        self.count += 1;
        let is_default = self.default_branch.as_ref() == Some(&name);
        self.has_default_branch |= is_default;
        if self.first.len() < LISTED && !is_default {
            self.first.push(name.clone());
        }
        if self.count <= MAX_COMPARED {
            self.waiting += name.as_str().len();
            self.near.push(name);
        }
        if self.waiting >= COMPARED_TOGETHER {
            self.compare();
        }
    }

    /// Keeps those alone that look like a slip of the wanted name, the nearest first.
    fn compare(&mut self) {
        let score = |name: &BranchName| strsim::normalized_damerau_levenshtein(&self.wanted, &name.as_str().to_lowercase());
        let mut scored: Vec<(f64, BranchName)> =
            self.near.drain(..).map(|name| (score(&name), name)).filter(|(score, _)| *score >= 0.6).collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.as_str().cmp(b.1.as_str())));
        scored.dedup_by(|a, b| a.1 == b.1);
        self.near = scored.into_iter().take(GUESSES).map(|(_, name)| name).collect();
        self.waiting = 0;
    }

    fn way_out(&mut self) -> String {
        self.compare();
        let near: Vec<&str> = self.near.iter().map(BranchName::as_str).collect();
        if near.is_empty() { self.some() } else { format!("Did you mean {}?", near.join(" or ")) }
    }

    /// The default branch, and a few more.
    fn some(&self) -> String {
        let default = self.default_branch.as_ref().filter(|_| self.has_default_branch);
        let mut listed: Vec<&str> = default.into_iter().chain(&self.first).take(LISTED).map(BranchName::as_str).collect();
        if self.count > listed.len() {
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
    fn line(name: &str, id: Oid) -> RefLine {
        RefLine { id, name: name.to_owned(), peeled: None, target: None }
    }
    fn read(wanted: &str, sought: Sought, lines: &[(&str, Oid)]) -> Refs {
        let mut reading = Reading::new(&branch(wanted), sought);
        lines.iter().for_each(|(name, id)| reading.add(line(name, *id)));
        reading.end()
    }
    fn some() -> [(&'static str, Oid); 7] {
        [
            ("HEAD", id(1)),
            ("refs/heads/main", id(1)),
            ("refs/heads/v1", id(2)),
            ("refs/pull/7/head", id(6)),
            ("refs/tags/v1", id(3)),
            ("refs/tags/v2", id(4)),
            ("refs/tags/v2^{}", id(5)),
        ]
    }
    fn named(name: &str) -> Option<Advertised> {
        read(name, Sought::Tip, &some()).named().cloned()
    }
    fn commit_of(name: &str) -> Option<Oid> {
        named(name).map(|found| found.commit)
    }
    fn missing(name: &str) -> Failure {
        read(name, Sought::Tip, &some()).missing(&site())
    }
    fn pointing(wanted: &str, to: Oid, lines: &[(&str, Oid)]) -> Option<(String, Oid)> {
        let refs = read(wanted, Sought::Commit { id: to, with_tips: false }, lines);
        refs.pointing().map(|found| (found.name.clone(), found.commit))
    }

    #[test]
    fn a_branch_goes_before_a_tag_of_the_same_name() {
        assert_eq!(commit_of("v1"), Some(id(2)));
        let refs = read("v1", Sought::Tip, &[("refs/tags/v1", id(3)), ("refs/heads/v1", id(2))]);
        assert_eq!(refs.named().map(|found| found.commit), Some(id(2)), "in whatever order they come");
    }
    #[test]
    fn an_annotated_tag_means_the_commit_that_it_points_to() {
        let tag = named("v2").expect("the tag");
        assert_eq!((tag.name.as_str(), tag.commit), ("refs/tags/v2", id(5)));
    }
    #[test]
    fn a_commit_is_found_under_any_ref_but_first_under_the_jobs_branch() {
        let lines = [("HEAD", id(1)), ("refs/heads/a", id(1)), ("refs/heads/b", id(1))];
        assert_eq!(pointing("b", id(1), &lines), Some(("refs/heads/b".to_owned(), id(1))));
        assert_eq!(pointing("gone", id(1), &lines), Some(("refs/heads/a".to_owned(), id(1))));
        assert_eq!(pointing("a", id(9), &lines), None);
    }
    #[test]
    fn a_tags_own_id_means_the_commit_that_it_points_to() {
        assert_eq!(pointing("main", id(4), &some()), Some(("refs/tags/v2".to_owned(), id(5))));
    }
    #[test]
    fn a_missing_branch_names_the_nearest() {
        let failure = missing("mian");
        assert_eq!(failure.code, Code::GitBranchNotFound);
        assert_eq!(failure.way_out, "Did you mean main?");
        for full in ["refs/heads/mian", "origin/mian", "refs/tags/main"] {
            assert_eq!(missing(full).way_out, "Did you mean main?", "{full}");
        }
    }
    #[test]
    fn where_no_name_comes_near_the_default_branch_is_named_first() {
        let reading = |wanted: &str| Reading::new(&branch(wanted), Sought::Tip);
        let names = |mut reading: Reading| {
            for name in ["a", "b", "c", "d", "e", "f", "main"] {
                reading.add(line(&format!("refs/heads/{name}"), id(1)));
            }
            reading.end().missing(&site())
        };
        assert_eq!(names(reading("production")).way_out, "It has a, b, c, d, e, ….");
        let with_head = |wanted: &str| {
            let mut reading = reading(wanted);
            reading.head_is("refs/heads/main");
            reading
        };
        let way_out = "Its default branch is main; it also has a, b, c, d, ….";
        assert_eq!(names(with_head("production")).way_out, way_out);
        let after = Reading::all_after(with_head("production").end());
        assert_eq!(names(after).way_out, way_out, "the list before this one told it");
        assert_eq!(names(with_head("refs/pull/9/head")).cause, "The repository octo/hello has no ref refs/pull/9/head.");
    }
    #[test]
    fn the_nearest_is_found_wherever_in_a_long_list_it_stands() {
        for at in [0, 10_000, 19_999] {
            let mut reading = Reading::new(&branch("production"), Sought::Tip);
            for n in 0..20_000 {
                let name = if n == at { "prodcution".to_owned() } else { format!("feature-{n}") };
                reading.add(line(&format!("refs/heads/{name}"), id(1)));
            }
            assert_eq!(reading.end().missing(&site()).way_out, "Did you mean prodcution?", "{at}");
        }
    }
    #[test]
    fn a_full_name_a_shortened_one_and_head_are_taken_as_git_takes_them() {
        assert_eq!(commit_of("refs/heads/v1"), Some(id(2)));
        assert_eq!(commit_of("refs/tags/v1"), Some(id(3)));
        assert_eq!(commit_of("tags/v1"), Some(id(3)));
        assert_eq!(commit_of("heads/main"), Some(id(1)));
        assert_eq!(commit_of("refs/pull/7/head"), Some(id(6)));
        assert_eq!(commit_of("pull/7/head"), Some(id(6)));
        assert_eq!(commit_of("HEAD"), Some(id(1)));
        assert_eq!(commit_of("refs/pull/8/head"), None);
    }
    #[test]
    fn an_empty_repository_says_so() {
        assert!(read("main", Sought::Tip, &[]).missing(&site()).cause.contains("is empty"));
    }
    #[test]
    fn a_hostile_ref_name_is_not_repeated() {
        let mut refs = read("main", Sought::Tip, &[("refs/heads/ma\x1b[31min", id(1)), ("refs/heads/dev", id(1))]);
        assert!(!refs.missing(&site()).to_string().contains('\x1b'));
    }

    /// The text and the ids that are kept, in bytes.
    fn kept(refs: &Refs) -> usize {
        let names = refs.names.first.iter().chain(&refs.names.near).map(|name| name.as_str().len() + size_of::<BranchName>());
        let found = refs.meant.iter().filter_map(|(_, found)| found.as_ref()).chain(&refs.pointing);
        names.sum::<usize>() + found.map(|found| found.name.len()).sum::<usize>() + refs.tips.len() * 20
    }

    #[test]
    fn what_is_kept_of_a_list_is_bounded_however_long_the_list_is() {
        let soughts = [
            (Sought::Tip, 1 << 20),
            (Sought::Commit { id: id(7), with_tips: false }, 1 << 10),
            (Sought::Commit { id: id(7), with_tips: true }, MAX_TIPS * 20 + (1 << 10)),
        ];
        for (sought, most) in soughts {
            let mut reading = Reading::new(&branch("main"), sought.clone());
            for n in 0..150_000 {
                let space = ["refs/heads/", "refs/tags/", "refs/pull/", "HEAD"][n % 4];
                let name = if space == "HEAD" { "HEAD".to_owned() } else { format!("{space}{n}") };
                reading.add(line(&name, id(7)));
            }
            let refs = reading.end();
            assert!(kept(&refs) <= most, "{sought:?}: {} bytes", kept(&refs));
        }
    }
}
