//! Why the certificate of a server is not believed, in words with a cure.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// Both parts are for people; `cause` goes on with a sentence that begins with the server's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateProblem {
    pub cause: String,
    pub cure: String,
}

/// How the operator names the server and whom it is to trust.
#[derive(Debug, Clone, Copy)]
pub struct ServerSettings<'a> {
    /// The settings that hold its address: `REDIS_URL or REDIS_HOST`.
    pub address: &'a str,
    /// Who is trusted: `that this host trusts`, `in REDIS_TLS_CA_FILE`.
    pub authorities: &'a str,
    /// What to do where none of those has signed it.
    pub own_authority: &'a str,
}

impl CertificateProblem {
    pub fn new(wrong: &CertificateError, host: &str, settings: ServerSettings) -> Self {
        let problem = |cause: &str, cure: &str| Self { cause: cause.to_owned(), cure: cure.to_owned() };
        match wrong {
            // BadSignature: the authority that is known has the name of the one that signed it, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => problem(
                &format!("has a certificate that no authority {} has signed", settings.authorities),
                settings.own_authority,
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => problem(
                &format!("has a certificate that is not for {host}{}", names(wrong)),
                &format!(
                    "Name it in {} as its certificate does, or give it one with this name as a subjectAltName.",
                    settings.address
                ),
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                problem("has a certificate that has expired", "Renew it, and check the clock of this host.")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                problem("has a certificate that is not valid yet", "Check the clock of this host, and that of the authority.")
            }
            CertificateError::Revoked => problem("has a certificate that was revoked", "Give it a new one."),
            // A certificate that signed itself as an authority, as `openssl req -x509` makes it.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => problem(
                "has the certificate of an authority as its own",
                "Make it without: openssl req -x509 … -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST",
            ),
            other => problem(&format!("has a certificate that cannot be accepted: {other}"), "Give it a valid one."),
        }
    }
}

/// The names that the certificate is for, as far as they are known.
fn names(wrong: &CertificateError) -> String {
    match wrong {
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            " (it has no subjectAltName)".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let some: Vec<_> = presented.iter().take(4).map(String::as_str).collect();
            format!(" but for {}", some.join(", "))
        }
        _ => String::new(),
    }
}

/// The error beneath. An [`io::Error`] hides the one that it wraps from `source`.
pub fn inner_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// What is wrong with a certificate, where that is what lies beneath `error`.
pub fn certificate_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e CertificateError> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(rustls::Error::InvalidCertificate(wrong)) = error.downcast_ref::<rustls::Error>() {
            return Some(wrong);
        }
        at = inner_error(error);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ServerSettings =
        ServerSettings { address: "API_URL", authorities: "that this host trusts", own_authority: "Set SSL_CERT_FILE." };

    #[test]
    fn each_way_in_which_a_certificate_is_wrong_has_a_cure_of_its_own() {
        for (wrong, cause, cure) in [
            (CertificateError::UnknownIssuer, "no authority that this host trusts", "SSL_CERT_FILE"),
            (CertificateError::Expired, "has expired", "Renew it"),
            (CertificateError::NotValidYet, "not valid yet", "clock"),
            (CertificateError::NotValidForName, "not for dashboard.example", "API_URL"),
            (CertificateError::Revoked, "revoked", "new one"),
            (CertificateError::BadEncoding, "cannot be accepted", "valid one"),
        ] {
            let problem = CertificateProblem::new(&wrong, "dashboard.example", SETTINGS);
            assert!(problem.cause.contains(cause) && problem.cure.contains(cure), "{problem:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_found_beneath_the_errors_that_hide_it() {
        let wrong = rustls::Error::InvalidCertificate(CertificateError::Expired);
        let hidden = io::Error::other(io::Error::other(wrong));
        assert_eq!(certificate_error(&hidden), Some(&CertificateError::Expired));
        assert_eq!(certificate_error(&io::Error::other("the connection was refused")), None);
    }
}
