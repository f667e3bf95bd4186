//! Any OCI registry that is reached by host, user and password.

use super::name::{self, Dialect};
use super::target::{Credentials, Target};
use crate::config::GenericRegistryConfig;
use crate::protocol::{Code, Failure, RegistryType, ServiceId};

pub(super) struct Generic {
    config: GenericRegistryConfig,
}

impl Generic {
    pub(super) fn new(config: GenericRegistryConfig) -> Self {
        Self { config }
    }
    /// The service's repository. Registries of this kind make it at the first push.
    pub(super) fn target(&self, service: &ServiceId) -> Result<Target, Failure> {
        let path = name::repository_path(&self.config.repository_prefix, service, Dialect::Docker)?;
        self.registry(path)
    }
    /// The registry itself, for a look whether it answers.
    pub(super) fn registry(&self, path: String) -> Result<Target, Failure> {
        let host = &self.config.host;
        if !name::is_registry_host(host) {
            return Err(Failure::new(
                Code::RegistryUnreachable,
                format!("REGISTRY_HOST \"{host}\" is not a registry's host."),
                "Give a host with a dot or a port, such as ghcr.io or registry:5000; a bare word is a user of Docker Hub.",
            ));
        }
        Ok(Target {
            host: host.clone(),
            path,
            kind: if host.eq_ignore_ascii_case("ghcr.io") { RegistryType::Ghcr } else { RegistryType::Docker },
            credentials: self.credentials(),
            plain_http: self.config.insecure,
        })
    }
    pub(super) fn credentials(&self) -> Option<Credentials> {
        let password = self.config.password.clone()?;
        Some(Credentials { username: self.config.username.clone().unwrap_or_default(), password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(host: &str) -> Generic {
        Generic::new(GenericRegistryConfig {
            host: host.into(),
            repository_prefix: "octo/".into(),
            username: Some("me".into()),
            password: Some("word-of-pass".to_owned().into()),
            insecure: false,
        })
    }
    fn target(host: &str) -> Target {
        generic(host).target(&ServiceId::parse("Svc").unwrap()).unwrap()
    }

    #[test]
    fn the_repository_stands_below_host_and_prefix_and_the_dashboard_is_told_its_kind() {
        assert_eq!(target("ghcr.io").repository(), "ghcr.io/octo/svc.1");
        assert_eq!(target("ghcr.io").kind, RegistryType::Ghcr);
        assert_eq!(target("registry.example.com:5000").kind, RegistryType::Docker);
    }

    #[test]
    fn credentials_go_by_http_only_where_the_configuration_says_so() {
        assert_eq!(target("127.0.0.1:5000").api(), "https://127.0.0.1:5000/v2/", "an explicit false means TLS here too");
        assert_eq!(target("registry.example.com").api(), "https://registry.example.com/v2/");
        assert_eq!(target("docker.io").api(), "https://registry-1.docker.io/v2/");
        for host in ["registry.lan:5000", "127.0.0.1:5000"] {
            let mut plain = generic(host);
            plain.config.insecure = true;
            assert_eq!(plain.target(&ServiceId::parse("s").unwrap()).unwrap().api(), format!("http://{host}/v2/"));
        }
    }

    #[test]
    fn a_host_that_the_engine_would_take_for_a_docker_hub_user_is_refused() {
        let failure = generic("registry").target(&ServiceId::parse("s").unwrap()).unwrap_err();
        assert!(failure.to_string().contains("REGISTRY_HOST \"registry\""), "{failure}");
    }

    #[test]
    fn debug_output_of_a_target_has_no_password() {
        assert!(!format!("{:?}", target("ghcr.io")).contains("word-of-pass"));
    }
}
