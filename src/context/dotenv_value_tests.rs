//! Which form a value gets, read back by models of the two readers. (The readers themselves read in `tests/integration/reports`.)

use proptest::prelude::*;

use super::*;

/// Node's dotenv 16 on a file that ends with this value.
fn read_by_node(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = match ['\'', '"', '`'].into_iter().find(|quote| text.starts_with(*quote)) {
        Some(quote) => match quoted_end(&text, quote) {
            Some(end) => text[..=end].to_owned(),
            None => unquoted(&text),
        },
        None => unquoted(&text),
    };
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"' | '`') && text.len() > 1 && text.ends_with(*c));
    let inner = if quote.is_some() { &text[1..text.len() - 1] } else { text };
    if quote == Some('"') { inner.replace("\\n", "\n").replace("\\r", "\r") } else { inner.to_owned() }
}

fn unquoted(text: &str) -> String {
    text.split(['#', '\n']).next().unwrap_or_default().to_owned()
}

/// The last quote that is not escaped and has nothing but blanks or a comment behind it; at the end of the file also an escaped one.
fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let ends = |at: usize| text[at + 1..].trim_start().is_empty() || text[at + 1..].trim_start().starts_with('#');
    let all: Vec<usize> = text.match_indices(quote).map(|(at, _)| at).skip(1).collect();
    let first_open = all.iter().copied().find(|at| !text[..*at].ends_with('\\'));
    first_open.or(all.last().copied()).filter(|at| ends(*at))
}

/// python-dotenv, without its interpolation; `None` where it cannot read the line.
fn read_by_python(text: &str) -> Option<String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let Some(quote) = ['\'', '"'].into_iter().find(|quote| text.starts_with(*quote)) else {
        let line = text.split('\n').next().unwrap_or_default();
        let comment = line.char_indices().find(|(at, c)| *c == '#' && line[..*at].ends_with(char::is_whitespace));
        let line = comment.map_or(line, |(at, _)| &line[..at]);
        return Some(line.trim_end_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)).to_owned());
    };
    let mut value = String::new();
    let mut chars = text.chars().skip(1);
    loop {
        match chars.next()? {
            c if c == quote => break,
            '\\' => match (chars.next()?, quote) {
                (c @ ('\\' | '\''), '\'') | (c @ ('\\' | '\'' | '"'), '"') => value.push(c),
                ('n', '"') => value.push('\n'),
                ('r', '"') => value.push('\r'),
                ('a' | 'b' | 'f' | 't' | 'v', '"') => value.push('\u{7}'),
                (c, _) => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    chars.next().is_none().then_some(value)
}

#[test]
fn a_value_has_the_plainest_form_that_both_readers_take_back() {
    for (value, text) in [
        ("abc", "abc"),
        ("", ""),
        ("a b", "a b"),
        ("a=b=", "a=b="),
        ("C:\\dir\\", "C:\\dir\\"),
        ("p4ss#word", "'p4ss#word'"),
        ("#ff8800", "'#ff8800'"),
        ("{\"channel\":\"#general\"}", "'{\"channel\":\"#general\"}'"),
        ("\"x\"", "'\"x\"'"),
        ("  x  ", "'  x  '"),
        ("\u{a0}x", "'\u{a0}x'"),
        ("`x`", "'`x`'"),
        ("pa$$w0rd", "'pa$$w0rd'"),
        ("-----BEGIN\nMII\n", "'-----BEGIN\nMII\n'"),
        ("{\n \"k\": \"a\\nb\"\n}", "'{\n \"k\": \"a\\nb\"\n}'"),
        ("it's", "\"it's\""),
        ("it's\n#1", "\"it's\\n#1\""),
        ("a\r\nb", "\"a\\r\\nb\""),
        ("it's \"x\"", "it's \"x\""),
        ("a\\\\b\"", "a\\\\b\""),
    ] {
        let written = write(value);
        assert_eq!((written.text.as_str(), written.loss, written.must_be_last), (text, None, false), "{value:?}");
    }
}

#[test]
fn a_value_that_no_form_carries_to_both_readers_says_who_does_not_get_it() {
    for (value, text, loss) in [
        ("# a\\\\b", "'# a\\\\b'", PYTHON_ESCAPES),
        ("# it's \\d\\n", "`# it's \\d\\n`", PYTHON_BACKTICKS),
        ("# it's \\t", "\"# it's \\t\"", PYTHON_DOUBLE),
        ("# it's \"x\"", "`# it's \"x\"`", PYTHON_BACKTICKS),
        ("#\\", "'#\\'", PYTHON_LAST_BACKSLASH),
        ("{\r\n\"a\": 1\r\n}", "'{\n\"a\": 1\n}'", CARRIAGE_RETURNS),
        ("#'\"`", "\"#'\\\"`\"", NODE_ESCAPES),
        ("${HOME}/x", "'${HOME}/x'", INTERPOLATED),
        ("a\0b", "a\0b", NUL),
    ] {
        let written = write(value);
        assert_eq!((written.text.as_str(), written.loss), (text, Some(loss)), "{value:?}");
    }
    for value in ["$HOME", "${HOME", "${a:b}", "{HOME}"] {
        assert_eq!(write(value).loss, None, "{value}");
    }
}

proptest! {
    #[test]
    fn what_is_not_said_to_be_lost_is_read_back(value in "[ab n#$'\"`\\\\\n\r\t=\u{a0}\u{1c}]{0,12}") {
        let Written { text, loss, must_be_last } = write(&value);
        if loss.is_none() {
            prop_assert!(!must_be_last);
            let read = read_by_python(&text);
            prop_assert_eq!(read.as_ref(), Some(&value), "{}", text);
        }
        if !matches!(loss, Some(CARRIAGE_RETURNS | NODE_ESCAPES)) {
            prop_assert_eq!(read_by_node(&text), value.as_str(), "{}", text);
        }
    }

    #[test]
    fn one_line_is_enough_for_python(value in "[ab n#$'\"`\\\\\n\r\t=\u{a0}]{0,12}") {
        let text = write_for_python(&value);
        prop_assert!(!text.contains('\n'));
        let read = read_by_python(&text);
            prop_assert_eq!(read.as_ref(), Some(&value), "{}", text);
    }
}
