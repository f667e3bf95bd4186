//! PURE: how much of one attempt's log is told to the dashboard, and what is said of the rest.

use std::collections::VecDeque;

use super::journal::Missing;
use crate::protocol::LogType;

/// What the worker itself says may go so far above the limit: no output of the build takes that room.
const OWN_WORDS: u64 = 1 << 20;
/// So many bytes of what comes last are kept for the end: a build that fails says why in its last lines.
const TAIL: usize = 16 * 1024;

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Whole,
    /// It is the first that is not told: in its place stands why.
    LastWord(String),
    Nothing,
}

/// Counts what is told. `LOG_TOTAL_MAX` 0: without a limit.
#[derive(Debug)]
pub struct Allowance {
    max: u64,
    told: u64,
    /// There since the first line that was not told.
    cut: Option<Cut>,
}

#[derive(Debug, Default)]
struct Cut {
    left_out: Missing,
    tail: VecDeque<(LogType, String)>,
    tail_bytes: usize,
}

impl Allowance {
    pub fn new(max: u64) -> Self {
        Self { max, told: 0, cut: None }
    }

    /// One line, or several joined by `\n`.
    pub fn take(&mut self, kind: LogType, text: &str) -> Told {
        let after = self.told + text.len() as u64 + 1;
        let fits = match kind {
            _ if self.max == 0 => true,
            LogType::Stdout | LogType::Stderr => self.cut.is_none() && after <= self.max,
            LogType::Info | LogType::Warning | LogType::Error => after <= self.max.saturating_add(OWN_WORDS),
        };
        if fits {
            self.told = after;
            return Told::Whole;
        }
        let is_first = self.cut.is_none();
        self.cut.get_or_insert_default().keep(kind, text);
        if is_first { Told::LastWord(last_word(self.max)) } else { Told::Nothing }
    }

    /// At the attempt's end: how much was left out, and the last lines of it. Once.
    pub fn rest(&mut self) -> Vec<(LogType, String)> {
        let Cut { left_out, tail, .. } = self.cut.as_mut().map(std::mem::take).unwrap_or_default();
        let words = (!left_out.is_none()).then(|| {
            let text = format!(
                "[slipway] {} lines ({} bytes) are left out here, by LOG_TOTAL_MAX. The last lines follow.",
                left_out.lines, left_out.bytes
            );
            (LogType::Warning, text)
        });
        words.into_iter().chain(tail).collect()
    }
}

impl Cut {
    fn keep(&mut self, kind: LogType, text: &str) {
        for line in text.split('\n') {
            self.tail.push_back((kind, line.to_owned()));
            self.tail_bytes += line.len();
        }
        while self.tail_bytes > TAIL
            && let Some((_, oldest)) = self.tail.pop_front()
        {
            self.tail_bytes -= oldest.len();
            self.left_out.add(Missing { lines: 1, bytes: oldest.len() as u64 });
        }
    }
}

fn last_word(max: u64) -> String {
    const MIB: u64 = 1 << 20;
    let max = if max.is_multiple_of(MIB) { format!("{} MiB", max / MIB) } else { format!("{max} bytes") };
    format!(
        "[slipway] The log ends here: it has reached the {max} of LOG_TOTAL_MAX. The build goes on, and its last lines are \
         told when it ends. Print less, or have LOG_TOTAL_MAX raised."
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch::lines_in;
    use super::*;

    fn kind() -> impl Strategy<Value = LogType> {
        prop_oneof![5 => Just(LogType::Stdout), 2 => Just(LogType::Stderr), 1 => Just(LogType::Info), 1 => Just(LogType::Error)]
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![9 => (0usize..60).prop_map(|n| "x".repeat(n)), 2 => Just("a\nb\nc".to_owned()), 1 => Just("x".repeat(9000)),
            1 => Just("many lines at once\n".repeat(1000) + "the last")]
    }

    proptest! {
        #[test]
        fn a_log_is_bounded_and_every_line_is_told_or_counted(
            lines in prop::collection::vec((kind(), text()), 0..80),
            max in 1u64..3000,
        ) {
            let (mut allowance, mut told, mut told_lines) = (Allowance::new(max), 0, 0);
            let (mut last_words, mut holes, mut newest) = (0, 0, None);
            for (kind, text) in &lines {
                match allowance.take(*kind, text) {
                    Told::Whole => {
                        told += text.len() as u64 + 1;
                        told_lines += lines_in(text);
                        holes += u64::from(last_words > 0 && matches!(kind, LogType::Stdout | LogType::Stderr));
                    }
                    other => {
                        last_words += u64::from(other != Told::Nothing);
                        newest = text.rsplit('\n').next();
                    }
                }
            }
            prop_assert!(told <= max + OWN_WORDS && last_words <= 1);
            prop_assert_eq!(holes, 0, "no output comes behind the line that says that the log ends");
            let left_out = allowance.cut.as_ref().map_or(0, |cut| cut.left_out.lines);
            let rest = allowance.rest();
            let tail: Vec<_> = rest.iter().filter(|(_, text)| !text.starts_with("[slipway]")).collect();
            let tail_lines: u64 = tail.iter().map(|(_, text)| lines_in(text)).sum();
            prop_assert_eq!(told_lines + left_out + tail_lines, lines.iter().map(|(_, text)| lines_in(text)).sum::<u64>());
            prop_assert_eq!(tail.last().map(|(_, line)| line.as_str()), newest);
            prop_assert!(tail.iter().map(|(_, text)| text.len()).sum::<usize>() <= TAIL);
            prop_assert_eq!(allowance.rest(), []);
        }
    }

    #[test]
    fn what_the_worker_says_itself_is_told_behind_the_end_of_the_output() {
        let mut allowance = Allowance::new(64 << 20);
        let much = "x".repeat(64 << 20);
        let said = Told::LastWord(last_word(64 << 20));
        assert_eq!(allowance.take(LogType::Stdout, &much), said);
        assert!(last_word(64 << 20).contains("the 64 MiB of LOG_TOTAL_MAX"));
        assert_eq!(allowance.take(LogType::Stdout, "more"), Told::Nothing);
        assert_eq!(allowance.take(LogType::Info, "DONE 1.0s"), Told::Whole);
    }

    #[test]
    fn zero_limits_nothing() {
        let mut allowance = Allowance::new(0);
        assert_eq!(allowance.take(LogType::Stdout, &"x".repeat(1 << 20)), Told::Whole);
        assert_eq!(allowance.rest(), []);
    }
}
