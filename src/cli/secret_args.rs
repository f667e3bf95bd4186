//! Values that must not stand in a process list: a git login, a job's variables.

use std::io::Read;
use std::path::PathBuf;

use crate::config::{DotEnv, named_variable};
use crate::protocol::{EnvVar, GitCredentials};
use crate::secrets::SecretString;

/// A token's or variables' file may be so long.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Where the git token comes from. Never from the command line: every user of the machine can read that.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct GitLogin {
    /// User for the git server. Default: git; with enqueue, the repository's owner for GitHub.
    #[arg(long, value_name = "NAME")]
    pub(super) git_username: Option<String>,
    /// File that holds the git token or password. (There is no option for the token itself: others could read it in the process list.)
    #[arg(long, value_name = "FILE", conflicts_with = "git_token_env")]
    pub(super) git_token_file: Option<PathBuf>,
    /// Environment variable that holds the git token or password.
    #[arg(long, value_name = "NAME")]
    pub(super) git_token_env: Option<String>,
}

impl GitLogin {
    /// `None`: a public repository. `Err` says what is wrong with the arguments.
    pub(super) fn credentials(&self, default_username: &str) -> Result<Option<GitCredentials>, String> {
        let password = match (&self.git_token_file, &self.git_token_env) {
            (Some(path), _) => read(path)?.trim_end_matches(['\n', '\r']).to_owned().into(),
            (None, Some(name)) => named_variable(name).ok_or_else(|| format!("--git-token-env: {name} is not set"))?,
            (None, None) if self.git_username.is_some() => {
                return Err("--git-username needs --git-token-file or --git-token-env".into());
            }
            (None, None) => return Ok(None),
        };
        let username = self.git_username.clone().unwrap_or_else(|| default_username.to_owned());
        Ok(Some(GitCredentials { username, password }))
    }
}

/// The job's environment variables.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Variables {
    /// A variable of the job: KEY=VALUE, or KEY to take its value from this environment. Other users of this machine can read a VALUE
    /// here; for secrets use KEY alone or --env-file.
    #[arg(long = "env", value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// File of KEY=VALUE lines, as a .env file. --env wins over it.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
}

impl Variables {
    /// In the order given, the file's first; a later one replaces an earlier one of its name.
    pub(super) fn read(&self) -> Result<Vec<EnvVar>, String> {
        let mut variables: Vec<EnvVar> = Vec::new();
        let mut set = |key: String, value: SecretString| {
            variables.retain(|v| v.key != key);
            variables.push(EnvVar { key, value });
        };
        if let Some(path) = &self.env_file {
            let parsed = DotEnv::parse(&read(path)?);
            if let Some(line) = parsed.skipped_lines.first() {
                return Err(format!("{}: line {line} is no KEY=VALUE", path.display()));
            }
            parsed.variables.into_iter().for_each(|(key, value)| set(key, value.into()));
        }
        for argument in &self.env {
            match argument.split_once('=') {
                Some(("", _)) => return Err("--env: a variable without a name".into()),
                Some((key, value)) => set(key.to_owned(), value.into()),
                None => {
                    let value = named_variable(argument).ok_or_else(|| format!("--env {argument}: it is not set here"))?;
                    set(argument.clone(), value);
                }
            }
        }
        Ok(variables)
    }
}

fn read(path: &PathBuf) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let read = file.take(LONGEST_FILE + 1).read_to_string(&mut text);
    match read {
        Ok(n) if n as u64 > LONGEST_FILE => Err(format!("{} is larger than 1 MiB", path.display())),
        Ok(_) => Ok(text),
        Err(e) => Err(format!("{}: {e}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::ExposeSecret;

    #[test]
    fn variables_come_from_the_file_then_from_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("vars");
        std::fs::write(&file, "A=1\nB=two words\n").unwrap();
        let args = Variables { env: vec!["A=x=y".into(), "PATH".into()], env_file: Some(file) };
        let read = args.read().unwrap();
        let plain: Vec<_> = read.iter().map(|v| (v.key.as_str(), v.value.expose_secret())).collect();
        assert_eq!(plain[..2], [("B", "two words"), ("A", "x=y")]);
        assert_eq!(plain[2].0, "PATH");
        let missing = Variables { env: vec!["SURELY_NOT_SET_ANYWHERE".into()], env_file: None };
        assert!(missing.read().unwrap_err().contains("SURELY_NOT_SET_ANYWHERE"));
    }

    #[test]
    fn a_token_is_read_from_its_file_without_the_new_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "ghs_abc\n").unwrap();
        let login = GitLogin { git_username: None, git_token_file: Some(file), git_token_env: None };
        let credentials = login.credentials("octo").unwrap().unwrap();
        assert_eq!((credentials.username.as_str(), credentials.password.expose_secret()), ("octo", "ghs_abc"));
        let none = GitLogin { git_username: None, git_token_file: None, git_token_env: None };
        assert!(none.credentials("octo").unwrap().is_none());
    }
}
