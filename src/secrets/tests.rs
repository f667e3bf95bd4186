//! What must not be seen, and what must stay readable.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn secrets(list: &[&str]) -> Vec<SecretString> {
    list.iter().map(|s| SecretString::from(*s)).collect()
}
fn of_secrets(list: &[&str]) -> Redactor {
    Redactor::new(&secrets(list), &[], &[])
}
fn of_values(list: &[&str]) -> Redactor {
    Redactor::new(&[], &secrets(list), &["registry.example.com/deployra/svc_91", "octo/hello-world"])
}

#[test]
fn a_secret_is_masked_in_every_form_in_which_programs_print_it() {
    let secret = "p@ss w/rd<é>\"+~1";
    let redactor = of_secrets(&[secret]);
    let pair = format!("octocat:{secret}");
    for shown in [
        secret.to_owned(),
        "p%40ss%20w%2Frd%3C%C3%A9%3E%22%2B~1".to_owned(),
        "p%40ss%20w%2frd%3c%c3%a9%3e%22%2b~1".to_owned(),
        "p%40ss+w%2Frd%3C%C3%A9%3E%22%2B%7E1".to_owned(),
        "p@ss%20w/rd%3C%C3%A9%3E%22+~1".to_owned(),
        r#"p@ss w/rd<é>\"+~1"#.to_owned(),
        r#"p@ss w/rd\u003cé\u003e\"+~1"#.to_owned(),
        r#"p@ss w/rd<\u00e9>\"+~1"#.to_owned(),
        r#"p@ss w\/rd<é>\"+~1"#.to_owned(),
        hex::encode(secret),
        hex::encode_upper(secret),
    ] {
        assert_eq!(redactor.redact(&format!("<{shown}>")), "<***>", "{shown}");
    }
    let mut url = url::Url::parse("https://host/x").unwrap();
    url.set_password(Some(secret)).unwrap();
    assert_eq!(redactor.redact(url.as_str()), "https://:***@host/x");
    for text in [STANDARD.encode(secret), URL_SAFE.encode(secret), STANDARD.encode(&pair), URL_SAFE.encode(format!("x{pair}y"))] {
        let out = redactor.redact(&text).into_owned();
        assert!(out.contains("***"), "{text} → {out}");
        assert!(out.len() < text.len() / 2 + 12, "{text} → {out}");
    }
}

#[test]
fn a_basic_login_hides_the_password_wherever_it_falls() {
    let redactor = of_secrets(&["hunter22-token"]);
    for user in ["", "a", "ab", "abc", "x-access-token"] {
        let header = STANDARD.encode(format!("{user}:hunter22-token"));
        let out = redactor.redact(&header).into_owned();
        let shown: Vec<&str> = out.split("***").collect();
        assert_eq!(shown.len(), 2, "{header} → {out}");
        // What is left around the mask is the user name, and at most a few bits of the password.
        assert!(shown[1].len() <= 4 && shown[0].len() <= (user.len() + 1) * 4 / 3 + 1, "{header} → {out}");
    }
}

#[test]
fn a_long_secret_is_masked_whole_in_part_and_in_wrapped_base64() {
    let secret: String = (0..1000u32).map(|i| char::from(b'a' + (i * i % 23) as u8)).collect();
    let redactor = of_secrets(&[&secret]);
    assert_eq!(redactor.redact(&format!("[{secret}]")), "[***]");
    assert_eq!(redactor.redact(&secret[..512]), "***");
    let encoded = STANDARD.encode(&secret);
    for width in [76, 64] {
        let lines: Vec<&str> = encoded.as_bytes().chunks(width).map(|l| std::str::from_utf8(l).unwrap()).collect();
        for line in &lines {
            assert!(redactor.redact(line).len() < 12, "{width}: {line}");
        }
    }
}

