//! PURE: which environment values are no secrets, so that `NODE_ENV=production` does not star out half of a log.

use url::Url;

/// Environment values that are never masked, in any case of letters (as docs/security.md lists them). Beside these: names of cloud
/// regions, parts of the registry's, repository's and service's names, and URLs in which nothing can hide.
pub const COMMON_VALUES: &[&str] = &[
    // modes
    "production",
    "development",
    "staging",
    "testing",
    "preview",
    "sandbox",
    "default",
    "release",
    "stable",
    "latest",
    "master",
    // switches
    "enabled",
    "disabled",
    "enable",
    "disable",
    "always",
    "on-failure",
    "strict",
    "secure",
    "public",
    "private",
    "required",
    "optional",
    "inherit",
    "prefer",
    "require",
    "verify-full",
    "no-cache",
    // logging
    "verbose",
    "warning",
    "notice",
    "critical",
    "silent",
    "stdout",
    "stderr",
    "console",
    "pretty",
    // addresses
    "localhost",
    "127.0.0.1",
    "0.0.0.0",
    "host.docker.internal",
    // software
    "postgres",
    "postgresql",
    "mariadb",
    "mongodb",
    "sqlite",
    "sqlite3",
    "rabbitmq",
    "memcached",
    "database",
    "docker",
    "github",
    "gitlab",
    "google",
    "amazon",
    "python",
    "golang",
    "nodejs",
    "express",
    "nextjs",
    "laravel",
    "django",
    "alpine",
    "debian",
    "ubuntu",
    "server",
    "client",
    "worker",
    "backend",
    "frontend",
    "memory",
    "filesystem",
    "standalone",
    // platforms, encodings, formats
    "linux/amd64",
    "linux/arm64",
    "x86_64",
    "aarch64",
    "c.utf-8",
    "en_us.utf-8",
    "utf8mb4",
    "etc/utc",
    "application/json",
    "text/html",
    "bearer",
    "sha256",
    "sha512",
    "base64",
];

/// A path segment of a URL that is longer than this may be a token (web hooks have theirs there).
const MAX_PLAIN_SEGMENT: usize = 15;

/// Whether `value` may stand in a log as it is.
pub(super) fn is_public(value: &str, public_names: &[String]) -> bool {
    let folded = value.to_lowercase();
    let host =
        folded.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(&*folded, |(host, _)| host);
    COMMON_VALUES.contains(&&*folded)
        || COMMON_VALUES.contains(&host)
        || is_region(&folded)
        || public_names.iter().any(|name| name.contains(&folded))
        || url_of(value).is_some_and(|url| is_plain(&url))
}

/// `us-east-1`, `us-gov-west-1`, `ap-southeast-2`, `europe-west1`.
fn is_region(value: &str) -> bool {
    const DIRECTIONS: &[&str] =
        &["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"];
    let name = value.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = value.len() - name.len();
    let mut parts = name.strip_suffix('-').unwrap_or(name).rsplit('-');
    let (Some(direction), Some(area)) = (parts.next(), parts.next_back()) else { return false };
    matches!(digits, 1 | 2)
        && DIRECTIONS.contains(&direction)
        && (2..=12).contains(&area.len())
        && value.len() <= 24
        && area.bytes().all(|b| b.is_ascii_lowercase())
        && parts.all(|p| matches!(p, "gov" | "iso" | "isob" | "isoe" | "isof"))
}

/// The value as a URL with a host, `scheme://…`.
pub(super) fn url_of(value: &str) -> Option<Url> {
    if !value.contains("://") || value.contains(char::is_whitespace) {
        return None;
    }
    Url::parse(value).ok()
}

/// No user, no password, no query, no fragment, and no part of the path that is long enough for a token.
fn is_plain(url: &Url) -> bool {
    url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && url.path().split('/').all(|segment| segment.len() <= MAX_PLAIN_SEGMENT)
}
