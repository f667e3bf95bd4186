//! PURE: a job as the existing producer writes it (contract, "Jobs in").

use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use crate::config;
use crate::protocol::{BranchName, CommitSha, DeploymentId, EnvVar, GitCredentials, Port, RepositoryName, ServiceId, is_image};
use crate::secrets::ExposeSecret;

/// Everything that goes into a queue element.
pub(super) struct Order {
    pub(super) deployment: DeploymentId,
    pub(super) service: ServiceId,
    pub(super) repository: RepositoryName,
    pub(super) branch: BranchName,
    /// `None`: the branch's tip.
    pub(super) commit: Option<CommitSha>,
    /// `None`: GitHub.
    pub(super) git_url: Option<Url>,
    pub(super) credentials: Option<GitCredentials>,
    pub(super) dockerfile: Option<String>,
    pub(super) builder: Option<String>,
    /// Whole seconds.
    pub(super) build_timeout: Option<Duration>,
    pub(super) env: Vec<EnvVar>,
    pub(super) ports: Vec<Port>,
}

impl Order {
    /// The queue element. It holds secrets: nothing but Redis may see it.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut job = json!({
            "deploymentId": self.deployment,
            "serviceId": self.service,
            "commitSha": self.commit.as_ref().map_or("", CommitSha::as_str),
            "branch": self.branch,
            "repositoryName": self.repository,
            "gitProvider": self.git_provider(),
            "environmentVariables":
                self.env.iter().map(|v| json!({"key": v.key, "value": v.value.expose_secret()})).collect::<Vec<_>>(),
            "ports":
                self.ports.iter().map(|p| json!({"servicePort": p.service_port, "containerPort": p.container_port})).collect::<Vec<_>>(),
        });
        if let Some(dockerfile) = &self.dockerfile {
            job["runtimeFilePath"] = json!(dockerfile);
        }
        if let Some(builder) = &self.builder {
            job["builder"] = json!(builder);
        }
        if let Some(time) = &self.build_timeout {
            job["buildTimeout"] = json!(time.as_secs());
        }
        job.to_string().into_bytes()
    }

    fn git_provider(&self) -> Value {
        let login = self.credentials.as_ref().map(|c| (c.username.as_str(), c.password.expose_secret()));
        match (&self.git_url, login) {
            (None, None) => json!({"type": "GITHUB"}),
            (None, Some((user, token))) => json!({"type": "GITHUB", "githubAccount": {"username": user, "accessToken": token}}),
            (Some(url), None) => json!({"type": "CUSTOM", "url": base(url)}),
            (Some(url), Some((user, password))) => {
                json!({"type": "CUSTOM", "url": base(url), "username": user, "password": password})
            }
        }
    }
}

/// `/<repository>.git` follows.
fn base(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// `80:3000`, or `3000` for both sides.
pub(super) fn parse_port(text: &str) -> Result<Port, &'static str> {
    let (service, container) = text.split_once(':').unwrap_or((text, text));
    let port = |t: &str| t.parse().ok().filter(|p| *p > 0).ok_or("is not SERVICE:CONTAINER, such as 80:3000");
    Ok(Port { service_port: port(service)?, container_port: port(container)? })
}

/// `image`, `image:tag` …: what the job's field takes.
pub(super) fn parse_builder(text: &str) -> Result<String, &'static str> {
    if !text.is_empty() && is_image(text) { Ok(text.to_owned()) } else { Err("is no image reference") }
}

/// A time as the settings have it, of one second or more.
pub(super) fn parse_time(text: &str) -> Result<Duration, &'static str> {
    config::duration(text).and_then(|time| if time.is_zero() { Err("must not be zero") } else { Ok(time) })
}

/// `owner/name`. What people paste in its place is told apart.
pub(super) fn parse_repository(text: &str) -> Result<RepositoryName, String> {
    if text.contains("://") || text.contains('@') {
        return Err("is a URL; give owner/name, and with --git-url the server where it is not GitHub".into());
    }
    RepositoryName::parse(text).map_err(|e| e.rule.to_owned())
}