#[test]
fn every_line_of_a_value_of_several_lines_is_masked() {
    let key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n  kqhkiG9w0BAQEFA\n==========\nab\n-----END KEY-----\n";
    let redactor = of_values(&[key]);
    assert_eq!(redactor.redact("x MIIEvQIBADANBg y kqhkiG9w0BAQEFA z"), "x *** y *** z");
    assert_eq!(redactor.redact("========== ab"), "========== ab");
    assert_eq!(redactor.redact(&serde_json::json!({"k": key}).to_string()), r#"{"k":"***\n"}"#);
    assert_eq!(of_secrets(&["token-with-newline\n"]).redact("token-with-newline\nnext"), "***\nnext");
}

#[test]
fn short_secrets_are_left_alone() {
    assert_eq!(of_secrets(&["12345", "", "äöüäö"]).redact("12345 äöüäö"), "12345 äöüäö");
    assert_eq!(of_secrets(&["123456", "äöüäöü"]).redact("123456 äöüäöü"), "*** ***");
}

#[test]
fn the_leftmost_then_the_longest_is_masked() {
    let redactor = of_secrets(&["secret", "secret-longer", "longer-still", "secretsecret"]);
    assert_eq!(redactor.redact("a secret-longer-still b secretsecret c secret-lo"), "a ***-still b *** c ***-lo");
}

#[test]
fn ordinary_values_stay_readable() {
    let plain = [
        "production",
        "Development",
        "TRUE",
        "localhost",
        "localhost:5432",
        "127.0.0.1:3000",
        "us-east-1",
        "us-gov-west-1",
        "ap-southeast-2",
        "europe-west1",
        "eu-central-1",
        "linux/amd64",
        "https://api.example.com",
        "https://api.example.com:8443/v1/users",
        "redis://cache:6379/0",
        "registry.example.com",
        "svc_91",
        "hello-world",
        "octo/hello",
        "30000",
    ];
    let redactor = of_values(&plain);
    for text in plain {
        assert_eq!(redactor.redact(text), text);
    }
}

#[test]
fn credentials_are_masked_even_where_they_are_ordinary_words() {
    assert_eq!(of_secrets(&["production"]).redact("production"), "***");
}

#[test]
fn a_url_with_a_password_hides_itself_and_the_password() {
    let redactor = of_values(&["postgres://app:s3cr%2Fet-pw@db:5432/app"]);
    assert_eq!(redactor.redact("to postgres://app:s3cr%2Fet-pw@db:5432/app"), "to ***");
    assert_eq!(redactor.redact("pw s3cr/et-pw or s3cr%2Fet-pw."), "pw *** or ***.");
    assert_eq!(redactor.redact("host db:5432 user app"), "host db:5432 user app");
    for hidden in [
        "https://hooks.example.com/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX",
        "https://example.com/x?token=abc",
        "https://0123456789abcdef@sentry.example.com/7",
        "us-east-1-hunter22",
        "1000000",
    ] {
        assert_eq!(of_values(&[hidden]).redact(hidden), "***", "{hidden}");
    }
    assert_eq!(of_values(&["https://0123456789abcdef@sentry.example.com/7"]).redact("key 0123456789abcdef"), "key ***");
}

#[test]
fn the_mask_itself_is_no_secret() {
    assert_eq!(of_secrets(&["******", "**********"]).redact("a ******* b"), "a ******* b");
}

#[test]
fn none_masks_nothing_and_copies_nothing() {
    assert!(matches!(Redactor::none().redact("anything"), std::borrow::Cow::Borrowed("anything")));
    let mut stream = Redactor::none().stream();
    assert_eq!(stream.push(b"any"), b"any");
    assert_eq!(stream.finish(), b"");
}

#[test]
fn a_stream_lets_out_at_once_what_cannot_become_a_secret() {
    let mut stream = of_secrets(&["hunter22"]).stream();
    assert_eq!(stream.push(b"password: hun"), b"password: ");
    assert_eq!(stream.push(b"ter2"), b"");
    assert_eq!(stream.push(b"1 hunter22hunter2"), b"hunter21 ***");
    assert_eq!(stream.push(b"2!"), b"!");
    assert_eq!(stream.push(b"hunter"), b"");
    assert_eq!(stream.finish(), b"hunter");
}

#[test]
fn forty_megabytes_of_values_stay_reasonable() {
    let values: Vec<SecretString> = (0..10_000u64)
        .map(|i| {
            let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let text: String = std::iter::repeat_with(|| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                char::from(b'!' + (x % 94) as u8)
            })
            .take(4096)
            .collect();
            SecretString::from(text)
        })
        .collect();
    let redactor = Redactor::new(&[], &values, &[]);
    assert!(redactor.raw_only() > 0);
    for value in values.iter().step_by(997) {
        assert_eq!(redactor.redact(&format!("<{}>", value.expose_secret())), "<***>");
    }
}

#[test]
fn secrets_of_several_jobs_are_hidden_as_long_as_they_run_also_where_they_overlap() {
    let active = ActiveSecrets::default();
    let [worker, job, other] = ["worker-password", "abcdefgh", "efghijkl"].map(|s| std::sync::Arc::new(of_secrets(&[s])));
    for redactor in [&worker, &job, &other] {
        active.add(redactor);
    }
    assert_eq!(active.redact("worker-password abcdefghijkl"), "*** ***");
    drop(other);
    assert_eq!(active.redact("worker-password abcdefghijkl"), "*** ***ijkl");
    drop(job);
    assert_eq!(active.redact("worker-password abcdefghijkl"), "*** abcdefghijkl");
}

