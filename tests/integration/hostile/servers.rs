//! Git servers, registries and dashboards that answer whatever hurts.

use serde_json::json;

use super::drive::{Case, End, Ground};
use super::front::Answer;
use crate::support::Job;

const REFS: &str = "application/x-git-upload-pack-advertisement";
const PACK: &str = "application/x-git-upload-pack-result";
const AWAY: End = End::Fails(&["git.unreachable", "git.protocol", "git.stalled"]);
const COMMIT: &str = "1111111111111111111111111111111111111111";

/// pkt-lines, each with its length before it.
fn lines(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| if text.is_empty() { b"0000".to_vec() } else { format!("{:04x}{text}", text.len() + 4).into_bytes() })
        .collect()
}

/// What a git server says first, with these words in place of its refs.
fn advertisement(refs: &[&str]) -> Vec<u8> {
    [lines(&["# service=git-upload-pack\n", ""]), lines(refs), b"0000".to_vec()].concat()
}

pub async fn git(ground: &Ground) -> Vec<Case> {
    let mut cases = Vec::new();
    let stranger = ground.stranger.url();
    // `refs`: to the first request; `pack`: to what is asked then.
    let mut server = |name: &str, refs: Answer, pack: Option<Answer>, end: End| {
        let path = format!("octo/case{}", cases.len());
        ground.git.answer(format!("POST /{path}.git/"), 100, pack.unwrap_or(Answer::Bytes(Vec::new())));
        ground.git.answer(format!("GET /{path}.git/"), 100, refs);
        let provider = json!({"type": "CUSTOM", "url": ground.git.url(), "username": "octo", "password": "hunter22-token"});
        cases.push(Case::job(format!("a git server {name}"), Job::bare(&path).provider(provider), end));
    };
    let ok = |body: &[u8]| Answer::http("200 OK", &[("content-type", REFS)], body);
    let tip = format!("{COMMIT} refs/heads/main\0symref=HEAD:refs/heads/main agent=git/2\n");
    let good = advertisement(&[&tip]);

    server("that hangs up", Answer::Bytes(Vec::new()), None, AWAY);
    server("that says nothing", Answer::Silence, None, AWAY);
    server("that is none", Answer::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), None, AWAY);
    server(
        "of random bytes",
        Answer::Bytes((0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        None,
        AWAY,
    );
    server(
        "whose head does not end",
        Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(100)),
        None,
        AWAY,
    );
    server(
        "with a header that does not end",
        Answer::Endless(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec(), vec![b'b'; 65536]),
        None,
        AWAY,
    );
    server("of HTTP/0.9", Answer::Bytes(b"<html>hello</html>".to_vec()), None, AWAY);
    server("with the status 999", Answer::Bytes(b"HTTP/1.1 999 \x1b[2J\r\n\r\n".to_vec()), None, AWAY);
    server(
        "with the status 100 for ever",
        Answer::Endless(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000)),
        None,
        AWAY,
    );
    server("that is a web page", Answer::http("200 OK", &[("content-type", "text/html")], b"<html>"), None, AWAY);
    server("whose content type has escapes", Answer::http("200 OK", &[("content-type", "\x1b]0;x\u{9b}")], b""), None, AWAY);
    server(
        "that promises more than it sends",
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\ncontent-type: {REFS}\r\ncontent-length: 99999999\r\n\r\n0000").into()),
        None,
        AWAY,
    );
    server(
        "whose chunks are wrong",
        Answer::Bytes(
            format!("HTTP/1.1 200 OK\r\ncontent-type: {REFS}\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx").into(),
        ),
        None,
        AWAY,
    );
    server(
        "whose refs do not end",
        Answer::endless(
            "200 OK",
            &[("content-type", REFS)],
            &lines(&["# service=git-upload-pack\n", ""]),
            &lines(&[&format!("{COMMIT} refs/heads/{}\n", "b".repeat(200))]).repeat(200),
        ),
        None,
        End::Fails(&["source.too_large", "git.protocol", "git.unreachable"]),
    );
    server(
        "whose first line does not end",
        Answer::endless("200 OK", &[("content-type", REFS)], b"", &[b'0'; 65536]),
        None,
        End::Fails(&["source.too_large", "git.protocol", "git.unreachable"]),
    );
    server(
        "of zeros",
        Answer::endless("200 OK", &[("content-type", REFS)], b"", &[0; 65536]),
        None,
        End::Fails(&["source.too_large", "git.protocol", "git.unreachable"]),
    );
    for (name, body) in [
        ("with a length that is none", b"zzzz# service=git-upload-pack\n".to_vec()),
        ("with a negative length", b"-001# service\n".to_vec()),
        ("with a length of one", b"0001".to_vec()),
        ("with a length of three", b"0003".to_vec()),
        ("with too short a length", b"0005".to_vec()),
        ("that stops in a line", b"001e# service=git".to_vec()),
        ("without refs", advertisement(&[])),
        ("with a ref that is none", advertisement(&["hello\n"])),
        ("with an id that is none", advertisement(&[&format!("{} refs/heads/main\0\n", "x".repeat(40))])),
        ("with another service", [lines(&["# service=git-receive-pack\n", ""]), b"0000".to_vec()].concat()),
        (
            "with a ref outside of its folder",
            advertisement(&[
                &format!("{COMMIT} refs/heads/../../../../etc/passwd\0symref=HEAD:../../x\n"),
                &format!("{COMMIT} ../../config\n"),
            ]),
        ),
        ("with an error that forges lines", advertisement(&["ERR \x1b[2J\r\nFORGED \u{202e} access denied\n"])),
        ("with an object format that is none", advertisement(&[&format!("{COMMIT} refs/heads/main\0object-format=\x1b[2J\n")])),
    ] {
        server(
            name,
            ok(&body),
            None,
            End::Fails(&[
                "git.unreachable",
                "git.protocol",
                "git.branch_not_found",
                "git.unsupported",
                "git.repository_not_found",
                "git.stalled",
            ]),
        );
    }
    let names: Vec<String> = ["ma\x1b[2Jn", "mai\u{202e}", "maim\u{7}", "main\u{2028}FORGED"]
        .iter()
        .map(|n| format!("{COMMIT} refs/heads/{n}\n"))
        .collect();
    server(
        "whose branches have escapes",
        ok(&advertisement(&names.iter().map(String::as_str).collect::<Vec<_>>())),
        None,
        End::Fails(&["git.branch_not_found", "git.protocol"]),
    );

    for (status, end) in [
        ("400 Bad", AWAY),
        ("401 Unauthorized", End::Fails(&["git.auth"])),
        ("403 Forbidden", End::Fails(&["git.auth"])),
        ("404 Not Found", End::Fails(&["git.repository_not_found"])),
        ("418 \x1b[2JFORGED", AWAY),
        ("429 Slow", AWAY),
        ("500 Oops", AWAY),
        ("204 No Content", AWAY),
        ("206 Partial", AWAY),
    ] {
        let headers = [("content-type", "text/plain"), ("www-authenticate", "Basic realm=\"FORGED\"")];
        server(&format!("that answers {status:?}"), Answer::http(status, &headers, b"\x1b[2J\r\nFORGED"), None, end);
    }
    let busy = Answer::http("503 Busy", &[("retry-after", "99999999999999999999")], b"");
    server("that is busy for ever", busy, None, AWAY);

    let refs = "info/refs?service=git-upload-pack";
    for to in [
        format!("{stranger}/octo/x.git/{refs}"),
        format!("http://octo:hunter22@127.0.0.1/octo/x.git/{refs}"),
        format!("//169.254.169.254/latest/meta-data/{refs}"),
        "file:///etc/passwd".to_owned(),
        "gopher://x".to_owned(),
        format!("http://[::ffff:169.254.169.254]/x.git/{refs}"),
        format!("http://2852039166/x.git/{refs}"),
        "javascript:alert(1)".to_owned(),
        format!("https://evil.example/\x1b[2J/{refs}"),
    ] {
        let end = End::Fails(&["git.host_not_allowed", "git.protocol", "git.unreachable"]);
        server(&format!("that redirects to {to:?}"), Answer::http("302 Found", &[("location", &to)], b""), None, end);
    }
    for to in ["", "http://", "\u{7f}", "http://[::1", "/login?next=x"] {
        let end = End::Fails(&["git.protocol", "git.auth", "git.host_not_allowed", "git.unreachable"]);
        server(&format!("that redirects to {to:?}"), Answer::http("301 Moved", &[("location", to)], b""), None, end);
    }
    let circle = Answer::http("307 Again", &[("location", &format!("?{}", &refs[10..]))], b"");
    server("that redirects in a circle", circle, None, AWAY);

    let result = |body: &[u8]| Some(Answer::http("200 OK", &[("content-type", PACK)], body));
    server("that answers a fetch with nothing", ok(&good), result(b""), AWAY);
    server("that answers a fetch with words", ok(&good), result(b"<html>no</html>"), AWAY);
    server("that sends no pack", ok(&good), result(b"0008NAK\n"), AWAY);
    server(
        "that refuses with escapes",
        ok(&good),
        result(&lines(&["ERR upload-pack: \x1b[2J\r\nFORGED not our ref\n"])),
        End::Fails(&["git.protocol", "git.unreachable", "git.commit_gone"]),
    );
    server("whose pack is none", ok(&good), result(b"0008NAK\nPACK\xff\xff\xff\xff\xff\xff\xff\xff"), AWAY);
    server(
        "whose pack has four billion objects",
        ok(&good),
        result(b"0008NAK\nPACK\0\0\0\x02\xff\xff\xff\xff"),
        End::Fails(&["git.protocol", "git.unreachable", "source.too_large", "git.stalled"]),
    );
    server(
        "whose pack is empty",
        ok(&good),
        result(
            b"0008NAK\nPACK\0\0\0\x02\0\0\0\0\x02\x9d\x08\x82\x3b\xd8\xa8\xea\xb5\x10\xad\x6a\xc7\x5c\x82\x3c\xfd\x3e\xd3\x1e",
        ),
        End::Fails(&["git.protocol", "git.unreachable", "git.commit_gone"]),
    );
    server(
        "whose pack does not end",
        ok(&good),
        Some(Answer::endless("200 OK", &[("content-type", PACK)], b"0008NAK\nPACK\0\0\0\x02\0\x00\xff\xff", &[0; 65536])),
        End::Fails(&["git.protocol", "git.unreachable", "source.too_large"]),
    );
    server(
        "whose words before the pack do not end",
        ok(&good),
        Some(Answer::endless("200 OK", &[("content-type", PACK)], b"", &b"0008NAK\n".repeat(8192))),
        End::Fails(&["git.protocol", "git.unreachable", "source.too_large", "git.stalled"]),
    );
    server(
        "that redirects a fetch to a stranger",
        ok(&good),
        Some(Answer::http("307 There", &[("location", &stranger)], b"")),
        AWAY,
    );
    server("that falls silent in a fetch", ok(&good), Some(Answer::Silence), AWAY);
    cases
}

