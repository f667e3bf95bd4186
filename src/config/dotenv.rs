//! PURE: reads a `.env` file by the rules of Node's dotenv, because the predecessor's file has to keep its meaning.
//!
//! Those rules differ from a shell's and from other dotenv readers in what matters for passwords: `$` and `\` are plain characters (nothing
//! is substituted), an unquoted value may have spaces and ends at `#`, and only `\n` and `\r` inside double quotes are escapes.

/// What a `.env` file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DotEnv {
    /// In the file's order; a later one of the same name replaces an earlier one.
    pub variables: Vec<(String, String)>,
    /// Numbers of the lines that are neither a variable, a comment nor empty. They are skipped, as the predecessor did.
    pub skipped_lines: Vec<usize>,
}

impl DotEnv {
    pub fn parse(text: &str) -> DotEnv {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut out = DotEnv::default();
        let mut rest = text;
        let mut line = 1;
        while !rest.is_empty() {
            let before = rest;
            let (first, after) = split_line(rest);
            if is_blank_or_comment(first) {
                rest = after;
            } else if let Some((key, value_at)) = key_and_equals(rest) {
                let (value, after) = value(value_at);
                out.variables.push((key.to_owned(), value));
                rest = after;
            } else {
                out.skipped_lines.push(line);
                rest = after;
            }
            line += before[..before.len() - rest.len()].matches('\n').count();
        }
        out
    }
}

/// The first line without its end, and what follows it.
fn split_line(text: &str) -> (&str, &str) {
    match text.split_once('\n') {
        Some((line, rest)) => (line.strip_suffix('\r').unwrap_or(line), rest),
        None => (text, ""),
    }
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// `export KEY=` or `KEY: `; the key and what follows. `None` where the line is no assignment.
fn key_and_equals(text: &str) -> Option<(&str, &str)> {
    let text = skip_blanks(text);
    let text = match text.strip_prefix("export") {
        Some(t) if t.starts_with([' ', '\t']) => skip_blanks(t),
        _ => text,
    };
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    if key.is_empty() {
        return None;
    }
    if let Some(value) = skip_blanks(rest).strip_prefix('=') {
        return Some((key, value));
    }
    rest.strip_prefix(':').filter(|v| v.starts_with([' ', '\t'])).map(|v| (key, v))
}

/// The value that begins here, and the text after its line.
fn value(text: &str) -> (String, &str) {
    let text = skip_blanks(text);
    if let Some((quote, inner, after)) = quoted(text) {
        let value = if quote == '"' { inner.replace("\\n", "\n").replace("\\r", "\r") } else { inner.to_owned() };
        return (value, after);
    }
    let (line, after) = split_line(text);
    let value = line.split_once('#').map_or(line, |(v, _)| v);
    (value.trim().to_owned(), after)
}

/// A quoted value (it may span lines) that nothing but a comment follows.
fn quoted(text: &str) -> Option<(char, &str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'))?;
    let body = &text[1..];
    let mut escaped = false;
    let end = body.char_indices().find_map(|(i, c)| {
        let closes = c == quote && !escaped;
        escaped = c == '\\';
        closes.then_some(i)
    })?;
    let (tail, after) = split_line(&body[end + 1..]);
    is_blank_or_comment(tail).then_some((quote, &body[..end], after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> String {
        let parsed = DotEnv::parse(text);
        assert_eq!(parsed.variables.len(), 1, "{text:?} → {parsed:?}");
        parsed.variables[0].1.clone()
    }

    #[test]
    fn a_password_with_dollars_and_backslashes_is_taken_to_the_letter() {
        assert_eq!(one(r"REDIS_PASSWORD=pa$$w\ord$HOME"), r"pa$$w\ord$HOME");
        assert_eq!(one(r#"REDIS_PASSWORD="pa$HOME\"x""#), r#"pa$HOME\"x"#);
    }

    #[test]
    fn values_are_trimmed_and_quotes_taken_off() {
        assert_eq!(one("A=  some words  \r\n"), "some words");
        assert_eq!(one("export A='x # y' # comment"), "x # y");
        assert_eq!(one("A = `it's \"this\"`"), "it's \"this\"");
        assert_eq!(one("A: yaml like"), "yaml like");
        assert_eq!(one("A=abc#def"), "abc");
        assert_eq!(one("A="), "");
    }

    #[test]
    fn double_quotes_know_new_lines_and_values_may_span_lines() {
        assert_eq!(one(r#"A="one\ntwo""#), "one\ntwo");
        assert_eq!(one("A='one\\ntwo'"), "one\\ntwo");
        assert_eq!(one("A=\"one\ntwo\"\n"), "one\ntwo");
    }

    #[test]
    fn a_quote_that_does_not_end_the_value_is_part_of_it() {
        assert_eq!(one("A=\"abc"), "\"abc");
        assert_eq!(one("A='a'b"), "'a'b");
    }

    #[test]
    fn lines_that_say_nothing_are_named_by_their_number() {
        let parsed = DotEnv::parse("\u{feff}# head\nA=1\n\nwhat is this\nB=\"x\ny\"\n=c\nC=3");
        assert_eq!(parsed.skipped_lines, [4, 7]);
        let names: Vec<_> = parsed.variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(names, ["A=1", "B=x\ny", "C=3"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[\\PC\n\r\"'`#=$\\\\]{0,200}") {
            let _ = DotEnv::parse(&text);
        }

        #[test]
        fn a_single_quoted_value_comes_back_to_the_byte(value in "[^'\\\\\r]{0,60}") {
            prop_assert_eq!(one(&format!("KEY='{value}'\nOTHER:x")), value);
        }
    }
}
