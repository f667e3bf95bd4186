//! PURE: what a git server's answer, libgit2's errors and the disk's mean for the user who pushed the code.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::resolver::{OutOfReach, UnknownName};
use super::site::{Site, out_of_reach};
use crate::peer::{inner_error, proxy_before};
use crate::protocol::{Code, Evidence, Failure, shorten};

/// What a response's head says, as far as its meaning depends on it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    /// Whether the request carried credentials.
    pub(super) authenticated: bool,
    /// The `Retry-After` header.
    pub(super) retry_after: Option<&'a str>,
    /// `X-RateLimit-Remaining: 0`: GitHub says 403 where others say 429.
    pub(super) rate_limited: bool,
}

/// A status that is neither success nor a redirect.
pub(super) fn refused(site: &Site, answer: Answer<'_>) -> Failure {
    let Site { host, repository } = site;
    let busy = |what: &str| {
        let wait = answer.retry_after.map(|t| format!(" and asks to wait {}", printable(t, 40))).unwrap_or_default();
        Failure::new(
            Code::GitUnreachable,
            format!("{host} {what}{wait} (HTTP {}).", answer.status),
            "The git server limits or fails requests for now; it is tried again.",
        )
        .by(Evidence::OfThisJob)
    };
    match answer.status {
        403 if answer.rate_limited || answer.retry_after.is_some() => busy("answers no more requests for now"),
        401 | 403 if answer.authenticated => Failure::new(
            Code::GitAuth,
            format!("{host} refused the credentials for {repository} (HTTP {}).", answer.status),
            "The token may have expired (tokens are not refreshed): connect the account again, or give it access.",
        ),
        401 | 403 => Failure::new(
            Code::GitAuth,
            format!("{host} asks for credentials for {repository}, and the job has none (HTTP {}).", answer.status),
            "The repository is private or does not exist: check its name, or give the job a token.",
        ),
        404 | 410 | 451 if answer.authenticated => Failure::new(
            Code::GitRepositoryNotFound,
            format!("{host} has no repository {repository}, or these credentials have no access to it (HTTP {}).", answer.status),
            "Check the repository's name and that the token may read it.",
        ),
        404 | 410 | 451 => Failure::new(
            Code::GitRepositoryNotFound,
            format!("{host} has no repository {repository}, or it is private (HTTP {}).", answer.status),
            "Check the repository's name; a private one needs a token.",
        ),
        407 => Failure::new(
            Code::GitUnreachable,
            format!("The HTTP proxy between this worker and {host} asks for credentials (HTTP 407)."),
            "Put the proxy's user and password into the worker's HTTPS_PROXY.",
        ),
        429 => busy("answers no more requests for now"),
        500..=599 => busy("answered with an error of its own"),
        status => Failure::new(
            Code::GitProtocol,
            format!("{host} answered a git request for {repository} with HTTP {status}."),
            "Check that the URL is a git repository's.",
        ),
    }
}

