//! PURE: whether a tree is built from its Dockerfile or by buildpacks, and what is said about it.

use crate::protocol::Job;
use crate::source::{EntryKind, SourceTree};

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
    /// `Dockerfile` at the root of the tree.
    dockerfile: bool,
    procfile: bool,
}

/// The way, and a line for the job's log where a user might wonder.
pub fn choose(tree: &SourceTree, job: &Job) -> (Way, Option<&'static str>) {
    let is_file = |path: &str| tree.entry(path).is_some_and(|entry| matches!(entry.kind, EntryKind::File { .. }));
    decide(Seen {
        named: job.dockerfile.is_some(),
        builder: job.builder.is_some(),
        dockerfile: tree.entry("Dockerfile").is_some(),
        procfile: is_file("Procfile"),
    })
}

fn decide(seen: Seen) -> (Way, Option<&'static str>) {
    match seen {
        Seen { named: true, builder: true, .. } => {
            (Way::Dockerfile, Some("The job names a Dockerfile and a builder: the Dockerfile is built, the builder is not used."))
        }
        Seen { named: true, .. } => (Way::Dockerfile, None),
        Seen { builder: true, dockerfile: true, .. } => {
            (Way::Buildpacks, Some("The job names a builder: building with buildpacks, the repository's Dockerfile is not used."))
        }
        Seen { builder: true, .. } => (Way::Buildpacks, Some("The job names a builder: building with buildpacks.")),
        Seen { dockerfile: true, procfile: true, .. } => (
            Way::Dockerfile,
            Some("The repository has a Dockerfile and a Procfile: the Dockerfile is built, the Procfile is not used."),
        ),
        Seen { dockerfile: true, .. } => (Way::Dockerfile, None),
        Seen { procfile: true, .. } => (
            Way::Buildpacks,
            Some("There is no Dockerfile at the root of the repository, but a Procfile: building with buildpacks."),
        ),
        _ => (Way::Buildpacks, Some("There is no Dockerfile at the root of the repository: building with buildpacks.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dockerfile_wins_over_a_procfile_and_says_so() {
        let (way, said) = decide(Seen { dockerfile: true, procfile: true, ..Seen::default() });
        assert_eq!(way, Way::Dockerfile);
        assert!(said.unwrap().contains("Procfile is not used"));
    }

    #[test]
    fn a_tree_without_a_dockerfile_is_built_by_buildpacks() {
        assert_eq!(decide(Seen::default()).0, Way::Buildpacks);
        assert_eq!(decide(Seen { procfile: true, ..Seen::default() }).0, Way::Buildpacks);
        assert_eq!(decide(Seen { dockerfile: true, ..Seen::default() }), (Way::Dockerfile, None));
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
        assert!(said.unwrap().contains("Dockerfile is not used"));
    }
}
