//! PURE: the Engine's words for a push that failed → why, and what the user can do. The Engine answers 200 and fails in text.

use crate::protocol::{Code, Evidence, Failure};

/// Why the Engine says that a push failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token was good once. Renewing it helps.
    TokenExpired,
    /// No, or wrong, credentials.
    Unauthorized,
    /// The credentials are good and lack the right.
    Denied,
    /// The repository is not there and the registry does not make it.
    NoRepository,
    /// The repository's tags cannot be moved, and the tag is taken.
    TagTaken,
    Throttled,
    /// The way to the registry is barred by its certificate, or it speaks http where https is expected.
    Tls,
    Unreachable,
    /// The registry, or a proxy before it, does not take a layer of this size.
    TooLarge,
    /// The disk of the Engine's host is full.
    EngineDiskFull,
    /// The image vanished from the Engine.
    ImageGone,
    /// Anything else that the registry answered.
    Other,
}

/// The first line that matches counts; the more exact stand first.
const SIGNS: &[(&str, Refusal)] = &[
    ("authorization token has expired", Refusal::TokenExpired),
    ("token is expired", Refusal::TokenExpired),
    ("no basic auth credentials", Refusal::Unauthorized),
    ("incorrect username or password", Refusal::Unauthorized),
    ("authentication required", Refusal::Unauthorized),
    ("cannot be overwritten because the", Refusal::TagTaken),
    ("tag invalid", Refusal::TagTaken),
    ("name unknown", Refusal::NoRepository),
    ("repository does not exist", Refusal::NoRepository),
    ("toomanyrequests", Refusal::Throttled),
    ("too many requests", Refusal::Throttled),
    ("rate exceeded", Refusal::Throttled),
    ("unauthorized", Refusal::Unauthorized),
    ("denied", Refusal::Denied),
    ("not authorized to perform", Refusal::Denied),
    ("403 forbidden", Refusal::Denied),
    ("x509:", Refusal::Tls),
    ("tls:", Refusal::Tls),
    ("server gave http response to https client", Refusal::Tls),
    ("request entity too large", Refusal::TooLarge),
    ("error parsing http 413", Refusal::TooLarge),
    ("no space left on device", Refusal::EngineDiskFull),
    ("image does not exist locally", Refusal::ImageGone),
    ("no such image", Refusal::ImageGone),
    ("connection refused", Refusal::Unreachable),
    ("connection reset", Refusal::Unreachable),
    ("broken pipe", Refusal::Unreachable),
    ("no such host", Refusal::Unreachable),
    ("no route to host", Refusal::Unreachable),
    ("network is unreachable", Refusal::Unreachable),
    ("timeout", Refusal::Unreachable),
    ("deadline exceeded", Refusal::Unreachable),
    ("unexpected http status: 5", Refusal::Unreachable),
    ("error parsing http 5", Refusal::Unreachable),
    ("eof", Refusal::Unreachable),
];

impl Refusal {
    pub(super) fn of(text: &str) -> Refusal {
        let text = text.to_ascii_lowercase();
        SIGNS.iter().find(|(sign, _)| text.contains(sign)).map_or(Refusal::Other, |(_, refusal)| *refusal)
    }

    /// Whether fresh credentials may turn it: an ECR token that was taken back or has run out is refused in several words.
    pub(super) fn asks_for_fresh_credentials(self) -> bool {
        matches!(self, Refusal::TokenExpired | Refusal::Unauthorized)
    }

    /// `host` is the registry, `path` the repository there, `said` the Engine's words.
    pub(super) fn failure(self, host: &str, path: &str, said: &str) -> Failure {
        let said = one_line(said);
        match self {
            Refusal::TokenExpired | Refusal::Unauthorized => Failure::new(
                Code::RegistryDenied,
                format!("The registry {host} refused the credentials: {said}."),
                "Check the registry's user and password, or the AWS keys, of this worker.",
            ),
            Refusal::Denied => Failure::new(
                Code::RegistryDenied,
                format!("The registry {host} denied the push to {path}: {said}."),
                denied_way_out(&said),
            ),
            Refusal::NoRepository => Failure::new(
                Code::RegistryDenied,
                format!("The registry {host} has no repository {path}."),
                "Create it, or give this worker the right to.",
            ),
            Refusal::TagTaken => Failure::new(
                Code::RegistryDenied,
                format!("The repository {path} does not let a tag be written again: {said}."),
                "Push a new deployment, or make the repository's tags mutable.",
            ),
            Refusal::Throttled => Failure::new(
                Code::RegistryUnreachable,
                format!("The registry {host} asks for fewer requests: {said}."),
                "Wait a while, or raise the registry's limit.",
            ),
            Refusal::Tls => Failure::new(
                Code::RegistryUnreachable,
                format!("The Engine cannot speak TLS with the registry {host}: {said}."),
                "Install the registry's CA for the Engine (/etc/docker/certs.d), or list it in the Engine's insecure-registries.",
            ),
            Refusal::Unreachable => Failure::new(
                Code::RegistryUnreachable,
                format!("The registry {host} cannot be reached: {said}."),
                "Check that it runs, and the network and proxy of the Engine.",
            ),
            Refusal::TooLarge => Failure::new(
                Code::RegistryDenied,
                format!("The registry {host} does not take a layer of this size: {said}."),
                "Make the layer smaller, or raise the body limit of the registry or of the proxy before it.",
            ),
            Refusal::EngineDiskFull => Failure::new(
                Code::EngineDiskFull,
                format!("The push stopped because a disk is full: {said}."),
                "Free disk space of the Engine, or of the registry.",
            ),
            Refusal::ImageGone => Failure::new(
                Code::EngineError,
                "The built image is no longer in the Engine.".to_owned(),
                "Deploy again; if it recurs, see whether something else removes images on this host.",
            ),
            Refusal::Other => Failure::new(
                Code::RegistryUnreachable,
                format!("The push to {host} failed: {said}."),
                "See the registry's own log for the reason.",
            )
            .by(Evidence::Hearsay),
        }
    }
}

