//! PURE: understands the values of keys. Collects every error instead of stopping at the first.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::errors::ConfigError;
use super::keys::{KEYS, Key};
use super::layers::{DEFAULT_ORIGIN, Raw, label};
use super::units;
use crate::protocol::shorten;

/// Hands out values by environment variable name. `None` means: an error was noted.
pub(super) struct Reader<'s> {
    values: &'s BTreeMap<&'static str, Raw>,
    working_dir: &'s Path,
    pub(super) errors: Vec<ConfigError>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(values: &'s BTreeMap<&'static str, Raw>, working_dir: &'s Path) -> Self {
        Self { values, working_dir, errors: Vec::new() }
    }

    /// The value and where it came from. Empty where a file says `""`.
    fn raw(&self, env: &str) -> (&'static Key, Option<&'s Raw>) {
        let Some(key) = KEYS.iter().find(|k| k.env == env) else { unreachable!("{env} is not in the list of keys") };
        (key, self.values.get(key.name))
    }

    /// Notes an error about `env`'s value. `problem` continues a sentence that begins with the value.
    pub(super) fn reject(&mut self, env: &str, problem: &str) {
        let (key, raw) = self.raw(env);
        // Nothing was given, so there is no source to name.
        let origin = raw.filter(|r| !r.value.is_empty() || r.origin != DEFAULT_ORIGIN).map(|r| r.origin.clone());
        let problem = match raw {
            // A URL with a password in it is rejected too, and not repeated here.
            Some(r) if !key.secret && !r.value.is_empty() && !r.value.contains('@') => format!("{:?} {problem}", r.value),
            Some(r) if !r.value.is_empty() => format!("the value {problem}"),
            _ => problem.to_owned(),
        };
        self.errors.push(ConfigError { subject: label(key), origin, problem });
    }

    /// Notes that these keys are wrong together.
    pub(super) fn reject_together(&mut self, envs: &[&str], problem: impl Into<String>) {
        self.errors.push(ConfigError { subject: envs.join(", "), origin: None, problem: problem.into() });
    }

    /// `None` where the key is empty or not set; no error.
    pub(super) fn given(&self, env: &str) -> Option<&'s str> {
        self.raw(env).1.map(|r| r.value.as_str()).filter(|v| !v.is_empty())
    }

    /// Whether somebody chose the value, also one that equals the default. In a TOML file only another one counts.
    pub(super) fn is_chosen(&self, env: &str, is_default: bool) -> bool {
        let raw = self.raw(env).1.filter(|raw| !raw.value.is_empty() && raw.origin != DEFAULT_ORIGIN);
        raw.is_some_and(|raw| !raw.is_of_file || !is_default)
    }

    /// A value that has to be there.
    pub(super) fn text(&mut self, env: &str) -> Option<String> {
        let given = self.given(env).map(str::to_owned);
        if given.is_none() {
            self.reject(env, "is not set");
        }
        given
    }

    /// A secret that has to be there.
    pub(super) fn secret(&mut self, env: &str) -> Option<SecretString> {
        let given = self.given_secret(env);
        if given.is_none() {
            self.reject(env, &format!("is not set. Set it, or {env}_FILE to a file that holds it"));
        }
        given
    }

    /// A blank or a new line at a secret's ends is never meant (`$(cat file; echo)`), and would be refused by its part for ever
    /// with words that do not name it.
    pub(super) fn given_secret(&mut self, env: &str) -> Option<SecretString> {
        let text = self.given(env)?;
        let (ends, starts) = (text.trim_end() != text, text.trim_start() != text);
        if ends || starts {
            let what = if text.ends_with(['\n', '\r']) { "a new line" } else { "a blank" };
            let place = if ends { "ends" } else { "begins" };
            self.reject(
                env,
                &format!("{place} with {what}. Take it out, or set {env}_FILE to a file that holds it: new lines at its end are taken off"),
            );
        }
        Some(SecretString::from(text))
    }

    /// A value that `check` understands, or an error whose sentence goes on with what `check` says.
    pub(super) fn parsed<T, E: AsRef<str>>(&mut self, env: &str, check: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(env)?;
        match check(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.reject(env, problem.as_ref());
                None
            }
        }
    }

    /// As [`Reader::parsed`], for keys that may be left out. `None`: an error was noted.
    pub(super) fn given_parsed<T, E: AsRef<str>>(
        &mut self,
        env: &str,
        check: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<Option<T>> {
        if self.given(env).is_none() { Some(None) } else { self.parsed(env, check).map(Some) }
    }

    pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        &mut self,
        env: &str,
        within: RangeInclusive<T>,
    ) -> Option<T> {
        let number = self.text(env)?.parse().ok().filter(|n| within.contains(n));
        if number.is_none() {
            self.reject(env, &format!("is not a whole number from {} to {}", within.start(), within.end()));
        }
        number
    }

    /// A time above zero.
    pub(super) fn duration(&mut self, env: &str) -> Option<Duration> {
        self.parsed(env, |text| match units::duration(text)? {
            Duration::ZERO => Err("must not be zero"),
            time => Ok(time),
        })
    }

    pub(super) fn duration_or_zero(&mut self, env: &str) -> Option<Duration> {
        self.parsed(env, units::duration)
    }

    /// A size of at least `least` bytes, whose error says `too_small`.
    pub(super) fn size(&mut self, env: &str, least: u64, too_small: &'static str) -> Option<u64> {
        self.parsed(env, |text| units::size(text).and_then(|n| if n < least { Err(too_small) } else { Ok(n) }))
    }

    pub(super) fn flag(&mut self, env: &str) -> Option<bool> {
        self.parsed(env, flag)
    }

    /// A folder; a relative one begins in the working directory.
    pub(super) fn path(&mut self, env: &str) -> Option<PathBuf> {
        self.text(env).map(|p| self.working_dir.join(p))
    }

    /// As [`Reader::path`], for keys that may be left out.
    pub(super) fn given_path(&self, env: &str) -> Option<PathBuf> {
        self.given(env).map(|p| self.working_dir.join(p))
    }

    /// An http or https URL without user, query and fragment, and without a slash at the end of its path.
    pub(super) fn url(&mut self, env: &str) -> Option<Url> {
        self.parsed(env, http_url)
    }
}

