//! PURE: whose a leftover is, and what of an image goes.

use std::collections::HashMap;

use crate::image::labels;
use crate::protocol::DeploymentId;
use crate::registry::{HELD_REPOSITORY, attempt_tag};

/// One attempt at one deployment, as labels and file names tell it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    pub(super) deployment: DeploymentId,
    pub(super) number: u32,
}

impl Attempt {
    /// `None` where the labels are missing or are not what Slipway writes.
    pub(super) fn of(labels: Option<&HashMap<String, String>>) -> Option<Self> {
        let labels = labels?;
        let deployment = DeploymentId::parse(labels.get(labels::DEPLOYMENT)?).ok()?;
        Some(Self { deployment, number: labels.get(labels::ATTEMPT)?.parse().ok()? })
    }
    /// A file's name in `WORK_DIR/tmp` is `<deployment>-<attempt>`, or that and `.` and anything.
    pub(super) fn of_file(name: &str) -> Option<Self> {
        let stem = name.split('.').next()?;
        let (deployment, number) = stem.rsplit_once('-')?;
        Some(Self { deployment: DeploymentId::parse(deployment).ok()?, number: number.parse().ok()? })
    }
}

/// What of a dead attempt's image goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImageVerdict {
    /// Names that Slipway gave it.
    pub(super) names: Vec<String>,
    /// No other name remains: the image itself goes too.
    pub(super) then_remove: bool,
}

/// A name is Slipway's where its tag is the attempt's, or where it is the one that holds an image while it is pushed.
/// Any other was given by a person, and keeps the image.
pub(super) fn judge_image(attempt: &Attempt, id: &str, names: &[String]) -> ImageVerdict {
    let tag = attempt_tag(&attempt.deployment, attempt.number);
    let held = format!("{HELD_REPOSITORY}:{}", id.strip_prefix("sha256:").unwrap_or(id));
    let real = || names.iter().filter(|name| *name != "<none>:<none>");
    let ours = |name: &str| name == held || name.rsplit_once(':').is_some_and(|(_, t)| t == tag);
    ImageVerdict { names: real().filter(|name| ours(name)).cloned().collect(), then_remove: real().all(|name| ours(name)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(deployment: &str, number: u32) -> Attempt {
        Attempt { deployment: DeploymentId::parse(deployment).unwrap(), number }
    }
    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_image_goes_with_its_attempts_name_and_a_persons_name_keeps_it() {
        let verdict = judge_image(&attempt("dpl", 2), "sha256:abc", &names(&["r:5000/octo/s:dpl-2", "slipway-held:abc"]));
        assert_eq!(verdict, ImageVerdict { names: names(&["r:5000/octo/s:dpl-2", "slipway-held:abc"]), then_remove: true });
        let verdict = judge_image(&attempt("dpl", 2), "sha256:abc", &names(&["r:5000/octo/s:dpl-2", "keep:me"]));
        assert_eq!(verdict, ImageVerdict { names: names(&["r:5000/octo/s:dpl-2"]), then_remove: false });
        let verdict = judge_image(&attempt("dpl", 2), "sha256:abc", &names(&["r/s:dpl-1", "slipway-held:def"]));
        assert_eq!(verdict, ImageVerdict { names: vec![], then_remove: false });
        let untagged = judge_image(&attempt("dpl", 2), "sha256:abc", &names(&["<none>:<none>"]));
        assert_eq!(untagged, ImageVerdict { names: vec![], then_remove: true });
    }

    #[test]
    fn labels_that_slipway_does_not_write_name_no_attempt() {
        let with = |deployment: &str, number: &str| {
            HashMap::from([
                (labels::DEPLOYMENT.to_owned(), deployment.to_owned()),
                (labels::ATTEMPT.to_owned(), number.to_owned()),
            ])
        };
        assert_eq!(Attempt::of(Some(&with("dpl", "2"))), Some(attempt("dpl", 2)));
        assert_eq!(Attempt::of(Some(&with("../dpl", "2"))), None);
        assert_eq!(Attempt::of(Some(&with("dpl", "two"))), None);
        assert_eq!(Attempt::of(None), None);
    }

    #[test]
    fn a_file_without_an_attempts_name_is_nobodys() {
        assert_eq!(Attempt::of_file("dpl-a-2.pack.tmp"), Some(attempt("dpl-a", 2)));
        for name in ["lock", "dpl", "dpl-", "-1", ".hidden-1", "dpl-x.1", ""] {
            assert_eq!(Attempt::of_file(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn an_attempts_file_is_found_again(deployment in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", number: u32, rest in "(\\.[a-z.-]{0,9})?") {
            let expected = attempt(&deployment, number);
            prop_assert_eq!(Attempt::of_file(&format!("{}{rest}", attempt_tag(&expected.deployment, number))), Some(expected));
        }
        #[test]
        fn no_name_is_taken_that_is_not_the_attempts(given in prop::collection::vec("[a-z]{1,4}:[a-z]{1,3}-[0-9]", 0..6)) {
            let verdict = judge_image(&attempt("dpl", 2), "sha256:abc", &given);
            prop_assert!(verdict.names.iter().all(|name| name.ends_with(":dpl-2")));
            prop_assert_eq!(verdict.then_remove, given.iter().all(|name| name.ends_with(":dpl-2")));
        }
    }
}