/// ECR names the missing right: "… is not authorized to perform: ecr:InitiateLayerUpload on resource: …".
fn denied_way_out(said: &str) -> String {
    let action =
        said.split_once("to perform: ").and_then(|(_, rest)| rest.split([' ', ',']).next()).filter(|action| action.contains(':'));
    match action {
        Some(action) => format!("Allow {action} for this worker's AWS identity."),
        None => "Give the registry's user the right to push to that repository.".to_owned(),
    }
}

/// At most 300 characters in one line without the full stop, so that it can stand inside a sentence.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let mut short: String = line.chars().take(300).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    short.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_engines_words_say_why_a_push_failed() {
        let cases = [
            ("unauthorized: authentication required", Refusal::Unauthorized),
            ("no basic auth credentials", Refusal::Unauthorized),
            ("unauthorized: incorrect username or password", Refusal::Unauthorized),
            ("denied: Your authorization token has expired. Reauthenticate and try again.", Refusal::TokenExpired),
            ("denied: requested access to the resource is denied", Refusal::Denied),
            (
                "denied: User: arn:aws:iam::1:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: y",
                Refusal::Denied,
            ),
            ("name unknown: The repository with name 'a/b' does not exist in the registry with id '1'", Refusal::NoRepository),
            (
                "tag invalid: The image tag 'x' already exists in the 'y' repository and cannot be overwritten because the repository is immutable.",
                Refusal::TagTaken,
            ),
            ("toomanyrequests: Rate exceeded", Refusal::Throttled),
            ("Get \"http://127.0.0.1:9/v2/\": dial tcp 127.0.0.1:9: connect: connection refused", Refusal::Unreachable),
            (
                "Get \"https://nosuch.invalid/v2/\": dial tcp: lookup nosuch.invalid on 9.9.9.9:53: no such host",
                Refusal::Unreachable,
            ),
            ("Get \"https://r/v2/\": net/http: TLS handshake timeout", Refusal::Unreachable),
            ("Get \"https://r/v2/\": dial tcp 10.0.0.1:443: i/o timeout", Refusal::Unreachable),
            ("received unexpected HTTP status: 503 Service Unavailable", Refusal::Unreachable),
            ("Put \"https://r/v2/x\": EOF", Refusal::Unreachable),
            ("Get \"https://r/v2/\": x509: certificate signed by unknown authority", Refusal::Tls),
            ("Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client", Refusal::Tls),
            ("error parsing HTTP 413 response body: invalid character '<'", Refusal::TooLarge),
            ("write /var/lib/docker/tmp/x: no space left on device", Refusal::EngineDiskFull),
            ("An image does not exist locally with the tag: r/x", Refusal::ImageGone),
            ("manifest invalid: manifest invalid", Refusal::Other),
        ];
        for (text, refusal) in cases {
            assert_eq!(Refusal::of(text), refusal, "{text}");
        }
    }

    #[test]
    fn a_missing_right_is_named_in_the_way_out() {
        let said = "denied: User: arn:aws:iam::1:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: y because no policy allows it";
        let failure = Refusal::of(said).failure("1.dkr.ecr.eu-west-1.amazonaws.com", "deployra/s", said);
        assert_eq!(failure.code, Code::RegistryDenied);
        assert!(failure.way_out.contains("ecr:InitiateLayerUpload"), "{failure}");
    }

    proptest! {
        #[test]
        fn every_failure_is_one_short_line_whatever_the_engine_says(said in "\\PC{0,600}|(.|\n){0,400}") {
            let failure = Refusal::of(&said).failure("r:5000", "octo/s", &said);
            prop_assert!(!failure.to_string().contains('\n'));
            prop_assert!(failure.to_string().chars().count() < 700);
        }
    }
}
