//! `slipway build`: the pipeline once, without Redis and dashboard.

use std::path::PathBuf;

use super::order::parse_git_url;
use super::secret_args::{GitLogin, Variables};
use super::{new_id, start};
use crate::exit::Exit;
use crate::protocol::{BranchName, CommitRef, CommitSha, DeploymentId, ServiceId};
use crate::worker::{BuildFrom, SingleBuild};

/// Build once and show everything, without Redis and dashboard: a look at why a build fails.
///
/// The same pipeline as the worker's: the commit is read from git (what is not committed is not built), built by the Engine's
/// BuildKit, and with --push pushed to the configured registry.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slipway build .
  slipway build https://github.com/octo/hello.git --branch main --git-token-env GITHUB_TOKEN
  slipway build . --commit 3f9a… --dockerfile docker/Dockerfile --env-file .env.production --push")]
pub(super) struct Args {
    /// A git repository: a folder on this machine, or an http(s) URL.
    #[arg(value_name = "PATH_OR_URL")]
    from: String,
    /// Branch or tag. Default: main for a URL, the checked-out branch for a folder.
    #[arg(long, value_parser = BranchName::parse)]
    branch: Option<BranchName>,
    /// The whole hash of a commit. Default: the branch's tip.
    #[arg(long, value_name = "SHA", value_parser = |text: &str| CommitSha::parse(&text.to_ascii_lowercase()))]
    commit: Option<CommitSha>,
    /// Path of the Dockerfile in the repository. Default: Dockerfile.
    #[arg(long, value_name = "PATH")]
    dockerfile: Option<String>,
    /// Service that the image is for; its build cache is used. Default: after the repository.
    #[arg(long, value_name = "ID", value_parser = ServiceId::parse)]
    service: Option<ServiceId>,
    #[command(flatten)]
    login: GitLogin,
    #[command(flatten)]
    variables: Variables,
    /// Push the image to the configured registry and print its reference.
    #[arg(long)]
    push: bool,
}

pub(super) fn run(args: Args, config_file: Option<PathBuf>) -> Exit {
    let settings = match start::settings(config_file) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let config = match settings.single_build(args.push) {
        Ok(config) => config,
        Err(errors) => return start::fail(Exit::Config, errors),
    };
    let request = args.ids().and_then(|(deployment, service)| {
        Ok(SingleBuild {
            config,
            deployment,
            service,
            from: from(&args.from, &args.login)?,
            branch: args.branch,
            commit: args.commit.map_or(CommitRef::Tip, CommitRef::Exact),
            dockerfile: args.dockerfile,
            env: args.variables.read()?,
        })
    });
    let request = match request {
        Ok(request) => request,
        Err(problem) => return start::fail(Exit::Usage, problem),
    };
    match start::log_of(&settings) {
        Ok(log) => start::block_on(crate::worker::build_once(request, log.secrets.clone())),
        Err(exit) => exit,
    }
}

impl Args {
    fn ids(&self) -> Result<(DeploymentId, ServiceId), String> {
        let deployment = new_id::deployment().ok_or("the system gave no random bytes for an id")?;
        let service = self.service.clone().or_else(|| new_id::service(name_of(&self.from)));
        Ok((deployment, service.ok_or("no service id can be made of the repository's name; name one with --service")?))
    }
}

fn from(text: &str, login: &GitLogin) -> Result<BuildFrom, String> {
    if text.contains("://") {
        // Not repeated in the message: it may hold a password.
        let url = parse_git_url(text).map_err(|problem| format!("the repository's URL {problem}"))?;
        return Ok(BuildFrom::Url { url, credentials: login.credentials("git")? });
    }
    let path = std::fs::canonicalize(text).map_err(|e| format!("{text}: {e}"))?;
    if !path.is_dir() {
        return Err(format!("{text} is not a folder"));
    }
    Ok(BuildFrom::Folder(path))
}

/// `octo/hello` of `https://github.com/octo/hello.git`; the folder's own name of a path.
fn name_of(from: &str) -> &str {
    if let Some((_, rest)) = from.split_once("://") {
        let path = rest.split_once('/').map_or(rest, |(_, path)| path);
        return path.trim_end_matches('/').trim_end_matches(".git");
    }
    match std::path::Path::new(from).file_name().and_then(|n| n.to_str()) {
        Some(name) => name,
        None => "here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_what_is_built() {
        assert_eq!(name_of("https://github.com/octo/hello.git"), "octo/hello");
        assert_eq!(name_of("/home/me/app/"), "app");
        assert_eq!(name_of("."), "here");
    }

    #[test]
    fn a_url_with_a_password_is_refused_and_not_repeated() {
        let login = GitLogin { git_username: None, git_token_file: None, git_token_env: None };
        let problem = from("https://me:hunter22@git.example.com/a/b.git", &login).unwrap_err();
        assert!(!problem.contains("hunter22"), "{problem}");
        assert!(from("/surely/not/here", &login).unwrap_err().contains("/surely/not/here"));
    }
}
