//! One fetch's HTTP: requests with this job's credentials, redirects on the same host, time and size limits, cancelled at any point.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::failures::{self, Answer};
use super::progress::Progress;
use super::rate::{Pace, RateWatch};
use super::reach::{DESTINATION, Destination};
use super::redirect;
use super::resolver::{self, GuardedResolver, OutOfReach};
use super::site::{Site, out_of_reach};
use crate::config::{GitConfig, names_a_proxy};
use crate::peer::retry_after;
use crate::protocol::{Code, Failure, GitCredentials, GitSource};

/// Some hosts look for `git/` before they speak git.
const USER_AGENT: &str = concat!("git/2.47.0 slipway/", env!("CARGO_PKG_VERSION"));
/// What a server says before a pack begins. libgit2 keeps it in memory.
const MAX_BEFORE_PACK: u64 = 8 << 20;
/// So many bytes of an answer that leads to a pack are collected without a slot.
const MAX_WITHOUT_SLOT: usize = 256 << 10;
/// A list of refs, of which little is kept: some four million of them.
const MAX_LISTING: u64 = 256 << 20;
const MAX_REDIRECTS: usize = 5;

/// The client that all fetches share. It follows no redirect by itself and keeps a connection only for a job that follows at once.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(15))
        .pool_idle_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(1)
        .tcp_nodelay(true)
        .referer(false)
        .dns_resolver(Arc::new(GuardedResolver))
        .build()
}

/// What one fetch asks with and is bounded by. Shared by its requests, which follow one another.
pub(super) struct Session {
    pub(super) site: Site,
    pub(super) cancel: CancellationToken,
    pub(super) progress: Arc<Progress>,
    destination: Arc<Destination>,
    /// The host has answered as a git server, now or before.
    speaks_git: AtomicBool,
    was_answered: AtomicBool,
    client: reqwest::Client,
    runtime: Handle,
    credentials: Option<GitCredentials>,
    idle: Duration,
    min_rate: u64,
    max_bytes: u64,
    /// The repository's URL; after a redirect the one that it was redirected to.
    base: Mutex<Url>,
    /// The refs as libgit2 is to see them.
    shown: Mutex<Bytes>,
    /// The server's own words for refusing what was asked.
    refusal: Mutex<Option<String>>,
    /// Why the transport gave up: libgit2 carries only text.
    failure: Mutex<Option<Failure>>,
}

/// What is asked of the server.
pub(super) enum Request {
    /// `GET info/refs`: in v0 all refs, in v2 what the server can do.
    Advertisement { v2: bool },
    /// `POST git-upload-pack` with a command of v2.
    LsRefs(Vec<u8>),
    /// `POST git-upload-pack` with wants and haves.
    UploadPack(Vec<u8>),
}

/// A response whose head was accepted.
pub(super) struct Reply {
    response: reqwest::Response,
    rate: RateWatch,
    /// Whether the answer leads to a pack.
    brings_pack: bool,
    /// Bytes before the pack.
    before_pack: u64,
    has_ended: bool,
}

