//! One circuit for each peer that stages talk to: while one does not answer, one try at a time goes out, whosever job it is.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::circuit::{Change, Circuit};
use super::retry_after::RETRY_AFTER_MAX;
use crate::protocol::{Code, Evidence, Failure, FailureKind};

/// A try that has not ended by then lets the next one out: a build may take an hour, and one that hangs must not hold up the others.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);
/// A peer that nobody has asked for so long is forgotten: hosts of git servers are named by jobs.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// Whom a stage talks to. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The git server `host` or `host:port`.
    Git(String),
    /// The Docker Engine of this host.
    Engine,
    /// The registry that images are pushed to, with its API where it is ECR.
    Registry,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Git(host) => write!(f, "the git server {host}"),
            Peer::Engine => f.write_str("the Docker Engine"),
            Peer::Registry => f.write_str("the registry"),
        }
    }
}

/// What the end of a try tells of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Answers,
    Away,
    /// The try ended before it was asked, or for another reason.
    Unknown,
}

/// Whether `code` says that a peer of stages did not answer, or asks for patience.
pub fn blames_a_peer(code: Code) -> bool {
    blames_git(code) || blames_the_engine(code) || blames_the_registry(code)
}

fn blames_git(code: Code) -> bool {
    matches!(code, Code::GitUnreachable | Code::GitStalled)
}

fn blames_the_engine(code: Code) -> bool {
    matches!(code, Code::EngineUnreachable | Code::EngineLost)
}

fn blames_the_registry(code: Code) -> bool {
    matches!(code, Code::RegistryUnreachable | Code::RegistryStalled)
}

impl Peer {
    /// Whether no job can go on without it.
    pub fn is_needed_by_all(&self) -> bool {
        !matches!(self, Peer::Git(_))
    }

    fn is_blamed_by(&self, code: Code) -> bool {
        match self {
            Peer::Git(_) => blames_git(code),
            Peer::Engine => blames_the_engine(code),
            Peer::Registry => blames_the_registry(code),
        }
    }

    fn verdict(&self, failure: Option<&Failure>) -> Verdict {
        let Some(failure) = failure else {
            return Verdict::Answers;
        };
        if self.is_blamed_by(failure.code) {
            return if failure.evidence == Evidence::Seen { Verdict::Away } else { Verdict::Unknown };
        }
        let stopped = matches!(failure.kind(), FailureKind::Cancelled | FailureKind::Timeout | FailureKind::LeaseLost);
        let not_asked = matches!(failure.code, Code::WorkerDiskFull | Code::WorkerInternal | Code::BuildpacksBuilder)
            || failure.code.as_str().starts_with("context.");
        if blames_a_peer(failure.code) || stopped || not_asked { Verdict::Unknown } else { Verdict::Answers }
    }
}

/// What is known of a peer that does not answer.
struct Away {
    circuit: Circuit,
    /// The try that went out last while it is open.
    probing: Option<(u64, Instant)>,
    /// When it was asked last.
    asked: Instant,
    /// Who waits: first come, first served, so that one job's own trouble is not tried over and over while others wait.
    queue: Arc<tokio::sync::Mutex<()>>,
}

/// The right to try once. It has to be handed back with what came of it.
#[derive(Debug, Default)]
pub struct Turn {
    probes: Vec<(Peer, u64)>,
}

/// The health of the peers, shared by all jobs. Those that answer cost nothing.
#[derive(Default)]
pub struct Peers {
    away: Mutex<HashMap<Peer, Away>>,
    /// A peer answers again, or a try has ended.
    changed: Notify,
    tries: std::sync::atomic::AtomicU64,
}

enum Admission {
    Go(Option<u64>),
    Wait(Instant),
}

impl Peers {
    /// The first of `peers` that does not answer at present, if any.
    pub fn away(&self, peers: &[Peer]) -> Option<Peer> {
        let away = self.state();
        peers.iter().find(|peer| away.contains_key(peer)).cloned()
    }

    /// Waits until this caller may try once, `until` at the latest. Dropping the future gives its place away.
    pub async fn turn(&self, peers: &[Peer], until: Instant) -> Turn {
        let mut turn = Turn::default();
        for peer in peers {
            if let Some(number) = self.wait_for(peer, until).await {
                turn.probes.push((peer.clone(), number));
            }
        }
        turn
    }

