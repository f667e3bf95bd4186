//! PURE: one step's output stream, chunks of bytes → clean lines.

use std::time::{Duration, Instant};

use crate::protocol::safe_line;

/// A line without an end is cut into pieces of this many bytes.
const MAX_LINE: usize = 16 * 1024;
/// Lines that end in a carriage return are drawn over by the next (progress bars): one per this time is kept.
const REDRAW_EVERY: Duration = Duration::from_secs(1);

/// Splits a stream into lines. Holds at most one unfinished line of [`MAX_LINE`] bytes.
#[derive(Default)]
pub struct LineSplitter {
    pending: Vec<u8>,
    /// The pending line ended in a carriage return: a new line completes it, anything else draws over it.
    returned: bool,
    last_redraw: Option<Instant>,
}

impl LineSplitter {
    /// Takes the next chunk and hands every line that it completes to `line`.
    pub fn push(&mut self, chunk: &[u8], now: Instant, mut line: impl FnMut(&str)) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (text, terminator) = match end {
                Some(at) => (&rest[..at], Some(rest[at])),
                None => (rest, None),
            };
            rest = &rest[(text.len() + terminator.is_some() as usize)..];
            if self.returned && (!text.is_empty() || terminator != Some(b'\n')) {
                self.draw_over(now, &mut line);
            }
            self.returned = false;
            match terminator {
                Some(b'\n') if self.pending.is_empty() => emit_pieces(text, &mut line),
                Some(b'\n') => {
                    self.append(text, &mut line);
                    self.flush(&mut line);
                }
                Some(_) => {
                    self.append(text, &mut line);
                    self.returned = true;
                }
                None => self.append(text, &mut line),
            }
        }
    }
    /// The end of the stream: the line that no new line ended.
    pub fn finish(&mut self, mut line: impl FnMut(&str)) {
        if !self.pending.is_empty() {
            self.flush(&mut line);
        }
        self.returned = false;
    }
    fn append(&mut self, text: &[u8], line: &mut impl FnMut(&str)) {
        self.pending.extend_from_slice(text);
        if self.pending.len() > MAX_LINE {
            let kept = emit_full_pieces(&self.pending, line);
            self.pending.drain(..kept);
        }
    }
    fn flush(&mut self, line: &mut impl FnMut(&str)) {
        line(&safe_line(&self.pending));
        self.pending.clear();
    }
    fn draw_over(&mut self, now: Instant, line: &mut impl FnMut(&str)) {
        let due = self.last_redraw.is_none_or(|last| now.saturating_duration_since(last) >= REDRAW_EVERY);
        if due && !self.pending.is_empty() {
            self.last_redraw = Some(now);
            line(&safe_line(&self.pending));
        }
        self.pending.clear();
    }
}

/// Hands out pieces of at most [`MAX_LINE`] bytes while more than that is there; returns how many bytes went.
fn emit_full_pieces(text: &[u8], line: &mut impl FnMut(&str)) -> usize {
    let mut start = 0;
    while text.len() - start > MAX_LINE {
        let end = character_border(text, start + MAX_LINE);
        line(&safe_line(&text[start..end]));
        start = end;
    }
    start
}

fn emit_pieces(text: &[u8], line: &mut impl FnMut(&str)) {
    let start = emit_full_pieces(text, line);
    line(&safe_line(&text[start..]));
}

/// `at`, or up to three bytes before it where a UTF-8 character would be cut.
fn character_border(text: &[u8], at: usize) -> usize {
    (0..4).map(|back| at - back).find(|at| text[*at] & 0b1100_0000 != 0b1000_0000).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut splitter, mut out, now) = (LineSplitter::default(), Vec::new(), Instant::now());
        for chunk in chunks {
            splitter.push(chunk, now, |line| out.push(line.to_owned()));
        }
        splitter.finish(|line| out.push(line.to_owned()));
        out
    }

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        assert_eq!(lines(&[b"on", b"e\ntw", b"o\n", b"\nfour"]), ["one", "two", "", "four"]);
    }

    #[test]
    fn windows_line_ends_are_one_line_end() {
        assert_eq!(lines(&[b"a\r\nb\r", b"\nc\r\n"]), ["a", "b", "c"]);
    }

    #[test]
    fn a_progress_bar_leaves_its_first_and_its_last_state() {
        assert_eq!(lines(&[b"10%\r20%\r30%\r100%\ndone\n"]), ["10%", "100%", "done"]);
    }

    #[test]
    fn a_line_without_end_is_cut_into_pieces_between_characters() {
        let long = "é".repeat(20_000);
        let pieces = lines(&[long.as_bytes()]);
        assert!(pieces.len() == 3 && pieces.iter().all(|piece| piece.len() <= MAX_LINE));
        assert_eq!(pieces.concat(), long);
    }

    #[test]
    fn a_line_moves_no_cursor_and_forges_no_other() {
        let out = lines(&[
            b"\x1b[1;31mred\x1b[0m \x1b[2K\x1b[1A\x1b]0;title\x07x\x08\x00y\x0bz\n",
            "\u{202e}gnp\u{2028}x\n".as_bytes(),
        ]);
        assert_eq!(out, ["\u{1b}[1;31mred\u{1b}[0m xy z", "gnp x"]);
    }

    proptest! {
        #[test]
        fn no_byte_of_a_text_without_controls_is_lost_wherever_it_is_cut(text in "[ -~äß日\\n]{0,200}", cut in 0usize..200) {
            let cut = cut.min(text.len());
            let (a, b) = text.as_bytes().split_at(cut);
            let mut expected: Vec<&str> = text.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            prop_assert_eq!(lines(&[a, b]), expected);
        }

        #[test]
        fn any_bytes_give_lines_without_controls(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            for line in lines(&chunks) {
                prop_assert!(line.len() <= 3 * MAX_LINE);
                let kept = |c: char| matches!(c, '\t' | '\u{1b}');
                prop_assert!(line.chars().all(|c| kept(c) || !c.is_control()));
            }
        }
    }
}
