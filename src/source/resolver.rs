//! Name resolution that hands out only addresses in the reach of the fetch that asks, whatever the name's owner put into DNS.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::reach::{DESTINATION, Destination};
use super::zone::{Zone, zone_here};

/// The name has no address that may be asked; the first that it has lies here.
#[derive(Debug)]
pub(super) struct OutOfReach(pub(super) Zone);

impl fmt::Display for OutOfReach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Zone::Forbidden => "the name resolves to a link-local or metadata address",
            Zone::Host => "the name resolves to an address of this worker's own host",
            Zone::Private => "the name resolves to an address in a private network",
            Zone::Public => "the name resolves to a public address",
        })
    }
}
impl std::error::Error for OutOfReach {}

/// The resolver answered that there is no such name. (One that does not answer, or fails, says something else: that passes.)
#[derive(Debug)]
pub(super) struct UnknownName(String);

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no host named {}", self.0)
    }
}
impl std::error::Error for UnknownName {}

/// Whether these words of the system's resolver mean that the name does not exist, or has no address (EAI_NONAME, EAI_NODATA), as glibc
/// and musl say it. The standard library keeps no number.
fn says_unknown(words: &str) -> bool {
    const WORDS: [&str; 4] = [
        "Name or service not known",
        "No address associated with hostname",
        "Name does not resolve",
        "Name has no usable address",
    ];
    WORDS.iter().any(|known| words.contains(known))
}

/// The system's resolver, filtered. The connection is made to the addresses that were checked, so a name that changes in between
/// changes nothing.
pub(super) struct GuardedResolver;

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        // Read here, where the request's own task calls: the lookup itself may run elsewhere.
        let destination = DESTINATION.try_with(Arc::clone).ok();
        Box::pin(async move { Ok(Box::new(admitted(name.as_str(), destination.as_deref()).await?.into_iter()) as Addrs) })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The addresses of `name` that may be connected to.
pub(super) async fn admitted(name: &str, destination: Option<&Destination>) -> Result<Vec<SocketAddr>, BoxError> {
    let admit = |address: &SocketAddr| match destination {
        Some(destination) if destination.is(name) => destination.admit(address.ip()),
        // A proxy's name: the operator chose it.
        Some(_) => out_of(zone_here(address.ip()), Zone::Host),
        // A request of no fetch: as if of a stranger.
        None => out_of(zone_here(address.ip()), Zone::Public),
    };
    let unknown = || Box::new(UnknownName(name.to_owned()));
    let found: Vec<SocketAddr> = match tokio::net::lookup_host((name, 0)).await {
        Ok(found) => found.collect(),
        Err(error) if says_unknown(&error.to_string()) => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    if found.is_empty() {
        return Err(unknown());
    }
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in found {
        match admit(&address) {
            Ok(()) => allowed.push(address),
            Err(zone) => refused = refused.or(Some(zone)),
        }
    }
    match refused {
        Some(zone) if allowed.is_empty() => Err(Box::new(OutOfReach(zone))),
        _ => Ok(allowed),
    }
}

fn out_of(zone: Zone, nearest: Zone) -> Result<(), Zone> {
    if zone == Zone::Forbidden || zone > nearest { Err(zone) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_is_not_there_is_unknown() {
        for words in ["failed to lookup address information: Name or service not known", "Name does not resolve"] {
            assert!(says_unknown(words), "{words}");
        }
        for words in [
            "failed to lookup address information: Temporary failure in name resolution",
            "Non-recoverable failure in name resolution",
            "Try again",
            "System error",
        ] {
            assert!(!says_unknown(words), "{words}");
        }
    }

    async fn resolved(name: &str) -> Result<usize, String> {
        admitted(name, None).await.map(|found| found.len()).map_err(|e| e.to_string())
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
    }

    #[tokio::test]
    async fn a_name_that_stands_for_this_host_is_not_resolved() {
        for name in ["localhost", "2130706433", "0x7f.1", "127.1", "0", "::1"] {
            assert_eq!(
                resolved(name).await.err().as_deref(),
                Some("the name resolves to an address of this worker's own host"),
                "{name}"
            );
        }
    }
}
