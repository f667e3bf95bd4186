//! PURE: the forms in which a secret may come out of a program: as it is, and encoded.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// Long secrets are known by pieces of this many bytes: a part of one that was cut out of it is masked too, what a stream has to hold
/// back stays small, and so does the time for comparing.
pub(super) const PIECE: usize = 256;
/// Programs that print base64 break it into lines of these lengths (MIME and coreutils; PEM).
const BASE64_LINES: [usize; 2] = [76, 64];
/// `xxd -p` breaks its digits into lines of this length.
const HEX_LINE: usize = 60;
/// So many bytes are encoded at a time: whole lines of base64 (57 and 48 bytes each) and of hex (30).
const SEGMENT: usize = 4560 * 4;
/// What follows the last whole piece is a pattern of its own from this length on, else it is added to that piece.
const MIN_PIECE: usize = 6;
/// The same for the value itself, whose last few characters may be an ordinary word.
const MIN_RAW_PIECE: usize = 32;

/// RFC 3986: all but the unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// JavaScript's `encodeURIComponent`.
const COMPONENT: &AsciiSet = &STRICT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// JavaScript's `encodeURI`: a whole URL.
const FULL: &AsciiSet = &COMPONENT
    .remove(b';')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b'#');
/// User and password in a URL, as URL libraries write them.
const USERINFO: &AsciiSet = &COMPONENT.remove(b'$').remove(b'&').remove(b'+').remove(b',');
/// A form (`application/x-www-form-urlencoded`); its spaces become '+'.
const FORM: &AsciiSet = &STRICT.remove(b'*').add(b'~').remove(b' ');

/// The value itself, in pieces that end between two characters.
pub(super) fn raw(value: &str, emit: &mut dyn FnMut(&[u8])) {
    let mut rest = value;
    while rest.len() >= PIECE + MIN_RAW_PIECE {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        emit(piece.as_bytes());
        rest = after;
    }
    emit(rest.as_bytes());
}

/// Every encoded form that differs from the value. A value of megabytes is taken segment by segment: of its forms no more than one
/// segment's are in memory.
pub(super) fn encoded(value: &str, emit: &mut dyn FnMut(&[u8])) {
    let mut rest = value;
    while !rest.is_empty() {
        let end = segment_end(rest.len(), SEGMENT);
        let (segment, after) = rest.split_at(rest.floor_char_boundary(end));
        encoded_segment(segment, emit);
        rest = after;
    }
    for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
        for before in 0..3 {
            base64_pieces(&engine, value.as_bytes(), before, PIECE, emit);
        }
        for line in BASE64_LINES {
            if value.len() * 4 / 3 > line {
                base64_pieces(&engine, value.as_bytes(), 0, line, emit);
            }
        }
    }
}

/// A short rest is taken together with the segment before it, or its pieces would be too short for patterns.
fn segment_end(len: usize, segment: usize) -> usize {
    if len < segment + MIN_RAW_PIECE { len } else { segment }
}

fn encoded_segment(value: &str, emit: &mut dyn FnMut(&[u8])) {
    let mut texts: Vec<String> = Vec::new();
    for set in [STRICT, COMPONENT, FULL, USERINFO, FORM] {
        let mut text = percent_encode(value.as_bytes(), set).to_string();
        if std::ptr::eq(set, FORM) {
            text = text.replace(' ', "+");
        }
        texts.push(lower_hex(&text));
        texts.push(text);
    }
    let json = json_escaped(value);
    texts.push(json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"));
    texts.push(json.replace('/', "\\/"));
    texts.push(ascii_json(&json));
    texts.push(json);
    texts.push(value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    for digits in [hex::encode(value), hex::encode_upper(value)] {
        if digits.len() > HEX_LINE {
            pieces(digits.as_bytes(), HEX_LINE, emit);
        }
        texts.push(digits);
    }
    texts.sort_unstable();
    texts.dedup();
    for text in texts.iter().filter(|text| *text != value) {
        pieces(text.as_bytes(), PIECE, emit);
    }
}

/// The base64 form with `before` (mod 3) bytes before it, in pieces of `size`.
fn base64_pieces(engine: &impl Engine, value: &[u8], before: usize, size: usize, emit: &mut dyn FnMut(&[u8])) {
    let (mut rest, mut before) = (value, before);
    while !rest.is_empty() {
        // Ends after three bytes: the next segment's digits begin with it.
        let (segment, after) = rest.split_at(segment_end(rest.len(), SEGMENT - before));
        pieces(base64_core(engine, segment, before).as_bytes(), size, emit);
        (rest, before) = (after, 0);
    }
}

/// The base64 digits that are the same whatever stands around `value`, with `before` (mod 3) bytes before it.
/// A digit is six bits: those which share bits with a neighbour are left out.
fn base64_core(engine: &impl Engine, value: &[u8], before: usize) -> String {
    let mut padded = vec![0; before];
    padded.extend_from_slice(value);
    let text = engine.encode(&padded);
    let first = (before * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    text[first..last].to_owned()
}

/// As `JSON.stringify` and serde_json write a text, without the quotes.
fn json_escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As writers do that keep to ASCII (Python's default).
fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

/// `%2F` → `%2f`; nothing else changes.
fn lower_hex(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut digits = 0;
    for c in text.chars() {
        out.push(if digits > 0 { c.to_ascii_lowercase() } else { c });
        digits = if c == '%' { 2 } else { digits.max(1) - 1 };
    }
    out
}

/// ASCII text in pieces of `size`; a rest that is too short for a pattern is known together with the piece before it.
fn pieces(text: &[u8], size: usize, emit: &mut dyn FnMut(&[u8])) {
    let mut start = 0;
    while start < text.len() {
        let end = (start + size).min(text.len());
        let rest = text.len() - end;
        if rest > 0 && rest < MIN_PIECE {
            emit(&text[start..]);
        }
        if end - start >= MIN_PIECE {
            emit(&text[start..end]);
        }
        start = end;
    }
}
