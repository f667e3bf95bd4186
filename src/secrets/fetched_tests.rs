//! A secret that comes into being later is masked from then on, wherever a redactor is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::super::{ActiveSecrets, Redactor, StreamRedactor};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}
fn knows(list: &[&str]) -> Redactor {
    Redactor::new(&list.iter().map(|text| secret(text)).collect::<Vec<_>>(), &[], &[])
}
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}
fn all_of(stream: &mut StreamRedactor, chunks: &[&str]) -> String {
    let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| stream.push(chunk.as_bytes())).collect();
    out.extend(stream.finish());
    text(out)
}

#[test]
fn what_is_fetched_is_masked_by_redactors_that_were_there_before() {
    let fetched = FetchedSecrets::default();
    let redactor = knows(&["password"]).with_fetched(&fetched);
    let line = format!("password fresh-token {} {}", STANDARD.encode("AWS:fresh-token"), hex::encode("fresh-token"));
    assert!(redactor.redact(&line).contains("fresh-token"));
    fetched.add([secret("fresh-token"), secret("AWS:fresh-token")], HOUR);
    let masked = redactor.redact(&line).into_owned();
    assert!(masked.starts_with("*** *** ***") && masked.ends_with(" ***"), "{masked}");
}

#[test]
fn what_a_job_fetches_is_masked_in_every_other_jobs_log_and_in_the_workers() {
    let active = ActiveSecrets::new(knows(&["worker-password"]));
    let [one, other] = ["one-secret", "other-secret"].map(|own| knows(&[own]).with_fetched(&active.fetched()));
    one.fetched().add([secret("fresh-token")], HOUR);
    assert_eq!(other.redact("fresh-token one-secret"), "*** one-secret");
    assert_eq!(active.redact("fresh-token"), "***");
}

#[test]
fn a_stream_masks_what_is_fetched_in_its_middle_also_across_chunks_and_in_what_it_held_back() {
    let fetched = FetchedSecrets::default();
    let mut stream = knows(&["fresh-password"]).with_fetched(&fetched).stream();
    // Held back: it may become the password.
    assert_eq!(text(stream.push(b"a fresh-")), "a ");
    fetched.add([secret("fresh-token")], HOUR);
    assert_eq!(text(stream.push(b"tok")), "");
    assert_eq!(all_of(&mut stream, &["en b fresh-pass", "word fresh-tokens"]), "*** b *** ***s");
}

#[test]
fn the_longest_is_masked_whichever_set_it_is_in() {
    let fetched = FetchedSecrets::default();
    fetched.add([secret("abcdefgh"), secret("xxyyzzab")], HOUR);
    let redactor = knows(&["abcdefghij", "xxyyzz"]).with_fetched(&fetched);
    assert_eq!(redactor.redact("abcdefghij|abcdefgh-|xxyyzzab|xxyyzz-"), "***|***-|***|***-");
    assert_eq!(all_of(&mut redactor.stream(), &["abcdefgh", "ij|xxyyzz", "ab|"]), "***|***|");
}

#[test]
fn the_set_is_bounded_and_what_is_in_use_stays() {
    let fetched = FetchedSecrets::default();
    let redactor = knows(&[]).with_fetched(&fetched);
    let login = "a-login-that-is-good-for-half-a-day";
    fetched.add([secret(login)], 12 * HOUR);
    let token = |n: usize| format!("{n:06}-").repeat(600);
    for n in 0..100 {
        fetched.add([secret(&token(n))], HOUR);
        assert_eq!(redactor.redact(&token(n)), "***", "the newest is masked");
        assert_eq!(redactor.redact(login), "***", "what is good for longer is masked after {n} others");
    }
    let set = fetched.0.set.read().unwrap();
    assert!(set.secrets.iter().map(|known| known.value.expose_secret().len()).sum::<usize>() <= MAX_BYTES);
}

#[test]
fn the_same_secret_again_is_no_change() {
    let fetched = FetchedSecrets::default();
    for _ in 0..3 {
        fetched.add([secret("fresh-token")], HOUR);
    }
    assert_eq!(fetched.generation(), 1);
}

proptest! {
    /// Wherever the chunks end and whenever the secret comes: what is printed after it was fetched does not show it.
    #[test]
    fn nothing_printed_after_the_fetch_shows_the_secret(
        own in "[ab]{6,9}",
        late in "[ab]{6,9}",
        before in "[ab ]{0,20}",
        after in "[ab ]{0,30}",
        cuts in prop::collection::vec(1usize..7, 1..20),
    ) {
        let fetched = FetchedSecrets::default();
        let redactor = knows(&[&own]).with_fetched(&fetched);
        let mut stream = redactor.stream();
        let mut out = stream.push(before.as_bytes());
        fetched.add([secret(&late)], HOUR);
        let said = format!("|{after}{late}");
        let mut rest = said.as_str();
        for cut in cuts {
            let (chunk, left) = rest.split_at(cut.min(rest.len()));
            out.extend(stream.push(chunk.as_bytes()));
            rest = left;
        }
        out.extend(stream.push(rest.as_bytes()));
        out.extend(stream.finish());
        let shown = text(out);
        let (_, shown) = shown.split_once('|').unwrap();
        prop_assert!(!shown.contains(&late) && !shown.contains(&own), "{}", shown);
    }
}
