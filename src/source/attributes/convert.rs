//! PURE: what a checkout makes of a blob: `ident`, then line ends, then the encoding of the work tree, as git's convert.c does.

use std::borrow::Cow;

use super::encoding::Encoding;

/// How line ends are converted. On Linux only `eol=crlf` changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineEnds {
    Keep,
    Crlf,
    /// Where the blob is text without any carriage return.
    AutoCrlf,
}

/// What is done to one file's blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Conversion {
    pub(super) ident: bool,
    pub(super) line_ends: LineEnds,
    pub(super) encoding: Option<Encoding>,
}

impl Conversion {
    pub(super) fn is_none(&self) -> bool {
        !self.ident && self.line_ends == LineEnds::Keep && self.encoding.is_none()
    }

    /// The file's content. `Err`: the text cannot be written in the encoding; then git leaves it as it is.
    pub(in crate::source) fn apply<'b>(&self, blob: &'b [u8], id: &str) -> Result<Cow<'b, [u8]>, Cow<'b, [u8]>> {
        let mut bytes = Cow::Borrowed(blob);
        if self.ident
            && let Some(with) = with_ident(&bytes, id)
        {
            bytes = Cow::Owned(with);
        }
        let crlf = match self.line_ends {
            LineEnds::Keep => false,
            LineEnds::Crlf => true,
            LineEnds::AutoCrlf => Statistics::of(&bytes).is_plain_text(),
        };
        if crlf && let Some(with) = with_crlf(&bytes) {
            bytes = Cow::Owned(with);
        }
        match &self.encoding {
            None => Ok(bytes),
            Some(_) if bytes.is_empty() => Ok(bytes),
            Some(encoding) => match encoding.encode(&bytes) {
                Some(encoded) => Ok(Cow::Owned(encoded)),
                None => Err(bytes),
            },
        }
    }

    /// In one word after another, as a part of an entry's identity.
    pub(super) fn describe(&self) -> String {
        let mut words = String::new();
        if self.ident {
            words.push_str(" ident");
        }
        match self.line_ends {
            LineEnds::Keep => {}
            LineEnds::Crlf => words.push_str(" crlf"),
            LineEnds::AutoCrlf => words.push_str(" auto-crlf"),
        }
        if let Some(encoding) = &self.encoding {
            words.push_str(" encoding=");
            words.push_str(encoding.name());
        }
        words
    }

    /// Of the words that [`Conversion::describe`] wrote.
    pub(super) fn parse(words: &str) -> Conversion {
        let mut conversion = Conversion { ident: false, line_ends: LineEnds::Keep, encoding: None };
        for word in words.split(' ') {
            match word {
                "ident" => conversion.ident = true,
                "crlf" => conversion.line_ends = LineEnds::Crlf,
                "auto-crlf" => conversion.line_ends = LineEnds::AutoCrlf,
                word => conversion.encoding = word.strip_prefix("encoding=").and_then(Encoding::named).or(conversion.encoding),
            }
        }
        conversion
    }
}

/// The text with a carriage return before each new line that has none. `None`: there is no such line.
fn with_crlf(text: &[u8]) -> Option<Vec<u8>> {
    let is_lone = |at: usize| text[at] == b'\n' && (at == 0 || text[at - 1] != b'\r');
    let lone = (0..text.len()).filter(|at| is_lone(*at)).count();
    if lone == 0 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() + lone);
    for (at, byte) in text.iter().enumerate() {
        if is_lone(at) {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    Some(out)
}

/// What git counts to tell text from binary (convert.c, `gather_stats`).
#[derive(Default)]
struct Statistics {
    nul: usize,
    lone_cr: usize,
    crlf: usize,
    printable: usize,
    other: usize,
}

impl Statistics {
    fn of(bytes: &[u8]) -> Self {
        let mut s = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'\r' if bytes.get(at + 1) == Some(&b'\n') => {
                    s.crlf += 1;
                    at += 1;
                }
                b'\r' => s.lone_cr += 1,
                b'\n' => {}
                8 | b'\t' | 27 | 12 => s.printable += 1,
                0 => {
                    s.nul += 1;
                    s.other += 1;
                }
                0..32 | 127 => s.other += 1,
                _ => s.printable += 1,
            }
            at += 1;
        }
        // The end-of-file mark of DOS.
        if bytes.last() == Some(&26) {
            s.other -= 1;
        }
        s
    }
    fn is_plain_text(&self) -> bool {
        self.lone_cr == 0 && self.crlf == 0 && self.nul == 0 && (self.printable >> 7) >= self.other
    }
}

