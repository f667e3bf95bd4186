//! The only reader of the process environment: what the configuration is read from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use secrecy::SecretString;

/// The file that is read when no `--config` names another one. It may be missing.
pub const SYSTEM_FILE: &str = "/etc/slipway/slipway.toml";

/// Where values may come from, apart from the embedded defaults.
pub struct Surroundings {
    /// `--config FILE`: has to exist.
    pub chosen_file: Option<PathBuf>,
    /// Read when no file was chosen, if it exists.
    pub system_file: PathBuf,
    /// Where `.env` is looked for and relative paths begin.
    pub working_dir: PathBuf,
    pub environment: BTreeMap<OsString, OsString>,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_process(chosen_file: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self {
            chosen_file,
            system_file: PathBuf::from(SYSTEM_FILE),
            working_dir: std::env::current_dir()?,
            environment: std::env::vars_os().collect(),
        })
    }
}

/// Whether the environment names an HTTP proxy, which HTTP clients take from there by themselves.
pub fn names_a_proxy() -> bool {
    let is_proxy = |key: &str| ["http_proxy", "https_proxy", "all_proxy"].contains(&key.to_ascii_lowercase().as_str());
    std::env::vars_os().any(|(key, value)| key.to_str().is_some_and(is_proxy) && !value.is_empty())
}

/// One variable of the process environment that the command line named (`--git-token-env`, `--env KEY`). `None`: not set.
pub fn named_variable(name: &str) -> Option<SecretString> {
    let value = std::env::vars_os().find(|(key, _)| key.as_encoded_bytes() == name.as_bytes())?.1;
    value.into_string().ok().map(SecretString::from)
}

/// What telemetry and the terminal need to know of the process environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalHints {
    /// `JOURNAL_STREAM` names standard error: systemd connected it to its journal. (A shell inside a unit inherits the variable.)
    pub under_journald: bool,
    /// `NO_COLOR` is set (and not empty), or `TERM` is `dumb`.
    pub no_color: bool,
}

impl TerminalHints {
    pub fn of_process() -> Self {
        let mut hints = Self { under_journald: false, no_color: false };
        for (key, value) in std::env::vars_os() {
            match key.as_encoded_bytes() {
                b"JOURNAL_STREAM" => hints.under_journald |= is_standard_error(&value),
                b"NO_COLOR" => hints.no_color |= !value.is_empty(),
                b"TERM" => hints.no_color |= value == "dumb",
                _ => {}
            }
        }
        hints
    }
}

/// Whether the value, `device:inode`, is that of standard error (systemd.exec(5)).
fn is_standard_error(value: &std::ffi::OsStr) -> bool {
    let file = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    file.and_then(|file| file.metadata())
        .is_ok_and(|meta| value == std::ffi::OsStr::new(&format!("{}:{}", meta.dev(), meta.ino())))
}
