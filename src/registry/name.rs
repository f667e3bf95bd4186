//! PURE: how a service's repository and an attempt's tag are called, and what a registry's host says about the way to it.

use std::net::IpAddr;

use crate::protocol::{Code, DeploymentId, Failure, ServiceId};

/// Whose rules a repository's name obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// The reference grammar of the Engine: components of `[a-z0-9]`, between them `.`, `_`, `__` or any number of `-`.
    Docker,
    /// ECR's: as above with single separators only, 2 to 256 characters.
    Ecr,
}

/// `<prefix><service>`, where the registry takes that as a name; else a failure that says which part is wrong.
///
/// Registries know small letters alone, and ids that differ only in case are two services. So an id with capitals is written small and
/// followed by `.`, which no id has, and the places of its capitals: no two ids have one name, and one without capitals is its own name.
pub(super) fn repository_path(prefix: &str, service: &ServiceId, dialect: Dialect) -> Result<String, Failure> {
    let id = service.as_str();
    let path = match capitals(id) {
        0 => format!("{prefix}{id}"),
        places => format!("{prefix}{}.{places:x}", id.to_ascii_lowercase()),
    };
    let length = match dialect {
        Dialect::Docker => 1..=200,
        Dialect::Ecr => 2..=256,
    };
    if length.contains(&path.len()) && path.split('/').all(|component| is_component(component, dialect)) {
        return Ok(path);
    }
    Err(Failure::new(
        Code::RegistryName,
        format!("\"{path}\" cannot be the name of a repository in the registry."),
        "Use a service id of letters and digits with single '-' or '_' between them, and check the repository prefix.",
    ))
}

/// A bit for each capital letter, the first character's the lowest. (An id has at most 64 characters.)
fn capitals(id: &str) -> u128 {
    id.bytes().take(128).enumerate().filter(|(_, b)| b.is_ascii_uppercase()).map(|(i, _)| 1 << i).sum()
}

fn is_component(component: &str, dialect: Dialect) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    plain(first)
        && plain(last)
        && component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).filter(|separator| !separator.is_empty()).all(
            |separator| match dialect {
                Dialect::Docker => matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-'),
                Dialect::Ecr => matches!(separator, "." | "_" | "-"),
            },
        )
}

/// `<deploymentId>-<attempt>`. A deployment's id is at most 64 characters of a tag's alphabet, so this always is a tag.
pub(crate) fn attempt_tag(deployment: &DeploymentId, attempt: u32) -> String {
    format!("{deployment}-{attempt}")
}

/// Whether the Engine would read `host` as a registry. A bare word ("registry") is taken for a user name on Docker Hub,
/// and the image with its credentials would go there.
pub(super) fn is_registry_host(host: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    !host.is_empty() && host.bytes().all(allowed) && (host == "localhost" || host.contains(['.', ':']))
}

/// Whether `host` (with or without a port) is this machine itself, written as an address or as `localhost`.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(prefix: &str, service: &str, dialect: Dialect) -> Result<String, Failure> {
        repository_path(prefix, &ServiceId::parse(service).unwrap(), dialect)
    }

    #[test]
    fn a_service_is_a_repository_behind_the_prefix_and_capitals_are_told_behind_a_full_stop() {
        assert_eq!(path("deployra/", "svc_91", Dialect::Ecr).unwrap(), "deployra/svc_91");
        assert_eq!(path("deployra/", "Svc_91", Dialect::Ecr).unwrap(), "deployra/svc_91.1");
        assert_eq!(path("", "SvcCase", Dialect::Docker).unwrap(), "svccase.9");
        assert_eq!(path("", &"A".repeat(64), Dialect::Docker).unwrap(), format!("{}.{}", "a".repeat(64), "f".repeat(16)));
        assert_eq!(path("", "svc-91", Dialect::Docker).unwrap(), "svc-91");
        assert_eq!(path("octo/deep/x-", "a--b__c", Dialect::Docker).unwrap(), "octo/deep/x-a--b__c");
    }

    #[test]
    fn a_service_that_no_registry_could_hold_is_refused_in_words() {
        for (service, dialect) in
            [("svc-", Dialect::Docker), ("a_-b", Dialect::Docker), ("a___b", Dialect::Docker), ("a--b", Dialect::Ecr)]
        {
            let failure = path("octo/", service, dialect).unwrap_err();
            assert_eq!(failure.code, Code::RegistryName);
            assert!(failure.cause.contains(service), "{failure}");
        }
        assert!(path("octo/", "Svc-", Dialect::Docker).is_err(), "capitals make no bad name a good one");
        assert!(path("/octo/", "svc", Dialect::Docker).is_err(), "a prefix that begins with a slash");
        assert!(path("../", "svc", Dialect::Docker).is_err(), "a prefix that climbs");
    }

    #[test]
    fn a_bare_word_is_no_registry_host_because_the_engine_would_push_to_docker_hub() {
        assert!(!is_registry_host("registry"));
        assert!(!is_registry_host("https://ghcr.io"));
        assert!(!is_registry_host("ghcr.io/octo"));
        for host in ["ghcr.io", "registry:5000", "localhost", "127.0.0.1:5000", "[::1]:5000"] {
            assert!(is_registry_host(host), "{host}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["ghcr.io", "127.0.0.1.example.com:80", "localhost.example.com", "10.0.0.1:5000", "[::2]:5000", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_name_is_a_reference_the_engine_takes(service in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}") {
            let grammar = regex::Regex::new(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$").unwrap();
            let expected = grammar.is_match(&format!("octo/{}", service.to_ascii_lowercase()));
            let named = path("octo/", &service, Dialect::Docker);
            prop_assert_eq!(named.is_ok(), expected);
            prop_assert!(named.is_err() || grammar.is_match(&named.unwrap()));
        }
        #[test]
        fn every_accepted_ecr_name_obeys_the_rule_of_its_api(service in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}") {
            let grammar = regex::Regex::new(r"^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$").unwrap();
            let expected = grammar.is_match(&format!("deployra/{}", service.to_ascii_lowercase()));
            let named = path("deployra/", &service, Dialect::Ecr);
            prop_assert_eq!(named.is_ok(), expected);
            prop_assert!(named.is_err() || grammar.is_match(&named.unwrap()));
        }
        #[test]
        fn an_id_of_small_letters_is_its_own_name(service in "[a-z0-9]{1,64}") {
            prop_assert_eq!(path("deployra/", &service, Dialect::Ecr).unwrap(), format!("deployra/{service}"));
        }
        /// Few letters, so that ids of the same letters in another case are frequent.
        #[test]
        fn no_two_services_have_one_repository(one in "[aA1][aA1_-]{0,7}", other in "[aA1][aA1_-]{0,7}", upper: bool) {
            let other = if upper { one.to_ascii_uppercase() } else { other };
            for dialect in [Dialect::Docker, Dialect::Ecr] {
                if let (Ok(a), Ok(b)) = (path("octo/", &one, dialect), path("octo/", &other, dialect)) {
                    prop_assert_eq!(a == b, one == other, "{} and {}", one, other);
                }
            }
        }
        #[test]
        fn every_tag_is_a_tag(deployment in "[A-Za-z0-9][A-Za-z0-9_-]{0,63}", attempt: u32) {
            let tag = attempt_tag(&DeploymentId::parse(&deployment).unwrap(), attempt);
            let grammar = regex::Regex::new(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$").unwrap();
            prop_assert!(grammar.is_match(&tag), "{}", tag);
        }
    }
}