/// The text with the blob's id in each `$Id$`. `None`: there is none.
fn with_ident(text: &[u8], id: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut found = false;
    while let Some(dollar) = rest.iter().position(|b| *b == b'$') {
        let (before, after) = rest.split_at(dollar + 1);
        out.extend_from_slice(before);
        rest = after;
        if let Some(length) = keyword(after) {
            out.extend_from_slice(format!("Id: {id} $").as_bytes());
            rest = &after[length..];
            found = true;
        }
    }
    out.extend_from_slice(rest);
    found.then_some(out)
}

/// The length of `Id$` or `Id: … $`, if the text begins with one that git takes for its own.
fn keyword(text: &[u8]) -> Option<usize> {
    let rest = text.strip_prefix(b"Id")?;
    match rest.first()? {
        b'$' => Some(3),
        b':' => {
            let end = 3 + text[3..].iter().position(|b| *b == b'$')?;
            let inside = &text[3..end];
            if inside.contains(&b'\n') {
                return None;
            }
            // A blank before the last character: another system's keyword.
            let blank = inside.get(1..).and_then(|inside| inside.iter().position(|b| *b == b' ')).map(|at| at + 4);
            blank.is_none_or(|at| at >= end - 1).then_some(end + 1)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn converted(words: &str, blob: &[u8]) -> Vec<u8> {
        Conversion::parse(words).apply(blob, ID).expect("it can be written").into_owned()
    }

    #[test]
    fn lone_line_ends_become_two_characters_and_others_stay() {
        assert_eq!(converted("crlf", b"a\nb\r\nc\r\n\n"), b"a\r\nb\r\nc\r\n\r\n");
        assert_eq!(converted("auto-crlf", b"a\nb\n"), b"a\r\nb\r\n");
        for untouched in [&b"a\nb\r\n"[..], b"a\0\n", b"a\rb\n", b"\x01\x02\n"] {
            assert_eq!(converted("auto-crlf", untouched), untouched);
        }
    }
    #[test]
    fn ident_takes_its_own_keyword_alone() {
        assert_eq!(converted("ident", b"x $Id$ y"), format!("x $Id: {ID} $ y").as_bytes());
        assert_eq!(converted("ident", b"$Id: old $\n"), format!("$Id: {ID} $\n").as_bytes());
        for other in [&b"$Idx$"[..], b"$Id: a b c $", b"$Id: a\n$", b"$Id:", b"$Id", b"Id$"] {
            assert_eq!(converted("ident", other), other, "{}", String::from_utf8_lossy(other));
        }
    }
    #[test]
    fn a_conversion_is_read_as_it_is_described() {
        for words in [" ident", " crlf", " ident auto-crlf encoding=UTF-16LE-BOM", ""] {
            assert_eq!(Conversion::parse(words).describe(), words);
        }
        assert!(Conversion::parse("").is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_blob_makes_it_panic(blob: Vec<u8>, text in "(\\$Id|:| |\\$|\n|\r|a){0,20}") {
            for bytes in [&blob[..], text.as_bytes()] {
                for words in ["ident crlf", "auto-crlf", "encoding=UTF-16 ident"] {
                    let _ = Conversion::parse(words).apply(bytes, ID).is_ok();
                }
            }
        }
    }
}
