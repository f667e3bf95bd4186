//! PURE: the Engine's words for a push that failed → why, and what the user can do. The Engine answers 200 and fails in text.

use crate::protocol::{Code, Evidence, Failure, RegistryType};

/// Why the Engine says that a push failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token was good once. Renewing it helps.
    TokenExpired,
    /// No, or wrong, credentials.
    Unauthorized,
    /// The credentials are good and lack the right.
    Denied,
    /// The repository, or the project above it, is not there and the registry does not make it.
    NoRepository,
    /// The registry takes no such name for a repository: most want an owner or a project before it.
    BadName,
    /// The repository's tags cannot be moved, and the tag is taken.
    TagTaken,
    Throttled,
    /// It speaks http where the Engine expects https.
    PlainHttp,
    /// Nobody that the Engine trusts has signed the certificate.
    UntrustedCertificate,
    /// The certificate is for another name.
    OtherCertificate,
    /// The certificate has run out, or begins in the future.
    ExpiredCertificate,
    Unreachable,
    /// Its name does not exist, or no DNS answers for now.
    UnknownHost,
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
    ("image does not exist locally", Refusal::ImageGone),
    ("no such image", Refusal::ImageGone),
    ("name unknown", Refusal::NoRepository),
    ("name_unknown", Refusal::NoRepository),
    ("unexpected http status: 404", Refusal::NoRepository),
    ("error parsing http 404", Refusal::NoRepository),
    ("name invalid", Refusal::BadName),
    ("name_invalid", Refusal::BadName),
    ("invalid repository name", Refusal::BadName),
    ("unexpected http status: 400", Refusal::BadName),
    ("error parsing http 400", Refusal::BadName),
    ("toomanyrequests", Refusal::Throttled),
    ("too many requests", Refusal::Throttled),
    ("rate exceeded", Refusal::Throttled),
    ("unauthorized", Refusal::Unauthorized),
    ("denied", Refusal::Denied),
    ("not authorized to perform", Refusal::Denied),
    ("403 forbidden", Refusal::Denied),
    ("certificate has expired or is not yet valid", Refusal::ExpiredCertificate),
    ("x509: certificate is valid for", Refusal::OtherCertificate),
    ("x509: certificate is not valid for any names", Refusal::OtherCertificate),
    ("doesn't contain any ip sans", Refusal::OtherCertificate),
    ("relies on legacy common name", Refusal::OtherCertificate),
    ("x509:", Refusal::UntrustedCertificate),
    ("server gave http response to https client", Refusal::PlainHttp),
    ("request entity too large", Refusal::TooLarge),
    ("error parsing http 413", Refusal::TooLarge),
    ("no space left on device", Refusal::EngineDiskFull),
    ("connection refused", Refusal::Unreachable),
    ("connection reset", Refusal::Unreachable),
    ("broken pipe", Refusal::Unreachable),
    ("no such host", Refusal::UnknownHost),
    ("no route to host", Refusal::Unreachable),
    ("network is unreachable", Refusal::Unreachable),
    ("timeout", Refusal::Unreachable),
    ("deadline exceeded", Refusal::Unreachable),
    // An alert of the TLS layer: a proxy that is being restarted sends them too.
    ("tls:", Refusal::Unreachable),
    ("unexpected http status: 5", Refusal::Unreachable),
    ("error parsing http 5", Refusal::Unreachable),
    ("eof", Refusal::Unreachable),
];

/// What registries call the thing above a repository that they miss ("project octo not found"), and how they say that.
const MISSED: &[&str] = &["project", "repository", "namespace", "organization", "owner", "group", "registry"];
const MISSING: &[&str] = &["not found", "does not exist", "not_found", "not known"];

/// Harbor says so behind "unauthorized:", others behind "denied:" or "unknown:".
fn says_missing(text: &str) -> bool {
    let words = |text: &str| -> Vec<String> { text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect() };
    MISSING.iter().filter_map(|missing| text.split_once(missing)).any(|(before, after)| {
        let near = words(before.rsplit([':', ',', ';']).next().unwrap_or_default());
        let next = words(after.split([':', ',', ';']).next().unwrap_or_default());
        near.iter().chain(&next).any(|word| MISSED.contains(&word.as_str()))
    })
}

