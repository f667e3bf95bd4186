//! PURE: the Go regular expressions by which moby defines its patterns, read as far as it writes them.
//!
//! Oddities included: `[a*]` is a class with a `[` in it, any number of times, and a `]`; `a|b*` is a choice; `[0-9]{4}` is four
//! digits. Not the regex crate: its classes know operators that Go's do not, and ten thousand compiled expressions take a hundred
//! megabytes.

use super::glob::{Assertion, Set, Step};

const UNREADABLE: &str = "has an escape, a class or a repetition that cannot be read";
/// Go's own limit for `{n}`; with it a pattern of 4 KiB stays small.
const MAX_REPEAT: usize = 1000;
const MAX_STEPS: usize = 10_000;

/// `^…$` as [`super::pattern::compile`] writes it, as branches of which one has to match the whole path.
pub(super) fn parse(regex: &str) -> Result<Vec<Vec<Step>>, &'static str> {
    let mut rest = regex;
    let mut branches = vec![Vec::new()];
    // Where the last thing that can be repeated begins.
    let mut last: Option<usize> = None;
    // A `$` that follows a lone backslash is text, and nothing holds the end of the path then.
    let mut end_held = false;
    while let Some(c) = rest.chars().next() {
        let Some(steps) = branches.last_mut() else { break };
        if steps.len() > MAX_STEPS {
            return Err("repeats too much");
        }
        if let Some((least, most, after)) = repetition(rest) {
            let from = last.take().ok_or(UNREADABLE)?;
            repeat(steps, from, least, most)?;
            rest = after;
            continue;
        }
        let from = steps.len();
        if let Some(after) = rest.strip_prefix("(.*/)?") {
            steps.extend([Step::Optional, Step::Directories]);
            (rest, last) = (after, None);
            continue;
        }
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            steps.extend(text.chars().map(|c| Step::One(Set::Char(c))));
            (rest, last) = (after, if steps.len() > from { Some(steps.len() - 1) } else { last });
            continue;
        }
        if let Some((assertion, after)) = assertion(rest) {
            end_held |= assertion == Assertion::End;
            steps.push(Step::Assert(assertion));
            (rest, last) = (after, Some(from));
            continue;
        }
        let (set, after) = match c {
            '|' => {
                // `^` and `$` bind more than `|`: this branch may go on at its end, the next one may begin anywhere.
                steps.push(Step::Many(Set::everything()));
                branches.push(vec![Step::Many(Set::everything())]);
                (rest, last) = (&rest[1..], None);
                continue;
            }
            '.' => (Set::Any, &rest[1..]),
            '[' => class(&rest[1..])?,
            '\\' => {
                let (item, after) = escape(&rest[1..])?;
                (item.into_set(), after)
            }
            '*' | '(' | ')' => return Err(UNREADABLE),
            c => (Set::Char(c), &rest[c.len_utf8()..]),
        };
        (rest, last) = match after.strip_prefix('*') {
            Some(after) => {
                steps.push(Step::Many(set));
                (after, None)
            }
            None => {
                steps.push(Step::One(set));
                (after, Some(from))
            }
        };
    }
    if !end_held && let Some(steps) = branches.last_mut() {
        steps.push(Step::Many(Set::everything()));
    }
    Ok(branches)
}

fn assertion(text: &str) -> Option<(Assertion, &str)> {
    let table = [
        ("^", Assertion::Start),
        ("$", Assertion::End),
        ("\\A", Assertion::Start),
        ("\\z", Assertion::End),
        ("\\b", Assertion::WordBorder),
        ("\\B", Assertion::NoWordBorder),
    ];
    table.into_iter().find_map(|(mark, assertion)| Some((assertion, text.strip_prefix(mark)?)))
}

