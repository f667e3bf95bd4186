//! What a producer may push, and what it is told when it may not.

use proptest::prelude::*;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::protocol::Code;

const MAX: usize = 4 * 1024 * 1024;

fn parse_bytes(element: &[u8]) -> Result<Job, JobRejected> {
    Job::parse(element, MAX, &Url::parse("https://github.com").unwrap())
}
fn parse(job: &Value) -> Result<Job, JobRejected> {
    parse_bytes(job.to_string().as_bytes())
}
fn cause(job: &Value) -> String {
    parse(job).unwrap_err().failure.cause
}

/// The contract's own job, with the fields of `changes` put in (null at the top takes a field away).
fn job(changes: Value) -> Value {
    let mut job = json!({
        "deploymentId": "dpl_8f3k2", "serviceId": "svc_91", "commitSha": "", "branch": "main", "repositoryName": "octo/hello",
        "runtimeFilePath": "docker/Dockerfile",
        "gitProvider": {"type": "GITHUB", "installationId": "123", "githubAccount": {"username": "octo", "accessToken": "ghs_abc"}},
        "environmentVariables": [{"key": "FOO", "value": "bar"}], "ports": [{"servicePort": 80, "containerPort": 3000}],
    });
    for (key, value) in changes.as_object().unwrap() {
        job[key] = value.clone();
    }
    job
}

fn custom(provider: Value) -> Value {
    let mut provider = provider;
    provider["type"] = json!("custom");
    job(json!({ "gitProvider": provider }))
}

#[test]
fn the_contracts_job_is_read() {
    let job = parse(&job(json!({}))).unwrap();
    assert_eq!(job.deployment.as_str(), "dpl_8f3k2");
    assert_eq!(job.service.as_str(), "svc_91");
    assert_eq!(job.commit, CommitRef::Tip);
    assert_eq!(job.branch.as_str(), "main");
    assert_eq!(job.git.url.as_str(), "https://github.com/octo/hello.git");
    let credentials = job.git.credentials.unwrap();
    assert_eq!((credentials.username.as_str(), credentials.password.expose_secret()), ("octo", "ghs_abc"));
    assert_eq!(job.dockerfile.as_deref(), Some("docker/Dockerfile"));
    assert_eq!((job.env[0].key.as_str(), job.env[0].value.expose_secret()), ("FOO", "bar"));
    assert_eq!(job.ports, [Port { service_port: 80, container_port: 3000 }]);
}

#[test]
fn what_may_be_left_out_may_also_be_null_or_empty() {
    let optional = ["commitSha", "runtimeFilePath", "environmentVariables", "ports"];
    for empty in [json!(null), json!("")] {
        for field in optional {
            if empty == json!("") && matches!(field, "environmentVariables" | "ports") {
                continue;
            }
            assert!(parse(&job(json!({ field: empty }))).is_ok(), "{field} {empty}");
        }
    }
    let mut bare = job(json!({"gitProvider": {"type": "GitHub"}}));
    for field in optional {
        bare.as_object_mut().unwrap().remove(field);
    }
    let job = parse(&bare).unwrap();
    assert!(job.git.credentials.is_none() && job.env.is_empty() && job.ports.is_empty() && job.dockerfile.is_none());
    assert_eq!(job.commit, CommitRef::Tip);
}

#[test]
fn unknown_fields_are_ignored_and_the_last_of_a_name_counts() {
    let text = job(json!({"region": {"deep": [[[1]]]}, "installationId": 7})).to_string();
    assert!(parse_bytes(text.as_bytes()).is_ok());
    let twice = text.replacen('{', r#"{"branch":[1],"deploymentId":"older","#, 1);
    assert_eq!(parse_bytes(twice.as_bytes()).unwrap().deployment.as_str(), "dpl_8f3k2");
}

#[test]
fn a_custom_host_is_cloned_from_its_base() {
    for (base, url) in [
        ("https://git.example.com", "https://git.example.com/octo/hello.git"),
        ("http://10.0.0.7:3000/scm/", "http://10.0.0.7:3000/scm/octo/hello.git"),
        (" https://git.example.com/ ", "https://git.example.com/octo/hello.git"),
    ] {
        let job = parse(&custom(json!({"url": base, "username": null, "password": "token"}))).unwrap();
        assert_eq!(job.git.url.as_str(), url);
        let credentials = job.git.credentials.unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.expose_secret()), ("", "token"));
    }
    let public = parse(&custom(json!({"url": "https://git.example.com", "username": "", "password": ""}))).unwrap();
    assert!(public.git.credentials.is_none());
}

#[test]
fn a_github_job_follows_the_configured_base() {
    let element = job(json!({})).to_string();
    let job = Job::parse(element.as_bytes(), MAX, &Url::parse("http://127.0.0.9:8080/base/").unwrap()).unwrap();
    assert_eq!(job.git.url.as_str(), "http://127.0.0.9:8080/base/octo/hello.git");
}

