//! PURE: masks known secrets (raw, URL-, JSON-, base64- and hex-encoded) in text and in streams of chunks.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use super::active::joined;
use super::fetched::FetchedSecrets;
use super::patterns::{At, Builder, Patterns};
use super::{MIN_SECRET_CHARS, forms, public};

/// All forms of a value together have at most about so many bytes for each of its own.
const FORMS_PER_BYTE: usize = 16;
const MIN_CHARS_FOR_OTHERS: usize = 16;
pub(super) const MASK: &[u8] = b"***";

/// Encoded forms are made until they take so much memory: credentials first, then values, short ones first.
const MAX_ENCODED_BYTES: usize = 6 * 1024 * 1024;

/// Masks every known secret with `***`. Built once per job; cheap to clone.
///
/// A secret is known as it stands and URL-encoded (any style, upper and lower hex), JSON-escaped, in hex, and in base64 (both
/// alphabets, also in the middle of a longer base64 text such as a Basic login); of a value of several lines each line is known
/// too. Where several are possible the leftmost, then the longest is masked; secrets that touch share one mask.
#[derive(Clone)]
pub struct Redactor {
    patterns: Arc<Patterns>,
    /// What became known after the redactor was built.
    fetched: FetchedSecrets,
    raw_only: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// `secrets`: always masked when at least 6 characters long. `values`: environment values, masked unless they are a common
    /// word, a region name, a URL in which nothing can hide, or part of one of `public_names` (registry, repository, service name).
    pub fn new(secrets: &[SecretString], values: &[SecretString], public_names: &[&str]) -> Self {
        let public_names: Vec<String> = public_names.iter().map(|name| name.to_lowercase()).collect();
        let mut wholes: HashSet<Cow<'_, str>> = HashSet::new();
        let mut lines: HashSet<&str> = HashSet::new();
        for secret in secrets {
            collect(secret.expose_secret(), &|_| false, &mut wholes, &mut lines);
        }
        let credentials = wholes.len();
        let mut order: Vec<Cow<'_, str>> = wholes.iter().cloned().collect();
        for value in values {
            collect(value.expose_secret(), &|text| public::is_public(text, &public_names), &mut wholes, &mut lines);
        }
        let known: HashSet<Cow<'_, str>> = order.iter().cloned().collect();
        order.extend(wholes.into_iter().filter(|value| !known.contains(value)));
        order[credentials..].sort_unstable_by_key(|value| value.len());

        let mut builder = Builder::default();
        let mut encoded_bytes = 0;
        let mut raw_only = 0;
        for value in &order {
            forms::raw(value, &mut |piece| builder.add(piece));
            if encoded_bytes + value.len() * FORMS_PER_BYTE <= MAX_ENCODED_BYTES {
                forms::encoded(value, &mut |piece| {
                    encoded_bytes += piece.len();
                    builder.add(piece);
                });
            } else {
                raw_only += 1;
            }
        }
        for line in lines {
            forms::raw(line, &mut |piece| builder.add(piece));
        }
        Self { patterns: Arc::new(builder.build()), fetched: FetchedSecrets::default(), raw_only }
    }

    /// Masks what is added to `fetched` too, from the moment it is added.
    pub fn with_fetched(self, fetched: &FetchedSecrets) -> Self {
        Self { fetched: fetched.clone(), ..self }
    }

    /// Where a secret is added that has just come into being.
    pub fn fetched(&self) -> &FetchedSecrets {
        &self.fetched
    }

    /// What the logs of other jobs must not show of this one's secrets: what looks like a key, of at least 16 characters. Anybody's
    /// build may print what it likes, and would learn of a shorter one from its mask that it guessed right; and anybody may
    /// have a variable with ordinary words, which are nothing to take out of other people's logs.
    pub fn for_others(secrets: &[SecretString], values: &[SecretString], public_names: &[&str]) -> Self {
        let keys = |all: &[SecretString]| -> Vec<SecretString> {
            all.iter().filter(|s| looks_like_a_key(s.expose_secret())).cloned().collect()
        };
        Self::new(&keys(secrets), &keys(values), public_names)
    }

    /// Knows nothing, masks nothing.
    pub fn none() -> Self {
        Self::new(&[], &[], &[])
    }

