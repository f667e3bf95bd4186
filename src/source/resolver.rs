//! Name resolution that never hands out a link-local or metadata address, whatever the name's owner put into DNS.

use std::fmt;
use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::site::is_forbidden;

/// The name has no address that may be asked.
#[derive(Debug)]
pub(super) struct ForbiddenAddress;

impl fmt::Display for ForbiddenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name resolves to a link-local or metadata address")
    }
}
impl std::error::Error for ForbiddenAddress {}

/// The system's resolver, filtered. The connection is made to the addresses that were checked, so a name that changes in between
/// changes nothing.
pub(super) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let named = found.len();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| !is_forbidden(a.ip())).collect();
            if allowed.is_empty() && named > 0 {
                return Err(Box::new(ForbiddenAddress) as Box<dyn std::error::Error + Send + Sync>);
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolved(name: &str) -> Result<usize, String> {
        let name: Name = name.parse().expect("a name");
        GuardedResolver.resolve(name).await.map(Iterator::count).map_err(|e| e.to_string())
    }

    /// The system's resolver takes numbers for names that stand for them, which no URL parser sees.
    #[tokio::test]
    async fn a_name_that_stands_for_a_metadata_address_is_not_resolved() {
        for name in
            ["2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376", "169.254.169.254", "::ffff:169.254.169.254"]
        {
            assert_eq!(
                resolved(name).await.err().as_deref(),
                Some("the name resolves to a link-local or metadata address"),
                "{name}"
            );
        }
        assert!(resolved("localhost").await.is_ok_and(|found| found > 0));
    }
}
