//! PURE: a git server and a repository on it, in the words that users see, and which hosts may be asked at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

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

    /// Refuses a host that `GIT_ALLOWED_HOSTS` does not name, and link-local and metadata addresses always.
    /// Names are looked at again when they have been resolved.
    pub(super) fn admit(url: &Url, allowed_hosts: &[String]) -> Result<Site, Failure> {
        let site = Site::of(url);
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(Failure::new(
                Code::GitHostNotAllowed,
                "The repository's URL is not an http or https URL.",
                "Only smart HTTP is spoken; give the repository's https URL.",
            ));
        }
        if !allowed_hosts.is_empty() && !allowed_hosts.iter().any(|rule| rule_allows(rule, url)) {
            return Err(Failure::new(
                Code::GitHostNotAllowed,
                format!("The git host {} is not allowed on this worker.", site.host),
                "Add it to GIT_ALLOWED_HOSTS, or use a repository on an allowed host.",
            ));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            _ => None,
        };
        match literal {
            Some(ip) if is_forbidden(ip) => Err(forbidden_address(&site)),
            _ => Ok(site),
        }
    }
}

/// What is said when a host is, or resolves to, an address that is never asked.
pub(super) fn forbidden_address(site: &Site) -> Failure {
    Failure::new(
        Code::GitHostNotAllowed,
        format!("The git host {} is a link-local or cloud metadata address.", site.host),
        "Such addresses are never asked; use the git server's own name.",
    )
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

/// Whether an address belongs to the link (169.254/16, fe80::/10) or is a cloud's metadata service elsewhere: Alibaba
/// 100.100.100.200, Oracle 192.0.0.192, Azure's wire server 168.63.129.16, AWS fd00:ec2::254, Google fd20:ce::254.
/// IPv4 addresses in IPv6 clothes (mapped, compatible, translated, NAT64, 6to4) are undressed first.
pub(super) fn is_forbidden(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_forbidden_v4(ip),
        IpAddr::V6(ip) => {
            let s = ip.segments();
            (s[0] & 0xffc0) == 0xfe80
                || ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
                || ip == Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)
                || embedded_v4(s).is_some_and(is_forbidden_v4)
        }
    }
}

fn is_forbidden_v4(ip: Ipv4Addr) -> bool {
    ip.is_link_local()
        || ip == Ipv4Addr::new(100, 100, 100, 200)
        || ip == Ipv4Addr::new(192, 0, 0, 192)
        || ip == Ipv4Addr::new(168, 63, 129, 16)
}

fn embedded_v4(s: [u16; 8]) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => Some(join(high, low)),
        // NAT64: the well-known prefix, and the one for networks of one's own.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
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
    fn any_host_is_asked_where_no_list_is_given_and_loopback_is_a_host() {
        assert!(!refused("https://github.com/a/b.git", &[]));
        assert!(!refused("http://127.0.0.1:3000/a/b.git", &[]));
        assert!(!refused("http://[::1]:3000/a/b.git", &[]));
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
    fn metadata_addresses_are_refused_in_every_spelling_even_when_listed() {
        for host in [
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "169.254.43518",
            "[fe80::1]",
            "[febf::1]",
            "[fd00:ec2::254]",
            "[fd20:ce::254]",
            "[::ffff:169.254.169.254]",
            "[::169.254.169.254]",
            "[::ffff:0:a9fe:a9fe]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::a9fe:a9fe]",
            "[2002:a9fe:a9fe::1]",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
        ] {
            assert!(refused(&format!("http://{host}/a/b.git"), &[]), "{host}");
            assert!(refused(&format!("http://{host}/a/b.git"), &[host]), "{host} when listed");
        }
    }

    #[test]
    fn neighbours_of_metadata_addresses_are_hosts_like_others() {
        for ip in ["169.253.0.1", "169.255.0.1", "100.100.100.201", "fec0::1", "fd00:ec2::253", "10.0.0.1", "::1"] {
            assert!(!is_forbidden(ip.parse().expect("an address")), "{ip}");
        }
    }
}
