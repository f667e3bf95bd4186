//! The loops' trouble with Redis: told once for all of them, and once when it is over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::error::QueueError;

/// After Redis has come back, who has not asked for a while finds his old connection broken: that is no news for so long.
const STALE: Duration = Duration::from_secs(15);

/// What was told, by whichever loop came to it first. One per queue.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    /// With how many loops have each.
    matters: Vec<(Matter, usize)>,
    /// When Redis could last be reached again.
    back: Option<Instant>,
}

/// What is one and the same to a reader: each loop sees another side of a Redis that is away.
#[derive(Debug, Clone, PartialEq)]
enum Matter {
    Away,
    Other(QueueError),
}

impl Matter {
    fn of(error: &QueueError) -> Self {
        match error {
            QueueError::Unreachable { .. } => Self::Away,
            other => Self::Other(other.clone()),
        }
    }
}

impl Board {
    /// `true`: it is news.
    fn begin(&self, matter: &Matter) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, loops)) = told.matters.iter_mut().find(|(m, _)| m == matter) {
            *loops += 1;
            return false;
        }
        told.matters.push((matter.clone(), 1));
        true
    }

    /// `true`: it is news.
    fn end(&self, matter: &Matter, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.matters.len();
        told.matters.retain(|(m, _)| m != matter);
        let is_news = told.matters.len() < before;
        if is_news && *matter == Matter::Away {
            told.back = Some(now);
        }
        is_news
    }

    /// A loop has it no more, and cannot say that it is over. What nobody has is news the next time.
    fn leave(&self, matter: &Matter) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, loops)) = told.matters.iter_mut().find(|(m, _)| m == matter) {
            *loops -= 1;
        }
        told.matters.retain(|(_, loops)| *loops > 0);
    }

    fn may_be_stale(&self, matter: &Matter, now: Instant) -> bool {
        let back = self.0.lock().unwrap_or_else(PoisonError::into_inner).back;
        *matter == Matter::Away && back.is_some_and(|back| now.duration_since(back) < STALE)
    }
}

/// One loop's.
#[derive(Debug)]
pub(super) struct Trouble {
    board: Arc<Board>,
    matter: Option<Matter>,
    tries: u32,
}

impl Trouble {
    pub(super) fn new(board: &Arc<Board>) -> Self {
        Self { board: board.clone(), matter: None, tries: 0 }
    }

    /// Gives the pause before the next try: doubled from 100 ms to 2 s.
    pub(super) fn told(&mut self, error: &QueueError) -> Duration {
        if self.is_news(error, Instant::now()) {
            warn!("{error} It is tried again until it works.");
        }
        let pause = Duration::from_millis(100 << self.tries.min(5)).min(Duration::from_secs(2));
        self.tries = self.tries.saturating_add(1);
        pause
    }

    pub(super) fn over(&mut self) {
        if self.ends(Instant::now()) {
            info!("Redis answers again.");
        }
    }

    fn is_news(&mut self, error: &QueueError, now: Instant) -> bool {
        let matter = Matter::of(error);
        if self.matter.as_ref() == Some(&matter) || (self.tries == 0 && self.board.may_be_stale(&matter, now)) {
            return false;
        }
        let is_news = self.board.begin(&matter);
        if let Some(before) = self.matter.replace(matter) {
            self.board.leave(&before);
        }
        is_news
    }

    fn ends(&mut self, now: Instant) -> bool {
        self.tries = 0;
        self.matter.take().is_some_and(|matter| self.board.end(&matter, now))
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        if let Some(matter) = self.matter.take() {
            self.board.leave(&matter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(cause: &str) -> QueueError {
        QueueError::Unreachable { address: "redis:6379".into(), cause: cause.into() }
    }

    fn loops() -> (Trouble, Trouble) {
        let board = Arc::default();
        (Trouble::new(&board), Trouble::new(&board))
    }

    #[test]
    fn a_redis_that_is_away_is_told_by_the_first_that_finds_it_and_so_is_its_return() {
        let ((mut one, mut other), now) = (loops(), Instant::now());
        assert!(one.is_news(&away("it closed the connection"), now));
        assert!(!other.is_news(&away("the connection was refused"), now));
        assert!(!one.is_news(&away("no answer within 5 s"), now));
        assert!(other.ends(now));
        assert!(!one.ends(now));
        assert!(one.is_news(&away("it closed the connection"), now + STALE), "it is away once more");
    }

    #[test]
    fn what_only_a_loop_knew_that_is_gone_is_told_the_next_time_and_what_another_still_has_is_not() {
        let ((mut one, mut other), now) = (loops(), Instant::now());
        assert!(one.is_news(&away("it closed the connection"), now));
        drop(one);
        assert!(other.is_news(&away("the connection was refused"), now), "nobody else would tell of this outage");
        let mut third = Trouble::new(&other.board);
        assert!(!third.is_news(&away("broken pipe"), now));
        drop(third);
        let mut fourth = Trouble::new(&other.board);
        assert!(!fourth.is_news(&away("broken pipe"), now));
        assert!(other.ends(now));
    }

    #[test]
    fn an_old_connection_that_is_found_broken_when_redis_is_back_is_no_news_unless_the_next_is_broken_too() {
        let ((mut one, mut other), now) = (loops(), Instant::now());
        assert!(one.is_news(&away("it closed the connection"), now) && one.ends(now));
        assert!(!other.is_news(&away("broken pipe"), now));
        assert!(!other.ends(now));
        other.told(&away("broken pipe"));
        assert!(other.is_news(&away("the connection was refused"), now));
    }

    #[test]
    fn what_is_another_matter_is_told_too() {
        let ((mut one, mut other), now) = (loops(), Instant::now());
        let wrong = QueueError::WrongType { address: "redis:6379".into(), what: "x is a string, not a list".into() };
        assert!(one.is_news(&away("the connection was refused"), now));
        assert!(one.is_news(&wrong, now));
        assert!(!other.is_news(&wrong, now));
    }
}
