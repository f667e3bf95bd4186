//! PURE: what stands in an element becomes a [`Job`], or a list of all that is wrong with it.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::raw::{Group, Items, MAX_ITEMS, RawAccount, RawEnv, RawJob, RawPort, RawProvider, Scalar};
use super::{CommitRef, EnvVar, GitCredentials, GitSource, Job, JobRejected, Port};
use crate::protocol::id::{BranchName, CommitSha, DeploymentId, InvalidId, RepositoryName, ServiceId};
use crate::protocol::outcome::{Code, Failure};

/// So many wrong fields are named; of the rest the number is told.
const NAMED_PROBLEMS: usize = 20;
const MAX_PATH_BYTES: usize = 4096;
const MAX_URL_BYTES: usize = 2048;
const MAX_USERNAME_BYTES: usize = 255;
const MAX_IMAGE_BYTES: usize = 512;

pub(super) fn validate(raw: RawJob, github_url: &Url) -> Result<Job, JobRejected> {
    let deployment_id = raw.deployment_id();
    // The one everyday case among the refused: named for itself, whatever else the element lacks.
    if let Scalar::Text(sha) = &raw.commit
        && let sha = trimmed(sha)
        && !sha.is_empty()
        && sha.bytes().all(|b| b == b'0')
    {
        let failure = Failure::new(
            Code::JobBranchDeleted,
            "The branch was deleted: commitSha is all zeros, there is nothing to build.",
            "Push the branch again, or deploy another one.",
        );
        return Err(JobRejected { deployment: deployment_id, failure });
    }

    let mut wrong = Problems::default();
    // Ids are taken to the letter: whatever else names the deployment has to find it. All other fields come from forms.
    let deployment = wrong.id("deploymentId", raw.deployment, DeploymentId::parse);
    let service = wrong.id("serviceId", raw.service, ServiceId::parse);
    let repository = wrong.id("repositoryName", raw.repository.trimmed(), RepositoryName::parse);
    let branch = wrong.id("branch", raw.branch.trimmed(), BranchName::parse);
    let commit = wrong.commit(raw.commit);
    let git = wrong.git(raw.provider, repository.as_ref(), github_url);
    let dockerfile = wrong.dockerfile(raw.dockerfile);
    let builder = wrong.builder(raw.builder);
    let build_timeout = wrong.build_timeout(raw.build_timeout);
    let env = wrong.env(raw.env);
    let ports = wrong.ports(raw.ports);

    match (deployment, service, repository, branch, commit, git, (dockerfile, builder)) {
        (
            Some(deployment),
            Some(service),
            Some(repository),
            Some(branch),
            Some(commit),
            Some(git),
            (Some(dockerfile), Some(builder)),
        ) if wrong.count == 0 => {
            let unsupported = raw.unsupported;
            Ok(Job {
                deployment,
                service,
                repository,
                branch,
                commit,
                git,
                dockerfile,
                builder,
                build_timeout,
                env,
                ports,
                unsupported,
            })
        }
        _ => Err(JobRejected { deployment: deployment_id, failure: wrong.into_failure() }),
    }
}

/// All that is wrong, in the order of the fields.
#[derive(Default)]
struct Problems {
    named: Vec<String>,
    count: usize,
}

impl Problems {
    fn add(&mut self, field: impl std::fmt::Display, problem: impl std::fmt::Display) {
        self.count += 1;
        if self.named.len() < NAMED_PROBLEMS {
            self.named.push(format!("{field} {problem}"));
        }
    }

    fn into_failure(self) -> Failure {
        let mut list = self.named.join("; ");
        if self.count > self.named.len() {
            list.push_str(&format!("; and {} more", self.count - self.named.len()));
        }
        Failure::new(
            Code::JobMalformed,
            format!("The job cannot be built: {list}."),
            "Correct these fields where the job is made, and deploy again.",
        )
    }

    /// A text that may be left out. `None`: wrong, and said so. `Some(None)`: absent, null or empty.
    fn text(&mut self, field: &str, value: Scalar) -> Option<Option<String>> {
        match value {
            Scalar::Absent => Some(None),
            Scalar::Text(text) if text.is_empty() => Some(None),
            Scalar::Text(text) => Some(Some(text)),
            Scalar::Number(_) => self.not_text(field, "a number"),
            Scalar::Bool(_) => self.not_text(field, "true or false"),
            Scalar::Other(what) => self.not_text(field, what),
        }
    }

    fn not_text<T>(&mut self, field: &str, what: &str) -> Option<T> {
        self.add(field, format_args!("is {what}, not a text"));
        None
    }

    fn required(&mut self, field: &str, value: Scalar) -> Option<String> {
        let text = self.text(field, value)?;
        if text.is_none() {
            self.add(field, "is missing or empty");
        }
        text
    }

    fn id<T>(&mut self, field: &str, value: Scalar, parse: fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        let text = self.required(field, value)?;
        parse(&text).map_err(|e| self.add(field, e.rule)).ok()
    }

