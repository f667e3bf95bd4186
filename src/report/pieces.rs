//! PURE: a log post that the dashboard does not take while it takes others. Cut down to the line that it stumbles over, which is
//! then left out with a line that says so, and only after that very line was refused again behind a line that was taken.

use std::collections::VecDeque;
use std::ops::Range;

use super::batch::lines_in;

/// Refusals of a piece before it is cut, or announced as one that may be missing.
const REFUSALS: u32 = 5;
/// The same for what was cut already: something in it is refused.
const REFUSALS_OF_A_PIECE: u32 = 2;
/// Refusals behind the announcement before it is left out.
const REFUSALS_ANNOUNCED: u32 = 3;
/// A line that is too large (413) is cut no further than this.
const SMALLEST_CUT: usize = 1024;

/// One log item on its way out: the parts of its text that are not told yet, in order. Holds no text.
#[derive(Debug)]
pub struct Pieces {
    queue: VecDeque<Piece>,
}

#[derive(Debug)]
struct Piece {
    range: Range<usize>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Plain {
        refusals: u32,
        limit: u32,
    },
    /// The next post is the line that says what may be missing.
    Announcing,
    Announced {
        refusals: u32,
    },
}

/// What is to be posted now.
#[derive(Debug, PartialEq, Eq)]
pub enum Outgoing<'t> {
    Text(&'t str),
    /// To be posted as a WARNING.
    Announcement(String),
}

/// What a refusal led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wait and try what comes next.
    Again,
    /// So many bytes are left out for good.
    LeftOut(usize),
}

impl Pieces {
    pub fn whole(len: usize) -> Self {
        let stage = Stage::Plain { refusals: 0, limit: REFUSALS };
        Self { queue: VecDeque::from([Piece { range: 0..len, stage }]) }
    }