#[test]
fn other_jobs_logs_hide_what_nobody_can_guess_and_confirm_no_guess() {
    let others = Redactor::for_others(
        &secrets(&["ghs_0123456789abcdef"]),
        &secrets(&["hunter22", "added 120 packages in", "postgres://app:s3cr3t@db/app"]),
        &[],
    );
    let line = "ghs_0123456789abcdef hunter22 added 120 packages in postgres://app:s3cr3t@db/app";
    assert_eq!(others.redact(line), "*** hunter22 added 120 packages in ***");
}

#[test]
fn colours_do_not_show_what_they_stand_in() {
    let redactor = of_secrets(&["hunter22"]);
    assert_eq!(redactor.redact("a \x1b[31mhun\x1b[0mter\x1b[1;32m22\x1b[0m b"), "a \x1b[31m***\x1b[0m b");
    assert_eq!(redactor.redact("\x1b[01;31m\x1b[Khunter22\x1b[m\x1b[K"), "\x1b[01;31m\x1b[K***\x1b[m\x1b[K");
    assert_eq!(redactor.redact("hunter2\x1b[0m1 \x1b["), "hunter2\x1b[0m1 \x1b[");
    // one that has a colour in itself
    assert_eq!(of_secrets(&["pass\x1b[1mword"]).redact("pass\x1b[1mword"), "***");
}

#[test]
fn wrapped_hex_is_masked_line_by_line() {
    let secret = "s3cr3t-".repeat(20);
    let redactor = of_secrets(&[&secret]);
    for line in hex::encode(&secret).as_bytes().chunks(60) {
        assert_eq!(redactor.redact(std::str::from_utf8(line).unwrap()), "***");
    }
}

#[test]
fn a_value_of_many_segments_is_masked_in_every_form_of_every_part() {
    let secret: String = (0..100_000u64)
        .map(|i| char::from(b'!' + ((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33).wrapping_pow(3) % 89) as u8))
        .collect();
    let redactor = of_secrets(&[&secret]);
    assert_eq!(redactor.raw_only(), 0);
    let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    for shown in [
        secret.clone(),
        hex::encode(&secret),
        serde_json::Value::from(secret.as_str()).to_string(),
        STANDARD.encode(&secret),
        url,
    ] {
        let out = redactor.redact(&shown).into_owned();
        assert!(out.len() < 12, "{:.100}", out);
    }
    for before in ["a", "ab"] {
        let out = redactor.redact(&STANDARD.encode(format!("{before}{secret}"))).into_owned();
        assert!(out.len() < 12, "{:.100}", out);
    }
}

/// Values that overlap and repeat, from an alphabet so small that texts are full of them.
fn any_secrets() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab/é]{6,12}|[ab\n]{6,20}|(ab){3,200}", 0..6)
}

proptest! {
    #[test]
    fn chunks_hide_as_much_as_the_whole(list in any_secrets(), text in "([ab/é\n]{0,30}|(ab){0,300}){0,4}", cuts in prop::collection::vec(1usize..40, 1..40)) {
        let redactor = Redactor::new(&list.iter().map(|s| SecretString::from(s.as_str())).collect::<Vec<_>>(), &[], &[]);
        let whole = redactor.redact(&text).into_owned();
        let mut stream = redactor.stream();
        let mut out = Vec::new();
        let mut rest = text.as_bytes();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            out.extend(stream.push(chunk));
            rest = after;
        }
        out.extend(stream.finish());
        prop_assert_eq!(String::from_utf8(out).unwrap(), whole);
    }

    #[test]
    fn no_secret_is_left_in_any_output(list in any_secrets(), text in "[ab/é\n]{0,200}", at: prop::sample::Index) {
        let redactor = Redactor::new(&list.iter().map(|s| SecretString::from(s.as_str())).collect::<Vec<_>>(), &[], &[]);
        let mut text = text;
        if !list.is_empty() {
            let secret = &list[at.index(list.len())];
            text = format!("{text}{secret}{}{}", STANDARD.encode(secret), serde_json::Value::from(secret.as_str()));
        }
        let out = redactor.redact(&text);
        for secret in &list {
            let secret = secret.trim();
            prop_assert!(secret.chars().count() < MIN_SECRET_CHARS || !out.contains(secret), "{secret:?} in {out:?}");
        }
    }

    #[test]
    fn a_secret_in_the_middle_of_base64_is_never_readable(before in "[a-z]{0,9}", secret in "[A-Za-z0-9+/=@:]{6,80}", after in "[a-z]{0,9}") {
        let text = STANDARD.encode(format!("{before}{secret}{after}"));
        let out = of_secrets(&[&secret]).redact(&text).into_owned();
        prop_assert!(out.contains("***"));
        let hidden = text.len() - (out.len() - 3);
        prop_assert!(hidden >= secret.len() * 8 / 6 - 2, "{text} → {out}");
    }
}
