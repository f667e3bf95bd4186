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
use crate::peer::{CertificateProblem, ServerSettings};

/// The settings that hold Redis' address.
const ADDRESS: &str = "REDIS_URL or REDIS_HOST";

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
        let settings = match self.has_own_roots {
            true => ServerSettings {
                address: ADDRESS,
                authorities: "in REDIS_TLS_CA_FILE",
                own_authority: "Put the certificate of the authority that signed it into that file (PEM).",
            },
            false => ServerSettings {
                address: ADDRESS,
                authorities: "that this host trusts",
                own_authority: "Set REDIS_TLS_CA_FILE to the certificate of the authority that signed it (PEM).",
            },
        };
        let CertificateProblem { cause, cure } = CertificateProblem::new(wrong, host, settings);
        TlsProblem { cause, cure }
    }
}
