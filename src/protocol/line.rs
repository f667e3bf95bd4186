//! PURE: makes one line of foreign output safe to show in a terminal, a log and a dashboard.

use std::borrow::Cow;

/// A colour sequence that is longer than this is nobody's colour.
const MAX_SGR_BYTES: usize = 64;

/// One line, as a program or a server printed it, in a form that can do nothing but be read:
///
/// - colours (SGR sequences) stay and are ended with the line; every other escape sequence and control character goes, but tabs;
/// - of a progress line that overwrites itself with `\r`, the last state stays;
/// - whatever a terminal or a log would take for the end of a line becomes a space, so that no line can forge another one;
///   characters that turn the direction of writing around go for the same reason;
/// - invalid UTF-8 is replaced by `U+FFFD`.
///
/// Linear in the length of the line.
pub fn safe_line(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if !text.chars().any(is_special) {
        return text;
    }
    let mut last = String::new();
    for state in text.rsplit('\r') {
        last = clean(state);
        if !is_blank(&last) {
            break;
        }
    }
    Cow::Owned(last)
}

/// As [`safe_line`], for lines that are joined by `\n`: each is made safe by itself.
pub fn safe_text(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_special(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(|line| safe_line(line.as_bytes())).collect::<Vec<_>>().join("\n"))
}

/// Moves a cursor, ends a line or turns the direction of writing around.
pub fn is_special(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}') || turns_direction(c)
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Nothing to see: no text beside colours. (Such a state of a progress line only wiped the one before.)
fn is_blank(cleaned: &str) -> bool {
    beside_colours(cleaned).all(|text| text.trim().is_empty())
}

/// The text of a line that [`safe_line`] has made safe, without its colours.
pub fn without_colours(safe: &str) -> String {
    beside_colours(safe).collect()
}

/// What stands before, between and behind the colours: the only escape sequences that a safe line has.
fn beside_colours(safe: &str) -> impl Iterator<Item = &str> {
    let behind = |piece: &'_ str| piece.find('m').map_or(piece.len(), |m| m + 1);
    safe.split('\x1b').enumerate().map(move |(n, piece)| if n == 0 { piece } else { &piece[behind(piece)..] })
}

fn clean(state: &str) -> String {
    let mut out = String::with_capacity(state.len());
    let mut coloured = false;
    let mut rest = state;
    let mut strings_end = true;
    while let Some(at) = rest.find(is_special) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(c) = rest.chars().next() else { break };
        match c {
            '\x1b' => {
                let escape = Escape::read(rest, strings_end);
                if let Escape::Colour { len, resets } = escape {
                    out.push_str(&rest[..len]);
                    coloured = !resets;
                }
                strings_end &= !matches!(escape, Escape::Endless);
                rest = &rest[escape.len()..];
            }
            '\n' | '\x0b' | '\x0c' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                out.push(' ');
                rest = &rest[c.len_utf8()..];
            }
            _ => rest = &rest[c.len_utf8()..],
        }
    }
    out.push_str(rest);
    if coloured {
        out.push_str("\x1b[0m");
    }
    out
}

/// What begins at an ESC.
enum Escape {
    /// `ESC [ … m`
    Colour { len: usize, resets: bool },
    /// Any other sequence, with all that belongs to it.
    Other { len: usize },
    /// A string (title, link, …) that nothing ends: its two first bytes.
    Endless,
}

impl Escape {
    fn len(&self) -> usize {
        match self {
            Self::Colour { len, .. } | Self::Other { len } => *len,
            Self::Endless => 2,
        }
    }

    /// `text` begins with ESC. `strings_end`: an end of a string may still come (looking for it once is enough).
    fn read(text: &str, strings_end: bool) -> Self {
        let bytes = text.as_bytes();
        match bytes.get(1) {
            Some(b'[') => {
                let body = bytes[2..].iter().take_while(|b| matches!(b, 0x20..=0x3f)).count();
                let params = &bytes[2..2 + body];
                let last = bytes.get(2 + body).copied();
                let len = 2 + body + usize::from(matches!(last, Some(0x40..=0x7e)));
                let plain = params.iter().all(|b| b.is_ascii_digit() || matches!(b, b';' | b':'));
                if last == Some(b'm') && plain && len <= MAX_SGR_BYTES {
                    let resets = params.iter().all(|b| *b == b'0');
                    return Self::Colour { len, resets };
                }
                Self::Other { len }
            }
            // OSC, DCS, SOS, PM, APC: a string up to BEL, ESC \ or ST.
            Some(b']' | b'P' | b'X' | b'^' | b'_') => {
                let end = if strings_end { end_of_string(&text[2..]) } else { None };
                end.map_or(Self::Endless, |end| Self::Other { len: 2 + end })
            }
            Some(0x20..=0x2f) => {
                let middle = bytes[1..].iter().take_while(|b| matches!(b, 0x20..=0x2f)).count();
                let last = matches!(bytes.get(1 + middle), Some(0x30..=0x7e));
                Self::Other { len: 1 + middle + usize::from(last) }
            }
            Some(0x30..=0x7e) => Self::Other { len: 2 },
            _ => Self::Other { len: 1 },
        }
    }
}