    async fn wait_for(&self, peer: &Peer, until: Instant) -> Option<u64> {
        let queue = self.state().get(peer)?.queue.clone();
        let place = tokio::time::timeout_at(until.into(), queue.lock()).await;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let next = match self.admit(peer, Instant::now()) {
                Admission::Go(number) => return number,
                // Its patience is over: it finds out by itself.
                Admission::Wait(_) if place.is_err() || Instant::now() >= until => return None,
                Admission::Wait(next) => next.min(until),
            };
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = changed => {}
            }
        }
    }

    fn admit(&self, peer: &Peer, now: Instant) -> Admission {
        let mut away = self.state();
        let Some(of) = away.get_mut(peer) else {
            return Admission::Go(None);
        };
        let shut = of.circuit.shut_until().unwrap_or(now);
        let probed = of.probing.map_or(now, |(_, since)| since + PROBE_PATIENCE);
        let next = shut.max(probed);
        if next > now {
            return Admission::Wait(next);
        }
        let number = self.tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        of.probing = Some((number, now));
        of.asked = now;
        Admission::Go(Some(number))
    }

    /// What came of the try: `None` for success. `wait` is given the number of failures in a row before this one, and says how
    /// long nobody tries then. Returns how long that is for the peer that is to blame.
    pub fn ended(
        &self,
        turn: Turn,
        peers: &[Peer],
        failure: Option<&Failure>,
        wait: impl Fn(u32) -> Duration,
    ) -> Option<Duration> {
        let now = Instant::now();
        let mut longest = None;
        let mut away = self.state();
        for peer in peers {
            let probe = turn.probes.iter().find(|(of, _)| of == peer).map(|(_, number)| *number);
            if let (Some(of), Some(number)) = (away.get_mut(peer), probe)
                && of.probing.is_some_and(|(last, _)| last == number)
            {
                of.probing = None;
            }
            match peer.verdict(failure) {
                Verdict::Unknown => {}
                Verdict::Answers => {
                    let closed = away.get_mut(peer).is_some_and(|of| of.circuit.passed(probe.is_some()) == Change::Closed);
                    if closed {
                        away.remove(peer);
                        tracing::info!("{peer} answers again");
                    }
                }
                Verdict::Away => {
                    let of = away.entry(peer.clone()).or_insert_with(|| Away {
                        circuit: Circuit::default(),
                        probing: None,
                        asked: now,
                        queue: Arc::default(),
                    });
                    let at_least = failure.and_then(|f| f.retry_after).map(|asked| asked.min(RETRY_AFTER_MAX));
                    if of.circuit.failed(now, probe.is_some(), at_least, &wait) == Change::Opened {
                        let cause = failure.map_or("", |f| f.cause.as_str());
                        tracing::warn!(cause, "{peer} does not answer; jobs that need it wait, and one at a time tries");
                    }
                    longest = of.circuit.shut_until().map(|until| until.saturating_duration_since(now));
                }
            }
        }
        away.retain(|_, of| now.saturating_duration_since(of.asked) < FORGET_AFTER);
        drop(away);
        self.changed.notify_waiters();
        longest
    }

    fn state(&self) -> MutexGuard<'_, HashMap<Peer, Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(40);

    fn git() -> Vec<Peer> {
        vec![Peer::Git("git.example".into())]
    }

    fn failure(code: Code) -> Failure {
        Failure::new(code, "", "")
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    async fn open(peers: &Peers) {
        let turn = peers.turn(&git(), far()).await;
        assert!(peers.ended(turn, &git(), Some(&failure(Code::GitUnreachable)), |_| WAIT).is_some());
    }

    #[test]
    fn a_failure_tells_only_of_the_peer_that_it_names() {
        let verdict = |peer: Peer, code| peer.verdict(Some(&failure(code)));
        assert_eq!(verdict(Peer::Registry, Code::RegistryStalled), Verdict::Away);
        assert_eq!(verdict(Peer::Registry, Code::EngineLost), Verdict::Unknown);
        assert_eq!(verdict(Peer::Engine, Code::EngineLost), Verdict::Away);
        assert_eq!(verdict(Peer::Engine, Code::DockerfileStepFailed), Verdict::Answers);
        assert_eq!(verdict(Peer::Engine, Code::BuildCancelled), Verdict::Unknown);
        assert_eq!(verdict(Peer::Git("h".into()), Code::GitAuth), Verdict::Answers);
        assert_eq!(verdict(Peer::Git("h".into()), Code::WorkerDiskFull), Verdict::Unknown);
        assert_eq!(verdict(Peer::Engine, Code::ContextNoDockerfile), Verdict::Unknown, "it was not asked");
        let of_job = failure(Code::GitStalled).by(Evidence::OfThisJob);
        assert_eq!(Peer::Git("h".into()).verdict(Some(&of_job)), Verdict::Unknown, "another repository may be served well");
        assert_eq!(Peer::Engine.verdict(None), Verdict::Answers);
    }

    #[tokio::test]
    async fn a_peer_that_answers_holds_nobody_up() {
        let peers = Peers::default();
        assert_eq!(peers.away(&git()), None);
        assert!(peers.turn(&git(), far()).await.probes.is_empty());
    }

    #[tokio::test]
    async fn while_a_peer_is_away_one_of_many_tries_and_when_it_answers_all_go() {
        let peers = Peers::default();
        open(&peers).await;
        assert_eq!(peers.away(&git()), Some(git().remove(0)));
        let probe = peers.turn(&git(), far()).await;
        assert_eq!(probe.probes.len(), 1);
        let (here, names) = (&peers, git());
        let mut others: futures_util::stream::FuturesUnordered<_> = (0..8).map(|_| here.turn(&names, far())).collect();
        use futures_util::StreamExt;
        let early = tokio::time::timeout(WAIT * 3, others.next()).await;
        assert!(early.is_err(), "one tries, the others wait for what comes of it");
        peers.ended(probe, &git(), None, |_| WAIT);
        assert!(others.all(|turn| std::future::ready(turn.probes.is_empty())).await);
        assert_eq!(peers.away(&git()), None);
    }

    #[tokio::test]
    async fn another_git_server_is_not_waited_for() {
        let peers = Peers::default();
        open(&peers).await;
        assert_eq!(peers.away(&[Peer::Git("other.example".into()), Peer::Engine, Peer::Registry]), None);
    }

    #[tokio::test]
    async fn who_has_waited_long_enough_finds_out_by_itself() {
        let peers = Peers::default();
        open(&peers).await;
        let _probe = peers.turn(&git(), far()).await;
        assert!(peers.turn(&git(), Instant::now() + WAIT).await.probes.is_empty());
    }

    #[tokio::test]
    async fn a_peer_that_asks_for_patience_is_given_it_up_to_the_bound() {
        let peers = Peers::default();
        let wait = |asked| {
            let busy = failure(Code::GitUnreachable).asking_for(Some(Duration::from_secs(asked)));
            peers.ended(Turn::default(), &git(), Some(&busy), |_| WAIT).unwrap()
        };
        assert!(wait(7) > Duration::from_secs(6));
        assert!(wait(86_400) <= RETRY_AFTER_MAX);
    }
}
