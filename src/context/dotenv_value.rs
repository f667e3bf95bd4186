//! PURE: one value of `.env`, in a form that the readers of such files take back to the byte.
//!
//! Two readers count: Node's dotenv (version 16) and python-dotenv. Neither undoes what the other escapes:
//!
//! | form | Node's dotenv | python-dotenv |
//! |---|---|---|
//! | as it is | up to `#`, outer blanks off | up to a blank and `#`, outer blanks off |
//! | `'…'` | as it is | `\\` becomes `\` |
//! | `"…"` | `\n` and `\r` are characters, nothing else is | `\n \r \t \" \\` and some more are characters |
//! | `` `…` `` | as it is | no quotes |
//!
//! Both take a backslash before the closing quote for an escaped quote, and both read a carriage return as a new line.

/// A value as it stands behind `KEY=`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) text: String,
    /// Who does not get the value back as it is, in words that follow the variable's name.
    pub(super) loss: Option<&'static str>,
    /// Nothing may follow in the file: its end looks like an escaped quote, which the next quote would close.
    pub(super) must_be_last: bool,
}

const PYTHON_ESCAPES: &str = "in single quotes, where python-dotenv makes one of two backslashes";
const PYTHON_DOUBLE: &str = "in double quotes, where python-dotenv undoes its escapes";
const PYTHON_BACKTICKS: &str = "in backticks, which python-dotenv does not know";
const PYTHON_LAST_BACKSLASH: &str = "ends with a backslash, which python-dotenv takes for an escape";
const CARRIAGE_RETURNS: &str = "its carriage returns are read as new lines";
const NODE_ESCAPES: &str = "in double quotes with escapes, which Node's dotenv does not undo";
const INTERPOLATED: &str = "python-dotenv fills in its ${…} unless it is told interpolate=False";
const NUL: &str = "has a NUL, which no process takes in a variable";

/// The form that most readers take back: both, or else Node's dotenv.
pub(super) fn write(value: &str) -> Written {
    let mut written = choose(value);
    if written.loss.is_none() && value.contains('\0') {
        written.loss = Some(NUL);
    } else if written.loss.is_none() && is_interpolated(value) {
        written.loss = Some(INTERPOLATED);
    }
    written
}

fn choose(value: &str) -> Written {
    let has = |c: char| value.contains(c);
    let is_ended = !value.ends_with('\\');
    let plain = can_be_plain(value);
    // `$` is no matter to these two; other readers and shells leave it alone only in single quotes.
    if plain && !value.contains(['\'', '"', '`', '$']) {
        return exact(value.to_owned());
    }
    let single = !has('\'') && !has('\r');
    let double = !has('"') && !value.contains("\\n") && !value.contains("\\r");
    let backtick = !has('`') && !has('\r');
    if single && is_ended && !value.contains("\\\\") {
        return exact(in_single_quotes(value));
    }
    if double && is_ended && !python_undoes(value) {
        return exact(in_double_quotes(value));
    }
    if plain {
        return exact(value.to_owned());
    }
    let forms = [
        (single, in_single_quotes as fn(&str) -> String, PYTHON_ESCAPES),
        (double, in_double_quotes, PYTHON_DOUBLE),
        (backtick, in_backticks, PYTHON_BACKTICKS),
    ];
    if let Some((_, quote, loss)) = forms.into_iter().find(|(fits, ..)| *fits) {
        let loss = if is_ended { loss } else { PYTHON_LAST_BACKSLASH };
        return Written { text: quote(value), loss: Some(loss), must_be_last: !is_ended };
    }
    if has('\r') {
        let read = choose(&value.replace("\r\n", "\n").replace('\r', "\n"));
        return Written { loss: Some(CARRIAGE_RETURNS), ..read };
    }
    Written { text: escaped(value), loss: Some(NODE_ESCAPES), must_be_last: !is_ended }
}

/// The same on one line, for python-dotenv alone: of a name that Node's dotenv does not read it skips the line.
pub(super) fn write_for_python(value: &str) -> String {
    let is_plain = can_be_plain(value) && !value.contains(['\'', '"', '`', '$']);
    if is_plain { value.to_owned() } else { escaped(value) }
}

fn exact(text: String) -> Written {
    Written { text, loss: None, must_be_last: false }
}

fn can_be_plain(value: &str) -> bool {
    !value.contains(['#', '\n', '\r'])
        && !value.starts_with(['\'', '"', '`'])
        && !value.starts_with(is_blank)
        && !value.ends_with(is_blank)
}

/// What either reader strips from the ends of a value: white space of Unicode, of JavaScript and of Python.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}' | '\u{feff}')
}

/// Whether python-dotenv would take a part of the value, written in double quotes, for an escape.
fn python_undoes(value: &str) -> bool {
    let mut after = value.chars().skip(1);
    value.chars().any(|c| {
        let next = after.next();
        c == '\\' && next.is_some_and(|next| "\\'\"abfnrtv\n\r".contains(next))
    })
}

/// Whether python-dotenv sees `${NAME}` or `${NAME:-default}`, in whatever quotes.
fn is_interpolated(value: &str) -> bool {
    value.split("${").skip(1).any(|after| {
        let inner = after.split_once('}').map(|(inner, _)| inner);
        inner.is_some_and(|inner| inner.split_once(':').is_none_or(|(_, default)| default.starts_with('-')))
    })
}

fn in_single_quotes(value: &str) -> String {
    format!("'{value}'")
}

fn in_double_quotes(value: &str) -> String {
    format!("\"{}\"", value.replace('\n', "\\n").replace('\r', "\\r"))
}

fn in_backticks(value: &str) -> String {
    format!("`{value}`")
}

/// As python-dotenv undoes it.
fn escaped(value: &str) -> String {
    in_double_quotes(&value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
#[path = "dotenv_value_tests.rs"]
mod tests;
