//! PURE: the lines of .gitattributes files, and which attributes a path gets by them (gitattributes(5)).

use std::cell::Cell;
use std::collections::HashMap;

use super::wildmatch;

/// Longer lines are ignored, as git does.
const MAX_LINE: usize = 2048;
/// Lines of all files together that are looked at for each path.
const MAX_RULES: usize = 5_000;
/// Steps of matching that all paths together may take: seconds. Half a million files under a hundred lines take a fifth of it.
const MAX_STEPS: usize = 1_000_000_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Set,
    Unset,
    /// `!name`: as if nothing had been said before.
    Unspecified,
    Is(String),
}

/// One line.
#[derive(Debug)]
struct Rule {
    /// Of the folder that the file is in, with a slash at its end; the root's is empty.
    folder: String,
    pattern: Vec<u8>,
    /// Whether the whole path is matched, or its last segment.
    whole_path: bool,
    attributes: Vec<(String, Value)>,
}

/// The rules of a tree, in the order in which later ones overrule.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    macros: HashMap<String, Vec<(String, Value)>>,
    /// What matching has cost so far.
    steps: Cell<usize>,
}

impl Rules {
    pub(super) fn new() -> Self {
        let binary = ["diff", "merge", "text"].map(|name| (name.to_owned(), Value::Unset));
        Self { macros: HashMap::from([("binary".to_owned(), binary.to_vec())]), ..Self::default() }
    }

    /// Reads one file. `folder`: as in [`Rule`]; a folder comes before those in it. `false`: there are too many lines.
    pub(super) fn add(&mut self, folder: &str, bytes: &[u8]) -> bool {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        for line in bytes.split(|b| *b == b'\n').filter(|line| line.len() < MAX_LINE) {
            if let Some(rule) = self.line(folder, line.trim_ascii()) {
                self.rules.push(rule);
            }
            if self.rules.len() > MAX_RULES {
                return false;
            }
        }
        true
    }

    fn line(&mut self, folder: &str, line: &[u8]) -> Option<Rule> {
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        let (pattern, rest) = pattern(line)?;
        let rest = String::from_utf8_lossy(rest);
        let attributes: Vec<(String, Value)> = rest.split_ascii_whitespace().filter_map(attribute).collect();
        if let Some(name) = pattern.strip_prefix(b"[attr]") {
            // Macros are defined at the root alone.
            if folder.is_empty() {
                self.macros.insert(String::from_utf8_lossy(name).into_owned(), attributes);
            }
            return None;
        }
        // A pattern that is negated is forbidden; one for directories matches no file.
        if pattern.is_empty() || pattern.starts_with(b"!") || pattern.ends_with(b"/") {
            return None;
        }
        let whole_path = pattern.contains(&b'/');
        let pattern = pattern.strip_prefix(b"/").unwrap_or(&pattern).to_vec();
        Some(Rule { folder: folder.to_owned(), pattern, whole_path, attributes })
    }

    /// Whether any line gives an attribute that `is_wanted` names, itself or by a macro.
    pub(super) fn mention(&self, is_wanted: impl Fn(&str, &Value) -> bool) -> bool {
        let lines = self.rules.iter().map(|rule| &rule.attributes).chain(self.macros.values());
        lines.flatten().any(|(name, value)| is_wanted(name, value))
    }

    /// The values that the path gets for each of `names`; `None`: nothing is said.
    pub(super) fn of<const N: usize>(&self, path: &str, names: [&str; N]) -> [Option<Value>; N] {
        let base = path.rsplit('/').next().unwrap_or(path);
        let mut found: HashMap<&str, &Value> = HashMap::new();
        for rule in self.rules.iter().rev() {
            let Some(inside) = path.strip_prefix(&rule.folder) else { continue };
            let text = if rule.whole_path { inside } else { base };
            let mut steps = 0;
            let matches = !self.is_spent() && wildmatch::matches(&rule.pattern, text.as_bytes(), &mut steps);
            self.steps.set(self.steps.get() + steps + 1);
            if matches {
                self.fill(&rule.attributes, &mut found, 0);
            }
        }
        names.map(|name| found.get(name).map(|value| (*value).clone()).filter(|value| *value != Value::Unspecified))
    }

    /// Whether matching has cost too much to go on: then no pattern matches any more.
    pub(super) fn is_spent(&self) -> bool {
        self.steps.get() > MAX_STEPS
    }