/// An http(s) base without a user: that would stand in the job, in logs and in the process list.
pub(super) fn parse_git_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL such as https://git.example.com")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("does not begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; use --git-username and --git-token-file");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query (?) or fragment (#)");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            deployment: DeploymentId::parse("dpl_8f3k2").unwrap(),
            service: ServiceId::parse("svc_91").unwrap(),
            repository: RepositoryName::parse("octo/hello").unwrap(),
            branch: BranchName::parse("main").unwrap(),
            commit: None,
            git_url: None,
            credentials: Some(GitCredentials { username: "octo".into(), password: "ghs_x".into() }),
            dockerfile: Some("docker/Dockerfile".into()),
            builder: None,
            build_timeout: None,
            env: vec![EnvVar { key: "FOO".into(), value: "bar".into() }],
            ports: vec![Port { service_port: 80, container_port: 3000 }],
        }
    }

    #[test]
    fn the_job_is_the_one_of_the_contract() {
        let written: Value = serde_json::from_slice(&order().payload()).unwrap();
        let contract = json!({"deploymentId":"dpl_8f3k2", "serviceId":"svc_91", "commitSha":"", "branch":"main",
            "repositoryName":"octo/hello", "runtimeFilePath":"docker/Dockerfile",
            "gitProvider":{"type":"GITHUB","githubAccount":{"username":"octo","accessToken":"ghs_x"}},
            "environmentVariables":[{"key":"FOO","value":"bar"}], "ports":[{"servicePort":80,"containerPort":3000}]});
        assert_eq!(written, contract);
    }

    #[test]
    fn a_builder_and_a_time_stand_in_the_job_as_the_worker_reads_them() {
        let (builder, build_timeout) = (parse_builder("paketo/builder:1").ok(), parse_time("5m").ok());
        let order = Order { dockerfile: None, builder, build_timeout, ..order() };
        let job = crate::protocol::Job::parse(&order.payload(), 1 << 20, &parse_git_url("https://github.com").unwrap()).unwrap();
        assert_eq!((job.builder.as_deref(), job.build_timeout), (Some("paketo/builder:1"), Some(Duration::from_secs(300))));
        for wrong in ["0", "", "5 parsecs", "-1"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        assert!(parse_builder("a b").is_err() && parse_builder("").is_err());
    }

    #[test]
    fn another_git_server_is_named_by_its_base() {
        let order = Order { git_url: Some(parse_git_url("http://127.0.0.1:8080/").unwrap()), credentials: None, ..order() };
        let written: Value = serde_json::from_slice(&order.payload()).unwrap();
        assert_eq!(written["gitProvider"], json!({"type": "CUSTOM", "url": "http://127.0.0.1:8080"}));
    }

    #[test]
    fn a_port_is_a_pair_or_one_for_both_sides() {
        assert_eq!(parse_port("80:3000"), Ok(Port { service_port: 80, container_port: 3000 }));
        assert_eq!(parse_port("8080"), Ok(Port { service_port: 8080, container_port: 8080 }));
        for wrong in ["", "0", "80:", "a:b", "80:70000", "1:2:3"] {
            assert!(parse_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_in_place_of_a_repository_is_told_what_to_give() {
        assert_eq!(parse_repository("octo/hello").unwrap().as_str(), "octo/hello");
        for url in ["https://github.com/octo/hello", "git@github.com:octo/hello.git"] {
            assert!(parse_repository(url).unwrap_err().contains("owner/name"), "{url}");
        }
        assert!(parse_repository("../hello").is_err());
    }

    #[test]
    fn a_password_has_no_place_in_a_git_url() {
        assert!(parse_git_url("https://me:token@git.example.com").is_err());
        assert!(parse_git_url("file:///etc").is_err());
    }
}
