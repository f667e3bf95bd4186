//! PURE: how a registry asks for credentials (`WWW-Authenticate`), and whether credentials may go where it points.

use url::Url;

use super::name::is_loopback;

/// What a registry's 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from `realm`, for `service`; the scope is ours to choose.
    Bearer {
        realm: Url,
        service: Option<String>,
    },
}

/// Why a challenge is not followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfollowed {
    #[error("it asks for credentials in a way that is neither Basic nor Bearer")]
    UnknownScheme,
    #[error("its token server's address cannot be read")]
    BadRealm,
    #[error("it points to a token server without TLS, where credentials would go in the clear")]
    InsecureRealm,
}

/// Reads one `WWW-Authenticate` value. `registry` is the URL that answered with it.
pub(super) fn parse(value: &str, registry: &Url) -> Result<Challenge, Unfollowed> {
    let (scheme, parameters) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Ok(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Unfollowed::UnknownScheme);
    }
    let (mut realm, mut service) = (None, None);
    for (name, value) in Parameters(parameters) {
        match name.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            _ => {}
        }
    }
    let realm = Url::parse(&realm.ok_or(Unfollowed::BadRealm)?).map_err(|_| Unfollowed::BadRealm)?;
    if !realm.username().is_empty() || realm.password().is_some() {
        return Err(Unfollowed::BadRealm);
    }
    if may_have_credentials(&realm, registry) { Ok(Challenge::Bearer { realm, service }) } else { Err(Unfollowed::InsecureRealm) }
}

/// TLS, or the registry's own host where it is itself spoken to without TLS, or this machine where the registry is on it too.
/// So a registry elsewhere cannot point at a service of this machine.
fn may_have_credentials(realm: &Url, registry: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(str::to_owned);
    match realm.scheme() {
        "https" => true,
        "http" => {
            let both_here = host(realm).is_some_and(|h| is_loopback(&h)) && host(registry).is_some_and(|h| is_loopback(&h));
            both_here || (registry.scheme() == "http" && host(realm) == host(registry))
        }
        _ => false,
    }
}

/// `name="value with \" and ,", name=value`
struct Parameters<'t>(&'t str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches([' ', ',', '\t']);
        let (name, rest) = rest.split_once('=')?;
        let name = name.trim().to_owned();
        let Some(quoted) = rest.strip_prefix('"') else {
            let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
            self.0 = rest;
            return Some((name, value.trim().to_owned()));
        };
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    return Some((name, value));
                }
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                c => value.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn challenge(value: &str, registry: &str) -> Result<Challenge, Unfollowed> {
        parse(value, &Url::parse(registry).unwrap())
    }
    fn bearer(realm: &str, service: &str) -> Result<Challenge, Unfollowed> {
        Ok(Challenge::Bearer { realm: Url::parse(realm).unwrap(), service: Some(service.into()) })
    }

    #[test]
    fn a_registry_may_ask_for_a_password_or_for_a_token() {
        assert_eq!(challenge("Basic realm=\"x\"", "https://r.example"), Ok(Challenge::Basic));
        assert_eq!(
            challenge(
                "Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:octo/s:pull,push\"",
                "https://ghcr.io"
            ),
            bearer("https://ghcr.io/token", "ghcr.io")
        );
        assert_eq!(
            challenge("bearer service=a\\b , realm=\"https://auth.docker.io/token\"", "https://registry-1.docker.io"),
            bearer("https://auth.docker.io/token", "a\\b")
        );
        assert_eq!(challenge("Negotiate", "https://r.example"), Err(Unfollowed::UnknownScheme));
        assert_eq!(challenge("Bearer service=\"x\"", "https://r.example"), Err(Unfollowed::BadRealm));
    }

    #[test]
    fn credentials_do_not_go_to_a_token_server_without_tls() {
        assert_eq!(challenge("Bearer realm=\"http://evil.example/t\"", "https://r.example"), Err(Unfollowed::InsecureRealm));
        assert_eq!(challenge("Bearer realm=\"http://r.example/t\"", "https://r.example"), Err(Unfollowed::InsecureRealm));
        assert_eq!(challenge("Bearer realm=\"http://127.0.0.1:80/t\"", "https://r.example"), Err(Unfollowed::InsecureRealm));
        assert_eq!(challenge("Bearer realm=\"file:///etc/passwd\"", "https://r.example"), Err(Unfollowed::InsecureRealm));
        assert_eq!(challenge("Bearer realm=\"https://me:pw@a.example/t\"", "https://r.example"), Err(Unfollowed::BadRealm));
    }

    #[test]
    fn a_token_server_without_tls_is_good_where_the_registry_has_none_either() {
        assert!(challenge("Bearer realm=\"http://127.0.0.1:81/t\"", "http://127.0.0.1:80/v2/").is_ok());
        assert!(challenge("Bearer realm=\"http://r.lan:81/t\"", "http://r.lan:80/v2/").is_ok());
        assert_eq!(challenge("Bearer realm=\"http://other.lan/t\"", "http://r.lan/v2/"), Err(Unfollowed::InsecureRealm));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_lets_credentials_out_in_the_clear(value in "(Bearer |Basic )?\\PC{0,80}") {
            if let Ok(Challenge::Bearer { realm, .. }) = challenge(&value, "https://r.example") {
                prop_assert_eq!(realm.scheme(), "https");
            }
        }
    }
}
