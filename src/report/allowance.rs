//! PURE: how much of one attempt's log is told to the dashboard, and what is said of the rest.

use std::collections::VecDeque;

use super::journal::Missing;
use crate::protocol::LogType;

/// What the worker itself says may go so far above the limit: no output of the build takes that room.
const OWN_WORDS: u64 = 1 << 20;
/// So many bytes of what comes last are kept until the worker says something, or to the end: what fails says why in its last lines.
const TAIL: usize = 32 * 1024;

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// It is told, behind these, which were kept of the output before it.
    Behind(Vec<(LogType, String)>),
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
        let kept = self.cut.as_ref().map_or(0, |cut| cut.tail_bytes) as u64;
        let after = self.told + kept + text.len() as u64 + 1;
        let fits = match kind {
            _ if self.max == 0 => true,
            LogType::Stdout | LogType::Stderr => self.cut.is_none() && after <= self.max,
            LogType::Info | LogType::Warning | LogType::Error => after <= self.max.saturating_add(OWN_WORDS),
        };
        if fits {
            self.told = after;
            return Told::Behind(self.rest());
        }
        let is_first = self.cut.is_none();
        self.cut.get_or_insert_default().keep(kind, text);
        if is_first { Told::LastWord(last_word(self.max)) } else { Told::Nothing }
    }

    /// How much was left out since the last time, and the last lines of it: before what the worker says, and at the attempt's end.
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
            self.tail_bytes += line.len() + 1;
        }
        // The newest stays, however long it is: an output line has 16 KiB at most.
        while self.tail_bytes > TAIL
            && self.tail.len() > 1
            && let Some((_, oldest)) = self.tail.pop_front()
        {
            self.tail_bytes -= oldest.len() + 1;
            self.left_out.add(Missing { lines: 1, bytes: oldest.len() as u64 });
        }
    }
}

fn last_word(max: u64) -> String {
    const MIB: u64 = 1 << 20;
    let max = if max.is_multiple_of(MIB) { format!("{} MiB", max / MIB) } else { format!("{max} bytes") };
    format!(
        "[slipway] The log has reached the {max} of LOG_TOTAL_MAX: from here on only the last lines of each step are told. The \
         build goes on. Print less, or have LOG_TOTAL_MAX raised."
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
        fn a_log_is_bounded_in_order_and_every_line_is_told_or_counted(
            lines in prop::collection::vec((kind(), text()), 0..80),
            max in 1u64..3000,
        ) {
            let lines: Vec<_> = lines.into_iter().enumerate().map(|(n, (kind, text))| (kind, format!("{n} {text}"))).collect();
            let (mut allowance, mut told, mut last_words) = (Allowance::new(max), Vec::new(), 0);
            for (kind, text) in &lines {
                match allowance.take(*kind, text) {
                    Told::Behind(kept) => {
                        prop_assert!(kept.iter().map(|(_, text)| text.len() + 1).sum::<usize>() <= TAIL + 200);
                        told.extend(kept);
                        told.push((*kind, text.clone()));
                    }
                    Told::LastWord(words) => {
                        last_words += 1;
                        told.push((LogType::Warning, words));
                    }
                    Told::Nothing => {}
                }
            }
            told.extend(allowance.rest());
            prop_assert_eq!(allowance.rest(), []);
            prop_assert!(last_words <= 1);
            let is_word = |text: &str| text.starts_with("[slipway]");
            let bytes: usize = told.iter().filter(|(_, text)| !is_word(text)).map(|(_, text)| text.len() + 1).sum();
            prop_assert!(bytes as u64 <= max + OWN_WORDS + 2 * TAIL as u64, "{bytes} bytes");
            let left_out: u64 =
                told.iter().filter_map(|(_, text)| text.strip_prefix("[slipway] ")?.split_once(" lines (")?.0.parse::<u64>().ok()).sum();
            let told_lines: u64 = told.iter().filter(|(_, text)| !is_word(text)).map(|(_, text)| lines_in(text)).sum();
            prop_assert_eq!(told_lines + left_out, lines.iter().map(|(_, text)| lines_in(text)).sum::<u64>());
            let numbers: Vec<usize> = told.iter().filter_map(|(_, text)| text.split(' ').next()?.parse().ok()).collect();
            prop_assert!(numbers.is_sorted(), "{numbers:?}");
            let newest = |lines: &[(LogType, String)]| lines.last().and_then(|(_, text)| Some(text.rsplit('\n').next()?.to_owned()));
            prop_assert_eq!(newest(&told), newest(&lines));
        }
    }

    #[test]
    fn what_the_worker_says_itself_is_told_behind_the_last_lines_of_the_output_before_it() {
        let mut allowance = Allowance::new(64 << 20);
        let much = "x".repeat(64 << 20);
        assert_eq!(allowance.take(LogType::Stdout, &much), Told::LastWord(last_word(64 << 20)));
        assert!(last_word(64 << 20).contains("the 64 MiB of LOG_TOTAL_MAX"));
        for text in ["more", "and more"] {
            assert_eq!(allowance.take(LogType::Stdout, text), Told::Nothing);
        }
        let Told::Behind(kept) = allowance.take(LogType::Info, "DONE 1.0s") else { panic!("what the worker says is told") };
        let kept: Vec<_> = kept.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(kept[1..], ["more", "and more"]);
        assert!(kept[0].starts_with("[slipway] 1 lines (67108864 bytes) are left out here"), "{}", kept[0]);
        assert_eq!(allowance.take(LogType::Info, "DONE 2.0s"), Told::Behind(Vec::new()));
    }

    #[test]
    fn what_is_kept_is_bounded_though_its_lines_are_empty_and_the_newest_stays_though_it_is_long() {
        let mut allowance = Allowance::new(1);
        allowance.take(LogType::Stdout, &"\n".repeat(1 << 20));
        assert!(allowance.rest().len() <= TAIL + 1);
        allowance.take(LogType::Stdout, "why");
        allowance.take(LogType::Stdout, &"x".repeat(2 * TAIL));
        assert_eq!(allowance.rest().pop().map(|(_, text)| text.len()), Some(2 * TAIL));
    }

    #[test]
    fn zero_limits_nothing() {
        let mut allowance = Allowance::new(0);
        assert_eq!(allowance.take(LogType::Stdout, &"x".repeat(1 << 20)), Told::Behind(Vec::new()));
        assert_eq!(allowance.rest(), []);
    }
}
