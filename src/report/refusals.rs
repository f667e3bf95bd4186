//! A status or an end that the dashboard refuses while it takes other posts: when the refusal is believed, and what less can be told.

use std::time::{Duration, Instant};

use super::pace::Pace;
use crate::protocol::{DeploymentStatus, Failure, Outcome, StatusData, StatusPost};

/// The dashboard loses an event with a longer `error` silently.
const ERROR_CHARS: usize = 191;
/// Refusals of one body before a 500 is believed.
const REFUSALS: u32 = 12;
/// Between two refusals so many times another deployment's status must have been taken.
const WITNESSED: u32 = 3;
/// Time between two refusals counts for no more than this: it may have been an outage.
const LONGEST_GAP: Duration = Duration::from_secs(30);

/// How a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400 and its kin, 413: the same body is refused again.
    OfTheBody,
    /// 500 and its kin: the body, or the dashboard, is in trouble.
    Unclear,
}

/// What is known of the dashboard at a refusal.
#[derive(Debug, Clone, Copy)]
pub struct Health {
    /// Statuses that it has taken so far. While a deployment is refused, none of them is its own.
    pub statuses: u64,
    /// It has taken something since the start and since its last outage.
    pub has_taken: bool,
    /// It refuses no other deployment, and answers a test post as its API does.
    pub refuses_nobody_else: bool,
}

/// One deployment's refusals in a row.
#[derive(Debug, Default)]
pub struct Refusals {
    /// Of what is told now.
    count: u32,
    witnessed: u32,
    last: Option<Last>,
    /// How long this one was refused while statuses of others were taken.
    beside: Duration,
    /// Since when nobody else is refused, and a test post shows that the dashboard is well.
    alone: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    health: Health,
}

impl Refusals {
    /// Another refusal. `true`: something shows that it is this deployment's own.
    pub fn note(&mut self, now: Instant, health: Health) -> bool {
        self.count += 1;
        if let Some(last) = self.last
            && health.statuses > last.health.statuses
        {
            self.witnessed += 1;
            self.beside += now.saturating_duration_since(last.at).min(LONGEST_GAP);
        }
        self.last = Some(Last { at: now, health });
        if health.refuses_nobody_else {
            self.alone.get_or_insert(now);
        } else {
            self.alone = None;
        }
        self.witnessed > 0 || self.alone.is_some()
    }

    /// Whether the refusal that was noted last is believed. What is told then instead is believed to be refused sooner: the time goes
    /// on, and the count begins anew.
    pub fn believe(&mut self, refusal: Refusal, pace: &Pace) -> bool {
        let Some(Last { at, health }) = self.last else { return false };
        let alone = self.alone.map(|since| at.saturating_duration_since(since));
        let is_alone_for = |long: Duration| alone.is_some_and(|alone| alone >= long);
        let believed = match refusal {
            Refusal::OfTheBody => {
                let shown = self.witnessed > 0;
                shown || is_alone_for(if health.has_taken { pace.refuse_beside_after } else { pace.refuse_alone_after })
            }
            Refusal::Unclear => {
                let shown = self.witnessed >= WITNESSED && self.beside >= pace.refuse_beside_after;
                self.count >= REFUSALS && (shown || is_alone_for(pace.refuse_alone_after))
            }
        };
        if believed {
            (self.count, self.witnessed) = (0, 0);
        }
        believed
    }

    /// Something of the deployment was taken.
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

    /// `statuses`: taken of others so far.
    fn well(statuses: u64) -> Health {
        Health { statuses, has_taken: true, refuses_nobody_else: false }
    }

    fn alone() -> Health {
        Health { statuses: 0, has_taken: false, refuses_nobody_else: true }
    }

    /// The minutes in which a refusal is believed, of one refusal each quarter of a minute.
    fn believed(minutes: u32, refusal: Refusal, health: impl Fn(u32) -> Health) -> Vec<u32> {
        let (mut refusals, pace, start) = (Refusals::default(), Pace::default(), Instant::now());
        let mut in_minutes = Vec::new();
        for quarter in 0..minutes * 4 {
            refusals.note(start + MINUTE / 4 * quarter, health(quarter));
            if refusals.believe(refusal, &pace) {
                in_minutes.push(quarter / 4);
            }
        }
        in_minutes
    }

    #[test]
    fn nothing_is_believed_while_others_are_refused_too_and_nothing_is_taken() {
        for refusal in [Refusal::Unclear, Refusal::OfTheBody] {
            assert!(believed(1000, refusal, |_| well(7)).is_empty(), "{refusal:?}");
        }
    }

    #[test]
    fn a_500_is_believed_after_minutes_in_which_others_are_taken_and_what_is_told_then_needs_as_many_refusals() {
        assert_eq!(believed(10, Refusal::Unclear, |n| well(n.into())), [3, 6, 9]);
    }

    #[test]
    fn an_outage_counts_for_no_more_than_the_time_between_two_tries() {
        let (mut refusals, pace, start) = (Refusals::default(), Pace::default(), Instant::now());
        for n in 0..20 {
            assert!(refusals.note(start, well(n)) == (n > 0));
        }
        refusals.note(start + MINUTE * 60, well(100));
        assert!(!refusals.believe(Refusal::Unclear, &pace));
    }

    #[test]
    fn a_lone_500_is_believed_after_a_long_time_in_which_the_test_post_passes() {
        let in_minutes = believed(20, Refusal::Unclear, |_| alone());
        assert_eq!(in_minutes.first(), Some(&15));
        let breaks = believed(20, Refusal::Unclear, |n| if n == 40 { well(0) } else { alone() });
        assert!(breaks.is_empty(), "{breaks:?}");
    }

    #[test]
    fn a_400_is_believed_beside_a_status_that_was_taken_or_in_the_end() {
        assert_eq!(believed(1, Refusal::OfTheBody, |n| well(u64::from(n >= 2))), [0]);
        assert_eq!(believed(20, Refusal::OfTheBody, |_| alone()).first(), Some(&15));
        let after_others = Health { has_taken: true, ..alone() };
        assert_eq!(believed(20, Refusal::OfTheBody, |_| after_others).first(), Some(&3));
    }
}
