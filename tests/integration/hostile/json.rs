//! Queue elements that are no job, or hardly one.

use serde_json::{Value, json};

use super::drive::{Case, End, FORGED};
use crate::support::Job;

const MALFORMED: End = End::Fails(&["job.malformed"]);
const TOO_LARGE: End = End::Fails(&["job.too_large"]);

fn job() -> Job {
    Job::bare("octo/none")
}

/// The job's JSON with something after its first brace.
fn with_first(job: &Job, insert: &str) -> String {
    format!("{{\"deploymentId\":\"{}\",{insert}{}", job.id, &job.payload()[1..])
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut n = 0;
    // What cannot be anybody's, each told apart in the dead letter list by its own beginning.
    let mut nameless = |name: &str, element: Vec<u8>| {
        n += 1;
        cases.push(Case::nameless(format!("{name} ({n})"), element, "job.malformed"));
    };
    nameless("words", b"not json".to_vec());
    nameless("nothing", b"".to_vec());
    nameless("a list", b"[]".to_vec());
    nameless("null", b"null".to_vec());
    nameless("a number", b"4711".to_vec());
    nameless("a text", b"\"dpl_8f3k2\"".to_vec());
    nameless("a brace", b"{".to_vec());
    nameless("a closing brace", b"}".to_vec());
    nameless("a comment", b"/* job */ {}".to_vec());
    nameless("Redis' own words", b"*3\r\n$3\r\nDEL\r\n".to_vec());
    nameless("an escape sequence", b"\x1b[2J\x1b]0;x\x07 red".to_vec());
    nameless("a forged line", format!("x\r\n{FORGED} 2026-01-01T00:00:00Z ERROR").into_bytes());
    nameless("bytes that are no text", b"\xff\xfe\xfd\xfc".to_vec());
    nameless("zeros", vec![0; 1000]);
    nameless("a list a million deep", b"[".repeat(1_000_000));
    nameless("objects a hundred thousand deep", b"{\"a\":".repeat(100_000));
    nameless("two megabytes of one text", [b"{ \"z\": \"".to_vec(), vec![b'z'; 4 << 20 >> 1]].concat());
    for id in [
        "",
        "../../etc/passwd",
        "-rf",
        "a/b",
        "a b",
        "a\nFORGED",
        "\u{1b}[2Jx",
        "\u{202e}x",
        "é",
        "a\0b",
        "x;rm -rf /",
        "*",
        "a:b",
        "__proto__",
    ] {
        let mut element = json!({"kind": id.len()});
        element["deploymentId"] = json!(id);
        nameless(&format!("the id {id:?}"), element.to_string().into_bytes());
    }
    nameless("an id that is too long", json!({"deploymentId": "x".repeat(65)}).to_string().into_bytes());
    for id in [json!(7), json!([]), json!({}), json!(true), Value::Null, json!(1e300)] {
        nameless(&format!("the id {id}"), json!({"deploymentId": id}).to_string().into_bytes());
    }
    cases.push(Case::nameless("forty megabytes that are nobody's", vec![b'a'; 40 << 20], "job.too_large"));
    cases.push(Case::nameless(
        "an id at the end of five megabytes",
        format!("{{\"padding\":\"{}\",\"deploymentId\":\"x1\"}}", "p".repeat(5 << 20)),
        "job.too_large",
    ));

    let mut owned = |name: &str, element: &dyn Fn(&Job) -> Vec<u8>, end: End| {
        let job = job();
        let element = element(&job);
        cases.push(Case::element(name, job, element, end));
    };
    owned("cut off", &|j| j.payload().as_bytes()[..j.payload().len() - 3].to_vec(), MALFORMED);
    owned("with something behind it", &|j| format!("{}{}", j.payload(), j.payload()).into(), MALFORMED);
    owned("with a comma too many", &|j| with_first(j, ",").into(), MALFORMED);
    owned("with a comment", &|j| with_first(j, "/* x */").into(), MALFORMED);
    owned("with single quotes", &|j| with_first(j, "'a':1,").into(), MALFORMED);
    owned("with NaN", &|j| with_first(j, "\"a\":NaN,").into(), MALFORMED);
    owned("with a number that no machine holds", &|j| with_first(j, "\"a\":1e999999999,").into(), NOT_THERE);
    owned("with half of a surrogate pair", &|j| with_first(j, "\"serviceId\":\"\\ud800\",").into(), MALFORMED);
    owned("with a raw new line in a text", &|j| with_first(j, &format!("\"a\":\"\n{FORGED}\",")).into(), MALFORMED);
    owned("with bytes that are no text", &|j| [with_first(j, "\"a\":\"").as_bytes(), b"\xff\xfe\",}"].concat(), MALFORMED);
    owned(
        "with a list ten thousand deep",
        &|j| with_first(j, &format!("\"a\":{}{},", "[".repeat(10_000), "]".repeat(10_000))).into(),
        MALFORMED,
    );
    owned(
        "with an object a hundred thousand deep",
        &|j| with_first(j, &format!("\"a\":{}1{},", "{\"a\":".repeat(100_000), "}".repeat(100_000))).into(),
        MALFORMED,
    );
    owned("one byte too large", &|j| padded(j, (4 << 20) + 1), TOO_LARGE);
    owned("forty megabytes", &|j| padded(j, 40 << 20), TOO_LARGE);
    owned("half a million fields", &|j| padded_fields(j, 500_000), TOO_LARGE);
    owned("three hundred thousand fields", &|j| padded_fields(j, 300_000), NOT_THERE);
    owned("a field named by a megabyte", &|j| with_first(j, &format!("\"{}\":1,", "k".repeat(1 << 20))).into(), NOT_THERE);
    owned(
        "__proto__ and constructor",
        &|j| with_first(j, "\"__proto__\":{\"serviceId\":\"x\"},\"constructor\":1,").into(),
        NOT_THERE,
    );
    owned(
        "every field twice, the second one right",
        &|j| with_first(j, "\"serviceId\":\"../x\",\"branch\":7,\"ports\":9,\"gitProvider\":[],").into(),
        NOT_THERE,
    );
    owned(
        "every field twice, the second one wrong",
        &|j| {
            let payload = j.payload();
            format!("{},\"branch\":\"--upload-pack=x\"}}", &payload[..payload.len() - 1]).into()
        },
        MALFORMED,
    );
    owned(
        "a number of a hundred thousand digits",
        &|j| with_first(j, &format!("\"a\":{},", "9".repeat(100_000))).into(),
        End::Fails(&["job.malformed", "git.repository_not_found"]),
    );
    cases
}

/// The job is one, and its repository does not exist.
const NOT_THERE: End = End::Fails(&["git.repository_not_found"]);

fn padded(job: &Job, bytes: usize) -> Vec<u8> {
    let plain = with_first(job, "\"padding\":\"\",");
    with_first(job, &format!("\"padding\":\"{}\",", "p".repeat(bytes - plain.len()))).into_bytes()
}

fn padded_fields(job: &Job, count: usize) -> Vec<u8> {
    let fields: String = (0..count).map(|n| format!("\"f{n}\":0,")).collect();
    with_first(job, &fields).into_bytes()
}
