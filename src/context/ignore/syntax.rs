//! PURE: which patterns moby refuses at once: those that Go's `filepath.Match` cannot read when it is asked about ".".
//!
//! It reads a pattern only as far as it matches, so a malformed class after the first star that leads nowhere is not seen. Such
//! a pattern has a meaning of its own later on.

const BAD: &str = "is not a pattern: a [ ] or \\ in it is not complete";
type Rest<'t> = &'t str;

pub(super) fn check(pattern: &str) -> Result<(), &'static str> {
    let mut name = ".";
    let mut pattern = pattern;
    while !pattern.is_empty() {
        let (star, chunk, rest) = next_chunk(pattern);
        pattern = rest;
        if star && chunk.is_empty() {
            return Ok(());
        }
        let last = pattern.is_empty();
        let fits = |after: &Option<Rest<'_>>| after.is_some_and(|a| a.is_empty() || !last);
        let mut after = match_chunk(chunk, name)?;
        if !fits(&after) && star && !name.is_empty() {
            // The star takes the "."; what is left is nothing.
            after = match_chunk(chunk, "")?;
        }
        match after.filter(|a| fits(&Some(a))) {
            Some(after) => name = after,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Stars, then all up to the next star outside of brackets.
fn next_chunk(pattern: &str) -> (bool, &str, Rest<'_>) {
    let text = pattern.trim_start_matches('*');
    let star = text.len() < pattern.len();
    let mut in_range = false;
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => {
                chars.next();
            }
            '[' => in_range = true,
            ']' => in_range = false,
            '*' if !in_range => return (star, &text[..i], &text[i..]),
            _ => {}
        }
    }
    (star, text, "")
}

/// What is left of `name` behind the chunk; `None` where it does not match (the chunk is read to its end all the same).
fn match_chunk<'n>(chunk: &str, name: &'n str) -> Result<Option<Rest<'n>>, &'static str> {
    let mut chunk = chunk.chars();
    let mut name = name.chars();
    let mut matches = true;
    while let Some(c) = chunk.next() {
        let next = if matches { name.next() } else { None };
        matches = match (c, next) {
            ('[', next) => class_has(&mut chunk, next)?,
            ('?', next) => next.is_some_and(|n| n != '/'),
            ('\\', next) => Some(chunk.next().ok_or(BAD)?) == next,
            (c, next) => Some(c) == next,
        };
    }
    Ok(if matches { Some(name.as_str()) } else { None })
}

/// Reads a class behind its `[`, and says whether it has `wanted`.
fn class_has(chunk: &mut std::str::Chars<'_>, wanted: Option<char>) -> Result<bool, &'static str> {
    let mut rest = chunk.as_str();
    let negated = rest.starts_with('^');
    rest = rest.strip_prefix('^').unwrap_or(rest);
    let mut any = false;
    let mut has = false;
    loop {
        if any && let Some(after) = rest.strip_prefix(']') {
            *chunk = after.chars();
            return Ok(wanted.is_some() && has != negated);
        }
        let (lo, after) = class_char(rest)?;
        rest = after;
        let mut hi = lo;
        if let Some(range) = rest.strip_prefix('-') {
            (hi, rest) = class_char(range)?;
        }
        has |= wanted.is_some_and(|w| (lo..=hi).contains(&w));
        any = true;
    }
}

/// One end of a range: not `-` and not `]` unless escaped, and never the last of the chunk.
fn class_char(text: &str) -> Result<(char, Rest<'_>), &'static str> {
    let mut chars = text.chars();
    let c = match chars.next().ok_or(BAD)? {
        '-' | ']' => return Err(BAD),
        '\\' => chars.next().ok_or(BAD)?,
        c => c,
    };
    let rest = chars.as_str();
    if rest.is_empty() { Err(BAD) } else { Ok((c, rest)) }
}