    /// What is said first here (it stands last) counts; a macro that is set says what it stands for.
    fn fill<'r>(&'r self, attributes: &'r [(String, Value)], found: &mut HashMap<&'r str, &'r Value>, depth: usize) {
        for (name, value) in attributes.iter().rev() {
            if found.contains_key(name.as_str()) {
                continue;
            }
            found.insert(name, value);
            if *value == Value::Set
                && depth < 16
                && let Some(meaning) = self.macros.get(name)
            {
                self.fill(meaning, found, depth + 1);
            }
        }
    }
}

/// The pattern at the beginning of a line, plain or in quotes, and the rest.
fn pattern(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    if let Some(quoted) = line.strip_prefix(b"\"") {
        return unquote(quoted);
    }
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (first, rest) = line.split_at(end);
    // `[attr]name`: also with blanks between.
    if first == b"[attr]" {
        let rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        return Some(([first, &rest[..end]].concat(), &rest[end..]));
    }
    Some((first.to_vec(), rest))
}

/// A text in C's quotes, without the first one.
fn unquote(mut text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut out = Vec::new();
    loop {
        let (&c, rest) = text.split_first()?;
        text = rest;
        match c {
            b'"' => return Some((out, text)),
            b'\\' => {
                let (&c, rest) = text.split_first()?;
                text = rest;
                out.push(match c {
                    b'a' => 7,
                    b'b' => 8,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 11,
                    b'f' => 12,
                    b'r' => b'\r',
                    b'\\' | b'"' => c,
                    b'0'..=b'3' => {
                        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                        text = &rest[2..];
                        (c - b'0') * 64 + u8::from_str_radix(digits, 8).ok()?
                    }
                    _ => return None,
                });
            }
            _ => out.push(c),
        }
    }
}

fn attribute(word: &str) -> Option<(String, Value)> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Value::Is(value.to_owned())),
        None => match (word.strip_prefix('-'), word.strip_prefix('!')) {
            (Some(name), _) => (name, Value::Unset),
            (_, Some(name)) => (name, Value::Unspecified),
            _ => (word, Value::Set),
        },
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!name.is_empty() && !name.starts_with('-') && name.chars().all(is_name)).then(|| (name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(files: &[(&str, &str)], path: &str) -> Option<Value> {
        let mut rules = Rules::new();
        for (folder, lines) in files {
            assert!(rules.add(folder, lines.as_bytes()));
        }
        let [value] = rules.of(path, ["text"]);
        value
    }

    #[test]
    fn the_last_line_and_the_deepest_file_count() {
        assert_eq!(text(&[("", "*.c text\n*.c -text\n")], "a.c"), Some(Value::Unset));
        assert_eq!(text(&[("", "*.c -text\n"), ("d/", "*.c text\n")], "d/e/a.c"), Some(Value::Set));
        assert_eq!(text(&[("", "*.c -text\n"), ("d/", "*.c text\n")], "a.c"), Some(Value::Unset));
        assert_eq!(text(&[("", "*.c text\n*.c !text\n")], "a.c"), None);
    }
    #[test]
    fn a_pattern_with_a_slash_is_of_its_folder() {
        assert_eq!(text(&[("", "d/*.c text\n")], "d/a.c"), Some(Value::Set));
        assert_eq!(text(&[("", "d/*.c text\n")], "x/d/a.c"), None);
        assert_eq!(text(&[("x/", "/a.c text\n")], "x/a.c"), Some(Value::Set));
        assert_eq!(text(&[("x/", "/a.c text\n")], "x/y/a.c"), None);
        assert_eq!(text(&[("", "d/ text\n!*.c text\n")], "d/a.c"), None);
        assert_eq!(text(&[("", "\"a b\\143\" text\n")], "a bc"), Some(Value::Set));
    }
    #[test]
    fn macros_say_what_they_stand_for() {
        assert_eq!(text(&[("", "*.bin binary\n")], "a.bin"), Some(Value::Unset));
        assert_eq!(text(&[("", "[attr]words text=auto -diff\n*.md words\n")], "a.md"), Some(Value::Is("auto".to_owned())));
        assert_eq!(text(&[("d/", "[attr]words text\n*.md words\n")], "d/a.md"), None);
        assert_eq!(text(&[("", "[attr]a b\n[attr]b a text\n* a\n")], "x"), Some(Value::Set));
    }

    proptest::proptest! {
        #[test]
        fn no_lines_make_it_panic(bytes: Vec<u8>, lines in "([a*\"\\\\!/-]{0,8} (text|-text|!text|eol=crlf|\\[attr\\]x)\n){0,6}") {
            let mut rules = Rules::new();
            rules.add("", &bytes);
            rules.add("a/", lines.as_bytes());
            let _ = rules.of("a/b", ["text", "eol"]);
        }
    }
}