pub(super) fn flag(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is neither true nor false"),
    }
}

/// A name that is compared to the byte: a new line at its end would make it another one, without a word.
pub(super) fn whole(text: &str) -> Result<String, &'static str> {
    if text.trim() != text || text.chars().any(char::is_control) {
        return Err("has a blank or a new line at its ends, or a control character within; take it out");
    }
    Ok(text.to_owned())
}

pub(super) fn http_url(text: &str) -> Result<Url, &'static str> {
    let mut url =
        Url::parse(text).map_err(|_| "is not a URL: write http:// or https://, the host, and the path if there is one")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("does not begin with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; those would be shown in logs");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("has a query (?) or fragment (#)");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// What is wrong with one entry of a list. `number` counts from 1. An entry that may hold a password is told by its number alone.
pub(super) fn wrong_entry(number: usize, entry: &str, expected: &str) -> String {
    if entry.contains('@') {
        format!("has an entry that is not {expected} (number {number})")
    } else {
        format!("has the entry {:?} (number {number}), which is not {expected}", shorten(entry, 60))
    }
}

/// `host` or `host:port`, in small letters.
pub(super) fn host_and_port(text: &str) -> Result<String, &'static str> {
    if text.contains("://") {
        return Err("has a scheme; write host or host:port");
    }
    if text.contains('/') {
        return Err("has a path; write host or host:port");
    }
    if text.contains('@') {
        return Err("has a user; write host or host:port");
    }
    let url = Url::parse(&format!("http://{text}")).map_err(|_| "is not host or host:port")?;
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']' | b'_'));
    if !plain || url.host_str().is_none_or(str::is_empty) || url.path() != "/" {
        return Err("is not host or host:port");
    }
    Ok(text.to_ascii_lowercase())
}
