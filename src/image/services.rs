//! The small services of a session: health, secrets, credentials for base images.

use std::collections::HashMap;

use bollard_buildkit_proto::health::health_server::Health;
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use futures_util::stream::{Empty, empty};
use tonic::{Request, Response, Status};

use crate::config::PullCredentials;
use crate::peer::registry_host;
use crate::secrets::{ExposeSecret, SecretString};

type Answer<T> = Result<Response<T>, Status>;

/// BuildKit asks every few seconds whether the session is alive.
pub struct Serving;

#[tonic::async_trait]
impl Health for Serving {
    type WatchStream = Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        const SERVING: i32 = 1;
        Ok(Response::new(HealthCheckResponse { status: SERVING }))
    }
    async fn list(&self, _: Request<HealthListRequest>) -> Answer<HealthListResponse> {
        Err(Status::unimplemented("not offered by this session"))
    }
    async fn watch(&self, _: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        Ok(Response::new(empty()))
    }
}

/// `RUN --mount=type=secret,id=…`.
pub struct SecretsService {
    values: HashMap<String, SecretString>,
}

impl SecretsService {
    pub fn new(values: Vec<(String, SecretString)>) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

#[tonic::async_trait]
impl Secrets for SecretsService {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Answer<GetSecretResponse> {
        let id = request.into_inner().id;
        match self.values.get(&id) {
            Some(value) => Ok(Response::new(GetSecretResponse { data: value.expose_secret().as_bytes().to_vec() })),
            // BuildKit leaves an optional secret out on this code alone
            None => Err(Status::not_found(format!("secret {id}: not found"))),
        }
    }
}

/// Credentials for base images: the operator's read-only ones, by host, and nothing else. The credentials of the push never come here:
/// with them a `FROM` pulls another service's image.
pub struct PullCredentialsService {
    hosts: HashMap<String, PullCredentials>,
}

impl PullCredentialsService {
    pub fn new(registries: &[PullCredentials]) -> Self {
        Self { hosts: registries.iter().map(|registry| (registry_host(&registry.host), registry.clone())).collect() }
    }
}

#[tonic::async_trait]
impl Auth for PullCredentialsService {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Answer<CredentialsResponse> {
        let known = self.hosts.get(&registry_host(&request.into_inner().host));
        Ok(Response::new(match known {
            Some(known) => {
                CredentialsResponse { username: known.username.clone(), secret: known.password.expose_secret().to_owned() }
            }
            None => CredentialsResponse::default(),
        }))
    }
    async fn fetch_token(&self, _: Request<FetchTokenRequest>) -> Answer<FetchTokenResponse> {
        Err(Status::unimplemented("the Engine fetches its tokens itself"))
    }
    async fn get_token_authority(&self, _: Request<GetTokenAuthorityRequest>) -> Answer<GetTokenAuthorityResponse> {
        Err(Status::unimplemented("the Engine fetches its tokens itself"))
    }
    async fn verify_token_authority(&self, _: Request<VerifyTokenAuthorityRequest>) -> Answer<VerifyTokenAuthorityResponse> {
        Err(Status::unimplemented("the Engine fetches its tokens itself"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> PullCredentialsService {
        let credentials = |host: &str, password: &str| PullCredentials {
            host: host.to_owned(),
            username: "reader".to_owned(),
            password: SecretString::from(password.to_owned()),
        };
        PullCredentialsService::new(&[credentials("docker.io", "hub"), credentials("ghcr.io:443", "ghcr")])
    }
    async fn asked(host: &str) -> (String, String) {
        let request = CredentialsRequest { host: host.to_owned() };
        let answer = service().credentials(Request::new(request)).await.expect("an answer").into_inner();
        (answer.username, answer.secret)
    }

    #[tokio::test]
    async fn docker_hub_is_known_by_each_of_its_names() {
        for name in ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"] {
            assert_eq!(asked(name).await, ("reader".to_owned(), "hub".to_owned()), "{name}");
        }
    }

    #[tokio::test]
    async fn a_host_that_is_not_configured_gets_empty_credentials() {
        for name in ["ghcr.io", "evil.example", "docker.io.evil.example", ""] {
            assert_eq!(asked(name).await, Default::default(), "{name}");
        }
        assert_eq!(asked("GHCR.io:443").await.1, "ghcr");
    }

    #[tokio::test]
    async fn a_secret_that_the_job_lacks_is_not_found() {
        let service = SecretsService::new(vec![("A".to_owned(), SecretString::from("value".to_owned()))]);
        let ask =
            async |id: &str| service.get_secret(Request::new(GetSecretRequest { id: id.to_owned(), ..Default::default() })).await;
        assert_eq!(ask("A").await.expect("known").into_inner().data, b"value");
        assert_eq!(ask("B").await.expect_err("unknown").code(), tonic::Code::NotFound);
    }
}