impl Session {
    pub(super) fn new(
        source: &GitSource,
        site: Site,
        destination: Destination,
        client: reqwest::Client,
        config: &GitConfig,
        cancel: CancellationToken,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            site,
            cancel,
            progress,
            destination: Arc::new(destination),
            speaks_git: AtomicBool::new(false),
            was_answered: AtomicBool::new(false),
            client,
            runtime: Handle::current(),
            credentials: source.credentials.clone(),
            idle: config.idle_timeout,
            min_rate: config.min_rate,
            max_bytes: config.max_fetch_bytes,
            base: Mutex::new(source.url.clone()),
            shown: Mutex::default(),
            refusal: Mutex::default(),
            failure: Mutex::new(None),
        }
    }

    /// Blocking. Sends the request and waits for the response's head.
    pub(super) fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.wait_for_server(async {
            let (response, brings_pack) = match request {
                Request::Advertisement { v2 } => (self.advertisement(v2).await?, false),
                Request::LsRefs(body) => (self.upload_pack(body, true).await?, false),
                Request::UploadPack(body) => (self.upload_pack(body, false).await?, true),
            };
            Ok(Reply { response, rate: RateWatch::new(self.min_rate), brings_pack, before_pack: 0, has_ended: false })
        })
    }

    /// Blocking. The next piece of the body; `None` at its end. What leads to a pack is handed on only while the job holds a slot.
    pub(super) fn next(&self, reply: &mut Reply) -> Result<Option<Bytes>, Failure> {
        let mut collected = BytesMut::new();
        while !reply.has_ended {
            let piece = self.receive(reply)?;
            reply.has_ended = piece.is_none();
            let works = !reply.brings_pack || self.progress.traffic.has_slot();
            match piece {
                Some(piece) if works && collected.is_empty() => return Ok(Some(piece)),
                Some(piece) => collected.extend_from_slice(&piece),
                None => {}
            }
            if works || collected.len() >= MAX_WITHOUT_SLOT {
                break;
            }
        }
        if reply.brings_pack {
            self.take_a_slot()?;
        }
        Ok((!collected.is_empty()).then(|| collected.freeze()))
    }

    /// Blocking. Waits until the job holds its slot again: what follows is work.
    pub(super) fn take_a_slot(&self) -> Result<(), Failure> {
        self.block_on(async {
            self.progress.traffic.slot().await;
            Ok(())
        })
    }

    fn receive(&self, reply: &mut Reply) -> Result<Option<Bytes>, Failure> {
        let piece = self.wait_for_server(async {
            let asked = Instant::now();
            let piece = match tokio::time::timeout(self.idle, reply.response.chunk()).await {
                Err(_) => return Err(failures::stalled(&self.site, self.idle)),
                Ok(Err(error)) => return Err(failures::unreachable(&self.site, &error)),
                Ok(Ok(piece)) => piece,
            };
            Ok(piece.map(|piece| (piece, asked.elapsed())))
        })?;
        let Some((piece, waited)) = piece else { return Ok(None) };
        let in_pack = reply.brings_pack && self.progress.pack_has_begun();
        if !in_pack {
            reply.before_pack += piece.len() as u64;
            let limit = if reply.brings_pack { MAX_BEFORE_PACK } else { MAX_LISTING };
            if reply.before_pack > limit {
                return Err(failures::too_much_before_the_pack(&self.site, limit));
            }
        }
        let preparing = reply.brings_pack && !in_pack;
        if reply.rate.arrived(piece.len() as u64, waited, preparing) == Pace::TooSlow {
            return Err(failures::too_slow(&self.site, self.min_rate));
        }
        let received = self.progress.arrived(piece.len() as u64);
        if received > self.max_bytes {
            return Err(failures::fetch_too_large(&self.site, self.max_bytes));
        }
        Ok(Some(piece))
    }

    /// What libgit2 will read when it asks for the refs.
    pub(super) fn show(&self, advertisement: Vec<u8>) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Bytes::from(advertisement);
    }
    pub(super) fn shown(&self) -> Bytes {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn refused(&self, text: String) {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
    /// The server's own words for refusing what was asked, if it did.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The host is a git server: from now on its user is told what it answers.
    pub(super) fn note_git_server(&self) {
        self.speaks_git.store(true, Ordering::Relaxed);
    }
    /// What the job's user is told of `failure`, which came from asking the host.
    pub(super) fn told(&self, failure: Failure) -> Failure {
        let is_hosts = matches!(
            failure.code,
            Code::GitAuth
                | Code::GitRepositoryNotFound
                | Code::GitUnreachable
                | Code::GitCertificate
                | Code::GitStalled
                | Code::GitProtocol
                | Code::SourceTooLarge
        );
        // What was refused before anything was asked tells nothing of the host; a redirect to another host is its answer.
        let is_redirect = failure.code == Code::GitHostNotAllowed && self.was_answered.load(Ordering::Relaxed);
        if !(is_hosts || is_redirect) || self.speaks_git.load(Ordering::Relaxed) || !self.destination.keeps_its_answers() {
            return failure;
        }
        tracing::info!(host = %self.site.host, repository = %self.site.repository, %failure,
            "a job's git host in a private network did not answer as a git server; its user is told no more");
        failures::no_git_server(&self.site)
    }

    /// Remembers why the transport gives up; the first reason stands.
    pub(super) fn give_up(&self, failure: Failure) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
    }
    /// Why the transport gave up, if it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Session::block_on`]; meanwhile the job may lose its slot.
    fn wait_for_server<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.progress.traffic.set_waits(true);
        let result = self.block_on(work);
        self.progress.traffic.set_waits(false);
        result
    }

    /// Runs `work` on the caller's (blocking) thread, and drops it, sockets and all, the moment the token trips.
    fn block_on<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err(Failure::interrupted()),
                result = work => result,
            }
        })
    }

    async fn advertisement(&self, v2: bool) -> Result<reqwest::Response, Failure> {
        self.admit_behind_a_proxy().await?;
        let mut base = self.base();
        for _ in 0..=MAX_REDIRECTS {
            let url = beneath(&base, "info/refs", Some("service=git-upload-pack"));
            let request = speaking(v2, self.client.get(url.clone()));
            let response = self.send(request).await?;
            if response.status().is_redirection() {
                let location = response.headers().get(LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
                base = redirect::follow(&self.site, self.credentials.is_some(), &url, location)?;
                continue;
            }
            self.expect(&response, "application/x-git-upload-pack-advertisement")?;
            *self.base.lock().unwrap_or_else(PoisonError::into_inner) = base;
            return Ok(response);
        }
        Err(failures::not_understood(&self.site, "it redirects again and again"))
    }

    /// A proxy resolves the host's name itself: it is looked up here as well, where there is one. What only the proxy can resolve is the
    /// proxy's to refuse.
    async fn admit_behind_a_proxy(&self) -> Result<(), Failure> {
        if !names_a_proxy() {
            return Ok(());
        }
        let base = self.base();
        let Some(url::Host::Domain(name)) = base.host() else { return Ok(()) };
        match tokio::time::timeout(self.idle, resolver::admitted(name, Some(&self.destination))).await {
            Ok(Err(error)) => match error.downcast_ref::<OutOfReach>() {
                Some(OutOfReach(zone)) => Err(out_of_reach(&self.site, *zone)),
                None => Ok(()),
            },
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    async fn upload_pack(&self, body: Vec<u8>, v2: bool) -> Result<reqwest::Response, Failure> {
        let url = beneath(&self.base(), "git-upload-pack", None);
        let request = speaking(v2, self.client.post(url))
            .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
            .header(ACCEPT, "application/x-git-upload-pack-result")
            .body(body);
        let response = self.send(request).await?;
        if response.status().is_redirection() {
            return Err(failures::not_understood(&self.site, "it redirects in the middle of a fetch"));
        }
        self.expect(&response, "application/x-git-upload-pack-result")?;
        Ok(response)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let request = match &self.credentials {
            Some(c) => request.basic_auth(&c.username, Some(c.password.expose_secret())),
            None => request,
        };
        let answer = DESTINATION.scope(Arc::clone(&self.destination), request.send());
        match tokio::time::timeout(self.idle, answer).await {
            Err(_) => Err(failures::stalled(&self.site, self.idle)),
            Ok(Err(error)) => Err(failures::unreachable(&self.site, &error)),
            Ok(Ok(response)) => {
                self.was_answered.store(true, Ordering::Relaxed);
                Ok(response)
            }
        }
    }

    fn expect(&self, response: &reqwest::Response, content_type: &str) -> Result<(), Failure> {
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok());
        if !response.status().is_success() {
            let answer = Answer {
                status: response.status().as_u16(),
                authenticated: self.credentials.is_some(),
                retry_after: header(RETRY_AFTER.as_str()),
                rate_limited: header("x-ratelimit-remaining") == Some("0"),
            };
            return Err(failures::refused(&self.site, answer).asking_for(retry_after(response.headers())));
        }
        let given = header(CONTENT_TYPE.as_str()).unwrap_or("nothing");
        if given.split(';').next().map(str::trim) != Some(content_type) {
            return Err(failures::not_understood(&self.site, &format!("it is {given}, not git's smart HTTP")));
        }
        Ok(())
    }

    fn base(&self) -> Url {
        self.base.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Asks for protocol v2; a server that does not know it answers in v0.
fn speaking(v2: bool, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    if v2 { request.header("Git-Protocol", "version=2") } else { request }
}

/// `<repository>/<path>?<query>`.
fn beneath(repository: &Url, path: &str, query: Option<&str>) -> Url {
    let mut url = repository.clone();
    url.set_path(&format!("{}/{path}", repository.path().trim_end_matches('/')));
    url.set_query(query);
    url
}
