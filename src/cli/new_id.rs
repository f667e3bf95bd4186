//! Ids for people who name none: a new deployment's, and a service's after its repository.

use crate::protocol::{DeploymentId, ServiceId};

const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const LENGTH: usize = 20;

/// 20 random characters of `[a-z0-9]`, as the producer makes them. `None`: the system gave no random bytes.
pub(super) fn deployment() -> Option<DeploymentId> {
    let mut id = String::with_capacity(LENGTH);
    while id.len() < LENGTH {
        let mut bytes = [0; LENGTH];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        // 252 is the largest multiple of 36: above it the first letters would be likelier.
        let letters = bytes.iter().filter(|b| **b < 252).map(|b| ALPHABET[usize::from(*b) % ALPHABET.len()] as char);
        id.extend(letters.take(LENGTH - id.len()));
    }
    DeploymentId::parse(&id).ok()
}

/// `octo/Hello.World` → `octo-hello-world`.
pub(super) fn service(repository: &str) -> Option<ServiceId> {
    let id: String =
        repository.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(64).collect();
    ServiceId::parse(id.trim_matches('-')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_deployment_has_an_id_of_its_own_in_the_producers_form() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| deployment().unwrap()).collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            assert!(id.as_str().len() == 20 && id.as_str().bytes().all(|b| ALPHABET.contains(&b)), "{id}");
        }
    }

    #[test]
    fn a_service_is_named_after_its_repository() {
        assert_eq!(service("octo/Hello.World").unwrap().as_str(), "octo-hello-world");
        assert!(service("///").is_none());
    }
}
