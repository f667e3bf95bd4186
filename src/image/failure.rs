//! PURE: what BuildKit and the Engine say when a build fails → [`Failure`].
//!
//! Neither has error codes on this API: the text is all there is. The wordings are those of the Engines 20.10 to 28
//! (BuildKit 0.8 to 0.21); the tests hold each of them as it was seen.

use super::remote_host::remote_host;
use super::{missing, newer_syntax};
use crate::context::Absence;
use crate::protocol::{Code, Evidence, Failure, safe_line, shorten};

/// The step that failed, by BuildKit's status events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedStep {
    /// As BuildKit names it: `[2/4] RUN npm ci`.
    pub name: String,
    pub error: String,
    /// Its output says that it looked for a Git repository.
    pub wanted_git: bool,
}

/// What the words are held against.
pub struct Build<'a> {
    pub dockerfile: &'a [u8],
    /// Why a path is not in the build context.
    pub absence: &'a dyn Fn(&str) -> Absence,
}

impl Build<'static> {
    /// Of a build that reads no repository.
    pub const UNKNOWN: Self = Self { dockerfile: b"", absence: &|_| Absence::Unknown };
}

/// What the dashboard shows of a failure.
const TOLD: usize = 191;
/// A step is never cut to less, so that it is recognised.
const MIN_STEP: usize = 20;

/// Causes are cut to so many characters; the whole of it stands in the log.
const MAX_QUOTE: usize = 300;

// all of these are looked for in lower-case text
const DISK_FULL: &[&str] = &["no space left on device", "disk quota exceeded"];
const ENGINE_LOST: &[&str] = &[
    "no active session",
    "transport is closing",
    "client connection is closing",
    "error reading from server",
    "containerd.sock",
    "daemon is shutting down",
    "no http response from session",
];
const PARSE_ERROR: &str = "dockerfile parse error";
const SYNTAX: &[&str] = &[
    PARSE_ERROR,
    "failed to parse",
    "unknown instruction",
    "no build stage in current context",
    "cannot be empty",
    "file with no instructions",
    "syntax error",
    "unknown flag",
    "circular dependency",
    "requires at least",
    "requires exactly",
    "requires either",
    "failed to process",
    "invalid field",
    "invalid from flag",
    "invalid reference format",
    "invalid containerport",
    "repository name must be lowercase",
    "missing ':' in substitution",
    "duplicate name",
    "unexpected end of statement",
    "should not be blank",
];
const UNREACHABLE: &[&str] = &[
    "dial tcp",
    "no such host",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "tls handshake",
    "x509:",
    "unexpected eof",
    ": eof",
    "client.timeout",
    "request canceled",
    "deadline exceeded",
    "server misbehaving",
    "network is unreachable",
    "no route to host",
    "server gave http response",
    "toomanyrequests",
    "too many requests",
    "proxyconnect",
];
const CERTIFICATE: &[&str] = &["x509:", "failed to verify certificate", "tls: bad certificate"];
const REFUSED: &[&str] = &[
    "pull access denied",
    "insufficient_scope",
    "authorization failed",
    "unauthorized",
    "authentication required",
    "denied: ",
    "no basic auth credentials",
    "failed to fetch anonymous token",
    "failed to fetch oauth token",
    "failed to authorize",
];
const NOT_FOUND: &[&str] = &["not found", "manifest unknown", "name unknown", "does not exist"];
const NO_PLATFORM: &[&str] = &["no match for platform", "does not match the specified platform", "no matching manifest"];
/// Messages that speak of a registry though no step is named.
const REMOTE: &[&str] =
    &["failed to do request", "failed to resolve source metadata", "httpreadseeker", "pull access denied", "toomanyrequests"];
/// What BuildKit wraps an error in on its way to us.
const WRAPPING: &[&str] =
    &["failed to solve: ", "failed to create LLB definition: ", "failed to load cache key: ", "failed to compute cache key: "];
const WRAPPING_WITH_A_NAME: &[&str] = &["failed to solve with frontend ", "rpc error: code = "];

