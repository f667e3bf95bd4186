//! One task for each claim, and what is done when a task panics: a claim never stays behind without an owner.

use std::collections::HashMap;

use tokio::task::{Id, JoinSet};

use crate::protocol::{Code, Failure, Outcome};

/// The tasks of the claims in hand. `C` is what a task works on and how it is reached; it comes back when its task panics.
pub struct JobTasks<C> {
    tasks: JoinSet<()>,
    running: HashMap<Id, Running<C>>,
}

struct Running<C> {
    claim: C,
    panics: u32,
}

/// A task that is over.
#[derive(Debug, PartialEq)]
pub enum Ended<C> {
    Finished,
    /// It panicked, and tasks of this claim have done so that many times by now.
    Panicked {
        claim: C,
        panics: u32,
        words: String,
    },
}

impl<C> Default for JobTasks<C> {
    fn default() -> Self {
        Self { tasks: JoinSet::new(), running: HashMap::new() }
    }
}

impl<C> JobTasks<C> {
    /// `panics`: of earlier tasks of this claim.
    pub fn start(&mut self, claim: C, panics: u32, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.running.insert(id, Running { claim, panics });
    }

    /// The next one that ends; `None` when there is none left. Cancel-safe.
    pub async fn next_ended(&mut self) -> Option<Ended<C>> {
        match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => {
                self.running.remove(&id);
                Some(Ended::Finished)
            }
            Err(error) => {
                let Some(Running { claim, panics }) = self.running.remove(&error.id()) else { return Some(Ended::Finished) };
                Some(Ended::Panicked { claim, panics: panics + 1, words: error.to_string() })
            }
        }
    }

    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// What is in hand.
    pub fn claims(&self) -> impl Iterator<Item = &C> {
        self.running.values().map(|running| &running.claim)
    }
}

/// What to do with a claim whose task panicked.
#[derive(Debug, PartialEq)]
pub enum AfterPanic {
    /// A new task tells this end, fenced like any other.
    Tell(Outcome),
    /// The telling panics too: the claim goes to the dead letter list, where a person finds it.
    DeadLetter(Failure),
    /// Not even that works.
    LeaveToNextStart,
}

/// `stored`: the end that this attempt has stored already. It is told, for the work is done and the panic came after it.
pub fn after_panic(panics: u32, stored: Option<Outcome>) -> AfterPanic {
    match panics {
        0 | 1 => AfterPanic::Tell(stored.unwrap_or_else(|| Outcome::Failed { failure: defect() })),
        2 => AfterPanic::DeadLetter(defect()),
        _ => AfterPanic::LeaveToNextStart,
    }
}

fn defect() -> Failure {
    Failure::new(
        Code::WorkerInternal,
        "Slipway has a defect: the task of this deployment panicked.",
        "Deploy again; the worker's log has the place.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ImageRef, RegistryType};

    fn builded() -> Outcome {
        let image = ImageRef::new("r.example/svc", "d-1", &format!("sha256:{}", "a".repeat(64))).unwrap();
        Outcome::Builded { image, registry: RegistryType::Docker }
    }

    #[tokio::test]
    async fn the_claim_of_a_task_that_panics_comes_back_and_the_others_go_on() {
        let mut tasks = JobTasks::default();
        let (done, waits) = tokio::sync::oneshot::channel::<()>();
        tasks.start("good", 0, async { drop(waits.await) });
        tasks.start("bad", 0, async { panic!("a defect") });
        let Some(Ended::Panicked { claim, panics, words }) = tasks.next_ended().await else { panic!("nothing came back") };
        assert_eq!((claim, panics), ("bad", 1));
        assert!(words.contains("a defect"), "{words}");
        assert_eq!(tasks.claims().collect::<Vec<_>>(), [&"good"]);
        tasks.start("bad", panics, async { panic!("again") });
        assert!(matches!(tasks.next_ended().await, Some(Ended::Panicked { claim: "bad", panics: 2, .. })));
        done.send(()).unwrap();
        assert_eq!(tasks.next_ended().await, Some(Ended::Finished));
        assert_eq!(tasks.next_ended().await, None);
    }

    #[test]
    fn a_panic_is_told_as_the_workers_own_failure_and_a_second_one_ends_in_the_dead_letter() {
        assert!(matches!(
            after_panic(1, None),
            AfterPanic::Tell(Outcome::Failed { failure }) if failure.code == Code::WorkerInternal
        ));
        assert!(matches!(after_panic(2, None), AfterPanic::DeadLetter(failure) if failure.code == Code::WorkerInternal));
        assert_eq!(after_panic(3, None), AfterPanic::LeaveToNextStart);
    }

    #[test]
    fn an_end_that_is_stored_already_is_not_turned_into_another_one_by_a_panic() {
        assert_eq!(after_panic(1, Some(builded())), AfterPanic::Tell(builded()));
    }
}