impl Refusal {
    pub(super) fn of(text: &str) -> Refusal {
        let text = text.to_ascii_lowercase();
        let said = SIGNS.iter().find(|(sign, _)| text.contains(sign)).map_or(Refusal::Other, |(_, refusal)| *refusal);
        match said {
            Refusal::Unauthorized | Refusal::Denied | Refusal::Other if says_missing(&text) => Refusal::NoRepository,
            said => said,
        }
    }

    /// Whether it stays so until somebody changes a setting, here or at the registry.
    pub(super) fn is_settled(self) -> bool {
        matches!(self, Refusal::NoRepository | Refusal::BadName | Refusal::Denied)
    }

    /// Whether fresh credentials may turn it: an ECR token that was taken back or has run out is refused in several words.
    pub(super) fn asks_for_fresh_credentials(self) -> bool {
        matches!(self, Refusal::TokenExpired | Refusal::Unauthorized)
    }

    /// `host` is the registry, of which `kind`, `path` the repository there, `said` the Engine's words. Cause and way out fit into
    /// what the dashboard shows, so most leave those words out: the log has them.
    pub(super) fn failure(self, kind: RegistryType, host: &str, path: &str, said: &str) -> Failure {
        let (host, path) = (cut(host, 50), cut(path, 40));
        let prefix = match kind {
            RegistryType::Ecr => "ECR_REPOSITORY_PREFIX",
            RegistryType::Ghcr | RegistryType::Docker => "REGISTRY_REPOSITORY_PREFIX",
        };
        let (code, cause, way_out) = match self {
            Refusal::TokenExpired | Refusal::Unauthorized => (
                Code::RegistryDenied,
                format!("The registry {host} refused the credentials."),
                match kind {
                    RegistryType::Ecr => "Check the AWS keys of this worker.".to_owned(),
                    _ => "Check its user and password (REGISTRY_USERNAME, REGISTRY_PASSWORD).".to_owned(),
                },
            ),
            Refusal::Denied => {
                (Code::RegistryDenied, format!("The registry {host} denied the push to {path}."), denied_way_out(said, prefix))
            }
            Refusal::NoRepository if kind == RegistryType::Ecr => (
                Code::RegistryDenied,
                format!("The registry {host} has no repository {path}."),
                "Create it, or give this worker the right to.".to_owned(),
            ),
            Refusal::NoRepository => (
                Code::RegistrySettings,
                format!("The registry {host} has no place for {path}."),
                format!("Create its project there, or correct {prefix}."),
            ),
            Refusal::BadName => (
                Code::RegistrySettings,
                format!("The registry {host} refuses the name {path}."),
                format!("Correct {prefix}: most want owner/ or project/."),
            ),
            Refusal::TagTaken => (
                Code::RegistryDenied,
                format!("The repository {path} does not let a tag be written again."),
                "Push a new deployment, or make the repository's tags mutable.".to_owned(),
            ),
            Refusal::Throttled => (
                Code::RegistryUnreachable,
                format!("The registry {host} asks for fewer requests."),
                "Wait a while, or raise the registry's limit.".to_owned(),
            ),
            Refusal::PlainHttp => (
                Code::RegistrySettings,
                format!("The registry {host} speaks http, not https."),
                "List it in the Engine's insecure-registries, and set REGISTRY_INSECURE=true.".to_owned(),
            ),
            Refusal::UntrustedCertificate => (
                Code::RegistrySettings,
                format!("The Engine does not trust the certificate of the registry {host}."),
                "Put its CA into /etc/docker/certs.d/HOST:PORT/ca.crt.".to_owned(),
            ),
            Refusal::OtherCertificate => (
                Code::RegistrySettings,
                format!("The certificate of the registry {host} is for another name."),
                "Set REGISTRY_HOST to a name that is in it, or renew it.".to_owned(),
            ),
            Refusal::ExpiredCertificate => (
                Code::RegistrySettings,
                format!("The certificate of the registry {host} is not valid now."),
                "Renew it, or correct this host's clock.".to_owned(),
            ),
            Refusal::UnknownHost => (
                Code::RegistryUnreachable,
                format!("The name of the registry {host} cannot be resolved."),
                format!(
                    "Check {}, and the Engine's DNS.",
                    match kind {
                        RegistryType::Ecr => "AWS_REGION and ECR_REGISTRY_HOST",
                        RegistryType::Ghcr | RegistryType::Docker => "REGISTRY_HOST",
                    }
                ),
            ),
            Refusal::Unreachable => (
                Code::RegistryUnreachable,
                format!("The registry {host} cannot be reached: {}.", reason(said)),
                "Check that it runs, and the network and proxy of the Engine.".to_owned(),
            ),
            Refusal::TooLarge => (
                Code::RegistryDenied,
                format!("The registry {host} does not take a layer of this size."),
                "Make the layer smaller, or raise the body limit of the registry or proxy.".to_owned(),
            ),
            Refusal::EngineDiskFull => (
                Code::EngineDiskFull,
                "The push stopped because a disk is full.".to_owned(),
                "Free disk space of the Engine, or of the registry.".to_owned(),
            ),
            Refusal::ImageGone => (
                Code::EngineError,
                "The built image is no longer in the Engine.".to_owned(),
                "Deploy again; if it recurs, see whether something else removes images on this host.".to_owned(),
            ),
            Refusal::Other => (
                Code::RegistryUnreachable,
                format!("The push to {host} failed: {}.", one_line(said)),
                "See the registry's own log for the reason.".to_owned(),
            ),
        };
        let failure = Failure::new(code, cause, way_out);
        if self == Refusal::Other { failure.by(Evidence::Hearsay) } else { failure }
    }
}

