//! PURE: `gitProvider`: where the commit is fetched from, and with what login.

use secrecy::SecretString;
use url::Url;

use super::problems::{Problems, trimmed};
use super::raw::{Group, RawAccount, RawProvider, Scalar};
use super::{GitCredentials, GitSource};
use crate::protocol::id::RepositoryName;

const MAX_URL_BYTES: usize = 2048;
const MAX_USERNAME_BYTES: usize = 255;

impl Problems {
    pub(super) fn git(
        &mut self,
        provider: Group<RawProvider>,
        repository: Option<&RepositoryName>,
        github_url: &Url,
    ) -> Option<GitSource> {
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