/// The exit code of a RUN step, where `error` tells of one: `executor failed running [/bin/sh -c x]: exit code: 3` until BuildKit 0.8,
/// `process "/bin/sh -c x" did not complete successfully: exit code: 3` since.
pub fn exit_code(error: &str) -> Option<u32> {
    if !error.contains("executor failed running") && !error.contains("did not complete successfully") {
        return None;
    }
    let (_, after) = error.rsplit_once("exit code: ")?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).map_or(after, |end| &after[..end]);
    digits.parse().ok()
}

/// What the build's end says, with the step that failed if one did.
pub fn classify(message: &str, step: Option<&FailedStep>, build: &Build) -> Failure {
    // the step's own error is the message without its wrapping; there is none where BuildKit never began
    let error = step.map_or(message, |step| step.error.as_str());
    let name = step.map_or("", |step| step.name.as_str());
    let all = format!("{message}\n{error}").to_lowercase();

    if let Some(code) = exit_code(error).or_else(|| exit_code(message)) {
        return step_failed(name, error, code, step.is_some_and(|step| step.wanted_git));
    }
    if has(&all, DISK_FULL) {
        return Failure::new(
            Code::EngineDiskFull,
            "The Docker Engine has no disk space left.",
            "Free space on the build host, or lower BUILD_CACHE_MAX.",
        );
    }
    let specific = secret_missing(error, message)
        .or_else(|| ssh_agent(name, &all))
        .or_else(|| not_allowed(&all))
        .or_else(|| missing::missing(name, error, message, build))
        .or_else(|| remote(name, error, &all));
    if let Some(failure) = specific {
        return failure;
    }
    // It quotes the Dockerfile, which may say anything.
    if all.contains(PARSE_ERROR) {
        return syntax(message, build.dockerfile);
    }
    if has(&all, ENGINE_LOST) || error.ends_with("context canceled") {
        // A frontend of the job's choice can say so too.
        return engine_lost(&quote(error)).by(Evidence::Hearsay);
    }
    if has(&all, SYNTAX) {
        return syntax(message, build.dockerfile);
    }
    if step.is_some_and(|step| !step.name.starts_with("exporting")) || message.contains("frontend dockerfile") {
        return Failure::new(
            Code::DockerfileBuild,
            match name.is_empty() {
                true => format!("BuildKit refused the build: {}", quote(error)),
                false => format!("{} failed: {}", quote(step_text(name)), quote(error)),
            },
            "Build it with `docker build` on your own machine to see the same.",
        );
    }
    engine_error(message)
}

/// The stream ended, or the connection broke, before the build had a result.
pub fn engine_lost(detail: &str) -> Failure {
    Failure::new(
        Code::EngineLost,
        format!("The Docker Engine went away in the middle of the build: {detail}"),
        "The build is tried again.",
    )
}

/// The Engine, or what stands before it, answered with an HTTP error.
pub fn engine_answered(status: u16, message: &str) -> Failure {
    match status {
        429 | 502..=504 => Failure::new(
            Code::EngineUnreachable,
            format!("The Docker Engine takes no requests: {}", quote(message)),
            "See the Engine's log on the build host (journalctl -u docker).",
        ),
        _ => engine_error(message),
    }
}

/// The Engine's own error, none of the Dockerfile's.
pub fn engine_error(message: &str) -> Failure {
    Failure::new(
        Code::EngineError,
        format!("The Docker Engine failed: {}", quote(message)),
        "See the Engine's log on the build host (journalctl -u docker).",
    )
}

fn step_failed(name: &str, error: &str, code: u32, wanted_git: bool) -> Failure {
    let from_error = || {
        let command = between(error, "executor failed running [", "]: exit code")
            .or_else(|| between(error, "process \"", "\" did not complete"))?;
        Some(format!("RUN {}", command.strip_prefix("/bin/sh -c ").unwrap_or(command)))
    };
    let named = Some(step_text(name).to_owned()).filter(|text| !text.is_empty());
    let command = named.or_else(from_error).unwrap_or_else(|| "A RUN step".to_owned());
    if wanted_git {
        let rest = format!(" ended with exit code {code}: it looked for a Git repository.");
        let way_out = ".git is never in the build context: give the build its version by a file or a variable.";
        return within(Code::DockerfileStepFailed, &command, &rest, way_out);
    }
    let way_out = match code {
        126 => "The command is no program, or may not be executed: see its permissions and first line.",
        127 => "The command was not found in the image: install it in an earlier step, or see its spelling.",
        137 => "It was killed, most likely for want of memory on the build host.",
        139 => "It crashed (segmentation fault).",
        _ => "The step's own output above says why.",
    };
    Failure::new(Code::DockerfileStepFailed, format!("{} ended with exit code {code}.", quote(&command)), way_out)
}

