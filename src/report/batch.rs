//! PURE: log lines → posts. Joins consecutive lines of one type, splits what is too long, never makes an empty text.

use std::time::Duration;

use crate::protocol::LogType;

/// A batch is closed at this age, counted from its first line …
pub const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// … or at this size in bytes of UTF-8, whichever comes first.
pub const FLUSH_BYTES: usize = 32 * 1024;
/// No post is longer, in bytes of UTF-8: the dashboard answers 500 for ever above 65,535.
pub const POST_MAX_BYTES: usize = 60 * 1024;

/// Stands for a batch that is one empty line: the dashboard refuses an empty text with 400, and a blank shows as the same empty row.
const BLANK: &str = " ";

/// One closed batch, ready to be one post: 1 to [`POST_MAX_BYTES`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'b> {
    pub kind: LogType,
    pub text: &'b str,
    /// How many lines it holds, a piece of a line counted as one.
    pub lines: u64,
}

/// Gathers lines. Holds at most [`POST_MAX_BYTES`].
#[derive(Debug)]
pub struct Batcher {
    kind: LogType,
    text: String,
    /// 0: nothing gathered. (1 with an empty text: one empty line.)
    lines: u64,
}

impl Default for Batcher {
    fn default() -> Self {
        Self { kind: LogType::Info, text: String::new(), lines: 0 }
    }
}