#[test]
fn a_hostile_base_is_refused_and_never_quoted() {
    for url in [
        "ssh://git@host",
        "file:///etc",
        "git@github.com:octo",
        "https://user:hunter22@host",
        "https://user@host",
        "https://host?token=hunter22",
        "https://host#hunter22",
        "https://host\\@evil",
        "https://ho\nst",
        "https://",
        "--upload-pack=hunter22",
        "",
    ] {
        let cause = cause(&custom(json!({ "url": url })));
        assert!(cause.contains("gitProvider.url "), "{url}: {cause}");
        assert!(!cause.contains("hunter22"), "{cause}");
    }
    assert!(cause(&custom(json!({"url": "https://h", "username": "a:b", "password": "p"}))).contains("gitProvider.username"));
}

#[test]
fn every_wrong_field_is_named_and_no_value_is() {
    let rejected = parse(&json!({
        "deploymentId": "dpl_1", "serviceId": "../hunter22", "commitSha": "hunter22", "branch": "--hunter22", "repositoryName": "hunter22",
        "runtimeFilePath": "../hunter22", "gitProvider": {"type": "CUSTOM", "url": "ftp://hunter22", "password": ["hunter22"]},
        "environmentVariables": [{"key": "A", "value": {"hunter22": 1}}, "hunter22", {"value": "hunter22"}],
        "ports": [{"servicePort": 0, "containerPort": 70000}],
    }))
    .unwrap_err();
    assert_eq!(rejected.deployment.unwrap().as_str(), "dpl_1");
    assert_eq!(rejected.failure.code, Code::JobMalformed);
    let cause = rejected.failure.cause;
    for field in [
        "serviceId ",
        "commitSha ",
        "branch ",
        "repositoryName ",
        "runtimeFilePath ",
        "gitProvider.url ",
        "gitProvider.password ",
        "environmentVariables[0].value ",
        "environmentVariables[1] ",
        "environmentVariables[2].key ",
        "ports[0].servicePort ",
        "ports[0].containerPort ",
    ] {
        assert!(cause.contains(field), "{field} is not in: {cause}");
    }
    assert!(!cause.contains("hunter22"), "{cause}");
}

#[test]
fn a_missing_field_is_named() {
    let cause = cause(&json!({}));
    for field in ["deploymentId", "serviceId", "repositoryName", "branch", "gitProvider"] {
        assert!(cause.contains(&format!("{field} is missing")), "{cause}");
    }
}

#[test]
fn a_deleted_branch_is_told_as_such() {
    let rejected = parse(&job(json!({"commitSha": "0".repeat(40), "branch": ""}))).unwrap_err();
    assert_eq!(rejected.failure.code, Code::JobBranchDeleted);
    assert!(rejected.failure.cause.contains("branch was deleted"));
    assert_eq!(rejected.deployment.unwrap().as_str(), "dpl_8f3k2");
}

#[test]
fn a_commit_in_upper_case_is_the_same_commit() {
    let job = parse(&job(json!({"commitSha": "ABCDEF0123".repeat(4)}))).unwrap();
    assert_eq!(job.commit, CommitRef::Exact(CommitSha::parse(&"abcdef0123".repeat(4)).unwrap()));
}

#[test]
fn the_dockerfiles_path_is_read_as_people_write_it() {
    for (given, path) in [
        ("Dockerfile", Some("Dockerfile")),
        ("./docker//Dockerfile", Some("docker/Dockerfile")),
        ("/docker/Dockerfile", Some("docker/Dockerfile")),
        ("docker/./x/../Dockerfile", Some("docker/Dockerfile")),
        ("a b/Döckerfile", Some("a b/Döckerfile")),
        ("./", None),
    ] {
        assert_eq!(parse(&job(json!({ "runtimeFilePath": given }))).unwrap().dockerfile.as_deref(), path, "{given}");
    }
    for given in ["..", "../Dockerfile", "a/../../Dockerfile", "/../x", "docker\\Dockerfile", "Docker\nfile", "a\0b"] {
        assert!(cause(&job(json!({ "runtimeFilePath": given }))).contains("runtimeFilePath "), "{given}");
    }
}

#[test]
fn environment_values_come_as_they_are() {
    let env = json!([{"key": "", "value": "x"}, {"key": "A=B C", "value": "line\nline <\u{2028}>"}, {"key": "N", "value": 4.5},
                     {"key": "T", "value": true}, {"key": "E", "value": null}, {"key": "M"}]);
    let job = parse(&job(json!({ "environmentVariables": env }))).unwrap();
    let values: Vec<_> = job.env.iter().map(|e| (e.key.as_str(), e.value.expose_secret())).collect();
    let expected = [("", "x"), ("A=B C", "line\nline <\u{2028}>"), ("N", "4.5"), ("T", "true"), ("E", ""), ("M", "")];
    assert_eq!(values, expected);
}

