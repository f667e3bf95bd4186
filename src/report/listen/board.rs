//! What `slipway listen` knows of deployments: bounded in number and in bytes. No I/O.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::protocol::{DeploymentId, LogType};

/// More deployments than these are forgotten: ended ones first, then those that were silent longest.
const DEPLOYMENTS: usize = 256;
/// What a follower who comes late is shown of a deployment's past.
const REPLAY_BYTES: usize = 64 * 1024;
/// Events that wait for one slow follower; beyond them it is told how many it missed.
const FOLLOWER_EVENTS: usize = 256;

/// The statuses that a dashboard knows (contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Pending,
    Building,
    Builded,
    Deploying,
    Deployed,
    Failed,
    Cancelled,
}

impl Status {
    pub fn is_end(self) -> bool {
        matches!(self, Status::Builded | Status::Deployed | Status::Failed | Status::Cancelled)
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Building => "BUILDING",
            Status::Builded => "BUILDED",
            Status::Deploying => "DEPLOYING",
            Status::Deployed => "DEPLOYED",
            Status::Failed => "FAILED",
            Status::Cancelled => "CANCELLED",
        }
    }
}

/// One thing that happened to a deployment; one line of JSON in `GET /follow/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    Status {
        status: Status,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    Log {
        #[serde(rename = "type")]
        kind: LogType,
        text: String,
    },
    /// So many events were not sent: the follower was too slow, or came too late.
    Missed { events: u64 },
}

impl Event {
    fn bytes(&self) -> usize {
        let text = match self {
            Event::Status { image, error, .. } => image.as_ref().map_or(0, String::len) + error.as_ref().map_or(0, String::len),
            Event::Log { text, .. } => text.len(),
            Event::Missed { .. } => 0,
        };
        text + 64
    }
}

struct Deployment {
    /// Its place in the order of first sight: decides its colour.
    number: usize,
    status: Option<Status>,
    past: VecDeque<Arc<Event>>,
    past_bytes: usize,
    forgotten: u64,
    followers: Option<broadcast::Sender<Arc<Event>>>,
    last_event: u64,
}

/// All deployments. Shared by the handlers; every call is short.
#[derive(Default)]
pub struct Board(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    deployments: HashMap<DeploymentId, Deployment>,
    seen: usize,
    clock: u64,
}

/// A deployment's past and what comes next.
pub struct Following {
    pub past: Vec<Arc<Event>>,
    pub next: broadcast::Receiver<Arc<Event>>,
}

impl Board {
    /// Notes an event and tells the followers. Returns the deployment's number.
    pub fn record(&self, id: &DeploymentId, event: Event) -> usize {
        let mut inner = self.lock();
        let event = Arc::new(event);
        let deployment = inner.deployment(id);
        if let Event::Status { status, .. } = event.as_ref() {
            deployment.status = Some(*status);
        }
        if let Some(followers) = &deployment.followers
            && followers.send(Arc::clone(&event)).is_err()
        {
            // The last follower is gone.
            deployment.followers = None;
        }
        deployment.past_bytes += event.bytes();
        deployment.past.push_back(event);
        while deployment.past_bytes > REPLAY_BYTES
            && deployment.past.len() > 1
            && let Some(oldest) = deployment.past.pop_front()
        {
            deployment.past_bytes -= oldest.bytes();
            deployment.forgotten += 1;
        }
        deployment.number
    }

    /// From now on, after `past` where it is asked for. The deployment need not have been heard of.
    pub fn follow(&self, id: &DeploymentId, with_past: bool) -> Following {
        let mut inner = self.lock();
        let deployment = inner.deployment(id);
        let next = match &deployment.followers {
            Some(followers) => followers.subscribe(),
            None => {
                let (followers, next) = broadcast::channel(FOLLOWER_EVENTS);
                deployment.followers = Some(followers);
                next
            }
        };
        let mut past = Vec::new();
        if with_past {
            if deployment.forgotten > 0 {
                past.push(Arc::new(Event::Missed { events: deployment.forgotten }));
            }
            past.extend(deployment.past.iter().cloned());
        }
        Following { past, next }
    }

    /// How many deployments have which status, for the last word. In the order of [`Status`]; none that is zero.
    pub fn summary(&self) -> Vec<(Status, usize)> {
        use Status::*;
        let inner = self.lock();
        let count = |s: Status| inner.deployments.values().filter(|d| d.status == Some(s)).count();
        [Pending, Building, Builded, Deploying, Deployed, Failed, Cancelled]
            .into_iter()
            .map(|s| (s, count(s)))
            .filter(|(_, n)| *n > 0)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn deployment(&mut self, id: &DeploymentId) -> &mut Deployment {
        self.clock += 1;
        if !self.deployments.contains_key(id) && self.deployments.len() >= DEPLOYMENTS {
            self.forget_one();
        }
        let clock = self.clock;
        let seen = &mut self.seen;
        let deployment = self.deployments.entry(id.clone()).or_insert_with(|| {
            *seen += 1;
            Deployment {
                number: *seen - 1,
                status: None,
                past: VecDeque::new(),
                past_bytes: 0,
                forgotten: 0,
                followers: None,
                last_event: 0,
            }
        });
        deployment.last_event = clock;
        deployment
    }

    fn forget_one(&mut self) {
        let rank = |d: &Deployment| (!d.status.is_some_and(Status::is_end), d.last_event);
        let oldest = self.deployments.iter().min_by_key(|(_, d)| rank(d)).map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            self.deployments.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeploymentId {
        DeploymentId::parse(text).unwrap()
    }
    fn status(status: Status) -> Event {
        Event::Status { status, image: None, error: None }
    }
    fn line(text: &str) -> Event {
        Event::Log { kind: LogType::Stdout, text: text.into() }
    }

    #[test]
    fn a_late_follower_sees_the_past_and_then_what_comes() {
        let board = Board::default();
        board.record(&id("a"), status(Status::Building));
        board.record(&id("a"), line("one"));
        let mut following = board.follow(&id("a"), true);
        board.record(&id("b"), line("another's"));
        board.record(&id("a"), line("two"));
        let past: Vec<_> = following.past.iter().map(|e| e.as_ref().clone()).collect();
        assert_eq!(past, [status(Status::Building), line("one")]);
        assert_eq!(*following.next.try_recv().unwrap(), line("two"));
        assert!(following.next.try_recv().is_err());
    }

    #[test]
    fn a_chatty_deployment_is_kept_in_bounds_and_says_what_is_missing() {
        let board = Board::default();
        for _ in 0..100 {
            board.record(&id("a"), line(&"x".repeat(10_000)));
        }
        let following = board.follow(&id("a"), true);
        let Event::Missed { events } = *following.past[0] else { panic!("nothing was said to be missing") };
        assert_eq!(events as usize + following.past.len() - 1, 100);
        assert!(following.past.iter().map(|e| e.bytes()).sum::<usize>() <= REPLAY_BYTES + 64);
    }

    #[test]
    fn of_too_many_deployments_the_ended_ones_are_forgotten_first() {
        let board = Board::default();
        board.record(&id("running"), status(Status::Building));
        board.record(&id("ended"), status(Status::Failed));
        for n in 0..DEPLOYMENTS - 1 {
            board.record(&id(&format!("d{n}")), status(Status::Building));
        }
        let known = |name: &str| board.lock().deployments.get(&id(name)).is_some_and(|d| !d.past.is_empty());
        assert_eq!(board.lock().deployments.len(), DEPLOYMENTS);
        assert!(known("running") && !known("ended"));
    }
}
