//! PURE: the names that keep tenants' build caches apart in one Engine.
//!
//! BuildKit's cache key of a RUN step holds neither the secrets that it mounts nor the service it is built for, so without these names the
//! same Dockerfile in another service is answered from the first one's cache, its secret in the image. An extra host enters that key; the
//! cache mounts have a namespace of their own. Both are an HMAC under this host's key, because a `# syntax=` frontend can ask for any
//! name it can guess.

use aws_lc_rs::hmac;

use crate::secrets::{ExposeSecret, SecretString};

/// What one build tells BuildKit so that no other service shares its steps and cache mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantNames {
    /// Enters the cache key of every RUN step: `slipway-<40 hex digits>`, an extra host that points to loopback.
    pub extra_host: String,
    /// The value of `BUILDKIT_CACHE_MOUNT_NS`. Of the service alone, so that a changed secret keeps the package caches warm.
    pub cache_mounts: String,
}

impl TenantNames {
    /// `secrets`: (id, value) of the secrets that the Dockerfile may mount, or nothing where it mounts none: then a changed value
    /// costs no cached step.
    pub fn new(host_key: &SecretString, service: &str, secrets: &[(String, SecretString)]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, host_key.expose_secret().as_bytes());
        let mut steps = hmac::Context::with_key(&key);
        field(&mut steps, b"steps");
        field(&mut steps, service.as_bytes());
        let mut sorted: Vec<_> = secrets.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        for (id, value) in sorted {
            field(&mut steps, id.as_bytes());
            field(&mut steps, value.expose_secret().as_bytes());
        }
        let mut mounts = hmac::Context::with_key(&key);
        field(&mut mounts, b"cache mounts");
        field(&mut mounts, service.as_bytes());
        Self {
            // a host name's label holds 63 characters at most: 40 digits are 160 bits
            extra_host: format!("slipway-{}", &hex::encode(steps.sign())[..40]),
            cache_mounts: hex::encode(mounts.sign()),
        }
    }
}

/// With its length before it, so that no two lists of fields give the same bytes.
fn field(context: &mut hmac::Context, bytes: &[u8]) {
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> SecretString {
        SecretString::from(text.to_owned())
    }
    fn secrets(list: &[(&str, &str)]) -> Vec<(String, SecretString)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), key(v))).collect()
    }

    #[test]
    fn a_service_keeps_its_names_and_no_other_has_them() {
        let a = TenantNames::new(&key("k1"), "svc_a", &[]);
        assert_eq!(a, TenantNames::new(&key("k1"), "svc_a", &[]));
        for other in [TenantNames::new(&key("k1"), "svc_b", &[]), TenantNames::new(&key("k2"), "svc_a", &[])] {
            assert_ne!(a.extra_host, other.extra_host);
            assert_ne!(a.cache_mounts, other.cache_mounts);
        }
        assert!(a.extra_host.len() <= 63 && !a.extra_host.contains(&a.cache_mounts[..16]));
    }

    #[test]
    fn a_changed_secret_makes_steps_new_and_leaves_cache_mounts_warm() {
        let one = TenantNames::new(&key("k"), "s", &secrets(&[("A", "1"), ("B", "2")]));
        let two = TenantNames::new(&key("k"), "s", &secrets(&[("A", "1"), ("B", "3")]));
        assert_ne!(one.extra_host, two.extra_host);
        assert_eq!(one.cache_mounts, two.cache_mounts);
    }

    #[test]
    fn the_order_of_secrets_does_not_count_and_where_one_ends_does() {
        let of = |list: &[(&str, &str)]| TenantNames::new(&key("k"), "s", &secrets(list)).extra_host;
        assert_eq!(of(&[("A", "1"), ("B", "2")]), of(&[("B", "2"), ("A", "1")]));
        assert_ne!(of(&[("A", "1B2")]), of(&[("A", "1"), ("B", "2")]));
        assert_ne!(of(&[("AB", "1")]), of(&[("A", "B1")]));
    }
}