#[test]
fn a_job_may_have_a_time_of_its_own_in_whole_seconds() {
    let time = |value: Value| parse(&job(json!({ "buildTimeout": value }))).unwrap().build_timeout.map(|time| time.as_secs());
    assert_eq!((time(json!(90)), time(json!("90")), time(Value::Null)), (Some(90), Some(90), None));
    for wrong in [json!(0), json!(-1), json!("soon"), json!(1.5), json!([])] {
        assert!(cause(&job(json!({ "buildTimeout": wrong }))).contains("buildTimeout"), "{wrong}");
    }
}

#[test]
fn ports_may_be_numbers_in_quotes() {
    let job = parse(&job(json!({"ports": [{"servicePort": "80", "containerPort": 3000}]}))).unwrap();
    assert_eq!(job.ports, [Port { service_port: 80, container_port: 3000 }]);
}

#[test]
fn an_element_above_the_limit_is_refused_under_its_name() {
    let element = job(json!({"environmentVariables": [{"key": "A", "value": "x".repeat(2000)}]})).to_string();
    let url = Url::parse("https://github.com").unwrap();
    let rejected = Job::parse(element.as_bytes(), 1000, &url).unwrap_err();
    assert_eq!(rejected.failure.code, Code::JobTooLarge);
    assert_eq!(rejected.deployment.unwrap().as_str(), "dpl_8f3k2");
    assert!(Job::parse(element.as_bytes(), element.len(), &url).is_ok());
}

#[test]
fn an_element_that_is_cut_off_still_tells_whose_it_is() {
    let element = job(json!({})).to_string();
    let rejected = parse_bytes(&element.as_bytes()[..element.len() / 2]).unwrap_err();
    assert_eq!(rejected.deployment.unwrap().as_str(), "dpl_8f3k2");
    assert!(rejected.failure.cause.contains("cut off"), "{}", rejected.failure.cause);
    assert!(!rejected.failure.cause.contains("octo"));
}

#[test]
fn what_is_no_object_is_named() {
    for (element, what) in
        [("[]", "a list"), ("7", "a number"), ("\"x\"", "a text"), ("null", "null"), ("", "cut off"), ("{}x", "broken")]
    {
        let rejected = parse_bytes(element.as_bytes()).unwrap_err();
        assert!(rejected.failure.cause.contains(what), "{element}: {}", rejected.failure.cause);
    }
}

#[test]
fn depth_and_number_bring_nothing_down() {
    for open in ["[", "{\"a\":", "{\"gitProvider\":", "{\"environmentVariables\":[", "{\"x\":["] {
        assert!(parse_bytes(open.repeat(100_000).as_bytes()).is_err());
    }
    let many = format!("{{\"environmentVariables\":[{}0]}}", "{},".repeat(1_000_000));
    let rejected = parse_bytes(many.as_bytes()).unwrap_err();
    assert!(rejected.failure.cause.contains("1000001 entries"), "{}", rejected.failure.cause);
    let wrong = format!("{{\"environmentVariables\":[{}0]}}", "{},".repeat(9_000));
    assert!(parse_bytes(wrong.as_bytes()).unwrap_err().failure.cause.len() < 2_000);
}

prop_compose! {
    fn any_job()(
        id in "[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}", service in "[a-z0-9]{1,20}", sha in prop_oneof![Just(String::new()), "[1-9a-f][0-9a-f]{39}"],
        branch in "[a-z]{1,10}(/[a-z0-9_-]{1,10}){0,3}", repository in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}/[a-z0-9]{1,20}",
        path in prop::option::of("[a-z]{1,8}(/[A-Za-z. ]{0,5}x){0,3}"), token in "\\PC{0,40}",
        env in prop::collection::vec((".{0,10}", ".{0,30}"), 0..8), ports in prop::collection::vec((1u16.., 1u16..), 0..4),
    ) -> Value {
        json!({
            "deploymentId": id, "serviceId": service, "commitSha": sha, "branch": branch, "repositoryName": repository,
            "runtimeFilePath": path, "gitProvider": {"type": "github", "githubAccount": {"username": "u", "accessToken": token}},
            "environmentVariables": env.iter().map(|(k, v)| json!({"key": k, "value": v})).collect::<Vec<_>>(),
            "ports": ports.iter().map(|(s, c)| json!({"servicePort": s, "containerPort": c})).collect::<Vec<_>>(),
        })
    }
}