/// The index after the string's end.
fn end_of_string(text: &str) -> Option<usize> {
    let at = text.char_indices().find(|&(i, c)| matches!(c, '\x07' | '\u{9c}') || text[i..].starts_with("\x1b\\"))?;
    Some(at.0 + if at.1 == '\x07' { 1 } else { 2 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn safe(line: &str) -> String {
        safe_line(line.as_bytes()).into_owned()
    }

    #[test]
    fn plain_text_passes_untouched_and_uncopied() {
        assert!(matches!(safe_line("naïve ☺\ttext".as_bytes()), Cow::Borrowed("naïve ☺\ttext")));
    }

    #[test]
    fn colours_stay_and_end_with_the_line() {
        assert_eq!(safe("\x1b[1;31mred\x1b[0m"), "\x1b[1;31mred\x1b[0m");
        assert_eq!(safe("\x1b[38:5:9mred"), "\x1b[38:5:9mred\x1b[0m");
        assert_eq!(safe("\x1b[mplain\x1b[m"), "\x1b[mplain\x1b[m");
    }

    #[test]
    fn a_progress_line_keeps_its_last_state() {
        assert_eq!(safe("10%\r50%\r100%"), "100%");
        assert_eq!(safe("10%\r100%\r"), "100%");
        assert_eq!(safe("100%\r\x1b[K"), "100%");
        assert_eq!(safe("100%\r\x1b[32m\x1b[0m"), "100%");
        assert_eq!(safe("windows line\r"), "windows line");
    }

    #[test]
    fn no_escape_moves_the_cursor_sets_a_title_or_clears_the_screen() {
        assert_eq!(safe("a\x1b[2Jb\x1b[1;1Hc\x1b[?25ld"), "abcd");
        assert_eq!(safe("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\c"), "ablinkc");
        assert_eq!(safe("a\x1bPdcs\u{9c}b\x1b(Bc\x1bcd\x1b"), "abcd");
        assert_eq!(safe("a\x1b[12"), "a");
        assert_eq!(safe("a\x1b[1\u{1}b"), "ab");
        assert_eq!(safe("a\x1b[>4mb"), "ab");
    }

    #[test]
    fn a_string_without_end_hides_nothing() {
        assert_eq!(safe("a\x1b]0;rm -rf"), "a0;rm -rf");
    }

    #[test]
    fn a_line_cannot_forge_another() {
        assert_eq!(safe("a\nb\x0bc\x0cd\u{85}e\u{2028}f"), "a b c d e f");
        assert_eq!(safe("x\u{202e}y\u{2066}z\x08\x08\0\u{9b}31m"), "xyz31m");
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(safe_line(b"a\xffb\x1b[1m\xc3"), "a\u{fffd}b\x1b[1m\u{fffd}\x1b[0m");
    }

    #[test]
    fn a_megabyte_of_open_escapes_is_read_in_one_go() {
        let line = "\x1b]".repeat(500_000);
        assert_eq!(safe(&line), "");
        let line = "\x1b[m\r".repeat(250_000);
        assert_eq!(safe(&line), "\x1b[m");
    }

    proptest! {
        #[test]
        fn whatever_comes_in_only_text_and_colours_come_out(line in prop::collection::vec(
            prop_oneof![any::<u8>(), prop::sample::select(b"\x1b[]m;0\r\n\x07\\P\x9c\xc2".to_vec())], 0..200)) {
            let out = safe_line(&line).into_owned();
            let colours = regex::Regex::new("\x1b\\[[0-9;:]*m").unwrap();
            prop_assert!(!colours.replace_all(&out, "").chars().any(is_special));
            prop_assert_eq!(safe(&out), out);
        }
    }
}
