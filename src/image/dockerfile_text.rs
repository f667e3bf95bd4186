//! PURE: a Dockerfile's text as BuildKit divides it: directives, instructions, flags, variables.

use std::collections::BTreeMap;

/// `# name=value` at the very top.
pub(super) fn directives(text: &str) -> Vec<(String, String)> {
    let directive = |line: &str| {
        let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
    };
    text.lines().map_while(directive).collect()
}

/// The instructions with their continued lines, without the texts of their here-documents. Comments and empty lines between continued
/// lines are none of theirs.
pub(super) fn instructions(text: &str, escape: char) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut whole, mut begun, mut at) = (Vec::new(), String::new(), 0);
    while let Some(line) = lines.get(at) {
        at += 1;
        if is_nothing(line) {
            continue;
        }
        match line.trim_end().strip_suffix(escape) {
            Some(continued) => begun.push_str(continued),
            None => {
                let instruction = std::mem::take(&mut begun) + line;
                at += here_documents(&instruction, &lines[at..], escape);
                whole.push(instruction);
            }
        }
    }
    whole.push(begun);
    whole
}

fn is_nothing(line: &str) -> bool {
    line.trim().is_empty() || line.trim().starts_with('#')
}

/// How many of the lines behind an instruction are the texts of its here-documents. A frontend that knows none would refuse the line
/// that ends one, so nothing can be hidden from the reader here.
fn here_documents(instruction: &str, behind: &[&str], escape: char) -> usize {
    let takes_some = ["RUN", "COPY", "ADD"];
    let mut words = instruction.split_whitespace();
    if !words.next().is_some_and(|first| takes_some.iter().any(|name| first.eq_ignore_ascii_case(name))) {
        return 0;
    }
    let mut length = 0;
    for word in words {
        let Some(name) = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<") else { continue };
        let (name, has_tabs) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
        let name = unquoted(name);
        if name.is_empty() || name.starts_with(['<', '#']) {
            continue;
        }
        let mut continues = false;
        let end = behind[length..].iter().position(|line| {
            let line = if has_tabs { line.trim_start_matches('\t') } else { line };
            let is_end = line == name && !continues;
            if !is_nothing(line) {
                continues = line.trim_end().ends_with(escape);
            }
            is_end
        });
        length += end.map_or(0, |end| end + 1);
    }
    length
}

pub(super) fn flags<'l>(words: impl Iterator<Item = &'l str>) -> impl Iterator<Item = &'l str> {
    words.take_while(|word| word.starts_with("--"))
}

pub(super) fn value_of<'w>(word: &'w str, name: &str) -> Option<&'w str> {
    let (key, value) = word.split_once('=')?;
    key.eq_ignore_ascii_case(name).then_some(value)
}

pub(super) fn unquoted(value: &str) -> String {
    value.trim_matches(['"', '\'']).to_owned()
}

/// `$NAME`, `${NAME}` and `${NAME:-value}` replaced. `None`: something else is left.
pub(super) fn expand(image: &str, arguments: &BTreeMap<String, String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = image;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let (name, default, behind) = match after.strip_prefix('{') {
            Some(braced) => {
                let (inside, behind) = braced.split_once('}')?;
                let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, value)| (name, Some(value)));
                (name, default, behind)
            }
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                (&after[..end], None, &after[end..])
            }
        };
        out.push_str(arguments.get(name).map(String::as_str).or(default)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continued_lines_are_one_instruction() {
        assert_eq!(instructions("RUN a \\\n# words\n\n  b\nCMD c", '\\'), ["RUN a   b", "CMD c", ""]);
        assert_eq!(instructions("RUN a `\n b \\\nCMD c", '`'), ["RUN a  b \\", "CMD c", ""]);
    }

    #[test]
    fn the_text_of_a_here_document_is_no_instruction() {
        let behind = |text: &str| instructions(text, '\\').split_off(1).concat();
        assert_eq!(behind("RUN <<EOF\nFROM x\nEOF\nCMD c"), "CMD c");
        assert_eq!(behind("COPY <<-\"A\" 3<<B /to/\nFROM x\n\tA\nFROM y\nB\nCMD c"), "CMD c");
    }

    #[test]
    fn what_only_looks_like_a_here_document_hides_no_instruction() {
        let behind = |text: &str| instructions(text, '\\').split_off(1).concat();
        for (text, instructions) in [
            ("RUN cat <<EOF\nCMD c", "CMD c"),
            ("RUN cat <<<EOF\nCMD c\nEOF", "CMD cEOF"),
            ("RUN echo \" <<#a \"\nCMD c\n#a", "CMD c"),
            ("RUN echo \" <<a \"\nCMD c\nRUN echo \\\n#\na", "CMD cRUN echo a"),
            ("ENV a <<a\nCMD c\na", "CMD ca"),
        ] {
            assert_eq!(behind(text), instructions, "{text}");
        }
    }
}
