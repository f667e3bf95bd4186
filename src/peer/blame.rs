//! PURE: whose host is it: the operator's, or one that a job names. Decides the blame of a failure from the host that failed.

use url::Url;

use crate::config::{BuildConfig, BuildpacksConfig, GitConfig, RegistryConfig, WorkerConfig};
use crate::protocol::{Blame, Code, Failure};

/// What an image's name means that names no host.
const DOCKER_HUB: &str = "docker.io";

/// The hosts that the operator's configuration names. Every other host is one that a job names.
#[derive(Debug, Clone)]
pub struct OperatorHosts {
    /// `UPSTREAM_HOSTS`: `host`, `host:port` or `*.domain`, in small letters.
    rules: Vec<String>,
    /// Hosts of images, as [`registry_host`] has them.
    registries: Vec<String>,
    /// `host:port` of `GITHUB_URL`.
    github: Option<String>,
}

impl OperatorHosts {
    pub fn new(
        worker: &WorkerConfig,
        git: &GitConfig,
        build: &BuildConfig,
        buildpacks: &BuildpacksConfig,
        registry: Option<&RegistryConfig>,
    ) -> Self {
        let mut rules = worker.upstream_hosts.clone();
        // A job that names no host gets the Engine's own registry: the operator's choice, with its mirrors.
        let mut registries = vec![DOCKER_HUB.to_owned()];
        registries.extend(build.pull_registries.iter().map(|login| registry_host(&login.host)));
        let builders = buildpacks.builders.iter().flat_map(|builder| [&builder.image, &builder.run_image]);
        registries.extend(builders.chain([&buildpacks.lifecycle_image]).map(|image| image_host(image)));
        match registry {
            Some(RegistryConfig::Generic(generic)) => registries.push(registry_host(&generic.host)),
            Some(RegistryConfig::Ecr(ecr)) => {
                registries.extend(ecr.registry_host.as_deref().map(registry_host));
                rules.push(format!("*.dkr.ecr.{}.amazonaws.com", ecr.region));
            }
            None => {}
        }
        let github = git.github_url.host_str().zip(git.github_url.port_or_known_default());
        Self { rules, registries, github: github.map(|(host, port)| format!("{}:{port}", plain(host))) }
    }

    /// Whose the git server of this URL is.
    pub fn of_git(&self, url: &Url) -> Blame {
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Blame::Job };
        let host = plain(host);
        let is_github = self.github.as_ref().is_some_and(|github| *github == format!("{host}:{port}"));
        blame(is_github || self.is_listed(&host, port))
    }

    /// Whose this host is, `host` or `host:port`, as an image's name or a URL has it.
    pub fn of_host(&self, written: &str) -> Blame {
        let host = registry_host(written);
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name.to_owned(), port.parse().unwrap_or(443)),
            _ => (host.clone(), 443),
        };
        blame(self.registries.contains(&host) || self.is_listed(&plain(&name), port))
    }

    fn is_listed(&self, host: &str, port: u16) -> bool {
        self.rules.iter().any(|rule| match rule.strip_prefix("*.") {
            Some(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => rule == host || *rule == format!("{host}:{port}"),
        })
    }
}

fn blame(is_operators: bool) -> Blame {
    if is_operators { Blame::Operator } else { Blame::Job }
}

