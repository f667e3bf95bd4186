//! PURE: text that others wrote, made harmless for a terminal.

use std::borrow::Cow;

/// The lines of `text`, each without control characters. Colours and a carriage return are taken out (a progress bar's states become lines
/// of their own), everything else that could move the cursor, set a title or turn the writing direction is shown as `\u{…}`.
pub fn harmless_lines(text: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split(['\n', '\r']).enumerate().filter(|(i, line)| *i == 0 || !line.is_empty()).map(|(_, line)| harmless(line))
}

/// One line of foreign text.
pub fn harmless(line: &str) -> Cow<'_, str> {
    if !line.chars().any(is_harmful) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = after_colour(rest) {
            rest = after;
            continue;
        }
        match c {
            '\t' => out.push_str("    "),
            c if is_harmful(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    Cow::Owned(out)
}

fn is_harmful(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What follows a colour sequence (`ESC [ digits m`) or an erase-to-end-of-line (`ESC [ K`).
fn after_colour(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("\u{1b}[")?.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
    rest.strip_prefix(['m', 'K'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn colours_go_and_everything_that_moves_the_cursor_is_shown() {
        assert_eq!(harmless("\u{1b}[1;32mok\u{1b}[0m done"), "ok done");
        assert_eq!(harmless("a\u{1b}[2Jb\u{7}"), "a\\u{1b}[2Jb\\u{7}");
        assert_eq!(harmless("\u{1b}]0;title\u{7}"), "\\u{1b}]0;title\\u{7}");
        assert_eq!(harmless("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(harmless("\tgrün"), "    grün");
    }

    #[test]
    fn a_progress_bar_becomes_lines() {
        let lines: Vec<_> = harmless_lines("10%\r50%\r100%\r\nnext\n").collect();
        assert_eq!(lines, ["10%", "50%", "100%", "next"]);
        assert_eq!(harmless_lines("").count(), 1);
    }

    proptest! {
        #[test]
        fn no_control_character_comes_through(text in "(\\PC|[\u{0}-\u{1f}\u{7f}-\u{9f}\u{1b}\\[m0-9;\u{202a}-\u{202e}]){0,80}") {
            for line in harmless_lines(&text) {
                prop_assert!(!line.chars().any(is_harmful), "{line:?}");
            }
        }
    }
}