/// A request that got no response, or whose body broke off.
pub(super) fn unreachable(site: &Site, error: &reqwest::Error) -> Failure {
    let chain: Vec<&(dyn Error + 'static)> =
        std::iter::successors(Some(error as &(dyn Error + 'static)), |e| inner_error(*e)).collect();
    if let Some(OutOfReach(zone)) = chain.iter().find_map(|e| e.downcast_ref::<OutOfReach>()) {
        return out_of_reach(site, *zone);
    }
    let tls = chain.iter().find_map(|e| e.downcast_ref::<rustls::Error>());
    let innermost = chain.last().map(ToString::to_string).unwrap_or_default();
    let host = &site.host;
    if let Some(tls) = tls {
        let is_certificate = matches!(tls, rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented);
        return Failure::new(
            if is_certificate { Code::GitCertificate } else { Code::GitUnreachable },
            format!("The TLS connection to {host} failed: {}.", printable(&tls.to_string(), 200)),
            "Check the server's certificate, and that this worker's system trusts its issuer.",
        );
    }
    let proxy = error.url().and_then(proxy_before);
    if let (Some(proxy), true) = (proxy, error.is_connect()) {
        return Failure::new(
            Code::GitUnreachable,
            format!("The git server {host} cannot be reached through the proxy {proxy}: {}.", printable(&innermost, 200)),
            "Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY.",
        );
    }
    if chain.iter().any(|e| e.is::<UnknownName>()) {
        return Failure::new(
            Code::GitHostUnknown,
            format!("There is no git host named {host}: its name cannot be resolved."),
            "Check the spelling of the git host's name in the service's settings.",
        );
    }
    if error.is_dns() {
        return Failure::new(
            Code::GitUnreachable,
            format!("The name of the git host {host} cannot be resolved: {}.", printable(&innermost, 200)),
            "Check the host's name in the job, and this worker's DNS.",
        );
    }
    if error.is_connect() {
        return Failure::new(
            Code::GitUnreachable,
            format!("The git server {host} cannot be reached: {}.", printable(&innermost, 200)),
            "Check that the server is up and that this worker's network lets it through.",
        );
    }
    Failure::new(
        Code::GitUnreachable,
        format!("The connection to {host} broke off: {}.", printable(&innermost, 200)),
        "The git server or the network between ended the transfer; it is tried again.",
    )
    .by(Evidence::OfThisJob)
}

/// All that a job is told of a host in a private network that has not shown to be a git server: which ports are open there, and what
/// answers on them, is none of its business. Tried again, whatever it was: the server may be down for now.
pub(super) fn no_git_server(site: &Site) -> Failure {
    Failure::new(
        Code::GitUnreachable,
        format!("{} does not answer as a git server for {}.", site.host, site.repository),
        "It is in a private network, so no more is told: check URL, name and token. The worker's log has the reason.",
    )
    .by(Evidence::OfThisJob)
}

pub(super) fn stalled(site: &Site, idle: Duration) -> Failure {
    Failure::new(
        Code::GitStalled,
        format!("{} sent nothing for {} s.", site.host, idle.as_secs().max(1)),
        "The git server or the network stalls; it is tried again.",
    )
    .by(Evidence::OfThisJob)
}

pub(super) fn too_slow(site: &Site, min_rate: u64) -> Failure {
    Failure::new(
        Code::GitStalled,
        format!("{} sends less than {min_rate} bytes a second.", site.host),
        "The git server or the network is too slow; the least rate is GIT_MIN_RATE.",
    )
    .by(Evidence::OfThisJob)
}

pub(super) fn fetch_too_large(site: &Site, limit: u64) -> Failure {
    Failure::new(
        Code::SourceTooLarge,
        format!("Fetching {} took more than {limit} bytes.", site.repository),
        "Make the repository smaller, or raise MAX_FETCH_BYTES.",
    )
}

/// All that comes before a pack is kept in memory.
pub(super) fn too_much_before_the_pack(site: &Site, limit: u64) -> Failure {
    Failure::new(
        Code::SourceTooLarge,
        format!(
            "{} sent more than {} MiB of refs and other words before any content of {}.",
            site.host,
            limit >> 20,
            site.repository
        ),
        "Check that the URL is a git repository's; delete branches and tags that are no longer needed.",
    )
}

/// The server's answer is no git, or not git as we know it. `what` is our own word for it.
pub(super) fn not_understood(site: &Site, what: &str) -> Failure {
    Failure::new(
        Code::GitProtocol,
        format!("The answer of {} for {} could not be understood: {}.", site.host, site.repository, printable(what, 200)),
        "Check that the URL is a git repository's, served over smart HTTP.",
    )
}

pub(super) fn sha256_unsupported(site: &Site) -> Failure {
    Failure::new(
        Code::GitUnsupported,
        format!("{} names its objects by SHA-256, which is not supported.", site.repository),
        "Use a repository with SHA-1 object names (git's default).",
    )
}

pub(super) fn commit_gone(site: &Site, sha: &str, branch: &str) -> Failure {
    let short = sha.get(..12).unwrap_or(sha);
    Failure::new(
        Code::GitCommitGone,
        format!("{} has no commit {short} of {}, or no longer gives it out.", site.host, site.repository),
        format!("It may be force-pushed away from {}: deploy the newest commit.", shorten(branch, 40)),
    )
}

/// Our own files: the mirrors under `WORK_DIR/cache/git`.
pub(super) fn cache_io(what: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::StorageFull || error.kind() == io::ErrorKind::QuotaExceeded {
        return disk_full();
    }
    Failure::new(
        Code::WorkerInternal,
        format!("The git cache cannot be used: {what}: {error}."),
        "Check the rights and the disk of WORK_DIR/cache/git.",
    )
}

pub(super) fn disk_full() -> Failure {
    Failure::new(
        Code::WorkerDiskFull,
        "The disk of WORK_DIR is full: the repository cannot be fetched.",
        "Free space on the worker, or lower GIT_CACHE_MAX.",
    )
}

/// Why a fetch, or the walk of a tree, came to no end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Decided: told to the user as it is.
    Failed(Failure),
    /// The mirror, or what was just received into it, is not whole. A fresh one may help.
    Broken(String),
    /// The server said that it will not, or spoke something else than git: the mirror has no part in it.
    Remote(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure)
    }
}

impl From<git2::Error> for Trouble {
    fn from(error: git2::Error) -> Self {
        let message = error.message();
        if message.contains("No space left on device") || message.contains("Disk quota exceeded") {
            return Trouble::Failed(disk_full());
        }
        if error.class() == git2::ErrorClass::NoMemory
            || message.contains("overly large object")
            || message.contains("too many objects")
        {
            return Trouble::Failed(Failure::new(
                Code::SourceTooLarge,
                format!("The repository's pack needs more memory than a job may have ({}).", printable(message, 100)),
                "A file of hundreds of megabytes, or a million objects, is stored in it: take them out, also of its history.",
            ));
        }
        if error.class() == git2::ErrorClass::Net {
            return Trouble::Remote(message.to_owned());
        }
        Trouble::Broken(message.to_owned())
    }
}

/// Foreign text for one line of a log: control and direction characters replaced, cut after `max` characters.
pub(super) fn printable(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max * 4));
    for (at, c) in text.chars().enumerate() {
        if at == max {
            out.push('…');
            break;
        }
        let hidden = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}');
        out.push(if hidden { '\u{fffd}' } else { c });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::zone::Zone;
    use super::*;

    fn site() -> Site {
        Site { host: "github.com".into(), repository: "octo/hello".into() }
    }
    fn told(status: u16, authenticated: bool) -> Failure {
        refused(&site(), Answer { status, authenticated, ..Answer::default() })
    }

    #[test]
    fn a_refused_token_is_the_users_to_renew() {
        for status in [401, 403] {
            let failure = told(status, true);
            assert_eq!(failure.code, Code::GitAuth);
            assert!(failure.way_out.contains("tokens are not refreshed"), "{failure}");
            assert!(!failure.is_retryable());
        }
    }
    #[test]
    fn a_hidden_repository_asks_for_a_token_only_where_there_was_none() {
        assert!(told(404, false).way_out.contains("needs a token"));
        assert!(told(404, true).way_out.contains("may read it"));
        assert!(told(401, false).cause.contains("the job has none"));
    }
    #[test]
    fn a_busy_or_broken_server_is_tried_again() {
        for status in [429, 500, 502, 503] {
            assert!(told(status, true).is_retryable(), "{status}");
        }
        let limited = Answer { status: 403, authenticated: true, retry_after: Some("60"), rate_limited: true };
        let failure = refused(&site(), limited);
        assert!(failure.is_retryable());
        assert!(failure.cause.contains("wait 60"), "{failure}");
    }
    #[test]
    fn every_failure_names_the_host() {
        for status in [400, 401, 403, 404, 407, 410, 418, 429, 500] {
            assert!(told(status, true).cause.contains("github.com"), "{status}");
        }
    }
    #[test]
    fn a_failure_with_the_longest_names_is_told_with_its_cure() {
        let long = Site { host: format!("git.{}example:8443", "part.".repeat(40)), repository: "team/".repeat(40) + "hello" };
        let branch = "feature/".repeat(30) + "x";
        let statuses = [400, 401, 403, 404, 407, 410, 418, 429, 500];
        let answers = statuses.into_iter().flat_map(|status| [true, false].map(|authenticated| (status, authenticated)));
        let refusals = answers.map(|(status, authenticated)| {
            refused(&long, Answer { status, authenticated, retry_after: Some("120"), ..Answer::default() })
        });
        let others = [
            no_git_server(&long),
            stalled(&long, Duration::from_secs(30)),
            too_slow(&long, 1024),
            fetch_too_large(&long, 1 << 30),
            too_much_before_the_pack(&long, 64 << 20),
            not_understood(&long, &"what it says ".repeat(30)),
            sha256_unsupported(&long),
            commit_gone(&long, &"0123456789".repeat(4), &branch),
            out_of_reach(&long, Zone::Forbidden),
            out_of_reach(&long, Zone::Host),
            out_of_reach(&long, Zone::Private),
        ];
        for failure in refusals.chain(others) {
            let told = failure.within(191);
            assert!(told.chars().count() <= 191, "{told}");
            assert!(told.ends_with(&format!("[{}] {}", failure.code, failure.way_out)), "{told}");
            let last_word = failure.cause.rsplit(' ').next().unwrap_or_default();
            assert!(last_word.len() > 24 || told.contains(&format!("{last_word} [")), "{told}");
        }
    }
    #[test]
    fn foreign_text_cannot_forge_a_second_line_or_paint_the_terminal() {
        assert_eq!(printable("a\nb\x1b[31mc\u{202e}", 50), "a\u{fffd}b\u{fffd}[31mc\u{fffd}");
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