    /// What a user has to know of what is not masked: some values are known only as they stand, because all forms of all of them
    /// would take too much memory. `None` but for jobs with more than about 400 KB of values.
    pub fn warning(&self) -> Option<String> {
        (self.raw_only > 0).then(|| {
            format!(
                "The variables are so large that the {} longest are masked in this log only as they stand, not where they are printed \
                 encoded (base64, URL, JSON, hex).",
                self.raw_only
            )
        })
    }

    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        mask(text, &self.find(text.as_bytes()))
    }

    /// For a stream that arrives in chunks: a secret across the border of two chunks is masked too.
    pub fn stream(&self) -> StreamRedactor {
        // Read before the patterns: what is added in between is then seen as a change.
        let generation = self.fetched.generation();
        let (known, fetched) = (self.known(), self.fetched.clone());
        StreamRedactor { known, generation, fetched, held: Vec::new(), after_mask: false }
    }

    fn known(&self) -> Known {
        Known { own: self.patterns.clone(), fetched: self.fetched.patterns() }
    }

    /// The places of all secrets in `text`, in order, apart from each other; also of those that have colours in them.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let known = self.known();
        let mut found = find_plain(&known, text);
        if !known.is_empty()
            && let Some(Uncoloured { bytes, places }) = Uncoloured::of(text)
        {
            let shown = find_plain(&known, &bytes).into_iter();
            found.extend(shown.map(|place| places[place.start]..places[place.end - 1] + 1));
            found = joined(found);
        }
        found
    }
}

fn find_plain(known: &Known, text: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    scan(known, text, true, |place| match found.last_mut() {
        Some(last) if last.end == place.start => last.end = place.end,
        _ => found.push(place),
    });
    found
}

/// The patterns of `secrets`, always masked.
pub(super) fn patterns_of(secrets: &[SecretString]) -> Patterns {
    Arc::into_inner(Redactor::new(secrets, &[], &[]).patterns).unwrap_or_default()
}

/// What is masked at one moment: both sets as if they were one.
struct Known {
    own: Arc<Patterns>,
    fetched: Arc<Patterns>,
}

impl Known {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.fetched.is_empty()
    }

    /// What begins at the beginning of `rest`. `ends`: nothing comes after `rest`.
    fn at(&self, rest: &[u8], ends: bool) -> At {
        match (at(&self.own, rest, ends), at(&self.fetched, rest, ends)) {
            (At::Undecided, _) | (_, At::Undecided) => At::Undecided,
            (At::Pattern(one), At::Pattern(other)) => At::Pattern(one.max(other)),
            (At::Pattern(len), At::Nothing) | (At::Nothing, At::Pattern(len)) => At::Pattern(len),
            (At::Nothing, At::Nothing) => At::Nothing,
        }
    }
}

fn at(patterns: &Patterns, rest: &[u8], ends: bool) -> At {
    if patterns.is_empty() { At::Nothing } else { patterns.at(rest, ends) }
}

/// The next place at which one of two sets may have something, each looked through once.
struct Candidates<'k> {
    sets: [(&'k Patterns, usize); 2],
}

impl<'k> Candidates<'k> {
    fn new(known: &'k Known) -> Self {
        Self { sets: [(&known.own, 0), (&known.fetched, 0)] }
    }

    /// At or after `from`, which never goes back.
    fn next(&mut self, text: &[u8], from: usize) -> usize {
        let mut nearest = text.len();
        for (patterns, candidate) in &mut self.sets {
            if patterns.is_empty() {
                continue;
            }
            if *candidate <= from {
                *candidate = patterns.next_candidate(text, from);
            }
            nearest = nearest.min(*candidate);
        }
        nearest.max(from)
    }
}

/// A text without its terminal sequences (`ESC [ … letter`), as it shows on a screen.
struct Uncoloured {
    bytes: Vec<u8>,
    /// Where each byte stands in the text.
    places: Vec<usize>,
}

impl Uncoloured {
    /// `None`: there are none in it.
    fn of(text: &[u8]) -> Option<Self> {
        if !text.contains(&0x1b) {
            return None;
        }
        let (mut bytes, mut places) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len()));
        let mut i = 0;
        while i < text.len() {
            if text[i..].starts_with(b"\x1b[") {
                let body = text[i + 2..].iter().take_while(|b| matches!(b, 0x20..=0x3f)).count();
                i += 2 + body;
                i += usize::from(text.get(i).is_some_and(|b| matches!(b, 0x40..=0x7e)));
                continue;
            }
            bytes.push(text[i]);
            places.push(i);
            i += 1;
        }
        Some(Self { bytes, places })
    }
}