/// Answers to the worker's own requests (the Engine's have its name in their head).
pub fn registries(ground: &Ground) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut registry = |name: &str, request: &str, answer: Answer, end: End| {
        let job = Job::of(&ground.good);
        let tag = if request == "PUT" { "latest" } else { "" };
        ground.registry.answer(format!("{request} /v2/{}/manifests/{tag}", job.service), 100, answer);
        cases.push(Case::job(format!("a registry {name}"), job, end));
    };
    let doubted = || End::Fails(&["registry.digest", "registry.unreachable", "registry.denied"]);
    let digest = format!("sha256:{}", "0".repeat(64));
    registry("that has another digest", "HEAD", Answer::http("200 OK", &[("docker-content-digest", &digest)], b""), doubted());
    registry("that has it no more", "HEAD", Answer::http("404 Not Found", &[], b""), doubted());
    // What it cannot say is no reason to fail: the Engine has heard the digest.
    registry("that confirms nothing", "HEAD", Answer::http("403 Forbidden", &[], b""), End::Builds);
    // Not the stranger's address: a registry on this machine may have its token server there, too.
    let challenge = "Bearer realm=\"http://stranger.example/token\",service=\"x\"";
    registry("that hangs up", "HEAD", Answer::Bytes(Vec::new()), End::Builds);
    registry("that is none", "HEAD", Answer::Bytes(b"\x00\xff\x1b[2J\r\nFORGED\r\n\r\n".to_vec()), End::Builds);
    registry(
        "whose head does not end",
        "HEAD",
        Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(100)),
        End::Builds,
    );
    registry("whose tag latest cannot be moved", "PUT", Answer::http("500 \x1b[2J", &[], b"\x1b[2J\r\nFORGED"), End::Builds);
    registry(
        "that answers a tag without end",
        "PUT",
        Answer::endless("400 Bad", &[], b"{\"errors\":[", &[b' '; 65536]),
        End::Builds,
    );
    registry(
        "whose manifest does not end",
        "GET",
        Answer::endless(
            "200 OK",
            &[("content-type", "application/vnd.docker.distribution.manifest.v2+json")],
            b"{",
            &[b' '; 65536],
        ),
        End::Builds,
    );
    registry("whose manifest is none", "GET", Answer::http("200 OK", &[], b"\x1b[2J\r\nFORGED"), End::Builds);
    registry(
        "that sends logins to a stranger",
        "HEAD",
        Answer::http("401 Who", &[("www-authenticate", challenge)], b""),
        End::Builds,
    );
    registry(
        "that redirects to a stranger",
        "HEAD",
        Answer::http("307 There", &[("location", &ground.stranger.url())], b""),
        End::Builds,
    );
    registry(
        "that redirects a tag to a stranger",
        "PUT",
        Answer::http("307 There", &[("location", &ground.stranger.url())], b""),
        End::Builds,
    );
    cases
}

