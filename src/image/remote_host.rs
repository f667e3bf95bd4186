//! PURE: the host that a step of a build loads from, and the failures of a registry that the Engine was asked about before a build.

use url::Url;

use super::failure::{quote, remote};
use crate::peer::image_host;
use crate::protocol::{Code, Failure};

/// The host of the image or of the URL that the Dockerfile names, else of the URL in the error. (An error may name another host, which
/// the first one sent us to: whoever named the first one chose both.)
pub fn remote_host(image: Option<&str>, file: Option<&str>, error: &str) -> Option<String> {
    let first_word = |text: &str| text.split_whitespace().next().map(str::to_owned);
    if let Some(image) = image.and_then(first_word) {
        return Some(image_host(image.trim_start_matches("docker-image://")));
    }
    if let Some(url) = file.and_then(first_word) {
        return host_of_url(&url);
    }
    let (_, url) = error.split_once("\"http").or_else(|| error.split_once(" http"))?;
    host_of_url(&format!("http{}", url.split(['"', ' ']).next()?))
}

fn host_of_url(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// What the Engine's answer says of an image's registry; `None` where the registry answers, whatever it answers.
pub fn registry_failure(image: &str, error: &str) -> Option<Failure> {
    let failure = remote(&format!("[internal] load metadata for {image}"), error, &error.to_lowercase())?;
    let is_away = matches!(failure.code, Code::BuildPullUnreachable | Code::DockerfileHostUnknown | Code::DockerfileCertificate);
    is_away.then_some(failure)
}

/// The Engine has had no answer from an image's registry for so long.
pub fn registry_silent(image: &str, seconds: u64) -> Failure {
    let image_named = quote(image);
    Failure::new(
        Code::BuildPullUnreachable,
        format!("The base image {image_named} cannot be loaded, its registry gives no answer for {seconds} s."),
        "See whether the registry is up, and whether the image's name is right.",
    )
    .at(image_host(image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_the_one_that_the_dockerfile_names_whatever_the_error_names() {
        let error = "failed to fetch anonymous token: Get \"https://auth.evil.example/token\": dial tcp: no such host";
        let host = |image, file| remote_host(image, file, error);
        assert_eq!(host(Some("ghcr.io:8443/team/base:1"), None).as_deref(), Some("ghcr.io:8443"));
        assert_eq!(host(Some("docker-image://quay.io/x/y"), None).as_deref(), Some("quay.io"));
        assert_eq!(host(Some("node:22"), None).as_deref(), Some("docker.io"));
        assert_eq!(host(None, Some("https://files.example/a.tgz")).as_deref(), Some("files.example"));
        assert_eq!(host(None, None).as_deref(), Some("auth.evil.example"));
        assert_eq!(remote_host(None, None, "dial tcp: no such host"), None);
    }

    #[test]
    fn only_a_registry_that_does_not_answer_fails_before_the_build() {
        let code = |error| registry_failure("dead.example/x:1", error).map(|failure| (failure.code, failure.host));
        let host = Some("dead.example".to_owned());
        let refused = "Get \"https://dead.example/v2/\": dial tcp 127.0.0.1:443: connect: connection refused";
        assert_eq!(code(refused), Some((Code::BuildPullUnreachable, host.clone())));
        let unknown = "Get \"https://dead.example/v2/\": dial tcp: lookup dead.example on 10.0.0.2:53: no such host";
        assert_eq!(code(unknown), Some((Code::DockerfileHostUnknown, host.clone())));
        let expired = "Get \"https://dead.example/v2/\": tls: failed to verify certificate: x509: certificate has expired";
        assert_eq!(code(expired), Some((Code::DockerfileCertificate, host)));
        for answered in ["errors: denied: requested access to the resource is denied", "manifest unknown", "strange"] {
            assert_eq!(code(answered), None, "{answered}");
        }
    }
}