fn plain(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The same failure with whose part failed. What the user has to mend where a job names the host (a name that does not exist, a bad
/// certificate) is an outage where the operator chose it.
pub fn settle(failure: Failure, blame: Blame) -> Failure {
    let (code, way_out) = match (blame, failure.code) {
        (Blame::Operator, Code::GitHostUnknown) => (Code::GitUnreachable, Some("Check this worker's DNS, and GITHUB_URL.")),
        (Blame::Operator, Code::GitCertificate) => (Code::GitUnreachable, None),
        (Blame::Operator, Code::DockerfileHostUnknown) => {
            (Code::BuildPullUnreachable, Some("Check the DNS and the network of the build host."))
        }
        (Blame::Operator, Code::DockerfileCertificate) => (Code::BuildPullUnreachable, None),
        (_, code) => (code, None),
    };
    let way_out = way_out.map_or(failure.way_out, str::to_owned);
    Failure { code, blame, way_out, ..failure }
}

/// Whether a failure is one of a host that a stage asks by name, so that it matters whose host it is.
pub fn blames_a_host(code: Code) -> bool {
    matches!(
        code,
        Code::GitUnreachable
            | Code::GitStalled
            | Code::GitProtocol
            | Code::GitHostUnknown
            | Code::GitCertificate
            | Code::BuildPullUnreachable
            | Code::DockerfileHostUnknown
            | Code::DockerfileCertificate
    )
}

/// The registry that an image's name means: its first part where that is a host, else Docker Hub.
pub fn image_host(image: &str) -> String {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => registry_host(first),
        _ => DOCKER_HUB.to_owned(),
    }
}

/// One name for a registry however it is written: Docker Hub alone has four.
pub fn registry_host(written: &str) -> String {
    let lower = written.trim().to_ascii_lowercase();
    let without_scheme = lower.split_once("://").map_or(lower.as_str(), |(_, rest)| rest);
    let host = without_scheme.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => DOCKER_HUB.to_owned(),
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(rules: &[&str]) -> OperatorHosts {
        OperatorHosts {
            rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
            registries: vec![DOCKER_HUB.to_owned(), "registry.corp:5000".to_owned()],
            github: Some("github.com:443".to_owned()),
        }
    }

    fn of_git(rules: &[&str], url: &str) -> Blame {
        hosts(rules).of_git(&url.parse().expect("a URL"))
    }

    #[test]
    fn github_is_the_operators_and_any_other_git_host_is_the_jobs() {
        assert_eq!(of_git(&[], "https://GitHub.com/octo/hello.git"), Blame::Operator);
        assert_eq!(of_git(&[], "https://github.com:8443/octo/hello.git"), Blame::Job, "another port is another server");
        assert_eq!(of_git(&[], "https://git.example/octo/hello.git"), Blame::Job);
        assert_eq!(of_git(&[], "https://github.com.evil.example/a.git"), Blame::Job);
    }

    #[test]
    fn the_operators_list_names_hosts_ports_and_domains() {
        let rules = ["git.corp", "10.0.0.7:3000", "*.lab.example"];
        for url in ["https://git.corp./a.git", "http://git.corp:8080/a.git", "http://10.0.0.7:3000/a", "https://x.lab.example/a"]
        {
            assert_eq!(of_git(&rules, url), Blame::Operator, "{url}");
        }
        for url in ["http://10.0.0.7:3001/a", "https://lab.example/a", "https://evillab.example/a"] {
            assert_eq!(of_git(&rules, url), Blame::Job, "{url}");
        }
    }

    #[test]
    fn an_image_without_a_host_and_the_operators_registries_are_the_operators() {
        let of_image = |image: &str| hosts(&["quay.io"]).of_host(&image_host(image));
        for image in ["node:22", "library/node", "index.docker.io/library/node", "registry.corp:5000/base", "quay.io/a/b"] {
            assert_eq!(of_image(image), Blame::Operator, "{image}");
        }
        for image in ["ghcr.io/a/b", "registry.corp/base", "localhost/x", "nosuch.invalid/x:1"] {
            assert_eq!(of_image(image), Blame::Job, "{image}");
        }
    }

    #[test]
    fn a_missing_name_is_the_users_fault_only_where_the_job_named_it() {
        let of = |code, blame| settle(Failure::new(code, "", ""), blame).code;
        assert_eq!(of(Code::GitHostUnknown, Blame::Job), Code::GitHostUnknown);
        assert_eq!(of(Code::GitHostUnknown, Blame::Operator), Code::GitUnreachable);
        assert_eq!(of(Code::GitCertificate, Blame::Operator), Code::GitUnreachable);
        assert_eq!(of(Code::DockerfileCertificate, Blame::Job), Code::DockerfileCertificate);
        assert_eq!(of(Code::DockerfileHostUnknown, Blame::Operator), Code::BuildPullUnreachable);
        assert_eq!(of(Code::GitAuth, Blame::Operator), Code::GitAuth);
    }

    #[test]
    fn docker_hub_that_cannot_be_resolved_sends_nobody_to_the_dockerfile() {
        let unknown = || Failure::new(Code::DockerfileHostUnknown, "", "Check the spelling of the name in the Dockerfile.");
        assert!(settle(unknown(), Blame::Operator).way_out.contains("DNS"));
        assert!(settle(unknown(), Blame::Job).way_out.contains("Dockerfile"));
    }
}
