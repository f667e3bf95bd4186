//! Whose certificates the worker believes when it speaks TLS to Redis.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// A file of certificates may be so long: the roots of a whole system take a quarter of it.
const CA_FILE_BYTES: u64 = 1024 * 1024;

/// Who may have signed the server's certificate.
#[derive(Debug, Clone)]
pub enum TlsTrust {
    /// The authorities that the host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured).
    System,
    /// Those of `REDIS_TLS_CA_FILE` and no other, as `redis-cli --cacert` has it: with an authority of one's own
    /// nobody else's certificate stands in for the server.
    Only(Vec<CertificateDer<'static>>),
}

impl TlsTrust {
    pub(super) fn of_file(path: &Path) -> Result<Self, String> {
        let size = std::fs::metadata(path).map_err(|e| format!("the file cannot be read: {e}"))?.len();
        if size > CA_FILE_BYTES {
            return Err("the file is larger than 1 MiB; that is no file of certificates".into());
        }
        let text = std::fs::read(path).map_err(|e| format!("the file cannot be read: {e}"))?;
        let certificates: Vec<_> =
            CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|e| format!("the file is damaged: {e}"))?;
        if certificates.is_empty() {
            return Err("the file holds no certificate. It has to be PEM (-----BEGIN CERTIFICATE-----); a DER file is \
                        converted by: openssl x509 -inform der -in FILE -out FILE.pem"
                .into());
        }
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|e| format!("the file holds a certificate that cannot be used: {e}"))?;
        }
        Ok(Self::Only(certificates))
    }
}
