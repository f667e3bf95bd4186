//! PURE: one pattern, from its line to what it means.

use super::syntax;

/// A pattern as it is matched: trimmed and cleaned, without its `!`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) exception: bool,
    pub(super) text: String,
}

impl Pattern {
    /// `Ok(None)`: a blank line.
    pub(super) fn parse(line: &str) -> Result<Option<Self>, &'static str> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(None);
        }
        let cleaned = clean(line);
        let (exception, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err("is an exception to nothing"),
            Some(text) => (true, text.to_owned()),
            None => (false, cleaned),
        };
        syntax::check(&text)?;
        Ok(Some(Self { exception, text }))
    }
}

/// How a pattern is matched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compiled<'p> {
    /// The path is the pattern.
    Exact,
    /// The path begins so.
    Prefix(&'p str),
    /// The path ends so (or is it but for a leading `/`).
    Suffix(&'p str),
    /// In the notation of Go's regexp, in which moby defines the meaning.
    Regex(String),
}

pub(super) fn compile(pattern: &str) -> Compiled<'_> {
    #[derive(PartialEq)]
    enum Kind {
        Exact,
        Prefix,
        Suffix,
        Regex,
    }

    let mut regex = String::from("^");
    let mut kind = Kind::Exact;
    let mut chars = pattern.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_some() {
                    regex.push_str("(.*/)?");
                    kind = Kind::Regex;
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    regex.push_str(".*");
                    kind = Kind::Regex;
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                regex.push_str("[^/]*");
                kind = Kind::Regex;
            }
            '?' => {
                regex.push_str("[^/]");
                kind = Kind::Regex;
            }
            // moby means to escape `|`, `{` and `}` too, but its table has no place for them: they keep their meaning.
            '.' | '+' | '(' | ')' | '$' => {
                regex.push('\\');
                regex.push(c);
            }
            '\\' => {
                regex.push('\\');
                if let Some(escaped) = chars.next() {
                    regex.push(escaped);
                    kind = Kind::Regex;
                }
            }
            '[' | ']' => {
                regex.push(c);
                kind = Kind::Regex;
            }
            c => regex.push(c),
        }
        first = false;
    }
    match kind {
        Kind::Exact => Compiled::Exact,
        Kind::Prefix => Compiled::Prefix(pattern.strip_suffix("**").unwrap_or(pattern)),
        Kind::Suffix => Compiled::Suffix(pattern.strip_prefix("**").unwrap_or(pattern)),
        Kind::Regex => {
            regex.push('$');
            Compiled::Regex(regex)
        }
    }
}

/// The shortest path that means the same, as Go's `path.Clean` makes it.
pub(in crate::context) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => {
                segments.pop();
            }
            ".." if rooted => {}
            segment => segments.push(segment),
        }
    }
    match (rooted, segments.is_empty()) {
        (true, _) => format!("/{}", segments.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => segments.join("/"),
    }
}

/// The directories above `path`, from the top (what Go's `Dir` and a split by `/` give).
pub(super) fn parents(path: &str) -> Vec<String> {
    let directory = clean(path.rfind('/').map_or("", |slash| &path[..=slash]));
    if directory == "." {
        return Vec::new();
    }
    let ends = directory.match_indices('/').map(|(i, _)| i).chain([directory.len()]);
    ends.map(|end| directory[..end].to_owned()).collect()
}
