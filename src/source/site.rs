//! PURE: a git server and a repository on it, in the words that users see, and which hosts may be asked at all.

use url::Url;

use super::zone::Zone;
use crate::protocol::{Code, Failure};

/// Names the host and the repository in log lines and failures. Never holds credentials: those are not part of the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    /// As [`host_of`] has it.
    pub(super) host: String,
    /// `octo/hello`.
    pub(super) repository: String,
}

/// The git server of `url`: `github.com`, or `host:port` where the port is not the scheme's own.
pub fn host_of(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}

impl Site {
    pub(super) fn of(url: &Url) -> Site {
        let host = host_of(url);
        let path = url.path().trim_matches('/');
        Site { host, repository: path.strip_suffix(".git").unwrap_or(path).to_owned() }
    }

    /// Refuses a host that `GIT_ALLOWED_HOSTS` does not name. Its addresses are looked at by [`super::reach`].
    pub(super) fn admit(url: &Url, allowed_hosts: &[String]) -> Result<Site, Failure> {
        let site = Site::of(url);
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Failure::new(
                Code::GitHostNotAllowed,
                "The repository's URL is not an http or https URL.",
                "Only smart HTTP is spoken; give the repository's https URL.",
            ));
        }
        if !allowed_hosts.is_empty() && matching_rule(allowed_hosts, url).is_none() {
            return Err(Failure::new(
                Code::GitHostNotAllowed,
                format!("The git host {} is not allowed on this worker.", site.host),
                "Add it to GIT_ALLOWED_HOSTS, or use a repository on an allowed host.",
            ));
        }
        Ok(site)
    }
}

/// What is said when a host is, or resolves to, an address that a job may not reach.
pub(super) fn out_of_reach(site: &Site, zone: Zone) -> Failure {
    let host = &site.host;
    let (cause, way_out) = match zone {
        Zone::Forbidden => (
            format!("The git host {host} is a link-local or cloud metadata address."),
            "Such addresses are never asked; use the git server's own name.",
        ),
        Zone::Host => (
            format!("The git host {host} is this worker's own host, which jobs may not reach."),
            "Use its public URL. The operator's GIT_ALLOWED_HOSTS or GIT_PRIVATE_HOSTS may allow it.",
        ),
        Zone::Private | Zone::Public => (
            format!("The git host {host} is in a private network, which jobs may not reach."),
            "Use its public URL. The operator's GIT_ALLOWED_HOSTS or GIT_PRIVATE_HOSTS may allow it.",
        ),
    };
    Failure::new(Code::GitHostNotAllowed, cause, way_out)
}

/// How the operator's list names a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostRule {
    /// By its own name or address.
    Exact,
    /// As a part of a domain.
    Domain,
}

/// The most exact rule of the list that names the URL's host.
pub(super) fn matching_rule(allowed_hosts: &[String], url: &Url) -> Option<HostRule> {
    let matches = |rule: &&String| rule_allows(rule, url);
    let mut matching = allowed_hosts.iter().filter(matches);
    let first = matching.next()?;
    let is_exact = |rule: &String| !rule.trim().starts_with("*.");
    if is_exact(first) || matching.any(is_exact) { Some(HostRule::Exact) } else { Some(HostRule::Domain) }
}

/// `host`, `host:port` or `*.domain` (subdomains only), without regard to case.
fn rule_allows(rule: &str, url: &Url) -> bool {
    let rule = rule.trim().to_ascii_lowercase();
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if let Some(domain) = rule.strip_prefix("*.") {
        return host.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
    }
    if rule == host {
        return true;
    }
    url.port_or_known_default().is_some_and(|port| rule == format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }
    fn refused(text: &str, rules: &[&str]) -> bool {
        let rules: Vec<String> = rules.iter().map(|r| (*r).to_owned()).collect();
        match Site::admit(&url(text), &rules) {
            Ok(_) => false,
            Err(failure) => {
                assert_eq!(failure.code, Code::GitHostNotAllowed);
                true
            }
        }
    }

    #[test]
    fn a_site_is_named_by_host_and_repository() {
        assert_eq!(
            Site::of(&url("https://github.com/octo/hello.git")),
            Site { host: "github.com".into(), repository: "octo/hello".into() }
        );
        assert_eq!(Site::of(&url("http://127.0.0.1:8080/a/b/c.git")).host, "127.0.0.1:8080");
    }

    #[test]
    fn any_host_is_asked_where_no_list_is_given() {
        assert!(!refused("https://github.com/a/b.git", &[]));
        assert!(!refused("http://10.0.0.1:3000/a/b.git", &[]));
    }

    #[test]
    fn the_list_names_hosts_ports_and_domains() {
        let rules = &["github.com", "git.example.com:8443", "*.Corp.example"];
        assert!(!refused("https://GitHub.com/a/b.git", rules));
        assert!(!refused("https://git.example.com:8443/a/b.git", rules));
        assert!(refused("https://git.example.com/a/b.git", rules));
        assert!(!refused("https://code.corp.example/a/b.git", rules));
        assert!(!refused("https://a.b.corp.example/a/b.git", rules));
        assert!(refused("https://corp.example/a/b.git", rules));
        assert!(refused("https://evilcorp.example/a/b.git", rules));
        assert!(refused("https://github.com.evil.example/a/b.git", rules));
    }

    #[test]
    fn a_rule_for_the_host_itself_goes_before_one_for_its_domain() {
        let rule = |rules: &[&str], text: &str| {
            let rules: Vec<String> = rules.iter().map(|r| (*r).to_owned()).collect();
            matching_rule(&rules, &url(text))
        };
        assert_eq!(rule(&["*.b.example", "a.b.example"], "http://a.b.example/"), Some(HostRule::Exact));
        assert_eq!(rule(&["*.b.example"], "http://a.b.example./"), Some(HostRule::Domain));
        assert_eq!(rule(&["c.example"], "http://a.b.example/"), None);
        assert_eq!(rule(&["LOCALHOST"], "http://localhost./"), Some(HostRule::Exact));
    }
}