/// What stands behind the addresses in a client's words: `dial tcp 10.0.0.1:443: connect: connection refused`.
fn reason(said: &str) -> String {
    let line = one_line(said);
    cut(line.rsplit(": ").next().unwrap_or(&line), 40)
}

fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max { text.to_owned() } else { text.chars().take(max - 1).chain(['…']).collect() }
}

/// ECR names the missing right: "… is not authorized to perform: ecr:InitiateLayerUpload on resource: …".
fn denied_way_out(said: &str, prefix: &str) -> String {
    let action =
        said.split_once("to perform: ").and_then(|(_, rest)| rest.split([' ', ',']).next()).filter(|action| action.contains(':'));
    match action {
        Some(action) => format!("Allow {action} for this worker's AWS identity."),
        None => format!("Give its user that right, or correct {prefix}."),
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
                Refusal::UnknownHost,
            ),
            ("Get \"https://r/v2/\": net/http: TLS handshake timeout", Refusal::Unreachable),
            ("Get \"https://r/v2/\": dial tcp 10.0.0.1:443: i/o timeout", Refusal::Unreachable),
            ("received unexpected HTTP status: 503 Service Unavailable", Refusal::Unreachable),
            ("Put \"https://r/v2/x\": EOF", Refusal::Unreachable),
            ("Get \"https://r/v2/\": x509: certificate signed by unknown authority", Refusal::UntrustedCertificate),
            (
                "Get \"https://r/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                Refusal::UntrustedCertificate,
            ),
            (
                "Get \"https://r/v2/\": x509: certificate has expired or is not yet valid: current time 2026-01-01T00:00:00Z is after 2025",
                Refusal::ExpiredCertificate,
            ),
            ("Get \"https://r/v2/\": x509: certificate is valid for a.example, not r", Refusal::OtherCertificate),
            (
                "Get \"https://10.0.0.1/v2/\": x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
                Refusal::OtherCertificate,
            ),
            ("Get \"https://r/v2/\": remote error: tls: internal error", Refusal::Unreachable),
            ("Get \"https://r/v2/\": http: server gave HTTP response to HTTPS client", Refusal::PlainHttp),
            // Harbor, of several versions
            ("unauthorized: project octo not found: project octo not found", Refusal::NoRepository),
            ("unknown: project octo not found", Refusal::NoRepository),
            // GitLab, DigitalOcean, Google, GHCR
            ("denied: project not found", Refusal::NoRepository),
            ("denied: registry does not exist", Refusal::NoRepository),
            ("name unknown: Repository \"x\" not found", Refusal::NoRepository),
            ("denied: not_found: owner not found", Refusal::NoRepository),
            ("error parsing HTTP 404 response body: invalid character '<' looking for beginning of value", Refusal::NoRepository),
            ("received unexpected HTTP status: 404 Not Found", Refusal::NoRepository),
            ("name invalid: invalid repository name", Refusal::BadName),
            ("error parsing HTTP 400 response body: no error details found in HTTP response body", Refusal::BadName),
            ("denied: installation not allowed to Create organization package", Refusal::Denied),
            ("unauthorized: access to the requested resource is not authorized", Refusal::Unauthorized),
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
        let failure = Refusal::of(said).failure(RegistryType::Ecr, "1.dkr.ecr.eu-west-1.amazonaws.com", "deployra/s", said);
        assert_eq!(failure.code, Code::RegistryDenied);
        assert!(failure.way_out.contains("ecr:InitiateLayerUpload"), "{failure}");
    }

    #[test]
    fn cause_and_cure_fit_into_what_the_dashboard_shows() {
        use Refusal::*;
        let said = "denied: something that goes on for a long time, as registries' words do ".repeat(5);
        let (ecr, other) = ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", "registry.build.example.com:5000");
        for refusal in [
            TokenExpired,
            Unauthorized,
            Denied,
            NoRepository,
            BadName,
            TagTaken,
            Throttled,
            PlainHttp,
            UntrustedCertificate,
            OtherCertificate,
            ExpiredCertificate,
            Unreachable,
            UnknownHost,
            TooLarge,
            EngineDiskFull,
            ImageGone,
        ] {
            for (kind, host) in [(RegistryType::Ecr, ecr), (RegistryType::Docker, other)] {
                let failure = refusal.failure(kind, host, "deployra/k3j5h2k4j5h6k7j8h9l0", &said);
                assert_eq!(failure.within(191), failure.to_string(), "{refusal:?}: {} characters", failure.to_string().len());
            }
        }
    }

    #[test]
    fn a_registry_whose_name_is_mistyped_is_told_with_the_setting_that_holds_it() {
        let said = "Get \"https://regsitry.lan/v2/\": dial tcp: lookup regsitry.lan on 10.0.0.2:53: no such host";
        let failure = Refusal::of(said).failure(RegistryType::Docker, "regsitry.lan", "octo/svc", said);
        assert!(failure.code == Code::RegistryUnreachable && failure.way_out.contains("REGISTRY_HOST"), "{failure}");
    }

    #[test]
    fn the_operators_settings_are_named_and_not_tried_again() {
        let failure = |said: &str| Refusal::of(said).failure(RegistryType::Docker, "registry.lan:5000", "octo/svc", said);
        let missing = failure("unauthorized: project octo not found");
        assert!(missing.code == Code::RegistrySettings && missing.way_out.contains("REGISTRY_REPOSITORY_PREFIX"), "{missing}");
        let invalid = failure("name invalid: invalid repository name");
        assert!(invalid.code == Code::RegistrySettings && invalid.way_out.contains("REGISTRY_REPOSITORY_PREFIX"), "{invalid}");
        let plain = failure("Get \"https://registry.lan:5000/v2/\": http: server gave HTTP response to HTTPS client");
        assert!(plain.way_out.contains("insecure-registries") && plain.way_out.contains("REGISTRY_INSECURE"), "{plain}");
        assert_eq!(plain.code, Code::RegistrySettings);
    }

    proptest! {
        #[test]
        fn every_failure_is_one_short_line_whatever_the_engine_says(said in "\\PC{0,600}|(.|\n){0,400}") {
            let failure = Refusal::of(&said).failure(RegistryType::Docker, "r:5000", "octo/s", &said);
            prop_assert!(!failure.to_string().contains('\n'));
            prop_assert!(failure.to_string().chars().count() < 700);
        }
    }
}
