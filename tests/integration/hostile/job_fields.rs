//! Every field of a job with what does not belong there, and hosts that are never asked.

use serde_json::{Value, json};

use super::drive::{Case, End, FORGED, Ground};
use crate::support::Job;

const MALFORMED: End = End::Fails(&["job.malformed"]);

/// Neither of these is the value of any text field.
fn wrong_types() -> Vec<Value> {
    vec![json!(7), json!(-1.5), json!(true), json!([]), json!(["a"]), json!({}), json!({"a": {"b": 1}})]
}

pub fn cases(ground: &Ground) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut field = |name: &str, value: Value, end: End| {
        let job = Job::of(&ground.good).set(name, value.clone());
        let shown: String = value.to_string().chars().take(60).collect();
        cases.push(Case::job(format!("{name}: {shown}"), job, end));
    };

    for name in ["serviceId", "repositoryName", "branch", "commitSha", "runtimeFilePath", "builder"] {
        for value in wrong_types() {
            field(name, value, MALFORMED);
        }
    }
    for name in ["environmentVariables", "ports"] {
        for value in [json!(7), json!("x"), json!(true), json!({}), json!([1]), json!([null]), json!([[]]), json!([{}])] {
            field(name, value, MALFORMED);
        }
    }

    for id in [
        "",
        "../../etc/passwd",
        "-rf",
        "a/b",
        "a b",
        "a\nFORGED",
        "a\r\nFORGED",
        "\u{1b}[2Jx",
        "\u{202e}x",
        "é",
        "a\0b",
        "x;rm -rf /",
        "a:b",
        "a@b",
        ".",
        "_x",
    ] {
        field("serviceId", json!(id), MALFORMED);
    }
    field("serviceId", json!("x".repeat(65)), MALFORMED);

    for name in [
        "",
        "alone",
        "../../etc/passwd",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "-a/b",
        "a/--upload-pack=x",
        "a/b\nFORGED",
        "a/b c",
        "a/\u{1b}]0;x\u{7}",
        "a/b?x=1",
        "a/b#f",
        "a/b%2e%2e",
        "a/b@evil.example",
        "a\\b/c",
        "ａ/ｂ",
        "a/b\u{202e}tig",
        "a/b;id",
        "https://evil.example/a/b",
        "a/b\0",
        "a/.",
        "./a/b",
        "ext::sh -c id/x",
    ] {
        field("repositoryName", json!(name), MALFORMED);
    }
    field("repositoryName", json!(format!("a/{}", "b".repeat(300))), MALFORMED);
    field("repositoryName", json!("octo/.git"), End::Fails(&["git.repository_not_found"]));
    field("repositoryName", json!(vec!["a"; 100].join("/")), End::Fails(&["git.repository_not_found"]));

    for name in [
        "",
        "-x",
        "--upload-pack=touch /tmp/pwned",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[",
        "a\\b",
        "@",
        "a@{1}",
        "a.",
        "a/",
        "/a",
        "a//b",
        ".a",
        "a/.b",
        "a.lock",
        "a\nFORGED",
        "a\r\nFORGED",
        "\u{1b}[31mred",
        "a\0b",
        "a\tb",
        "a\u{7f}b",
    ] {
        field("branch", json!(name), MALFORMED);
    }
    field("branch", json!("x".repeat(256)), MALFORMED);
    for name in [
        "\u{202e}niam",
        "ma\u{200b}in",
        "MAIN",
        "mаin",
        "refs/heads/main",
        "HEAD",
        "a\u{2028}FORGED",
        "😀",
        "a;id",
        "$(id)",
        "`id`",
        "a|b",
        "a'b\"c",
    ] {
        field("branch", json!(name), End::Fails(&["git.branch_not_found", "job.malformed"]));
    }

    for sha in ["HEAD", "HEAD; rm -rf /", "main", "--", "deadbeef", "A..B", "@{u}", "\nFORGED", "refs/heads/main", "-deadbeef"] {
        field("commitSha", json!(sha), MALFORMED);
    }
    for sha in [
        "1".repeat(39),
        "g".repeat(40),
        "a".repeat(41),
        "a".repeat(63),
        format!("\n{}", "a".repeat(40)),
        format!("{}\n", "a".repeat(40)),
        "a".repeat(100_000),
    ] {
        field("commitSha", json!(sha), MALFORMED);
    }
    field("commitSha", json!("0".repeat(40)), End::Fails(&["job.branch_deleted"]));
    field("commitSha", json!("0".repeat(39)), End::Fails(&["job.branch_deleted"]));
    for sha in ["f".repeat(40), "F".repeat(40), "f".repeat(64)] {
        field("commitSha", json!(sha), End::Fails(&["git.commit_gone", "git.unsupported"]));
    }

    for path in ["../Dockerfile", "../../etc/passwd", "/../x", "a/../../b", "a\\b", "a\0b", "a\nFORGED", "\u{1b}[2Jx", "a\tb"] {
        field("runtimeFilePath", json!(path), MALFORMED);
    }
    field("runtimeFilePath", json!("x".repeat(4097)), MALFORMED);
    for path in [
        "/etc/passwd",
        "-f",
        "--build-arg=x",
        "Dockerfile/x",
        "https://evil.example/Dockerfile",
        "a&t=evil:latest&x=",
        "\u{202e}x",
        ".git/config",
        "Dockerfile\u{200b}",
        "DOCKERFILE",
        "*",
        "$(id)",
        "Dockerfile ",
        "%2e%2e/Dockerfile",
        "file:///etc/passwd",
        "\u{2028}FORGED",
    ] {
        field("runtimeFilePath", json!(path), End::Fails(&["context.no_dockerfile"]));
    }
    field("runtimeFilePath", json!("x/../Dockerfile"), End::Builds);
    field("runtimeFilePath", json!("////./Dockerfile"), End::Builds);

    for builder in ["x y", "a;b", "a\nFORGED", "a$(id)", "\u{1b}[2J", "é", "a,b=c"] {
        field("builder", json!(builder), MALFORMED);
    }
    field("builder", json!("b".repeat(513)), MALFORMED);
    for builder in ["evil.example/builder:latest", "busybox:base", "-v", "../x", "169.254.169.254/x", "@sha256:x"] {
        field("builder", json!(builder), End::Fails(&["buildpacks.builder"]));
    }

    for env in [
        json!([{"value": "x"}]),
        json!([{"key": {}}]),
        json!([{"key": 7}]),
        json!([{"key": "A", "value": {}}]),
        json!([{"key": "A", "value": ["x"]}]),
    ] {
        field("environmentVariables", env, MALFORMED);
    }
    field("environmentVariables", Value::Array(vec![json!({"key": "A", "value": "b"}); 10_001]), MALFORMED);
    let names = [
        "",
        "A=B",
        "A B",
        "A\nFORGED",
        "\0",
        "LD_PRELOAD",
        "PATH",
        "../x",
        "BUILDKIT_CACHE_MOUNT_NS",
        "--build-arg",
        "\u{1b}[2J",
        "\u{202e}",
        "env",
        "é",
        "HTTP_PROXY",
        "DOCKER_BUILDKIT",
        "a/b",
        "a\u{2028}FORGED",
    ];
    field("environmentVariables", names.iter().map(|name| json!({"key": name, "value": "hunter22"})).collect(), End::Builds);
    let values = [
        "",
        "a\nFORGED",
        "a\r\nB=c",
        "\"",
        "'",
        "\\",
        "$(id)",
        "`id`",
        "\0",
        "\u{1b}[2J",
        "\u{202e}",
        "${PATH}",
        "a'b\"c\\d\n\n",
        "#",
        "=",
        "\u{feff}",
    ];
    field(
        "environmentVariables",
        values.iter().enumerate().map(|(n, v)| json!({"key": format!("K{n}"), "value": v})).collect(),
        End::Builds,
    );
    field(
        "environmentVariables",
        (0..3000).map(|n| json!({"key": format!("K{n}"), "value": "v".repeat(1000)})).collect(),
        End::Builds,
    );
    field("environmentVariables", json!([{"key": "K", "value": "v".repeat(3 << 20)}]), End::Builds);
    field(
        "environmentVariables",
        json!([{"key": "K", "value": true}, {"key": "L", "value": 1e300}, {"key": "M", "value": null}, {"key": "K"}]),
        End::Builds,
    );

    for port in [json!(0), json!(65536), json!(-1), json!(1.5), json!("80;id"), json!(null), json!("８０"), json!([80])] {
        field("ports", json!([{"servicePort": port, "containerPort": 80}]), MALFORMED);
    }

    for provider in [
        json!(null),
        json!("GITHUB"),
        json!([]),
        json!({}),
        json!({"type": ""}),
        json!({"type": 7}),
        json!({"type": "FTP"}),
        json!({"type": "GITHUB\nFORGED"}),
        json!({"type": "GITHUB", "githubAccount": []}),
    ] {
        field("gitProvider", provider, MALFORMED);
    }
    for (user, password) in [
        (json!("a:b"), json!("x")),
        (json!("a\nFORGED: x"), json!("x")),
        (json!("\u{1b}[2J"), json!("x")),
        (json!(7), json!("x")),
        (json!("a"), json!(7)),
        (json!("a"), json!({})),
        (json!("u".repeat(256)), json!("x")),
    ] {
        field(
            "gitProvider",
            json!({"type": "CUSTOM", "url": ground.git.url(), "username": user, "password": password}),
            MALFORMED,
        );
    }
    for url in [
        "",
        "not a url",
        "file:///etc",
        "ssh://git@host/x",
        "git://host",
        "ext::sh -c id",
        "javascript:alert(1)",
        "data:text/plain,x",
        "ftp://host",
        "http://",
        "http://?",
        "https://user:hunter22@host",
        "https://user@host",
        "https://:hunter22@host",
        "http://host?x=1",
        "http://host#f",
        "http://ho st",
        "http://host\nFORGED",
        "http://host\r\nHost: evil",
        "http://host\\@evil.example",
        "http://ho\tst",
        "http://[::1",
        "http://[::g]",
        "http://host:99999",
        "http://host:-1",
        "http://%00/",
        "http://\u{1b}[2J/",
        "//host/x",
        "http:///etc/passwd@",
        "http://a b@c",
        "http://ho<st",
        "unix:///run/docker.sock",
        "http://\u{202e}",
    ] {
        field(
            "gitProvider",
            json!({"type": "CUSTOM", "url": url}),
            End::Fails(&["job.malformed", "git.unreachable", "git.host_unknown"]),
        );
    }
    field("gitProvider", json!({"type": "CUSTOM", "url": format!("http://host/{}", "x".repeat(2049))}), MALFORMED);
    let long_password = json!({"type": "CUSTOM", "url": ground.git.url(), "username": "u", "password": format!("a\nFORGED{}", "p".repeat(1 << 20))});
    field("gitProvider", long_password, End::Fails(&["git.unreachable", "git.protocol", "git.auth"]));
    for name in ["installationId", "unheardOf", "_links"] {
        field(name, json!({FORGED: "a\nFORGED", "\u{1b}[2J": [[[[1]]]]}), End::Builds);
    }
    cases
}

/// Link-local and metadata addresses, in every way in which they can be written.
pub fn addresses() -> Vec<Case> {
    let hosts = [
        "169.254.169.254",
        "169.254.169.254.",
        "169.254.169.254:80",
        "169.254.169.254:8080",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "025177524776",
        "169.254.43518",
        "169.16689662",
        "169.0376.0xa9.254",
        "%31%36%39.254.169.254",
        "１６９.254.169.254",
        "169。254。169。254",
        "①⑥⑨.254.169.254",
        "169.254.0.1",
        "169.254.255.255",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[0:0:0:0:0:ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[::ffff:0:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[fe80::1]",
        "[febf::1]",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "100.100.100.200",
        "1684301000",
        "192.0.0.192",
        "168.63.129.16",
    ];
    let case = |host: &str| {
        let job = Job::bare("octo/x")
            .provider(json!({"type": "CUSTOM", "url": format!("http://{host}"), "username": "u", "password": "hunter22"}));
        Case::job(format!("the host {host}"), job, End::Fails(&["git.host_not_allowed"]))
    };
    hosts.into_iter().map(case).collect()
}