fn syntax(message: &str, dockerfile: &[u8]) -> Failure {
    // `dockerfile parse error line 2: …` until BuildKit 0.10, `dockerfile parse error on line 2: …` since
    let line = ["dockerfile parse error line ", "dockerfile parse error on line "]
        .iter()
        .find_map(|words| message.split_once(words)?.1.split_once(": "));
    let cause = match line {
        Some((line, why)) => format!("The Dockerfile cannot be read, line {}: {}", quote(line), quote(why)),
        None => format!("The Dockerfile cannot be read: {}", quote(message)),
    };
    Failure::new(Code::DockerfileSyntax, cause, newer_syntax::cure(message, dockerfile).unwrap_or("Correct the Dockerfile."))
}

/// `secret NPM_TOKEN: not found`, as our own session says it.
fn secret_missing(error: &str, message: &str) -> Option<Failure> {
    let secret = [error, message].iter().find_map(|text| {
        let found = [" not found", ": not found"].map(|after| between(text, "secret ", after));
        found.into_iter().flatten().find(|id| !id.contains([' ', ':']))
    })?;
    Some(Failure::new(
        Code::DockerfileSecretMissing,
        format!("A RUN step mounts the secret \"{}\", which the job does not have.", quote(secret)),
        "Add a variable of that name to the service, or take required=true out of the mount.",
    ))
}

/// `no SSH key "default" forwarded from the client`: the session has none to forward.
fn ssh_agent(name: &str, all: &str) -> Option<Failure> {
    let is_asked =
        all.contains("no ssh key ") && all.contains("forwarded from the client") || all.contains("unset ssh forward key");
    is_asked.then(|| {
        let step = Some(step_text(name)).filter(|text| !text.is_empty()).unwrap_or("A RUN step");
        let way_out = match step.starts_with("RUN") || name.is_empty() {
            true => "Mount a key as a secret: RUN --mount=type=secret,id=NAME.",
            // `ADD git@host:repository`
            false => "Name it by an https URL, or clone it in a RUN step with a key as a secret.",
        };
        within(Code::DockerfileBuild, step, " needs an SSH agent: builds are given no SSH agent here.", way_out)
    })
}

/// Base images, `# syntax=` images and what ADD loads from elsewhere.
pub(super) fn remote(name: &str, error: &str, all: &str) -> Option<Failure> {
    let text = step_text(name);
    let image = ["load metadata for ", "resolve image config for ", "FROM "].iter().find_map(|before| text.strip_prefix(before));
    let is_frontend = text.starts_with("resolve image config for ") || text.starts_with("docker-image://");
    let text = text.strip_prefix("ADD ").filter(|file| file.contains("://")).unwrap_or(text);
    let is_file = ["http://", "https://", "git://"].iter().any(|scheme| text.starts_with(scheme));
    if image.is_none() && !is_frontend && !is_file && !has(all, REMOTE) {
        return None;
    }
    let host = remote_host(image.or(is_frontend.then_some(text)), is_file.then_some(text), error);
    let image = image.unwrap_or(text).trim_start_matches("docker-image://");
    let what = match (is_frontend, image) {
        (true, image) => format!("The image of the # syntax= line, {},", quote(image)),
        (false, "") => "A base image".to_owned(),
        (false, file) if is_file => quote(file),
        (false, image) => format!("The base image {}", quote(image)),
    };
    let refused = match (is_frontend, is_file) {
        (true, _) => Code::DockerfileFrontend,
        (false, true) => Code::DockerfileBuild,
        (false, false) => Code::DockerfileBaseImage,
    };
    // What a proxy's name or certificate is worth says nothing of the host behind it.
    let is_direct = !all.contains("proxyconnect");
    let at = |failure: Failure| Failure { host: host.clone().filter(|_| is_direct), ..failure };
    if is_direct && all.contains("no such host") {
        return Some(at(Failure::new(
            Code::DockerfileHostUnknown,
            format!("{what} cannot be loaded, the name {} cannot be resolved.", host.as_deref().unwrap_or("of its host")),
            "Check the spelling of the host's name in the Dockerfile.",
        )));
    }
    if is_direct && has(all, CERTIFICATE) {
        return Some(at(Failure::new(
            Code::DockerfileCertificate,
            format!("{what} cannot be loaded, the certificate of its server is refused: {}", quote(error)),
            "Mend the certificate, or have the operator make the Docker Engine trust its issuer.",
        )));
    }
    let status = http_status(all);
    if has(all, UNREACHABLE) || status.is_some_and(|status| status == 429 || status >= 500) {
        return Some(at(Failure::new(
            Code::BuildPullUnreachable,
            format!("{what} cannot be loaded, its server fails: {}", quote(error)),
            "Check its name, the build host's network and proxy, and the registry's own status.",
        )));
    }
    if has(all, NO_PLATFORM) {
        return Some(Failure::new(
            refused,
            format!("{what} is not made for the platform of the build: {}", quote(error)),
            "Choose an image that is, or see BUILD_PLATFORM.",
        ));
    }
    if has(all, REFUSED) || matches!(status, Some(401 | 403)) {
        return Some(Failure::new(
            refused,
            format!("{what} does not exist, or its registry wants credentials."),
            "See the image's name; a login for a private registry belongs into the operator's PULL_REGISTRIES.",
        ));
    }
    if has(all, NOT_FOUND) || status == Some(404) {
        return Some(Failure::new(refused, format!("{what} does not exist."), "See the image's name and tag."));
    }
    None
}

