//! PURE: git's patterns (gitignore(5), wildmatch with paths): `*` and `?` stop at a slash, `**` between slashes does not.

/// Steps that one match may take: a hostile pattern of many stars would take for ever.
const MAX_STEPS: usize = 100_000;

/// Whether the whole of `text` matches. Adds to `steps` what it took.
pub(super) fn matches(pattern: &[u8], text: &[u8], steps: &mut usize) -> bool {
    step(pattern, text, true, steps)
}

/// `at_start`: of the pattern, or after a slash.
fn step(mut pattern: &[u8], mut text: &[u8], mut at_start: bool, steps: &mut usize) -> bool {
    loop {
        *steps += 1;
        if *steps > MAX_STEPS {
            return false;
        }
        let Some((&first, rest)) = pattern.split_first() else { return text.is_empty() };
        match first {
            b'*' => return star(pattern, text, at_start, steps),
            b'?' => match text.split_first() {
                Some((&c, after)) if c != b'/' => text = after,
                _ => return false,
            },
            b'[' => match (bracket(rest, text.first().copied()), text.split_first()) {
                (Some((true, after)), Some((&c, left))) if c != b'/' => {
                    (pattern, text, at_start) = (after, left, false);
                    continue;
                }
                _ => return false,
            },
            _ => {
                let (literal, after) = match (first, rest.split_first()) {
                    (b'\\', Some((&escaped, after))) => (escaped, after),
                    (b'\\', None) => return false,
                    _ => (first, rest),
                };
                match text.split_first() {
                    Some((&c, left)) if c == literal => (pattern, text, at_start) = (after, left, literal == b'/'),
                    _ => return false,
                }
                continue;
            }
        }
        pattern = rest;
        at_start = false;
    }
}

fn star(pattern: &[u8], text: &[u8], at_start: bool, steps: &mut usize) -> bool {
    let stars = pattern.iter().take_while(|c| **c == b'*').count();
    let rest = &pattern[stars..];
    let is_deep = stars >= 2 && at_start && (rest.is_empty() || rest.first() == Some(&b'/'));
    if is_deep {
        // `**/` is no directory too.
        if let Some(after) = rest.strip_prefix(b"/")
            && step(after, text, true, steps)
        {
            return true;
        }
        if rest.is_empty() {
            return true;
        }
    }
    for end in 0..=text.len() {
        if step(rest, &text[end..], false, steps) {
            return true;
        }
        if !is_deep && text.get(end) == Some(&b'/') {
            return false;
        }
    }
    false
}

/// The set after a `[`: whether `c` is in it, and what is behind its `]`. `None`: it has no end.
fn bracket(set: &[u8], c: Option<u8>) -> Option<(bool, &[u8])> {
    let c = c.unwrap_or(0);
    let (negated, mut rest) = match set.first() {
        Some(b'!' | b'^') => (true, &set[1..]),
        _ => (false, set),
    };
    let (mut found, mut is_first) = (false, true);
    loop {
        let (&item, after) = rest.split_first()?;
        if item == b']' && !is_first {
            return Some((found != negated, after));
        }
        is_first = false;
        if item == b'[' && after.first() == Some(&b':') {
            let end = after.windows(2).position(|pair| pair == b":]")?;
            found |= is_of_class(after.get(1..end)?, c);
            rest = &after[end + 2..];
            continue;
        }
        let (low, after) = if item == b'\\' { after.split_first().map(|(c, after)| (*c, after))? } else { (item, after) };
        rest = after;
        match after {
            [b'-', high, beyond @ ..] if *high != b']' => {
                let (high, beyond) = if *high == b'\\' { beyond.split_first().map(|(c, b)| (*c, b))? } else { (*high, beyond) };
                found |= (low..=high).contains(&c);
                rest = beyond;
            }
            _ => found |= low == c,
        }
    }
}

fn is_of_class(class: &[u8], c: u8) -> bool {
    match class {
        b"alnum" => c.is_ascii_alphanumeric(),
        b"alpha" => c.is_ascii_alphabetic(),
        b"blank" => matches!(c, b' ' | b'\t'),
        b"cntrl" => c.is_ascii_control(),
        b"digit" => c.is_ascii_digit(),
        b"graph" => c.is_ascii_graphic(),
        b"lower" => c.is_ascii_lowercase(),
        b"print" => c.is_ascii_graphic() || c == b' ',
        b"punct" => c.is_ascii_punctuation(),
        b"space" => c.is_ascii_whitespace() || c == 0x0b,
        b"upper" => c.is_ascii_uppercase(),
        b"xdigit" => c.is_ascii_hexdigit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_gits_do() {
        for (pattern, text, expected) in [
            ("*.c", "a.c", true),
            ("*.c", "dir/a.c", false),
            ("foo/*.c", "foo/a.c", true),
            ("foo/*", "foo/bar/a", false),
            ("foo/**", "foo/bar/a", true),
            ("**/a", "a", true),
            ("**/a", "x/y/a", true),
            ("x/**/a", "x/a", true),
            ("x/**/a", "x/y/z/a", true),
            ("x/**/a", "xa", false),
            ("f**o", "foo", true),
            ("f**o", "f/o", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]x]", "]", true),
            ("[[:digit:]]*", "1a", true),
            ("[[:digit:]]*", "a1", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("[ab", "a", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes(), &mut 0), expected, "{pattern} {text}");
        }
    }
    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = "*a".repeat(500);
        let mut steps = 0;
        assert!(!matches(pattern.as_bytes(), "a".repeat(400).as_bytes(), &mut steps));
        assert!(steps <= 2 * MAX_STEPS, "{steps}");
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern: Vec<u8>, shaped in "[a*?\\[\\]!^:/\\\\-]{0,20}", text: Vec<u8>) {
            for text in [&text[..], b"a/b-c"] {
                let _ = (matches(&pattern, text, &mut 0), matches(shaped.as_bytes(), text, &mut 0));
            }
        }
    }
}
