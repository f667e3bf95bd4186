//! The HTTP proxy that the environment puts before an address: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY, in either case.
//!
//! Clients find it by themselves; here it gets a name for the messages about a peer that cannot be reached.

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

/// Scheme, host and port of the proxy before `url`, without its login. `None`: it is asked directly.
pub fn proxy_before(url: &Url) -> Option<String> {
    proxy_by(&Matcher::from_env(), url)
}

fn proxy_by(matcher: &Matcher, url: &Url) -> Option<String> {
    let uri: Uri = url.as_str().parse().ok()?;
    let proxy = matcher.intercept(&uri)?;
    let uri = proxy.uri();
    let host = uri.host()?;
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{host}{port}", uri.scheme_str().unwrap_or("http")))
}

/// Whether the address is this machine's own: no proxy stands before it, whatever the environment says.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(url: &str) -> Option<String> {
        let matcher =
            Matcher::builder().https("http://user:secret@proxy.example:3128").http("10.0.0.1:8080").no(".lan,10.1.0.0/16");
        proxy_by(&matcher.build(), &url.parse().unwrap())
    }

    #[test]
    fn the_proxy_is_named_without_its_login_and_not_where_none_is_asked() {
        assert_eq!(proxy("https://dash.example/api").as_deref(), Some("http://proxy.example:3128"));
        assert_eq!(proxy("http://dash.example/api").as_deref(), Some("http://10.0.0.1:8080"));
        assert_eq!(proxy("https://dash.lan/api"), None);
        assert_eq!(proxy("http://10.1.2.3/api"), None);
    }

    #[test]
    fn this_machine_is_known_by_its_name_and_by_its_addresses() {
        let is = |url: &str| is_loopback(&url.parse().unwrap());
        assert!(
            ["http://127.0.0.1:3000", "http://127.9.9.9", "http://[::1]:3000/api", "http://localhost:3000"].into_iter().all(is)
        );
        assert!(!["http://10.0.0.1", "https://localhost.example", "http://0.0.0.0"].into_iter().any(is));
    }
}
