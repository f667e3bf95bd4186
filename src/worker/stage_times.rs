//! How long an attempt spent in each stage, for the log line of its end.

use std::fmt;
use std::time::{Duration, Instant};

/// The time of each stage, in the order in which they began. A stage that is entered again goes on counting.
#[derive(Debug, Default, Clone)]
pub struct StageTimes {
    spent: Vec<(String, Duration)>,
    current: Option<(String, Instant)>,
}

impl StageTimes {
    /// The attempt is in `stage` from `now` on.
    pub fn enter(&mut self, stage: impl fmt::Display, now: Instant) {
        self.leave(now);
        self.current = Some((stage.to_string(), now));
    }

    /// The stage that was entered last is over.
    pub fn leave(&mut self, now: Instant) {
        let Some((stage, since)) = self.current.take() else { return };
        let time = now.saturating_duration_since(since);
        match self.spent.iter_mut().find(|(known, _)| *known == stage) {
            Some((_, spent)) => *spent += time,
            None => self.spent.push((stage, time)),
        }
    }
}

impl fmt::Display for StageTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (stage, time)) in self.spent.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{stage} {:.2} s", time.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_all_its_tries_in_one_figure_and_the_order_is_that_of_the_way() {
        let (mut times, start) = (StageTimes::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        times.enter("building the image", at(0));
        times.enter("pushing the image", at(1500));
        times.enter("waiting for Redis", at(2000));
        times.enter("pushing the image", at(2250));
        times.leave(at(2500));
        times.leave(at(9000));
        assert_eq!(times.to_string(), "building the image 1.50 s, pushing the image 0.75 s, waiting for Redis 0.25 s");
    }
}