    fn commit(&mut self, value: Scalar) -> Option<CommitRef> {
        match self.text("commitSha", value.trimmed())? {
            None => Some(CommitRef::Tip),
            Some(sha) if sha.len() < 40 && sha.len() >= 4 && sha.bytes().all(|b| b.is_ascii_hexdigit()) => {
                self.add("commitSha", "is an abbreviated id; give all of its 40 digits");
                None
            }
            Some(sha) => match CommitSha::parse(&sha.to_ascii_lowercase()) {
                Ok(sha) => Some(CommitRef::Exact(sha)),
                Err(e) => {
                    self.add("commitSha", e.rule);
                    None
                }
            },
        }
    }

    fn git(&mut self, provider: Group<RawProvider>, repository: Option<&RepositoryName>, github_url: &Url) -> Option<GitSource> {
        let provider = match provider {
            Group::Is(provider) => provider,
            Group::Absent => {
                self.add("gitProvider", "is missing");
                return None;
            }
            Group::Other(what) => {
                self.add("gitProvider", format_args!("is {what}, not an object"));
                return None;
            }
        };
        let kind = self.required("gitProvider.type", provider.kind.trimmed())?;
        let (base, credentials) = if kind.eq_ignore_ascii_case("GITHUB") {
            let account = match provider.github {
                Group::Is(account) => account,
                Group::Absent => RawAccount::default(),
                Group::Other(what) => {
                    self.add("gitProvider.githubAccount", format_args!("is {what}, not an object"));
                    return None;
                }
            };
            let names = ("gitProvider.githubAccount.username", "gitProvider.githubAccount.accessToken");
            (Some(github_url.clone()), self.credentials(names, account.username, account.token.trimmed()))
        } else if kind.eq_ignore_ascii_case("CUSTOM") {
            let base = self.required("gitProvider.url", provider.url).and_then(|url| self.base_url(&url));
            let names = ("gitProvider.username", "gitProvider.password");
            (base, self.credentials(names, provider.username, provider.password))
        } else {
            self.add("gitProvider.type", "is neither GITHUB nor CUSTOM");
            return None;
        };
        let url = clone_url(&base?, repository?);
        Some(GitSource { url, credentials: credentials? })
    }

    /// `Some(None)`: a public repository. Without a password there is nothing to log in with, whatever the user name says.
    fn credentials(&mut self, names: (&str, &str), username: Scalar, password: Scalar) -> Option<Option<GitCredentials>> {
        let username = self.text(names.0, username.trimmed());
        // A password may have a blank at its end, but no line's end: that comes from a file.
        let password = self.text(names.1, password.without_line_ends());
        let username = username?.unwrap_or_default();
        if username.len() > MAX_USERNAME_BYTES {
            self.add(names.0, format_args!("is longer than {MAX_USERNAME_BYTES} bytes"));
            return None;
        }
        if username.contains(':') || username.chars().any(char::is_control) {
            self.add(names.0, "has a colon or a control character");
            return None;
        }
        Some(password?.map(|password| GitCredentials { username, password: SecretString::from(password) }))
    }

    fn base_url(&mut self, text: &str) -> Option<Url> {
        let problem = match check_base_url(text) {
            Ok(url) => return Some(url),
            Err(problem) => problem,
        };
        self.add("gitProvider.url", problem);
        None
    }

    /// `Some(None)`: none is named.
    fn dockerfile(&mut self, value: Scalar) -> Option<Option<String>> {
        let Some(text) = self.text("runtimeFilePath", value.trimmed())? else { return Some(None) };
        match normal_path(&text) {
            Ok(path) => Some(path),
            Err(problem) => {
                self.add("runtimeFilePath", problem);
                None
            }
        }
    }

    /// `Some(None)`: none is named. Only the shape of a reference is looked at: the operator's list has the say.
    fn builder(&mut self, value: Scalar) -> Option<Option<String>> {
        let Some(text) = self.text("builder", value.trimmed())? else { return Some(None) };
        if !is_image(&text) {
            self.add("builder", "is no image reference");
            return None;
        }
        Some(Some(text))
    }

