//! The certificates that this host trusts, for the phases that talk to the registry: what the operator installed counts there too.

use std::path::Path;

/// Where distributions keep the bundle.
const BUNDLES: [&str; 3] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// PEM. `None`: the lifecycle image's own count.
pub async fn host_certificates() -> Option<Vec<u8>> {
    for bundle in BUNDLES {
        match tokio::fs::read(Path::new(bundle)).await {
            Ok(bytes) => return Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(bundle, "the host's certificates cannot be read: {error}"),
        }
    }
    None
}