/// `{n}`, `{n,}` or `{n,m}`; anything else in braces is text.
fn repetition(text: &str) -> Option<(usize, Option<usize>, &str)> {
    let (inner, after) = text.strip_prefix('{')?.split_once('}')?;
    let number = |digits: &str| {
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'));
        // A number too large to read is too large to repeat.
        plain.then(|| digits.parse().unwrap_or(usize::MAX)).filter(|_| !digits.is_empty())
    };
    let (least, most) = match inner.split_once(',') {
        None => (number(inner)?, Some(number(inner)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    Some((least, most, after))
}

fn repeat(steps: &mut Vec<Step>, from: usize, least: usize, most: Option<usize>) -> Result<(), &'static str> {
    if least > MAX_REPEAT || most.is_some_and(|most| most > MAX_REPEAT || most < least) {
        return Err(UNREADABLE);
    }
    let atom = steps.split_off(from).pop().ok_or(UNREADABLE)?;
    let Step::One(set) = atom else {
        // An assertion holds as often as it is asked, and need not be asked at all.
        steps.extend((least > 0).then_some(atom));
        return Ok(());
    };
    steps.extend(std::iter::repeat_n(&set, least).map(|set| Step::One(set.clone())));
    match most {
        None => steps.push(Step::Many(set)),
        Some(most) => steps.extend(std::iter::repeat_n(&set, most - least).map(|set| Step::Maybe(set.clone()))),
    }
    Ok(())
}

type Ranges = Vec<(char, char)>;

/// What an escape, or a place in a class, stands for.
enum Item {
    Char(char),
    Class(Ranges),
}

impl Item {
    fn into_set(self) -> Set {
        match self {
            Item::Char(c) => Set::Char(c),
            Item::Class(ranges) => Set::Class { negated: false, ranges: ranges.into() },
        }
    }
}

/// After the `[`, up to and with the `]`.
fn class(text: &str) -> Result<(Set, &str), &'static str> {
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    let negated = rest.len() < text.len();
    let mut ranges = Ranges::new();
    let mut first = true;
    loop {
        if !first && let Some(after) = rest.strip_prefix(']') {
            return Ok((Set::Class { negated, ranges: ranges.into() }, after));
        }
        first = false;
        if let Some((name, after)) = rest.strip_prefix("[:").and_then(|r| r.split_once(":]")) {
            ranges.extend(named_class(name)?);
            rest = after;
            continue;
        }
        let (item, after) = class_item(rest)?;
        rest = after;
        let lo = match item {
            Item::Char(c) => c,
            Item::Class(class) => {
                ranges.extend(class);
                continue;
            }
        };
        let mut hi = lo;
        if let Some(range) = rest.strip_prefix('-').filter(|r| !r.is_empty() && !r.starts_with(']')) {
            let (Item::Char(end), after) = class_item(range)? else { return Err(UNREADABLE) };
            (hi, rest) = (end, after);
        }
        if hi < lo {
            return Err("has a range that goes backwards");
        }
        ranges.push((lo, hi));
    }
}

fn class_item(text: &str) -> Result<(Item, &str), &'static str> {
    match text.strip_prefix('\\') {
        Some(after) => escape(after),
        None => {
            let c = text.chars().next().ok_or(UNREADABLE)?;
            Ok((Item::Char(c), &text[c.len_utf8()..]))
        }
    }
}

/// After the backslash. Only Go's `\p{…}` is refused: Unicode's tables for a pattern that nobody writes.
fn escape(text: &str) -> Result<(Item, &str), &'static str> {
    let c = text.chars().next().ok_or(UNREADABLE)?;
    let rest = &text[c.len_utf8()..];
    let space = [('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
    let item = match c {
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Item::Char(c),
        'a' => Item::Char('\x07'),
        'f' => Item::Char('\x0c'),
        'n' => Item::Char('\n'),
        'r' => Item::Char('\r'),
        't' => Item::Char('\t'),
        'v' => Item::Char('\x0b'),
        'd' => Item::Class(vec![('0', '9')]),
        's' => Item::Class(space.to_vec()),
        'w' => Item::Class(named_class("word")?),
        'D' => Item::Class(complement(&[('0', '9')])),
        'S' => Item::Class(complement(&space)),
        'W' => Item::Class(named_class("^word")?),
        'x' => return hexadecimal(rest),
        '0' => return octal(text),
        '1'..='7' if rest.starts_with(|d| matches!(d, '0'..='7')) => return octal(text),
        _ => return Err(UNREADABLE),
    };
    Ok((item, rest))
}

/// `\x41` or `\x{41}`, after the `x`.
fn hexadecimal(text: &str) -> Result<(Item, &str), &'static str> {
    let (digits, rest) = match text.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or(UNREADABLE)?,
        None => text.split_at_checked(2).ok_or(UNREADABLE)?,
    };
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let code = u32::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or(UNREADABLE)?;
    Ok((Item::Char(char::from_u32(code).ok_or(UNREADABLE)?), rest))
}

/// One to three octal digits.
fn octal(text: &str) -> Result<(Item, &str), &'static str> {
    let len = text.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
    let (digits, rest) = text.split_at(len);
    let code = u32::from_str_radix(digits, 8).map_err(|_| UNREADABLE)?;
    Ok((Item::Char(char::from_u32(code).ok_or(UNREADABLE)?), rest))
}

/// POSIX classes, ASCII only, as Go has them.
fn named_class(name: &str) -> Result<Ranges, &'static str> {
    let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
    let ranges: &[(char, char)] = match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return Err(UNREADABLE),
    };
    Ok(if negated { complement(ranges) } else { ranges.to_vec() })
}

/// All characters outside of `ranges`, which are in order and ASCII.
fn complement(ranges: &[(char, char)]) -> Ranges {
    let mut outside = Ranges::new();
    let mut from = '\0';
    for &(lo, hi) in ranges {
        if from < lo {
            outside.push((from, char::from(lo as u8 - 1)));
        }
        from = char::from(hi as u8 + 1);
    }
    outside.push((from, char::MAX));
    outside
}
