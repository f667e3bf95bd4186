//! The AWS credentials that the SDK finds by itself (an instance's role, a container's, a profile's): masked from the moment they are there.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use secrecy::SecretString;

use crate::secrets::FetchedSecrets;

/// Credentials that do not say until when they are good are good for as long as their role allows.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Hands on what `provider` finds, once it is among the fetched secrets.
pub(super) struct Noting {
    pub(super) provider: SharedCredentialsProvider,
    pub(super) fetched: FetchedSecrets,
}

impl fmt::Debug for Noting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Noting")
    }
}

impl ProvideCredentials for Noting {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let found = self.provider.provide_credentials().await?;
            let texts = [Some(found.access_key_id()), Some(found.secret_access_key()), found.session_token()];
            let secrets = texts.into_iter().flatten().map(SecretString::from);
            let left = found.expiry().and_then(|at| at.duration_since(SystemTime::now()).ok());
            self.fetched.add(secrets, left.unwrap_or(LIFETIME));
            Ok(found)
        })
    }
}