    /// Seconds. `None` also where it is wrong: then it was added, and there is no job.
    fn build_timeout(&mut self, value: Scalar) -> Option<Duration> {
        let seconds = match value {
            Scalar::Absent => return None,
            Scalar::Number(text) | Scalar::Text(text) => text.trim().parse::<u32>().ok().filter(|seconds| *seconds != 0),
            _ => None,
        };
        if seconds.is_none() {
            self.add("buildTimeout", "is no number of seconds, 1 or more");
        }
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn list<T>(&mut self, field: &str, list: Group<Items<T>>) -> Vec<Group<T>> {
        match list {
            Group::Absent => Vec::new(),
            Group::Other(what) => {
                self.add(field, format_args!("is {what}, not a list"));
                Vec::new()
            }
            Group::Is(items) if items.count > MAX_ITEMS => {
                self.add(field, format_args!("has {} entries; at most {MAX_ITEMS} are taken", items.count));
                Vec::new()
            }
            Group::Is(items) => items.kept,
        }
    }

    fn env(&mut self, list: Group<Items<RawEnv>>) -> Vec<EnvVar> {
        let mut env = Vec::new();
        for (i, item) in self.list("environmentVariables", list).into_iter().enumerate() {
            let field = format!("environmentVariables[{i}]");
            match item {
                Group::Is(RawEnv { key, value }) => {
                    let key = match key {
                        Scalar::Text(key) => Some(key),
                        Scalar::Absent => {
                            self.add(format_args!("{field}.key"), "is missing");
                            None
                        }
                        other => self.text(&format!("{field}.key"), other).flatten(),
                    };
                    // Numbers and booleans become what they look like, as with the predecessor.
                    let value = match value {
                        Scalar::Absent => Some(String::new()),
                        Scalar::Text(text) | Scalar::Number(text) => Some(text),
                        Scalar::Bool(value) => Some(value.to_string()),
                        Scalar::Other(what) => self.not_text(&format!("{field}.value"), what),
                    };
                    if let (Some(key), Some(value)) = (key, value) {
                        env.push(EnvVar { key, value: SecretString::from(value) });
                    }
                }
                Group::Absent => self.add(field, "is null, not an object"),
                Group::Other(what) => self.add(field, format_args!("is {what}, not an object")),
            }
        }
        env
    }

    fn ports(&mut self, list: Group<Items<RawPort>>) -> Vec<Port> {
        let mut ports = Vec::new();
        for (i, item) in self.list("ports", list).into_iter().enumerate() {
            let field = format!("ports[{i}]");
            match item {
                Group::Is(RawPort { service, container }) => {
                    let service = self.port(&field, "servicePort", service);
                    let container = self.port(&field, "containerPort", container);
                    if let (Some(service_port), Some(container_port)) = (service, container) {
                        ports.push(Port { service_port, container_port });
                    }
                }
                Group::Absent => self.add(field, "is null, not an object"),
                Group::Other(what) => self.add(field, format_args!("is {what}, not an object")),
            }
        }
        ports
    }

    /// 1 to 65535, also as a text: forms send numbers so.
    fn port(&mut self, field: &str, name: &str, value: Scalar) -> Option<u16> {
        let port = match &value {
            Scalar::Number(text) | Scalar::Text(text) => text.trim().parse::<u16>().ok().filter(|p| *p != 0),
            _ => None,
        };
        if port.is_none() {
            self.add(format_args!("{field}.{name}"), "is not a port number (1 to 65535)");
        }
        port
    }
}

/// Without what a form, or a copy from a page, leaves around a value: blanks, line ends, and marks that nobody sees.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{2060}'))
}

impl Scalar {
    fn trimmed(self) -> Self {
        match self {
            Scalar::Text(text) => Scalar::Text(trimmed(&text).to_owned()),
            other => other,
        }
    }
    fn without_line_ends(self) -> Self {
        match self {
            Scalar::Text(text) => Scalar::Text(text.trim_matches(['\r', '\n']).to_owned()),
            other => other,
        }
    }
}

/// Whether it has the shape of an image's reference.
pub fn is_image(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    text.len() <= MAX_IMAGE_BYTES && text.bytes().all(allowed)
}

/// `<base>/<repository>.git`; a name that ends with `.git` already is not given a second one.
fn clone_url(base: &Url, repository: &RepositoryName) -> Url {
    let name = repository.as_str();
    let suffix = if name.ends_with(".git") { "" } else { ".git" };
    let mut url = base.clone();
    url.set_path(&format!("{}/{name}{suffix}", base.path().trim_end_matches('/')));
    url
}

fn check_base_url(text: &str) -> Result<Url, &'static str> {
    let text = trimmed(text);
    if text.len() > MAX_URL_BYTES {
        return Err("is longer than 2048 bytes");
    }
    // The URL standard drops tabs and new lines and turns a backslash into a slash: what is read then is not what was seen.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("has a space, a backslash or a control character");
    }
    let url = Url::parse(text).map_err(|_| "is not a URL (https://host or https://host/path)")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is not an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("has a user name or password in it; they belong in username and password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query or a fragment");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("has no host");
    }
    Ok(url)
}

/// The path without leading `/` and `./`, doubled slashes and inner `..`. `Ok(None)` where it names the repository itself.
fn normal_path(text: &str) -> Result<Option<String>, &'static str> {
    if text.len() > MAX_PATH_BYTES {
        return Err("is longer than 4096 bytes");
    }
    if text.contains('\\') {
        return Err("has a backslash; directories are separated by '/'");
    }
    if text.chars().any(char::is_control) {
        return Err("has a control character");
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or("leads out of the repository")?;
            }
            name => segments.push(name),
        }
    }
    Ok((!segments.is_empty()).then(|| segments.join("/")))
}
