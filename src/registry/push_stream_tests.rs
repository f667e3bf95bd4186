//! What is read out of the Engine's push stream.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:1b4e92db41ff79fd96018e7795474dccebf163ae7d88a3aab6cd9af5a322ec53";

/// As Engine 20.10 sends it, `\r\n` between the lines.
fn recorded() -> String {
    let lines = [
        r#"{"status":"The push refers to repository [127.0.0.1:5000/octo/one]"}"#,
        r#"{"status":"Preparing","progressDetail":{},"id":"26518f555867"}"#,
        r#"{"status":"Preparing","progressDetail":{},"id":"78b3547912aa"}"#,
        r#"{"status":"Preparing","progressDetail":{},"id":"aaaaaaaaaaaa"}"#,
        r#"{"status":"Pushing","progressDetail":{"current":66048,"total":5000000},"progress":"[\u003e  ]  66.05kB/5MB","id":"78b3547912aa"}"#,
        r#"{"status":"Mounted from octo/of-somebody-else","progressDetail":{},"id":"aaaaaaaaaaaa"}"#,
        r#"{"status":"Pushing","progressDetail":{"current":33280,"total":2000000},"progress":"[\u003e  ]  33.28kB/2MB","id":"26518f555867"}"#,
        r#"{"status":"Pushed","progressDetail":{},"id":"26518f555867"}"#,
        r#"{"status":"Pushing","progressDetail":{"current":5001728,"total":5000000},"progress":"[==\u003e]  5.002MB","id":"78b3547912aa"}"#,
        r#"{"status":"Pushed","progressDetail":{},"id":"78b3547912aa"}"#,
        r#"{"status":"dpl-1: digest: sha256:1b4e92db41ff79fd96018e7795474dccebf163ae7d88a3aab6cd9af5a322ec53 size: 738"}"#,
        r#"{"progressDetail":{},"aux":{"Tag":"dpl-1","Digest":"sha256:1b4e92db41ff79fd96018e7795474dccebf163ae7d88a3aab6cd9af5a322ec53","Size":738}}"#,
    ];
    lines.join("\r\n") + "\r\n"
}

fn events(chunks: &[&[u8]]) -> Result<Vec<Event>, Garbled> {
    let mut lines = Lines::default();
    let mut all = Vec::new();
    for chunk in chunks {
        all.extend(lines.push(chunk)?);
    }
    all.extend(lines.finish()?);
    Ok(all)
}

fn progress(events: &[Event]) -> Progress {
    let mut progress = Progress::default();
    for event in events {
        progress.apply(event);
    }
    progress
}

fn layer(id: &str, state: LayerState) -> Event {
    Event::Layer { id: id.into(), state }
}

#[test]
fn a_push_ends_with_its_digest_and_says_what_was_sent_and_what_was_reused() {
    let progress = progress(&events(&[recorded().as_bytes()]).unwrap());
    assert_eq!(progress.digest(), Some(DIGEST));
    assert_eq!(progress.summary(), "2 layers pushed (7.0 MB), 1 reused");
}

#[test]
fn the_name_of_another_tenants_repository_appears_in_no_event() {
    assert!(!format!("{:?}", events(&[recorded().as_bytes()]).unwrap()).contains("somebody"));
}

#[test]
fn the_digest_is_read_from_the_text_where_an_engine_sends_no_aux() {
    let text = format!("{{\"status\":\"dpl-1: digest: {DIGEST} size: 738\"}}");
    assert_eq!(events(&[text.as_bytes()]).unwrap(), [Event::Digest(DIGEST.into())]);
    for broken in ["dpl-1: digest: sha256:12 size: 7", "dpl-1: digest: ", "digest: sha256:"] {
        let text = format!("{{\"status\":\"{broken}\"}}");
        assert_eq!(events(&[text.as_bytes()]).unwrap(), [Event::Note], "{broken}");
    }
}

#[test]
fn an_error_in_the_stream_is_an_error_though_the_answer_was_200() {
    let text = br#"{"errorDetail":{"message":"no basic auth credentials"},"error":"no basic auth credentials"}"#;
    assert_eq!(events(&[text]).unwrap(), [Event::Error("no basic auth credentials".into())]);
    assert_eq!(events(&[br#"{"error":"denied"}"#]).unwrap(), [Event::Error("denied".into())]);
}

#[test]
fn a_stream_that_is_not_json_lines_is_garbled_and_does_not_grow_without_end() {
    assert_eq!(events(&[b"<html>\n"]), Err(Garbled::NotJson));
    let mut lines = Lines::default();
    let chunk = vec![b'{'; 1 << 19];
    assert!(lines.push(&chunk).is_ok());
    assert!(lines.push(&chunk).is_ok());
    assert_eq!(lines.push(&chunk), Err(Garbled::TooLong));
}

#[test]
fn a_line_is_written_every_two_seconds_at_most() {
    let mut progress = progress(&[
        layer("a", LayerState::Pushed),
        layer("b", LayerState::Pushing { sent: 12_345_678, total: 20_000_000 }),
        layer("c", LayerState::Waiting),
        layer("d", LayerState::Reused),
    ]);
    assert_eq!(progress.line_due(Duration::from_millis(1900)), None);
    assert_eq!(progress.line_due(Duration::from_millis(2000)).unwrap(), "pushed 1 of 3 layers, 12.3 MB, 1 reused");
    assert_eq!(progress.line_due(Duration::from_millis(3999)), None);
    assert!(progress.line_due(Duration::from_millis(4000)).is_some());
}

#[test]
fn a_repeated_state_is_no_progress_and_a_broken_upload_is_said_once() {
    let mut progress = Progress::default();
    let pushing = layer("a", LayerState::Pushing { sent: 1, total: 2 });
    assert_eq!(progress.apply(&pushing), Moved::Yes);
    assert_eq!(progress.apply(&pushing), Moved::No);
    assert_eq!(progress.apply(&layer("a", LayerState::Retrying("Retrying in 5 seconds".into()))), Moved::Broke);
    assert_eq!(progress.apply(&layer("a", LayerState::Retrying("Retrying in 4 seconds".into()))), Moved::Yes);
    assert_eq!(progress.apply(&Event::Note), Moved::No);
}

proptest! {
    #[test]
    fn the_events_are_the_same_however_the_stream_is_cut(cuts in prop::collection::vec(0usize..1500, 0..12)) {
        let whole = recorded();
        let bytes = whole.as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        prop_assert_eq!(events(&chunks), events(&[bytes]));
    }
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        if let Ok(events) = events(&[&bytes]) {
            progress(&events).summary();
        }
    }
}

#[test]
fn a_push_whose_layers_wait_behind_others_in_the_engine_is_queued_and_one_that_asks_or_sends_is_not() {
    let layer = |id: &str, state| Event::Layer { id: id.to_owned(), state };
    let mut progress = Progress::default();
    assert!(!progress.is_queued(), "nothing is known of it yet");
    progress.apply(&layer("a", LayerState::Preparing));
    progress.apply(&layer("b", LayerState::Waiting));
    assert!(!progress.is_queued(), "the registry is asked for a");
    progress.apply(&layer("a", LayerState::Reused));
    assert!(progress.is_queued());
    progress.apply(&layer("b", LayerState::Pushing { sent: 1, total: 2 }));
    assert!(!progress.is_queued());
    progress.apply(&layer("b", LayerState::Pushed));
    assert!(!progress.is_queued(), "the manifest is sent");
}