    /// `None`: all is told. `text`: the item's, the same each time.
    pub fn next<'t>(&self, text: &'t str, why: &str) -> Option<Outgoing<'t>> {
        let piece = self.queue.front()?;
        let part = text.get(piece.range.clone()).unwrap_or_default();
        Some(match piece.stage {
            Stage::Announcing => Outgoing::Announcement(format!(
                "[slipway] {why} to the next line ({} bytes). It is left out if that goes on.",
                part.len()
            )),
            Stage::Plain { .. } | Stage::Announced { .. } => Outgoing::Text(part),
        })
    }

    /// Whether what comes next is the harmless line that says what may be missing.
    pub fn is_announcing(&self) -> bool {
        self.queue.front().is_some_and(|piece| piece.stage == Stage::Announcing)
    }

    /// What [`Pieces::next`] gave was taken.
    pub fn taken(&mut self) {
        let Some(piece) = self.queue.front_mut() else {
            return;
        };
        match piece.stage {
            Stage::Announcing => piece.stage = Stage::Announced { refusals: 0 },
            Stage::Plain { .. } | Stage::Announced { .. } => {
                self.queue.pop_front();
            }
        }
    }

    /// It was answered with 500 or 400 (or with 403 while a test post passes): because of what stands in it, or because of the dashboard.
    pub fn refused(&mut self, text: &str) -> Refusal {
        let Some(piece) = self.queue.front_mut() else {
            return Refusal::Again;
        };
        match &mut piece.stage {
            Stage::Plain { refusals, limit } => {
                *refusals += 1;
                if *refusals >= *limit && !self.cut_by_lines(text) {
                    self.set_stage(Stage::Announcing);
                }
            }
            // Not even a harmless line passes: the dashboard is in trouble, not the piece.
            Stage::Announcing => self.set_stage(Stage::Plain { refusals: 0, limit: REFUSALS }),
            Stage::Announced { refusals } => {
                *refusals += 1;
                if *refusals >= REFUSALS_ANNOUNCED {
                    return self.leave_out();
                }
            }
        }
        Refusal::Again
    }

    /// It was answered with 413.
    pub fn too_large(&mut self, text: &str) -> Refusal {
        let Some(piece) = self.queue.front() else {
            return Refusal::Again;
        };
        match piece.stage {
            Stage::Plain { .. } => {
                if !self.cut_by_lines(text) && !self.cut_in_the_middle(text) {
                    self.set_stage(Stage::Announcing);
                }
                Refusal::Again
            }
            Stage::Announcing => {
                self.set_stage(Stage::Plain { refusals: 0, limit: REFUSALS });
                Refusal::Again
            }
            Stage::Announced { .. } => self.leave_out(),
        }
    }

    /// It is not told at all.
    pub fn leave_out(&mut self) -> Refusal {
        Refusal::LeftOut(self.queue.pop_front().map_or(0, |p| p.range.len()))
    }

    fn set_stage(&mut self, stage: Stage) {
        if let Some(piece) = self.queue.front_mut() {
            piece.stage = stage;
        }
    }

    /// In two at the line's end that is nearest to the middle. `false`: it is one line.
    fn cut_by_lines(&mut self, text: &str) -> bool {
        let Some(piece) = self.queue.front() else {
            return false;
        };
        let part = text.get(piece.range.clone()).unwrap_or_default();
        if lines_in(part) < 2 {
            return false;
        }
        let middle = part.len() / 2;
        let before = part.as_bytes()[..middle].iter().rposition(|b| *b == b'\n');
        let after = part.as_bytes()[middle..].iter().position(|b| *b == b'\n').map(|n| n + middle);
        let end = match (before, after) {
            (Some(b), Some(a)) => {
                if middle - b <= a - middle {
                    b
                } else {
                    a
                }
            }
            (Some(n), None) | (None, Some(n)) => n,
            (None, None) => return false,
        };
        self.replace(end, end + 1);
        true
    }

    fn cut_in_the_middle(&mut self, text: &str) -> bool {
        let Some(piece) = self.queue.front() else {
            return false;
        };
        let part = text.get(piece.range.clone()).unwrap_or_default();
        if part.len() <= SMALLEST_CUT {
            return false;
        }
        let middle = part.floor_char_boundary(part.len() / 2);
        self.replace(middle, middle);
        true
    }

    /// The first piece becomes what is before `end` and what is from `begin` on, both counted from its own beginning.
    fn replace(&mut self, end: usize, begin: usize) {
        let Some(piece) = self.queue.pop_front() else {
            return;
        };
        let stage = Stage::Plain { refusals: 0, limit: REFUSALS_OF_A_PIECE };
        let Range { start, end: last } = piece.range;
        for range in [start + begin..last, start..start + end] {
            // A text that begins or ends with an empty line leaves nothing on one side: nothing is lost by not telling that.
            if !range.is_empty() {
                self.queue.push_front(Piece { range, stage });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Posts a text to a dashboard that answers 500 to what `stumbles` says; returns what it took and what was left out.
    fn deliver(text: &str, stumbles: impl Fn(usize, &str) -> bool) -> (Vec<String>, usize, usize) {
        let (mut pieces, mut taken, mut left_out, mut tries) = (Pieces::whole(text.len()), Vec::new(), 0, 0);
        while let Some(out) = pieces.next(text, "The dashboard answers 500") {
            let body = match out {
                Outgoing::Text(t) => t.to_owned(),
                Outgoing::Announcement(t) => t,
            };
            assert!(!body.is_empty());
            if stumbles(tries, &body) {
                if let Refusal::LeftOut(bytes) = pieces.refused(text) {
                    left_out += bytes;
                }
            } else {
                taken.push(body);
                pieces.taken();
            }
            tries += 1;
            assert!(tries < 10_000);
        }
        (taken, left_out, tries)
    }

    proptest! {
        #[test]
        fn only_the_lines_that_the_dashboard_stumbles_over_are_left_out(lines in prop::collection::vec("[a-z]{1,9}|[a-z]{0,5}!", 1..60)) {
            let (taken, left_out, _) = deliver(&lines.join("\n"), |_, body| body.contains('!'));
            let (bad, good): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l.contains('!'));
            let shown: Vec<_> = taken.iter().flat_map(|t| t.split('\n')).filter(|l| !l.starts_with("[slipway]")).collect();
            prop_assert_eq!(shown, good);
            prop_assert_eq!(left_out, bad.iter().map(|l| l.len()).sum::<usize>());
            prop_assert_eq!(taken.iter().filter(|t| t.starts_with("[slipway]")).count(), bad.len());
        }

        #[test]
        fn a_dashboard_that_fails_for_everybody_and_recovers_loses_nothing(lines in prop::collection::vec("[a-z]{1,9}", 1..40), outage in 1usize..200) {
            let (taken, left_out, _) = deliver(&lines.join("\n"), |tries, _| tries < outage);
            let shown: Vec<_> = taken.iter().flat_map(|t| t.split('\n')).filter(|l| !l.starts_with("[slipway]")).collect();
            prop_assert_eq!(shown, lines);
            prop_assert_eq!(left_out, 0);
        }
    }

    #[test]
    fn a_long_line_that_is_too_large_is_cut_and_told() {
        let text = "x".repeat(60_000);
        let (mut pieces, mut told) = (Pieces::whole(text.len()), 0);
        while let Some(Outgoing::Text(part)) = pieces.next(&text, "") {
            if part.len() > 10_000 {
                assert_eq!(pieces.too_large(&text), Refusal::Again);
            } else {
                told += part.len();
                pieces.taken();
            }
        }
        assert_eq!(told, text.len());
    }
}
