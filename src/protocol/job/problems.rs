//! PURE: what is wrong with an element, collected field by field, and how a field's text is taken.

use super::raw::Scalar;
use crate::protocol::id::InvalidId;
use crate::protocol::outcome::{Code, Failure};

/// So many wrong fields are named; of the rest the number is told.
const NAMED_PROBLEMS: usize = 20;

/// All that is wrong, in the order of the fields.
#[derive(Default)]
pub(super) struct Problems {
    named: Vec<String>,
    pub(super) count: usize,
}

impl Problems {
    pub(super) fn add(&mut self, field: impl std::fmt::Display, problem: impl std::fmt::Display) {
        self.count += 1;
        if self.named.len() < NAMED_PROBLEMS {
            self.named.push(format!("{field} {problem}"));
        }
    }

    pub(super) fn into_failure(self) -> Failure {
        let mut list = self.named.join("; ");
        if self.count > self.named.len() {
            list.push_str(&format!("; and {} more", self.count - self.named.len()));
        }
        Failure::new(
            Code::JobMalformed,
            format!("The job cannot be built: {list}."),
            "Correct these fields where the job is made, and deploy again.",
        )
    }

    /// A text that may be left out. `None`: wrong, and said so. `Some(None)`: absent, null or empty.
    pub(super) fn text(&mut self, field: &str, value: Scalar) -> Option<Option<String>> {
        match value {
            Scalar::Absent => Some(None),
            Scalar::Text(text) if text.is_empty() => Some(None),
            Scalar::Text(text) => Some(Some(text)),
            Scalar::Number(_) => self.not_text(field, "a number"),
            Scalar::Bool(_) => self.not_text(field, "true or false"),
            Scalar::Other(what) => self.not_text(field, what),
        }
    }

    pub(super) fn not_text<T>(&mut self, field: &str, what: &str) -> Option<T> {
        self.add(field, format_args!("is {what}, not a text"));
        None
    }

    pub(super) fn required(&mut self, field: &str, value: Scalar) -> Option<String> {
        let text = self.text(field, value)?;
        if text.is_none() {
            self.add(field, "is missing or empty");
        }
        text
    }

    pub(super) fn id<T>(&mut self, field: &str, value: Scalar, parse: fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        let text = self.required(field, value)?;
        parse(&text).map_err(|e| self.add(field, e.rule)).ok()
    }
}

/// Without what a form, or a copy from a page, leaves around a value: blanks, line ends, and marks that nobody sees.
pub(super) fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{2060}'))
}

impl Scalar {
    pub(super) fn trimmed(self) -> Self {
        match self {
            Scalar::Text(text) => Scalar::Text(trimmed(&text).to_owned()),
            other => other,
        }
    }
    pub(super) fn without_line_ends(self) -> Self {
        match self {
            Scalar::Text(text) => Scalar::Text(text.trim_matches(['\r', '\n']).to_owned()),
            other => other,
        }
    }
}
