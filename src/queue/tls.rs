//! TLS to Redis: whose certificates are believed, the handshake, and what its errors mean in words with a cure.

use std::io;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::TlsTrust;

/// What the handshakes of one queue share.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    /// The name that the certificate has to be for; a host name is also sent along (SNI), an address is not.
    name: ServerName<'static>,
    has_own_roots: bool,
}

/// Why TLS did not come about; both parts continue the sentence "Redis at … ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TlsProblem {
    pub(super) cause: String,
    pub(super) cure: String,
}

fn problem(cause: impl Into<String>, cure: impl Into<String>) -> TlsProblem {
    TlsProblem { cause: cause.into(), cure: cure.into() }
}

impl Tls {
    pub(super) fn new(host: &str, trust: &TlsTrust) -> Result<Self, TlsProblem> {
        let mut roots = RootCertStore::empty();
        match trust {
            TlsTrust::Only(certificates) => drop(roots.add_parsable_certificates(certificates.iter().cloned())),
            TlsTrust::System => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            return Err(problem(
                "cannot be asked by TLS: this host trusts no authority",
                "Install the package ca-certificates, or set REDIS_TLS_CA_FILE.",
            ));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            problem(
                "cannot be asked by TLS: its host is no name that a certificate can have",
                "Check the host of REDIS_URL or REDIS_HOST.",
            )
        })?;
        // The provider is named: with none installed for the process the default one panics.
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| problem(format!("cannot be asked by TLS: {e}"), "Report this as a defect of Slipway."))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name, has_own_roots: matches!(trust, TlsTrust::Only(_)) })
    }

    pub(super) async fn handshake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(self.config.clone()).connect(self.name.clone(), stream).await
    }

    /// What an error of the handshake or of the connection behind it means, where it is one of TLS.
    pub(super) fn explain(&self, error: &io::Error) -> Option<TlsProblem> {
        let error = error.get_ref()?.downcast_ref::<Error>()?;
        let host = self.name.to_str();
        Some(match error {
            Error::InvalidCertificate(wrong) => self.about_certificate(wrong, &host),
            Error::AlertReceived(
                AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure | AlertDescription::NoCertificate,
            ) => problem(
                format!("refused the TLS handshake: it probably wants a certificate of its clients ({error})"),
                "Client certificates are not supported: set tls-auth-clients no (or optional) in Redis, and a password.",
            ),
            Error::AlertReceived(_) => problem(
                format!("refused the TLS handshake ({error})"),
                "Check that its TLS is 1.2 or newer, and that it knows itself by the name in REDIS_URL or REDIS_HOST.",
            ),
            Error::InvalidMessage(_) => problem(
                "does not speak TLS on this port",
                "Write redis:// in REDIS_URL (or REDIS_TLS=false), or name its TLS port.",
            ),
            other => problem(format!("cannot be asked by TLS: {other}"), "Check its TLS settings."),
        })
    }

    fn about_certificate(&self, wrong: &CertificateError, host: &str) -> TlsProblem {
        match wrong {
            // BadSignature: the authority that is known has the name of the one that signed it, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature if self.has_own_roots => problem(
                "has a certificate that no authority in REDIS_TLS_CA_FILE has signed",
                "Put the certificate of the authority that signed it into that file (PEM).",
            ),
            CertificateError::UnknownIssuer | CertificateError::BadSignature => problem(
                "has a certificate that no authority that this host trusts has signed",
                "Set REDIS_TLS_CA_FILE to the certificate of the authority that signed it (PEM).",
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => problem(
                format!("has a certificate that is not for {host}{}", names(wrong)),
                "Name it in REDIS_URL or REDIS_HOST as its certificate does, or give it one with this name as a subjectAltName.",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                problem("has a certificate that has expired", "Renew it, and check the clock of this host.")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                problem("has a certificate that is not valid yet", "Check the clock of this host, and that of the authority.")
            }
            // A certificate that signed itself as an authority, as `openssl req -x509` makes it.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => problem(
                "has the certificate of an authority as its own",
                "Make it without: openssl req -x509 … -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:HOST",
            ),
            other => problem(format!("has a certificate that cannot be accepted: {other}"), "Give it a valid one."),
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