/// Answers to a deployment's first posts; the later ones are taken. None of them may cost the job its end.
pub fn dashboards(ground: &Ground) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut dashboard = |name: &str, answer: Answer| {
        let job = Job::of(&ground.good);
        ground.dashboard.answer(format!("/deployments/{}/", job.id), 2, answer);
        cases.push(Case::job(format!("a dashboard {name}"), job, End::Builds));
    };
    dashboard("that hangs up", Answer::Bytes(Vec::new()));
    dashboard("that is none", Answer::Bytes(b"\x00\xff\x1b[2J\r\nFORGED\r\n\r\n".to_vec()));
    dashboard(
        "whose head does not end",
        Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-a: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n".repeat(100)),
    );
    dashboard(
        "whose error does not end",
        Answer::endless("500 Oops", &[("content-type", "application/json")], b"{", &[b' '; 65536]),
    );
    dashboard("that redirects to a stranger", Answer::http("307 There", &[("location", &ground.stranger.url())], b""));
    dashboard("that redirects in a circle", Answer::http("308 Again", &[("location", "")], b""));
    dashboard("that fails with escapes", Answer::http("502 \x1b[2J", &[], b"\x1b[2J\r\nFORGED"));
    dashboard("that asks for a wait in escapes", Answer::http("503 Busy", &[("retry-after", "\x1b[2J")], b""));
    dashboard("that asks for a negative wait", Answer::http("429 Slow", &[("retry-after", "-5")], b""));
    cases
}