/// `text` with a mask in place of each of `places` (in order, apart from each other, on character borders).
pub(super) fn mask<'t>(text: &'t str, places: &[Range<usize>]) -> Cow<'t, str> {
    if places.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    for place in places {
        out.extend_from_slice(&text.as_bytes()[from..place.start]);
        out.extend_from_slice(MASK);
        from = place.end;
    }
    out.extend_from_slice(&text.as_bytes()[from..]);
    // A pattern is whole characters, so what is left is too.
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Takes apart what a value may show itself as: itself, each of its lines, and the password of a URL.
fn collect<'v>(
    value: &'v str,
    is_public: &dyn Fn(&str) -> bool,
    wholes: &mut HashSet<Cow<'v, str>>,
    lines: &mut HashSet<&'v str>,
) {
    let value = value.trim();
    if is_public(value) {
        return;
    }
    let mut whole = |text: Cow<'v, str>| {
        if is_long_enough(&text) {
            wholes.insert(text);
        }
    };
    whole(Cow::Borrowed(value));
    if let Some(url) = public::url_of(value) {
        let password = url.password().unwrap_or_else(|| url.username());
        let plain = percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned();
        for text in [plain, password.to_owned()] {
            if !is_public(&text) {
                whole(Cow::Owned(text));
            }
        }
    }
    if value.contains('\n') {
        let parts = value.lines().map(str::trim);
        lines.extend(parts.filter(|line| is_long_enough(line) && line.contains(char::is_alphanumeric) && !is_public(line)));
    }
}

fn looks_like_a_key(text: &str) -> bool {
    text.chars().nth(MIN_CHARS_FOR_OTHERS - 1).is_some()
        && !text.contains(char::is_whitespace)
        && text.contains(|c: char| c.is_ascii_digit())
        && text.contains(char::is_alphabetic)
}

fn is_long_enough(text: &str) -> bool {
    text.chars().nth(MIN_SECRET_CHARS - 1).is_some()
}

/// Goes through `text`, tells each secret's place, and returns how far it got: to the end, or, where the text may go on
/// (`ends` is false), to where a secret may have begun.
fn scan(known: &Known, text: &[u8], ends: bool, mut found: impl FnMut(Range<usize>)) -> usize {
    if known.is_empty() {
        return text.len();
    }
    let mut candidates = Candidates::new(known);
    let mut i = 0;
    while i < text.len() {
        i = candidates.next(text, i);
        match known.at(&text[i..], ends) {
            At::Pattern(len) => {
                found(i..i + len);
                i += len;
            }
            At::Nothing => i += 1,
            At::Undecided => return i,
        }
    }
    text.len()
}

/// Holds back only what may still become a secret: never more than a few hundred bytes.
pub struct StreamRedactor {
    known: Known,
    /// The generation of `fetched` that `known` has.
    generation: u64,
    fetched: FetchedSecrets,
    held: Vec<u8>,
    /// The last thing let out was a mask.
    after_mask: bool,
}

impl StreamRedactor {
    /// Takes the next chunk, returns what can be let out now.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(chunk);
        self.release(false)
    }

    /// The end of the stream: what was still held back.
    pub fn finish(&mut self) -> Vec<u8> {
        self.release(true)
    }

    fn release(&mut self, ends: bool) -> Vec<u8> {
        self.learn();
        let mut out = Vec::with_capacity(self.held.len());
        let mut from = 0;
        let mut after_mask = self.after_mask;
        let until = scan(&self.known, &self.held, ends, |place| {
            after_mask &= place.start == from;
            out.extend_from_slice(&self.held[from..place.start]);
            if !after_mask {
                out.extend_from_slice(MASK);
            }
            after_mask = true;
            from = place.end;
        });
        after_mask &= from == until;
        out.extend_from_slice(&self.held[from..until]);
        self.after_mask = after_mask;
        self.held.drain(..until);
        out
    }

    /// What was held back is looked at anew with what was fetched meanwhile.
    fn learn(&mut self) {
        let generation = self.fetched.generation();
        if generation != self.generation {
            self.generation = generation;
            self.known.fetched = self.fetched.patterns();
        }
    }
}
