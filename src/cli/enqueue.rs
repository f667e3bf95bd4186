//! `slipway enqueue`: makes a job and pushes it; `--follow` watches it to its end.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::order::{Order, parse_builder, parse_git_url, parse_port, parse_repository, parse_time};
use super::secret_args::{GitLogin, Variables};
use super::{follow, new_id, start};
use crate::config::{QueueConfig, Settings};
use crate::exit::Exit;
use crate::protocol::{BranchName, CommitSha, DeploymentId, Port, RepositoryName, ServiceId};
use crate::queue::Producer;

/// Push a build job to the queue and print its deployment id.
///
/// The id goes to standard output alone, words about it to standard error: ID=$(slipway enqueue octo/hello).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slipway enqueue octo/hello --branch main --follow
  slipway enqueue octo/hello --commit 3f9a… --git-token-env GITHUB_TOKEN
  slipway enqueue team/app --git-url https://git.example.com --git-username ci --git-token-file /run/secrets/git
  slipway enqueue octo/hello --env NODE_ENV=production --env-file .env.production --port 80:3000

--follow asks {API_URL}/follow/ID, which `slipway listen` serves. A real dashboard has no such route: watch the deployment there.")]
pub(super) struct Args {
    /// owner/name
    #[arg(value_parser = parse_repository)]
    repository: RepositoryName,
    /// Branch or tag.
    #[arg(long, default_value = "main", value_parser = BranchName::parse)]
    branch: BranchName,
    /// The whole hash of a commit. Default: the branch's tip.
    #[arg(long, value_name = "SHA", value_parser = |text: &str| CommitSha::parse(&text.to_ascii_lowercase()))]
    commit: Option<CommitSha>,
    /// Path of the Dockerfile in the repository. Default: Dockerfile.
    #[arg(long, value_name = "PATH")]
    dockerfile: Option<String>,
    /// Build by buildpacks with this one of the worker's BUILDPACKS_BUILDERS, whether or not there is a Dockerfile.
    #[arg(long, value_name = "IMAGE", value_parser = parse_builder, conflicts_with = "dockerfile")]
    builder: Option<String>,
    /// End the deployment as failed after this time (seconds, or 90s, 5m, 2h). More than the worker's BUILD_TIMEOUT counts for nothing.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    build_timeout: Option<Duration>,
    /// Service that the image is for; it names the image's repository. Default: after the git repository.
    #[arg(long, value_name = "ID", value_parser = ServiceId::parse)]
    service: Option<ServiceId>,
    /// Deployment id. Default: 20 random characters.
    #[arg(long, value_name = "ID", value_parser = DeploymentId::parse)]
    id: Option<DeploymentId>,
    /// Put the job in front of all others instead of behind them.
    #[arg(long)]
    front: bool,
    /// Base of another git server; {URL}/{REPOSITORY}.git is cloned. Default: GitHub.
    #[arg(long, value_name = "URL", value_parser = parse_git_url)]
    git_url: Option<Url>,
    #[command(flatten)]
    login: GitLogin,
    #[command(flatten)]
    variables: Variables,
    /// A port of the service and the container's behind it. May be repeated.
    #[arg(long = "port", value_name = "SERVICE:CONTAINER", value_parser = parse_port)]
    ports: Vec<Port>,
    /// Print the deployment's status and lines as they come, and end with it: 0 when it is built, 1 when it failed or was cancelled.
    #[arg(long)]
    follow: bool,
}

pub(super) fn run(args: Args, config_file: Option<PathBuf>) -> Exit {
    let (settings, queue) = match start::with_queue(config_file) {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let (front, following) = (args.front, args.follow);
    let order = match order(args) {
        Ok(order) => order,
        Err(problem) => return start::fail(Exit::Usage, problem),
    };
    let _log = match start::log_of(&settings) {
        Ok(log) => log,
        Err(exit) => return exit,
    };
    start::block_on(async move {
        let result =
            if following { push_and_follow(&settings, &queue, &order, front).await } else { push(&queue, &order, front).await };
        result.unwrap_or_else(|exit| exit)
    })
}

fn order(args: Args) -> Result<Order, String> {
    let owner = args.repository.as_str().split('/').next().unwrap_or_default();
    let default_username = if args.git_url.is_none() { owner } else { "git" };
    let service = args.service.or_else(|| new_id::service(args.repository.as_str()));
    Ok(Order {
        deployment: args.id.or_else(new_id::deployment).ok_or("the system gave no random bytes for an id; name one with --id")?,
        service: service.ok_or("no service id can be made of the repository's name; name one with --service")?,
        credentials: args.login.credentials(default_username)?,
        repository: args.repository,
        branch: args.branch,
        commit: args.commit,
        git_url: args.git_url,
        dockerfile: args.dockerfile,
        builder: args.builder,
        build_timeout: args.build_timeout,
        env: args.variables.read()?,
        ports: args.ports,
    })
}

async fn push(queue: &QueueConfig, order: &Order, front: bool) -> Result<Exit, Exit> {
    let unavailable = |e| start::fail(Exit::Unavailable, e);
    let producer = Producer::connect(queue).await.map_err(unavailable)?;
    let waiting = producer.enqueue(&order.payload(), &order.deployment, front).await.map_err(unavailable)?;
    let place = if front { "in front of" } else { "in" };
    let Order { repository, branch, deployment, .. } = order;
    eprintln!("slipway: pushed {repository} ({branch}) as {deployment} {place} {}; jobs there: {waiting}", queue.queue_name);
    Ok(start::output(deployment))
}

/// Follows first and pushes then: not a line is missed, and where nobody can be followed nothing is pushed.
async fn push_and_follow(settings: &Settings, queue: &QueueConfig, order: &Order, front: bool) -> Result<Exit, Exit> {
    let dashboard = settings.dashboard_address().map_err(|e| start::fail(Exit::Config, e))?;
    let following = follow::connect(&dashboard, &order.deployment)
        .await
        .map_err(|e| start::fail(Exit::Unavailable, format!("{e}. Nothing was pushed")))?;
    push(queue, order, front).await?;
    Ok(following.print().await)
}
