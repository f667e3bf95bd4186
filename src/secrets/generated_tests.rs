//! Ten thousand generated secrets, each printed in a generated way: none may be seen in what comes out.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::*;
use numbers::Numbers;

#[path = "../../tests/integration/support/numbers.rs"]
mod numbers;

const CASES: u64 = 10_000;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const KEYS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_-.~!@#$%^&*()[]{}<>?;:'\"\\|`,é日";

/// What is printed, and what must not be left of it.
fn printed(n: &mut Numbers, secret: &str) -> (String, Vec<String>) {
    let (before, after) = (n.below(9), n.below(9));
    let (before, after) = (n.text("xyz ", before), n.text("xyz ", after));
    let whole = |form: String| (format!("{before}{form}{after}"), vec![form, secret.to_owned()]);
    match n.below(8) {
        0 => whole(secret.to_owned()),
        1 => whole(hex::encode(secret)),
        2 => whole(hex::encode_upper(secret)),
        3 => whole(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()),
        4 => whole(percent_encode(secret.as_bytes(), UNRESERVED).to_string()),
        5 => {
            let quoted = serde_json::Value::from(secret).to_string();
            whole(quoted[1..quoted.len() - 1].to_owned())
        }
        // In the middle of a longer base64 text, at any place in its groups of three bytes.
        6 => (STANDARD.encode(format!("{before}{secret}{after}")), inner_base64(&STANDARD, &before, secret)),
        _ => (URL_SAFE_NO_PAD.encode(format!("{before}{secret}{after}")), inner_base64(&URL_SAFE_NO_PAD, &before, secret)),
    }
}

/// The digits that stand for bytes of the secret alone.
fn inner_base64(engine: &impl Engine, before: &str, secret: &str) -> Vec<String> {
    let digits = engine.encode(format!("{before}{secret}"));
    let (first, last) = ((before.len() * 8).div_ceil(6), (before.len() + secret.len()) * 8 / 6);
    vec![digits[first..last].to_owned()]
}

/// The text with colours somewhere in it.
fn coloured(n: &mut Numbers, text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if n.below(4) == 0 {
            out.push_str(["\x1b[31m", "\x1b[0m", "\x1b[1;38;5;9m", "\x1b[K"][n.below(4)]);
        }
        out.push(c);
    }
    out
}

fn in_pieces(n: &mut Numbers, redactor: &Redactor, text: &str) -> String {
    let (mut stream, mut out, mut rest) = (redactor.stream(), Vec::new(), text.as_bytes());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((1 + n.below(7)).min(rest.len()));
        out.extend(stream.push(piece));
        rest = after;
    }
    out.extend(stream.finish());
    String::from_utf8(out).expect("whole characters")
}

#[test]
fn none_of_ten_thousand_secrets_is_seen_however_it_is_printed() {
    let colours = regex::Regex::new("\x1b\\[[0-9;]*[A-Za-z]").expect("a regex");
    let mut n = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut seen = 0;
    for case in 0..CASES {
        let alphabet = [LETTERS, KEYS][n.below(2)];
        let len = 6 + n.below(if case % 50 == 0 { 900 } else { 58 });
        let secret = n.text(alphabet, len);
        let secret = secret.trim();
        if secret.chars().count() < MIN_SECRET_CHARS || secret.chars().all(|c| c == '*') {
            continue;
        }
        let redactor = Redactor::new(&[SecretString::from(secret)], &[], &[]);
        let (text, hidden) = printed(&mut n, secret);
        let out = match n.below(3) {
            0 => redactor.redact(&text).into_owned(),
            1 => in_pieces(&mut n, &redactor, &text),
            // As a line reaches the log: its stream was masked first, then the line.
            _ => {
                let text = coloured(&mut n, &text);
                let streamed = in_pieces(&mut n, &redactor, &text);
                redactor.redact(&streamed).into_owned()
            }
        };
        let shown = colours.replace_all(&out, "");
        if hidden.iter().any(|form| form.len() >= MIN_SECRET_CHARS && shown.contains(form.as_str())) {
            seen += 1;
            eprintln!("seen: {secret:?} of {text:?} in {out:?}");
        }
    }
    assert_eq!(seen, 0, "of {CASES} secrets {seen} were seen");
}
