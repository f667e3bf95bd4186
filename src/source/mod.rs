//! SOURCE: git → [`SourceTree`], a commit's tree, readable without a checkout.
//!
//! The way of a fetch: the host is admitted ([`site`], [`reach`]), the repository's mirror is locked ([`mirror`], [`generation`]), the server is
//! asked for its refs ([`ls_refs`]), what is missing is fetched by libgit2 ([`acquire`]) through our own transport ([`transport`], [`http`]),
//! and the commit's tree is walked ([`walk`], [`tree_object`]) and given the content that a checkout has ([`attributes`]).

mod acquire;
mod advertisement;
mod attributes;
mod commit_object;
mod failures;
mod fetch;
mod generation;
mod history;
mod http;
mod libgit2;
mod listing;
mod local;
mod ls_refs;
mod mirror;
mod name;
mod objects;
mod packet;
mod progress;
mod rate;
mod reach;
mod redirect;
mod refs;
mod resolver;
mod site;
mod traffic;
mod transport;
mod tree;
mod tree_object;
mod walk;
mod zone;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use traffic::Traffic;
pub use tree::{CommitInfo, EntryKind, Flaw, SourceTree, TreeEntry};

use crate::config::GitConfig;
use crate::protocol::{BranchName, Code, CommitRef, Failure, GitSource};
use crate::stage::StageContext;
use fetch::Order;
use http::Session;
use ls_refs::ManyRefs;
use mirror::Mirrors;
use progress::Progress;
use reach::{Destination, PrivateNames, Reach};
use site::Site;
pub use site::host_of;
use walk::Limits;

/// How often a long fetch says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// The git stage: bare mirrors under `WORK_DIR/cache/git`, one per repository.
pub struct GitSourceStage {
    config: GitConfig,
    mirrors: Arc<Mirrors>,
    client: reqwest::Client,
    many_refs: Arc<ManyRefs>,
    private_names: Arc<PrivateNames>,
}

impl GitSourceStage {
    /// `cache` is created when missing. Registers the transport with libgit2 once per process.
    pub fn new(config: GitConfig, cache: PathBuf) -> Result<Self, Failure> {
        libgit2::prepare(config.max_file_bytes).map_err(|e| internal(format!("libgit2 cannot be set up: {}", e.message())))?;
        let mirrors = Mirrors::new(cache).map_err(|e| failures::cache_io("its folder cannot be made", &e))?;
        let client = http::client().map_err(|e| internal(format!("the HTTP client cannot be set up: {e}")))?;
        Ok(Self { config, mirrors: Arc::new(mirrors), client, many_refs: Arc::default(), private_names: Arc::default() })
    }

    /// Authenticates with this job's credentials, fetches what is missing, and opens the commit's tree.
    /// Says in the log what it fetches, its progress on long work, and the commit that it found.
    pub async fn fetch(
        &self,
        source: &GitSource,
        branch: &BranchName,
        commit: &CommitRef,
        ctx: &StageContext,
    ) -> Result<SourceTree, Failure> {
        self.fetch_watched(source, branch, commit, ctx, &Arc::default()).await
    }

    /// The same; `traffic` tells meanwhile what comes from the server, and gives and takes the job's slot.
    pub async fn fetch_watched(
        &self,
        source: &GitSource,
        branch: &BranchName,
        commit: &CommitRef,
        ctx: &StageContext,
        traffic: &Arc<Traffic>,
    ) -> Result<SourceTree, Failure> {
        let site = Site::admit(&source.url, &self.config.allowed_hosts)?;
        let destination = Destination::new(&source.url, Reach::of(&source.url, &self.config), &self.private_names);
        destination.admit_literal(&source.url).map_err(|zone| site::out_of_reach(&site, zone))?;
        let wanted = match commit {
            CommitRef::Tip => format!("branch {branch}"),
            CommitRef::Exact(sha) if sha.as_str().len() != 40 => return Err(failures::sha256_unsupported(&site)),
            CommitRef::Exact(sha) => format!("branch {branch}, commit {}", &sha.as_str()[..7]),
        };
        ctx.info(format!("Fetching {} ({wanted}) from {}", site.repository, site.host));
        // Another job of the same repository may be waiting for the server, or for a slot.
        traffic.set_waits(true);
        let locked = self.mirrors.lock(&source.url, &ctx.cancel).await;
        traffic.set_waits(false);
        let locked = locked.map_err(|e| failures::cache_io("the mirror cannot be locked", &e))?;
        let Some(locked) = locked else { return Err(Failure::interrupted()) };

        let progress = Arc::new(Progress::with(Arc::clone(traffic)));
        let session = Arc::new(Session::new(
            source,
            site,
            destination,
            self.client.clone(),
            &self.config,
            ctx.cancel.clone(),
            Arc::clone(&progress),
        ));
        let order = Order {
            url: source.url.to_string(),
            branch: branch.clone(),
            commit: commit.clone(),
            limits: Limits::of(&self.config),
            many_refs: Arc::clone(&self.many_refs),
        };
        let host = session.site.host.clone();
        let task = ctx.tasks.spawn_blocking(move || fetch::run(&order, &session, &locked));
        let tree = told(task, ctx, || progress.line(&host)).await?;
        ctx.info(commit_line(&tree.commit));
        tree.warnings.iter().for_each(|warning| ctx.warn(warning.clone()));
        Ok(tree)
    }