impl Batcher {
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Takes one line, or several joined by `\n`, and hands every batch that is thereby full to `emit`, in order.
    pub fn push(&mut self, kind: LogType, text: &str, emit: &mut dyn FnMut(Batch<'_>)) {
        if !self.is_empty() && (kind != self.kind || !joins(self.text.len(), text.len())) {
            self.close(emit);
        }
        self.kind = kind;
        let mut rest = text;
        while rest.len() > POST_MAX_BYTES {
            let (piece, after) = cut(rest, POST_MAX_BYTES);
            emit(Batch { kind, text: or_blank(piece), lines: lines_in(piece) });
            rest = after;
        }
        if !self.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(rest);
        self.lines += lines_in(rest);
        if self.text.len() >= FLUSH_BYTES {
            self.close(emit);
        }
    }

    /// Hands out what is gathered and gives the memory back: called when the lines come slowly.
    pub fn flush(&mut self, emit: &mut dyn FnMut(Batch<'_>)) {
        self.close(emit);
        self.text = String::new();
    }

    fn close(&mut self, emit: &mut dyn FnMut(Batch<'_>)) {
        if self.lines > 0 {
            emit(Batch { kind: self.kind, text: or_blank(&self.text), lines: self.lines });
        }
        self.text.clear();
        self.lines = 0;
    }
}

/// Whether two texts fit into one post with the `\n` between them.
pub fn joins(first: usize, second: usize) -> bool {
    first + 1 + second <= POST_MAX_BYTES
}

pub fn lines_in(text: &str) -> u64 {
    1 + text.bytes().filter(|b| *b == b'\n').count() as u64
}

/// Cuts `text`, which is longer than `max`, at the last line's end within `max` bytes (the `\n` goes, the post's border stands
/// for it), else at the last border of a character.
pub fn cut(text: &str, max: usize) -> (&str, &str) {
    let border = text.floor_char_boundary(max);
    match text.as_bytes()[..border].iter().rposition(|b| *b == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => text.split_at(border),
    }
}

/// At most `max` characters (not bytes) of `text`; where it was cut, the last one is `…`.
pub fn cut_chars(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

fn or_blank(text: &str) -> &str {
    if text.is_empty() { BLANK } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = LogType> {
        prop_oneof![3 => Just(LogType::Stdout), 2 => Just(LogType::Stderr), 1 => Just(LogType::Info)]
    }

    /// Lines as builds print them: mostly short, some empty, some far above a post, some of several lines.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            30 => "[a-z ]{0,80}",
            3 => Just(String::new()),
            3 => "[äé€😀]{0,200}",
            3 => "[a-z]{0,9}\n[a-z]{0,9}\n?",
            1 => (50_000usize..130_000).prop_map(|n| "x".repeat(n)),
            1 => (15_000usize..45_000).prop_map(|n| "€".repeat(n)),
        ]
    }

    fn batches(lines: &[(LogType, String)], flush_every: usize) -> Vec<(LogType, String, u64)> {
        let mut out = Vec::new();
        let mut batcher = Batcher::default();
        for (n, (kind, text)) in lines.iter().enumerate() {
            batcher.push(*kind, text, &mut |b| out.push((b.kind, b.text.to_owned(), b.lines)));
            if n % flush_every == flush_every - 1 {
                batcher.flush(&mut |b| out.push((b.kind, b.text.to_owned(), b.lines)));
            }
        }
        batcher.flush(&mut |b| out.push((b.kind, b.text.to_owned(), b.lines)));
        out
    }

    /// What a reader sees, without the line breaks that a split of a long line adds, and without blanks for empty lines.
    fn letters<'a>(parts: impl Iterator<Item = (LogType, &'a str)>) -> Vec<(LogType, String)> {
        let mut out: Vec<(LogType, String)> = Vec::new();
        for (kind, text) in parts {
            let text: String = text.chars().filter(|c| !matches!(c, '\n' | ' ')).collect();
            match out.last_mut() {
                Some((last, joined)) if *last == kind => joined.push_str(&text),
                _ => out.push((kind, text)),
            }
        }
        out.retain(|(_, t)| !t.is_empty());
        // Empty lines of another type between two of one type leave no letters.
        out.dedup_by(|b, a| {
            let same = a.0 == b.0;
            if same {
                a.1.push_str(&b.1);
            }
            same
        });
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn posts_hold_all_lines_in_order_and_are_bounded(lines in prop::collection::vec((kind(), line()), 0..60), every in 1usize..30) {
            let posts = batches(&lines, every);
            for (_, text, _) in &posts {
                prop_assert!(!text.is_empty() && text.len() <= POST_MAX_BYTES);
            }
            prop_assert_eq!(
                letters(posts.iter().map(|(k, t, _)| (*k, t.as_str()))),
                letters(lines.iter().map(|(k, t)| (*k, t.as_str())))
            );
        }

        #[test]
        fn short_lines_stay_the_lines_they_were(lines in prop::collection::vec((kind(), "[a-z]{0,40}"), 0..200), every in 1usize..50) {
            let posts = batches(&lines, every);
            let mut seen = Vec::new();
            for (kind, text, count) in &posts {
                prop_assert_eq!(*count, lines_in(text));
                seen.extend(text.split('\n').map(|l| (*kind, l.trim_end().to_owned())));
            }
            prop_assert_eq!(seen, lines);
        }
    }

    #[test]
    fn a_batch_is_closed_at_32_kib() {
        let lines: Vec<_> = (0..10_000).map(|n| (LogType::Stdout, format!("line {n:>30}"))).collect();
        let posts = batches(&lines, usize::MAX);
        assert!(posts.len() * 50 <= lines.len(), "{} posts for {} lines", posts.len(), lines.len());
        assert!(posts.iter().all(|(_, t, _)| t.len() < FLUSH_BYTES + 40));
    }

    #[test]
    fn one_empty_line_alone_is_posted_as_a_blank() {
        assert_eq!(batches(&[(LogType::Info, String::new())], 1), [(LogType::Info, " ".to_owned(), 1)]);
    }

    #[test]
    fn an_error_is_cut_by_characters_not_by_bytes() {
        assert_eq!(cut_chars("äöü", 3), "äöü");
        assert_eq!(cut_chars("äöüß", 3), "äö…");
        assert_eq!(cut_chars(&"€".repeat(500), 191).chars().count(), 191);
    }
}
