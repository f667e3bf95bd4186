//! A status or an end that the dashboard refuses while it takes other posts: when the refusal is believed, and what less can be told.

use std::time::{Duration, Instant};

use crate::protocol::{DeploymentStatus, Failure, Outcome, StatusData, StatusPost};

/// The dashboard loses an event with a longer `error` silently.
const ERROR_CHARS: usize = 191;
/// Refusals of one body that are believed where another deployment's status was taken meanwhile.
const WITNESSED: u32 = 3;

/// How a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400 and its kin, 413: the same body is refused again.
    OfTheBody,
    /// 500 and its kin: the body, or the dashboard, is in trouble.
    Unclear,
}

/// What shows that the dashboard is well, and so that the refusal is this body's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It took another deployment's status since the first refusal.
    AnotherStatus,
    /// It answers a test post as its API does.
    TestPost,
    None,
}

/// One body's refusals in a row.
#[derive(Debug, Default)]
pub struct Refusals {
    count: u32,
    /// The first one with a proof.
    since: Option<Instant>,
    /// Statuses of any deployment that were taken before the first refusal.
    taken: Option<u64>,
}

impl Refusals {
    /// Whether another status was taken since the first refusal of this row. `taken`: statuses taken so far. (None of them is of this
    /// deployment: it posts one at a time, and this one is refused.)
    pub fn is_witnessed(&mut self, taken: u64) -> bool {
        taken > *self.taken.get_or_insert(taken)
    }

    /// Another refusal. `true`: it is believed, and the row begins anew with another body. `after`: how long an unclear refusal goes on
    /// before it is believed where a test post is the only proof.
    pub fn believed(&mut self, now: Instant, refusal: Refusal, proof: Proof, after: Duration) -> bool {
        if proof == Proof::None {
            (self.count, self.since) = (0, None);
            return false;
        }
        self.count += 1;
        let since = *self.since.get_or_insert(now);
        let believed = match (refusal, proof) {
            (Refusal::OfTheBody, _) => true,
            (Refusal::Unclear, Proof::AnotherStatus) => self.count >= WITNESSED,
            (Refusal::Unclear, _) => now.saturating_duration_since(since) >= after,
        };
        if believed {
            (self.count, self.since) = (0, None);
        }
        believed
    }

    /// Another answer than a refusal.
    pub fn over(&mut self) {
        *self = Self::default();
    }
}

/// How much of an end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    #[default]
    Whole,
    /// The error is its code. Of a BUILDED: the image by its digest alone.
    Short,
    /// No error.
    Bare,
}

impl Extent {
    /// What is told next when `self` is refused. `None`: there is nothing less. A BUILDED keeps its image: without one the dashboard
    /// deploys the image of before.
    pub fn less(self, outcome: &Outcome) -> Option<Extent> {
        match (self, outcome) {
            (Extent::Whole, _) => Some(Extent::Short),
            (Extent::Short, Outcome::Failed { .. } | Outcome::Cancelled { .. }) => Some(Extent::Bare),
            (Extent::Short, Outcome::Builded { .. }) | (Extent::Bare, _) => None,
        }
    }
}

/// The post that tells an end.
pub fn status_post(outcome: &Outcome, extent: Extent) -> StatusPost {
    let error = |failure: &Failure| match extent {
        Extent::Whole => Some(failure.within(ERROR_CHARS)),
        Extent::Short => Some(failure.code.to_string()),
        Extent::Bare => None,
    };
    match outcome {
        Outcome::Builded { image, registry } => {
            let container_image_uri = match extent {
                Extent::Whole => image.to_string(),
                Extent::Short | Extent::Bare => format!("{}@{}", image.repository(), image.digest()),
            };
            let data = StatusData { container_image_uri, container_registry_type: *registry };
            StatusPost { status: DeploymentStatus::Builded, error: None, data: Some(data) }
        }
        Outcome::Failed { failure } => StatusPost { status: DeploymentStatus::Failed, error: error(failure), data: None },
        Outcome::Cancelled { failure } => StatusPost { status: DeploymentStatus::Cancelled, error: error(failure), data: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Code, ImageRef, RegistryType};

    const MINUTE: Duration = Duration::from_secs(60);

    fn told(outcome: &Outcome) -> Vec<StatusPost> {
        let extents = std::iter::successors(Some(Extent::Whole), |extent| extent.less(outcome));
        extents.map(|extent| status_post(outcome, extent)).collect()
    }

    #[test]
    fn an_error_is_cut_to_its_code_and_then_left_out() {
        let failure = Failure::new(Code::DockerfileStepFailed, "exit 1 \u{1f4a5}", "See above.");
        let errors: Vec<_> = told(&Outcome::Failed { failure }).into_iter().map(|post| post.error).collect();
        let whole = "exit 1 \u{1f4a5} [dockerfile.step_failed] See above.";
        assert_eq!(errors, [Some(whole.to_owned()), Some("dockerfile.step_failed".to_owned()), None]);
    }

    #[test]
    fn a_builded_never_goes_without_its_image() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let image = ImageRef::new("r.example/svc", "d-1", &digest).unwrap();
        let posts = told(&Outcome::Builded { image, registry: RegistryType::Docker });
        let images: Vec<_> = posts.into_iter().map(|post| post.data.unwrap().container_image_uri).collect();
        assert_eq!(images, [format!("r.example/svc:d-1@{digest}"), format!("r.example/svc@{digest}")]);
    }

    #[test]
    fn a_500_is_never_believed_while_nothing_shows_that_the_dashboard_is_well() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        assert!((0..1000).all(|n| !refusals.believed(now + MINUTE * n, Refusal::Unclear, Proof::None, MINUTE)));
        assert!(!refusals.believed(now + MINUTE * 1000, Refusal::Unclear, Proof::TestPost, MINUTE), "the time counts from here");
        assert!(refusals.believed(now + MINUTE * 1001, Refusal::Unclear, Proof::TestPost, MINUTE));
    }

    #[test]
    fn beside_a_status_that_was_taken_three_are_enough_and_one_400_always_is() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        let mut unclear = || refusals.believed(now, Refusal::Unclear, Proof::AnotherStatus, MINUTE);
        assert_eq!([unclear(), unclear(), unclear(), unclear()], [false, false, true, false]);
        assert!(Refusals::default().believed(now, Refusal::OfTheBody, Proof::TestPost, MINUTE));
        assert!(!Refusals::default().believed(now, Refusal::OfTheBody, Proof::None, MINUTE));
    }

    #[test]
    fn a_status_that_was_taken_before_the_first_refusal_shows_nothing() {
        let mut refusals = Refusals::default();
        assert_eq!([7, 7, 8].map(|taken| refusals.is_witnessed(taken)), [false, false, true]);
        refusals.over();
        assert!(!refusals.is_witnessed(8));
    }
}
