//! PURE: reads `REDIS_URL`: `redis://` or `rediss://` (TLS), user, password, host, port and database.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::{Host, Url};

/// What a URL says; what it leaves out may come from the other keys.
#[derive(Debug)]
pub(super) struct RedisUrl {
    pub(super) tls: bool,
    /// An IPv6 address stands without its brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) username: Option<String>,
    pub(super) password: Option<SecretString>,
    pub(super) database: Option<u32>,
}

/// The largest number that Redis takes for its `databases`.
pub(super) const MAX_DATABASE: u32 = 2_147_483_646;

const ENCODING: &str = "is not a URL such as redis://user:password@host:6379/0. In user and password the characters # / ? @ : % are written as %23 %2F %3F %40 %3A %25";

impl RedisUrl {
    /// The problem never repeats a part of the URL: it holds a password.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, _) = text.split_once("://").ok_or("does not begin with redis:// or rediss://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            s if s.contains("unix") || s.contains("socket") => {
                return Err("names a Unix socket, which is not supported. Let Redis listen on 127.0.0.1 too, and name that");
            }
            s if s.contains("sentinel") => {
                return Err("names a Sentinel, which is not supported. Name the primary, or an address that follows it");
            }
            s if s.contains("cluster") => {
                return Err(
                    "names a cluster, which is not supported as such. Name the node that owns the slot of REDIS_QUEUE_NAME",
                );
            }
            _ => return Err("does not begin with redis:// or rediss:// (TLS)"),
        };
        let url = Url::parse(text).map_err(|_| ENCODING)?;
        if url.fragment().is_some() {
            return Err(ENCODING);
        }
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => decoded(name)?,
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err("names no host"),
        };
        super::queue::redis_host(&host)?;
        if url.port() == Some(0) {
            return Err("names port 0");
        }
        let username = Some(decoded(url.username())?).filter(|name| !name.is_empty());
        let password = url.password().map(decoded).transpose()?.filter(|password| !password.is_empty());
        let (by_path, by_query) = (database_of_path(&url)?, database_of_query(&url)?);
        if by_path.is_some() && by_query.is_some_and(|db| by_path != Some(db)) {
            return Err("names two databases");
        }
        Ok(Self {
            tls,
            host,
            port: url.port(),
            username,
            password: password.map(SecretString::from),
            database: by_path.or(by_query),
        })
    }
}

fn database_of_path(url: &Url) -> Result<Option<u32>, &'static str> {
    match url.path().trim_start_matches('/') {
        "" => Ok(None),
        number => database(number).map(Some),
    }
}

fn database_of_query(url: &Url) -> Result<Option<u32>, &'static str> {
    let mut found = None;
    for (name, value) in url.query_pairs() {
        if name != "db" {
            return Err("has a parameter behind '?' that is not supported; only db is. (A ? in the password is written as %3F)");
        }
        found = Some(database(&value)?);
    }
    Ok(found)
}

pub(super) fn database(text: &str) -> Result<u32, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|n| plain && *n <= MAX_DATABASE)
        .ok_or("names a database that is no number. Redis numbers them: 0, 1, 2 … (a / in the password is written as %2F)")
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| "has a %-escape that is not UTF-8 text")?;
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn parts(text: &str) -> (bool, String, Option<u16>, Option<String>, Option<String>, Option<u32>) {
        let url = RedisUrl::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
        let password = url.password.map(|p| p.expose_secret().to_owned());
        (url.tls, url.host, url.port, url.username, password, url.database)
    }

    #[test]
    fn a_url_gives_host_port_user_password_database_and_whether_it_is_tls() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("redis://cache"), (false, "cache".into(), None, None, None, None));
        assert_eq!(parts("rediss://cache:6380/2"), (true, "cache".into(), Some(6380), None, None, Some(2)));
        assert_eq!(
            parts("REDISS://me:p%40ss%2Fw%25rd%23@10.0.0.7/0"),
            (true, "10.0.0.7".into(), None, some("me"), some("p@ss/w%rd#"), Some(0))
        );
        assert_eq!(parts("redis://:pw@[::1]:7000/"), (false, "::1".into(), Some(7000), None, some("pw"), None));
        assert_eq!(parts("redis://:p@ss@h?db=3"), (false, "h".into(), None, None, some("p@ss"), Some(3)));
        assert_eq!(parts("redis://:@h/4?db=4"), (false, "h".into(), None, None, None, Some(4)));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_cure_and_without_the_password() {
        for (text, cure) in [
            ("cache:6379", "rediss://"),
            ("http://cache", "rediss://"),
            ("redis://:pa#ss@cache", "%23"),
            ("redis://:hunter22/x@cache", "%2F"),
            ("redis://:hunter22@cache/prod", "number"),
            ("redis://:hunter22@cache/-1", "number"),
            ("redis://cache/1?db=2", "two databases"),
            ("redis://cache?ssl_cert_reqs=none", "not supported"),
            ("redis://:hunter22@/2", ""),
            ("redis:///2", "no host"),
            ("redis://cache:70000", ""),
            ("redis://cache:0", "port 0"),
            ("redis://:%ff@cache", "UTF-8"),
            ("unix:///run/redis.sock", "Unix socket"),
            ("redis+unix:///run/redis.sock", "Unix socket"),
            ("redis+sentinel://cache:26379/mymaster", "Sentinel"),
        ] {
            let problem = RedisUrl::parse(text).expect_err(text);
            assert!(problem.contains(cure) && !problem.contains("hunter22"), "{text}: {problem}");
        }
    }
}
