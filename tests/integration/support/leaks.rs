//! Generated secrets, builds that print each of them in every way, and the search for any of them in any form.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::numbers::Numbers;
use super::{Job, Repository};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const SYMBOLS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/=_-.~!@#$%^&*()[]{}<>?;:'\"\\|`,é日";
/// Programs break base64 at this length.
const BASE64_LINE: usize = 76;
/// A needle is found by its first bytes.
const HEAD: usize = 8;

/// The secrets of one job.
pub struct Leaks {
    values: Vec<String>,
}

impl Leaks {
    /// So many, each at least as long as keys are: what a stranger's log must not show either.
    pub fn generate(count: usize, seed: u64) -> Self {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let values = (0..count).map(|n| {
            let alphabet = [LETTERS, SYMBOLS][n % 2];
            let len = if n % 10 == 0 { 61 + numbers.below(140) } else { 14 + numbers.below(46) };
            // A letter and a digit: it looks like a key.
            format!("k{}7", numbers.text(alphabet, len))
        });
        Self { values: values.collect() }
    }

    /// How many lines [`Leaks::repository`] prints with a secret in it.
    pub fn lines(&self) -> usize {
        self.values.iter().enumerate().map(|(n, value)| printed(n, value).len()).sum()
    }

    /// The job has each as a variable.
    pub fn given_to(&self, job: Job) -> Job {
        self.values.iter().enumerate().fold(job, |job, (n, value)| job.env(&format!("KEY_{n}"), value))
    }

    /// Its build prints every secret in every form: a line for each, `leak <number> <form> …`. In the repository they stand turned
    /// round, or git's server would hold them. `rest`: further instructions.
    pub fn repository(&self, rest: &str) -> Repository {
        let lines: Vec<String> = self.values.iter().enumerate().flat_map(|(n, value)| printed(n, value)).collect();
        // Pieces of 41 bytes: the border falls anywhere in a secret. Of the first ones the border is in time, too.
        let slowly = turned(&self.values.iter().take(8).map(|v| format!("slow {v}\n")).collect::<String>());
        let dockerfile = format!(
            "FROM busybox:base\nCOPY leaks slowly .env /\nRUN tr '!-~' 'P-~!-O' </leaks | dd bs=41 2>/dev/null; cat /.env; \
             tr '!-~' 'P-~!-O' </slowly | while IFS= read -r line; do printf '%.17s' \"$line\"; usleep 150000; \
             printf '%s\\n' \"$line\" | dd bs=1 skip=17 2>/dev/null; done >&2\n{rest}"
        );
        Repository::public(&[("Dockerfile", &dockerfile), ("leaks", &turned(&(lines.join("\n") + "\n"))), ("slowly", &slowly)])
    }
}

/// The lines that show a secret. None begins with it.
fn printed(n: usize, value: &str) -> Vec<String> {
    let bytes = value.as_bytes();
    let wrapped = STANDARD.encode(value);
    let wrapped = wrapped.as_bytes().chunks(BASE64_LINE).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
    let coloured: String =
        value.chars().enumerate().map(|(at, c)| if at % 5 == 2 { format!("\x1b[3{}m{c}", at % 8) } else { c.into() }).collect();
    let forms = [
        ("plain", value.to_owned()),
        ("coloured", coloured + "\x1b[0m"),
        ("hex", hex::encode(bytes)),
        ("HEX", hex::encode_upper(bytes)),
        ("form", url::form_urlencoded::byte_serialize(bytes).collect()),
        ("percent", percent_encode(bytes, UNRESERVED).to_string()),
        ("json", json_escaped(value)),
        ("base64", wrapped),
        // In the middle of a longer text, at any place in its groups of three bytes.
        ("inner", STANDARD.encode(format!("{}{value}xy", &"abc"[..n % 3]))),
        ("url-safe", URL_SAFE_NO_PAD.encode(format!("{}{value}xy", &"abc"[..n % 3]))),
    ];
    forms.into_iter().map(|(form, text)| format!("leak {n} {form} {text}")).collect()
}

fn json_escaped(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Each visible ASCII character in place of another; twice is nothing.
fn turned(text: &str) -> String {
    let turn = |c: char| match c {
        '!'..='~' => char::from((c as u8 - b'!' + 47) % 94 + b'!'),
        other => other,
    };
    text.chars().map(turn).collect()
}

/// Every form of many secrets, to look for all of them at once.
#[derive(Default)]
pub struct Needles {
    by_head: HashMap<[u8; HEAD], Vec<(String, Vec<u8>)>>,
}

impl Needles {
    pub fn add(&mut self, leaks: &Leaks) {
        for (n, value) in leaks.values.iter().enumerate() {
            for (form, text) in forms_to_look_for(value) {
                if let Some(head) = text.as_bytes().first_chunk::<HEAD>() {
                    self.by_head.entry(*head).or_default().push((format!("secret {n} ({form})"), text.into_bytes()));
                }
            }
        }
    }

    /// `Err` says what is seen in the text, colours taken out of it.
    pub fn none_in(&self, place: &str, text: &[u8]) -> Result<(), String> {
        let text = uncoloured(text);
        for at in 0..text.len().saturating_sub(HEAD - 1) {
            let head: &[u8; HEAD] = text[at..].first_chunk().expect("as long as a head");
            let Some(needles) = self.by_head.get(head) else { continue };
            if let Some((what, needle)) = needles.iter().find(|(_, needle)| text[at..].starts_with(needle)) {
                let around = &text[at.saturating_sub(60)..(at + needle.len() + 20).min(text.len())];
                return Err(format!("{what} stands in {place}: …{:?}…", String::from_utf8_lossy(around)));
            }
        }
        Ok(())
    }
}

fn forms_to_look_for(value: &str) -> Vec<(&'static str, String)> {
    let bytes = value.as_bytes();
    let mut forms = vec![
        ("as it is", value.to_owned()),
        ("hex", hex::encode(bytes)),
        ("upper hex", hex::encode_upper(bytes)),
        ("a form's", url::form_urlencoded::byte_serialize(bytes).collect()),
        ("percent", percent_encode(bytes, UNRESERVED).to_string()),
        ("JSON", json_escaped(value)),
    ];
    for before in 0..3 {
        // The digits that stand for bytes of the secret alone.
        let (first, last) = ((before * 8_usize).div_ceil(6), (before + bytes.len()) * 8 / 6);
        let all = format!("{}{value}", &"abc"[..before]);
        for (form, text) in [("base64", STANDARD.encode(&all)), ("url-safe base64", URL_SAFE_NO_PAD.encode(&all))] {
            let core = &text[first..last];
            forms.push((form, core.to_owned()));
            if before == 0 && core.len() > BASE64_LINE {
                forms.push(("a line of base64", core[..BASE64_LINE].to_owned()));
            }
        }
    }
    forms
}

/// Without `ESC [ … letter`.
fn uncoloured(text: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((first, after)) = rest.split_first() {
        if let Some(sequence) = rest.strip_prefix(b"\x1b[") {
            let body = sequence.iter().take_while(|b| matches!(b, 0x20..=0x3f)).count();
            rest = &sequence[(body + 1).min(sequence.len())..];
        } else {
            out.push(*first);
            rest = after;
        }
    }
    out
}
