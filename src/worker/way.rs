//! PURE: whether a tree is built from its Dockerfile or by buildpacks, and what is said about it.

use crate::context;
use crate::protocol::Job;
use crate::source::{EntryKind, SourceTree};

/// So many Dockerfiles that lie elsewhere are named.
const NAMED: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Dockerfile,
    Buildpacks,
}

/// What the choice depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The job names a Dockerfile. That it is there is the context stage's to find out: there is no silent way round it.
    named: bool,
    /// The job names a builder.
    builder: bool,
    /// A Dockerfile at the root of the tree.
    dockerfile: bool,
    procfile: bool,
}

/// The way, and a line for the job's log where a user might wonder.
pub fn choose(tree: &SourceTree, job: &Job) -> (Way, Option<String>) {
    let is_file = |path: &str| tree.entry(path).is_some_and(|entry| matches!(entry.kind, EntryKind::File { .. }));
    let seen = Seen {
        named: job.dockerfile.is_some(),
        builder: job.builder.is_some(),
        dockerfile: context::has_dockerfile(tree),
        procfile: is_file("Procfile"),
    };
    let (way, said) = decide(seen);
    let said = match said {
        Some(Said::NoDockerfile) => Some(no_dockerfile(context::dockerfiles(tree, NAMED), seen.procfile)),
        Some(Said::Words(words)) => Some(words.to_owned()),
        None => None,
    };
    (way, said)
}

/// What is said of a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Words(&'static str),
    /// Neither the job nor the root of the repository has one.
    NoDockerfile,
}

/// `others`: the Dockerfiles that lie elsewhere.
fn no_dockerfile(others: Option<String>, procfile: bool) -> String {
    let but = if procfile { ", but a Procfile" } else { "" };
    let found = others.map(|list| format!(" (found {list}; set runtimeFilePath to use one)")).unwrap_or_default();
    format!("No Dockerfile at the repository root{but}{found}. Building with buildpacks.")
}

fn decide(seen: Seen) -> (Way, Option<Said>) {
    let words = |words| Some(Said::Words(words));
    match seen {
        Seen { named: true, builder: true, .. } => (
            Way::Dockerfile,
            words("The job names a Dockerfile and a builder: the Dockerfile is built, the builder is not used."),
        ),
        Seen { named: true, .. } => (Way::Dockerfile, None),
        Seen { builder: true, dockerfile: true, .. } => (
            Way::Buildpacks,
            words("The job names a builder: building with buildpacks, the repository's Dockerfile is not used."),
        ),
        Seen { builder: true, .. } => (Way::Buildpacks, words("The job names a builder: building with buildpacks.")),
        Seen { dockerfile: true, procfile: true, .. } => (
            Way::Dockerfile,
            words("The repository has a Dockerfile and a Procfile: the Dockerfile is built, the Procfile is not used."),
        ),
        Seen { dockerfile: true, .. } => (Way::Dockerfile, None),
        _ => (Way::Buildpacks, Some(Said::NoDockerfile)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_wins_over_a_procfile_and_says_so() {
        let (way, said) = decide(Seen { dockerfile: true, procfile: true, ..Seen::default() });
        assert_eq!(way, Way::Dockerfile);
        assert!(matches!(said, Some(Said::Words(words)) if words.contains("Procfile is not used")));
    }

    #[test]
    fn a_tree_without_a_dockerfile_is_built_by_buildpacks() {
        assert_eq!(decide(Seen::default()).0, Way::Buildpacks);
        assert_eq!(decide(Seen { procfile: true, ..Seen::default() }), (Way::Buildpacks, Some(Said::NoDockerfile)));
        assert_eq!(decide(Seen { dockerfile: true, ..Seen::default() }), (Way::Dockerfile, None));
    }

    #[test]
    fn the_dockerfiles_that_lie_elsewhere_are_named_with_the_way_to_use_one() {
        assert_eq!(no_dockerfile(None, false), "No Dockerfile at the repository root. Building with buildpacks.");
        let said = no_dockerfile(Some("docker/Dockerfile".to_owned()), true);
        assert!(said.contains("but a Procfile (found docker/Dockerfile; set runtimeFilePath to use one)"), "{said}");
    }

    #[test]
    fn a_dockerfile_that_the_job_names_is_never_silently_replaced() {
        for seen in
            [Seen { named: true, ..Seen::default() }, Seen { named: true, builder: true, procfile: true, ..Seen::default() }]
        {
            assert_eq!(decide(seen).0, Way::Dockerfile);
        }
    }

    #[test]
    fn a_builder_that_the_job_names_counts_more_than_a_dockerfile_that_it_does_not_name() {
        let (way, said) = decide(Seen { builder: true, dockerfile: true, ..Seen::default() });
        assert_eq!(way, Way::Buildpacks);
        assert!(matches!(said, Some(Said::Words(words)) if words.contains("Dockerfile is not used")));
    }
}