proptest! {
    #[test]
    fn no_bytes_bring_the_worker_down(element: Vec<u8>) {
        let _ = parse_bytes(&element);
    }

    #[test]
    fn a_damaged_job_brings_nothing_down_and_keeps_its_owner(job in any_job(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut element = job.to_string().into_bytes();
        let at = at.index(element.len());
        if cut { element.truncate(at) } else { element[at] = byte }
        if let Err(rejected) = parse_bytes(&element) && cut {
            let known = rejected.deployment.map(String::from);
            prop_assert!(known.is_none() || json!(known) == job["deploymentId"]);
        }
    }

    #[test]
    fn every_valid_job_is_read_to_the_letter(value in any_job()) {
        let job = parse(&value).unwrap();
        prop_assert_eq!(&json!(job.deployment), &value["deploymentId"]);
        prop_assert_eq!(&json!(job.service), &value["serviceId"]);
        prop_assert_eq!(&json!(job.branch), &value["branch"]);
        prop_assert_eq!(&json!(job.repository), &value["repositoryName"]);
        let commit = match &job.commit { CommitRef::Tip => String::new(), CommitRef::Exact(sha) => sha.to_string() };
        prop_assert_eq!(&json!(commit), &value["commitSha"]);
        let token = job.git.credentials.as_ref().map_or("", |c| c.password.expose_secret());
        let given = value["gitProvider"]["githubAccount"]["accessToken"].as_str().unwrap_or_default();
        prop_assert_eq!(token, given.trim());
        let env: Vec<_> = job.env.iter().map(|e| json!({"key": e.key, "value": e.value.expose_secret()})).collect();
        prop_assert_eq!(&json!(env), &value["environmentVariables"]);
        let ports: Vec<_> = job.ports.iter().map(|p| json!({"servicePort": p.service_port, "containerPort": p.container_port})).collect();
        prop_assert_eq!(&json!(ports), &value["ports"]);
    }

    #[test]
    fn a_hostile_id_is_refused(id in "(\\.\\.|-|/|\\PC{0,5}[^a-zA-Z0-9_-]\\PC{0,5}|[a-z]{65,80})") {
        for field in ["deploymentId", "serviceId"] {
            let refused = parse(&job(json!({ field: id }))).is_err();
            prop_assert!(refused);
        }
    }
}

#[test]
fn blanks_and_line_ends_around_a_forms_fields_are_taken_off() {
    let sha = "a".repeat(40);
    let job = parse(&job(json!({
        "runtimeFilePath": " docker/Dockerfile\n", "branch": "\tmain ", "commitSha": format!("{sha}\r\n"), "repositoryName": " octo/hello\u{a0}",
        "gitProvider": {"type": "github ", "githubAccount": {"username": "octo\n", "accessToken": " ghs_abc\n"}},
    })))
    .unwrap();
    assert_eq!((job.dockerfile.as_deref(), job.branch.as_str()), (Some("docker/Dockerfile"), "main"));
    assert_eq!(job.commit, CommitRef::Exact(CommitSha::parse(&sha).unwrap()));
    assert_eq!(job.repository.as_str(), "octo/hello");
    let credentials = job.git.credentials.unwrap();
    assert_eq!((credentials.username.as_str(), credentials.password.expose_secret()), ("octo", "ghs_abc"));
    let provider = json!({"url": " https://git.example.com\n", "username": "u ", "password": "a pass \n"});
    let credentials = parse(&custom(provider)).unwrap().git.credentials.unwrap();
    assert_eq!((credentials.username.as_str(), credentials.password.expose_secret()), ("u", "a pass "));
}

#[test]
fn blanks_alone_are_nothing_and_ids_are_taken_to_the_letter() {
    let blank = parse(&job(json!({"runtimeFilePath": "  ", "commitSha": "\n"}))).unwrap();
    assert_eq!((blank.dockerfile, blank.commit), (None, CommitRef::Tip));
    assert!(cause(&job(json!({"branch": " "}))).contains("branch is missing or empty"));
    assert!(cause(&job(json!({"deploymentId": "dpl_1 "}))).contains("deploymentId"));
    let zeros = job(json!({"commitSha": format!(" {}", "0".repeat(40))}));
    assert_eq!(parse(&zeros).unwrap_err().failure.code, Code::JobBranchDeleted);
}

#[test]
fn an_abbreviated_commit_is_told_as_such() {
    assert!(cause(&job(json!({"commitSha": "abc1234"}))).contains("abbreviated"));
}

#[test]
fn fields_that_people_expect_and_that_say_something_are_noted() {
    let noted = |fields: Value| parse(&job(fields)).unwrap().unsupported;
    assert_eq!(
        noted(json!({"target": "prod", "build_args": {"A": "1"}, "rootDirectory": "web", "submodules": true})),
        ["build_args", "rootDirectory", "submodules", "target"]
    );
    assert!(
        noted(json!({"target": "", "buildArgs": {}, "platform": null, "context": [], "lfs": false, "subdir": " "})).is_empty()
    );
    assert!(noted(json!({"somethingElse": "x", "installationId": "1"})).is_empty());
}