    /// Opens a repository on this machine, read-only and without network, for `slipway build PATH`. `commit` is anything that names one;
    /// `HEAD` when absent. What is not committed is not built, and the log says so.
    pub async fn open_local(&self, path: &Path, commit: Option<&str>, ctx: &StageContext) -> Result<SourceTree, Failure> {
        ctx.info(format!("Reading {}", failures::printable(&path.display().to_string(), 200)));
        let (path, commit, limits) = (path.to_owned(), commit.map(str::to_owned), Limits::of(&self.config));
        let cancel = ctx.cancel.clone();
        let task = ctx.tasks.spawn_blocking(move || local::open(&path, commit.as_deref(), limits, &cancel));
        let local = told(task, ctx, || "Reading the commit's tree".to_owned()).await?;
        ctx.info(commit_line(&local.tree.commit));
        local.tree.warnings.iter().for_each(|warning| ctx.warn(warning.clone()));
        match local.uncommitted {
            0 => {}
            local::SHOWN_CHANGES => ctx.info("Changes of the work tree that are not committed are not built."),
            n => {
                ctx.info(format!("Changes of the work tree that are not committed are not built; files with such changes: {n}."))
            }
        }
        Ok(local.tree)
    }

    /// Removes mirrors, least recently used first, until the cache is below its limit. Never one in use.
    /// Returns how many bytes went.
    pub async fn evict(&self) -> Result<u64, Failure> {
        self.evict_to(self.config.cache_max_bytes).await
    }

    /// The same until at most `limit` bytes are left.
    pub async fn evict_to(&self, limit: u64) -> Result<u64, Failure> {
        self.on_mirrors(move |mirrors| mirrors.evict(limit), "old mirrors cannot be removed").await
    }

    /// Bytes of all mirrors.
    pub async fn cache_size(&self) -> Result<u64, Failure> {
        self.on_mirrors(Mirrors::size, "the mirrors cannot be measured").await
    }

    /// On a thread that may wait for the disk.
    async fn on_mirrors(
        &self,
        work: impl FnOnce(&Mirrors) -> io::Result<u64> + Send + 'static,
        doing: &'static str,
    ) -> Result<u64, Failure> {
        let mirrors = Arc::clone(&self.mirrors);
        match tokio::task::spawn_blocking(move || work(&mirrors)).await {
            Ok(done) => done.map_err(|e| failures::cache_io(doing, &e)),
            Err(e) => Err(internal(format!("the thread that looks after the mirrors ended early: {e}"))),
        }
    }
}

/// Waits for a stage's thread, and says every few seconds how far it is. The thread watches the token itself and is gone when this returns.
async fn told<T>(mut task: JoinHandle<Result<T, Failure>>, ctx: &StageContext, line: impl Fn() -> String) -> Result<T, Failure> {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + TOLD_EVERY, TOLD_EVERY);
    let joined = loop {
        tokio::select! {
            joined = &mut task => break joined,
            _ = tick.tick() => ctx.info(line()),
        }
    };
    match joined {
        _ if ctx.cancel.is_cancelled() => Err(Failure::interrupted()),
        Ok(result) => result,
        Err(e) => Err(internal(format!("the thread that reads the repository ended early: {e}"))),
    }
}

/// `Commit abc1234 “summary”, 2024-05-01 12:34:56 UTC`.
fn commit_line(commit: &CommitInfo) -> String {
    let date = time::OffsetDateTime::from_unix_timestamp(commit.time).map(|t| {
        format!(
            ", {:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    });
    format!("Commit {} “{}”{}", &commit.sha.as_str()[..7], commit.summary, date.unwrap_or_default())
}

fn internal(cause: String) -> Failure {
    Failure::new(Code::WorkerInternal, format!("{cause}."), "")
}
