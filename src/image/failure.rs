//! PURE: what BuildKit and the Engine say when a build fails → [`Failure`].
//!
//! Neither has error codes on this API: the text is all there is. The wordings are those of the Engines 20.10 to 28
//! (BuildKit 0.8 to 0.21); the tests hold each of them as it was seen.

use std::sync::LazyLock;

use regex::Regex;

use super::output::clean;
use crate::protocol::{Code, Failure};

/// The step that failed, by BuildKit's status events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedStep {
    /// As BuildKit names it: `[2/4] RUN npm ci`.
    pub name: String,
    pub error: String,
}

/// Causes are cut to so many characters; the whole of it stands in the log.
const MAX_QUOTE: usize = 300;

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        #[allow(clippy::expect_used)]
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("a constant pattern"));
    };
}

// `executor failed running [/bin/sh -c x]: exit code: 3` until 0.9, `process "…" did not complete successfully: exit code: 3` since
pattern!(EXIT_CODE, r"(?s)(?:executor failed running|process ).*: exit code: (\d+)");
pattern!(
    COMMAND,
    r#"(?s)(?:executor failed running \[(?:/bin/sh -c )?(.*?)\]|process "(?:/bin/sh -c )?(.*?)") ?(?:did not complete successfully)?: exit code"#
);
pattern!(STEP_PREFIX, r"^\[[^\]]*\] ");
pattern!(DISK_FULL, r"(?i)no space left on device|disk quota exceeded");
pattern!(
    ENGINE_LOST,
    r"(?i)no active session|session \S+ not found|transport is closing|client connection is closing|error reading from server|containerd\.sock|buildkit\.sock|daemon is shutting down|no http response from session|context canceled$"
);
pattern!(
    SYNTAX,
    r"(?i)dockerfile parse error|failed to parse|unknown instruction|no build stage in current context|cannot be empty|file with no instructions|syntax error|unknown flag|circular dependency|requires (?:at least|exactly|either)|failed to process|invalid (?:field|from flag|reference format|containerport)|missing ':' in substitution|duplicate name|unexpected end of statement|not a valid (?:image|stage)|base name \(.*\) should not be blank"
);
pattern!(PARSE_LINE, r"(?is)dockerfile parse error(?: on)? line (\d+): (.*)");
// `"/x" not found: not found` (0.8), `"/x": not found` (since 0.9)
pattern!(MISSING_PATH, r#"(?:cache key|checksum|not found).*?"([^"]+)":? not found|"([^"]+)":? not found: not found"#);
pattern!(
    MISSING_FILE,
    r"(?:lstat|stat|open|no such file or directory:?) (\S+?)?:? ?(?:no such file or directory|not a directory)|no source files were specified"
);
pattern!(SECRET, r"(?i)secret (\S+?):? not found");
pattern!(
    UNREACHABLE,
    r"(?i)dial tcp|no such host|connection refused|connection reset|i/o timeout|tls handshake|x509:|unexpected EOF|: EOF|client\.timeout|request canceled|deadline exceeded|server misbehaving|network is unreachable|no route to host|http: server gave HTTP response|toomanyrequests|too many requests|unexpected status.*\b(?:429|5\d\d)\b|status code (?:429|5\d\d)|received unexpected HTTP status: (?:429|5\d\d)|proxyconnect"
);
pattern!(
    REFUSED,
    r"(?i)pull access denied|insufficient_scope|authorization failed|unauthorized|authentication required|denied: |no basic auth credentials|unexpected status.*\b(?:401|403)\b|status code (?:401|403)|failed to fetch (?:anonymous|oauth) token|failed to authorize"
);
pattern!(
    NOT_FOUND,
    r"(?i): not found|manifest unknown|name unknown|does not exist|unexpected status.*\b404\b|not found: manifest"
);
pattern!(NO_PLATFORM, r"(?i)no match for platform|does not match the specified platform|no matching manifest");
pattern!(IMAGE, r"(?:load metadata for|resolve image config for|FROM|docker-image://|ERROR resolve) ?(?:docker-image://)?(\S+)");
pattern!(NOT_ALLOWED, r"(network\.host|security\.insecure|device)(?: is)? not allowed");
pattern!(
    WRAPPING,
    r"^(?:failed to solve(?: with frontend [\w.-]+)?: |rpc error: code = \w+ desc = |failed to create LLB definition: |failed to load cache key: )+"
);

/// The exit code of a RUN step, where `error` tells of one.
pub fn exit_code(error: &str) -> Option<u32> {
    EXIT_CODE.captures(error)?.get(1)?.as_str().parse().ok()
}

/// What the build's end says, with the step that failed if one did.
pub fn classify(message: &str, step: Option<&FailedStep>) -> Failure {
    // the vertex's own error is the message without its wrapping, and there is none where BuildKit never began
    let error = step.map_or(message, |step| step.error.as_str());
    let name = step.map_or("", |step| step.name.as_str());
    let both = |pattern: &Regex| pattern.is_match(message) || pattern.is_match(error);

    if both(&DISK_FULL) {
        return Failure::new(
            Code::EngineDiskFull,
            "The Docker Engine has no disk space left.",
            "Free space on the build host, or lower BUILD_CACHE_MAX.",
        );
    }
    if let Some(code) = exit_code(error).or_else(|| exit_code(message)) {
        return step_failed(name, if exit_code(error).is_some() { error } else { message }, code);
    }
    if let Some(secret) = SECRET.captures(error).or_else(|| SECRET.captures(message)) {
        return Failure::new(
            Code::DockerfileSecretMissing,
            format!("A RUN step mounts the secret \"{}\", which the job does not have.", quote(&secret[1])),
            "Add an environment variable of that name to the service, or take required=true from the mount.",
        );
    }
    if let Some(failure) = not_allowed(error) {
        return failure;
    }
    if is_copy(name) || MISSING_PATH.is_match(message) {
        if let Some(failure) = copy_missing(name, error, message) {
            return failure;
        }
    }
    if is_remote(name) || is_remote_message(message) {
        if let Some(failure) = remote(name, error, message) {
            return failure;
        }
    }
    if both(&ENGINE_LOST) {
        return engine_lost(&quote(error));
    }
    if SYNTAX.is_match(message) {
        return syntax(message);
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

/// The Engine's own error, none of the Dockerfile's.
pub fn engine_error(message: &str) -> Failure {
    Failure::new(
        Code::EngineError,
        format!("The Docker Engine failed: {}", quote(message)),
        "See the Engine's log on the build host (journalctl -u docker).",
    )
}

fn step_failed(name: &str, error: &str, code: u32) -> Failure {
    let from_error = || {
        let found = COMMAND.captures(error)?;
        Some(format!("RUN {}", found.get(1).or(found.get(2))?.as_str()))
    };
    let named = Some(step_text(name)).filter(|text| !text.is_empty()).map(str::to_owned);
    let command = named.or_else(from_error).unwrap_or_else(|| "A RUN step".to_owned());
    let way_out = match code {
        126 => "The command is no program, or may not be executed: see its permissions and first line.",
        127 => "The command was not found in the image: install it in an earlier step, or see its spelling.",
        137 => "It was killed, most likely for want of memory on the build host.",
        139 => "It crashed (segmentation fault).",
        _ => "The step's own output above says why.",
    };
    Failure::new(Code::DockerfileStepFailed, format!("{} ended with exit code {code}.", quote(&command)), way_out)
}

fn syntax(message: &str) -> Failure {
    let cause = match PARSE_LINE.captures(message) {
        Some(found) => format!("The Dockerfile cannot be read, line {}: {}", &found[1], quote(&found[2])),
        None => format!("The Dockerfile cannot be read: {}", quote(message)),
    };
    Failure::new(Code::DockerfileSyntax, cause, "Correct the Dockerfile.")
}

fn copy_missing(name: &str, error: &str, message: &str) -> Option<Failure> {
    let found = MISSING_PATH.captures(error).or_else(|| MISSING_PATH.captures(message));
    let path = found.and_then(|found| found.get(1).or(found.get(2)).map(|path| path.as_str().to_owned()));
    if path.is_none() && !MISSING_FILE.is_match(error) {
        return None;
    }
    let step = Some(step_text(name)).filter(|text| !text.is_empty()).unwrap_or("A COPY or ADD step");
    let cause = match path {
        Some(path) => format!("{} names \"{}\", which is not there.", quote(step), quote(path.trim_start_matches('/'))),
        None => format!("{} names files that are not there.", quote(step)),
    };
    Some(Failure::new(
        Code::DockerfileCopyMissing,
        cause,
        "See whether the file is committed, spelled like that, and not excluded by .dockerignore.",
    ))
}

/// Base images, `# syntax=` images and what ADD loads from elsewhere.
fn remote(name: &str, error: &str, message: &str) -> Option<Failure> {
    let image = IMAGE.captures(name).or_else(|| IMAGE.captures(message)).map(|found| found[1].to_owned());
    let is_frontend = name.contains("resolve image config for") || message.contains("frontend gateway");
    let what = match (&image, is_frontend) {
        (Some(image), true) => format!("The image of the # syntax= line, {},", quote(image)),
        (Some(image), false) => format!("The base image {}", quote(image)),
        (None, true) => "The image of the # syntax= line".to_owned(),
        (None, false) if name.contains("://") => quote(step_text(name)),
        (None, false) => "A base image".to_owned(),
    };
    let refused = if is_frontend { Code::DockerfileFrontend } else { Code::DockerfileBaseImage };
    if UNREACHABLE.is_match(error) || UNREACHABLE.is_match(message) {
        return Some(Failure::new(
            Code::BuildPullUnreachable,
            format!("{what} cannot be loaded, its server does not answer as it should: {}", quote(error)),
            "It is tried again; see the build host's network, name resolution and proxy, and the registry's own status.",
        ));
    }
    if NO_PLATFORM.is_match(error) {
        return Some(Failure::new(
            refused,
            format!("{what} is not made for the platform of the build: {}", quote(error)),
            "Choose an image that is, or see BUILD_PLATFORM.",
        ));
    }
    if REFUSED.is_match(error) {
        return Some(Failure::new(
            refused,
            format!("{what} does not exist, or may not be pulled without credentials."),
            "See the image's name; for a private registry the operator adds read-only credentials to PULL_REGISTRIES.",
        ));
    }
    if NOT_FOUND.is_match(error) {
        return Some(Failure::new(refused, format!("{what} does not exist."), "See the image's name and tag."));
    }
    None
}

fn not_allowed(error: &str) -> Option<Failure> {
    let found = NOT_ALLOWED.captures(error)?;
    Some(Failure::new(
        Code::DockerfileBuild,
        format!("A RUN step asks for {}, which is not given to builds here.", &found[1]),
        "Take --network=host or --security=insecure from the step.",
    ))
}

fn is_copy(name: &str) -> bool {
    let text = step_text(name);
    text.starts_with("COPY") || text.starts_with("ADD")
}

fn is_remote(name: &str) -> bool {
    let text = step_text(name);
    ["FROM ", "load metadata for ", "resolve image config for ", "docker-image://", "http://", "https://", "git://"]
        .iter()
        .any(|start| text.starts_with(start))
}

fn is_remote_message(message: &str) -> bool {
    REFUSED.is_match(message)
        || message.contains("failed to do request")
        || message.contains("failed to resolve source metadata")
        || message.contains("failed to copy: httpReadSeeker")
        || message.contains("toomanyrequests")
}

/// `[2/4] RUN npm ci` → `RUN npm ci`.
fn step_text(name: &str) -> &str {
    STEP_PREFIX.find(name).map_or(name, |prefix| &name[prefix.end()..])
}

/// Foreign text in a cause: one line, without BuildKit's wrapping, not too long.
fn quote(text: &str) -> String {
    let text = WRAPPING.find(text).map_or(text, |wrapping| &text[wrapping.end()..]);
    let line = clean(text.as_bytes());
    match line.char_indices().nth(MAX_QUOTE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.into_owned(),
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