/// `… status code 503`, `… status: 503 Service Unavailable`, `… unexpected status code [manifests 1]: 429 Too Many Requests`.
fn http_status(text: &str) -> Option<u16> {
    let (_, after) = text
        .split_once("status code")
        .or_else(|| text.split_once("unexpected status"))
        .or_else(|| text.split_once("http status"))?;
    let numbers = after.split_whitespace().filter_map(|word| word.trim_matches([':', ',', '.']).parse().ok());
    numbers.into_iter().find(|number| (400..600).contains(number))
}

fn not_allowed(all: &str) -> Option<Failure> {
    let what = ["network.host", "security.insecure"].into_iter().find(|what| all.contains(&format!("{what} is not allowed")))?;
    Some(Failure::new(
        Code::DockerfileBuild,
        format!("A RUN step asks for {what}, which builds are not given here."),
        "Take --network=host or --security=insecure from the step.",
    ))
}

/// A failure of `step` that the dashboard shows whole, with its way out: the step's own text is cut for it.
pub(super) fn within(code: Code, step: &str, rest: &str, way_out: &str) -> Failure {
    let others = rest.chars().count() + code.as_str().len() + way_out.chars().count() + 4;
    let room = TOLD.saturating_sub(others).max(MIN_STEP);
    let step = quote(step);
    // A step is recognised by how it begins.
    let step = match step.chars().count() > room {
        true => step.chars().take(room - 1).chain(['…']).collect(),
        false => step,
    };
    Failure::new(code, format!("{step}{rest}"), way_out)
}

/// Whether the dashboard shows it with its way out.
pub fn is_shown_whole(failure: &Failure) -> bool {
    failure.to_string().chars().count() <= TOLD
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

pub(super) fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// `[2/4] RUN npm ci`, `[internal] load metadata for x` → what stands behind the bracket.
pub(super) fn step_text(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(name, |(_, text)| text)
}

/// Foreign text in a cause: one line, without BuildKit's wrapping, not too long.
pub(super) fn quote(text: &str) -> String {
    let mut text = text;
    loop {
        let plain = WRAPPING.iter().find_map(|wrapping| text.strip_prefix(wrapping));
        let named = || {
            let wrapping = WRAPPING_WITH_A_NAME.iter().find(|wrapping| text.starts_with(**wrapping))?;
            let separator = if wrapping.ends_with("= ") { " desc = " } else { ": " };
            Some(text.split_once(separator)?.1)
        };
        match plain.or_else(named) {
            Some(rest) => text = rest,
            None => break,
        }
    }
    let line = safe_line(text.as_bytes());
    shorten(&line, MAX_QUOTE)
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
