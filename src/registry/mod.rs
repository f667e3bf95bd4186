//! REGISTRY: BuiltImage → [`PushedImage`]: push through the Engine, confirmed by digest; `latest` by our own manifest PUT.

mod aws_login;
mod challenge;
mod ecr;
mod ecr_failure;
mod ecr_lifecycle;
mod export;
mod generic;
mod http_auth;
mod local_name;
mod manifest;
mod name;
mod push;
mod push_failure;
mod push_stream;
mod target;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::RegistryConfig;
use crate::image::BuiltImage;
use crate::protocol::{Code, Failure, ImageRef, RegistryType};
use crate::secrets::{FetchedSecrets, SecretString};
use crate::stage::StageContext;

use ecr::{Ecr, TokenAge};
use generic::Generic;
use http_auth::{RegistryHttp, Trouble};
use local_name::LocalName;
use manifest::Confirmation;
use push::PushError;
use push_failure::Refusal;
use target::{Credentials, Target};

pub use export::ExportTarget;
pub use http_auth::MaySend;
pub(crate) use local_name::HELD_REPOSITORY;
pub(crate) use name::attempt_tag;

/// How long a push of the daemon may make no progress.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// An image that the registry has, confirmed under its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedImage {
    pub reference: ImageRef,
    pub registry: RegistryType,
}

/// What became of the tag `latest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latest {
    Moved,
    /// The caller said at the last moment that it may not be moved.
    Withheld,
}

enum Backend {
    Ecr(Box<Ecr>),
    Generic(Generic),
}

/// Pushes images to the configured registry. One per process: it remembers tokens and repositories.
pub struct RegistryStage {
    backend: Backend,
    engine: bollard::Docker,
    http: RegistryHttp,
    stall_timeout: Duration,
    /// `IMAGE_MAX`, for images that somebody else than the Engine writes here; 0: no limit.
    image_max: u64,
    /// Ids of images that may have a name under [`HELD_REPOSITORY`].
    held: Mutex<HashSet<String>>,
}

/// How long a registry may take to show that it is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// Whether the registry answers and takes the credentials; writes nothing there. Says address, cause and cure.
pub async fn check(config: RegistryConfig) -> Result<(), Failure> {
    let (backend, http) = access(config, &FetchedSecrets::default());
    match backend {
        Backend::Ecr(ecr) => ecr.check().await,
        Backend::Generic(generic) => {
            let target = generic.registry(String::new())?;
            let doing = format!("The registry {} cannot be used", target.host);
            manifest::ping(&http, &target).await.map_err(|trouble| trouble.failure(&doing))
        }
    }
}

fn access(config: RegistryConfig, fetched: &FetchedSecrets) -> (Backend, RegistryHttp) {
    let host = match &config {
        RegistryConfig::Ecr(config) => config.registry_host.as_deref().unwrap_or_default(),
        RegistryConfig::Generic(config) => &config.host,
    };
    let http = RegistryHttp::new(name::is_loopback(host), fetched.clone());
    let backend = match config {
        RegistryConfig::Ecr(config) => Backend::Ecr(Box::new(Ecr::new(config, fetched.clone()))),
        RegistryConfig::Generic(config) => Backend::Generic(Generic::new(config)),
    };
    (backend, http)
}

impl RegistryStage {
    /// No I/O yet. `engine` pushes; a push that makes no progress for `stall_timeout` fails. Tokens go to `fetched` as soon as they are there.
    pub fn new(config: RegistryConfig, engine: bollard::Docker, stall_timeout: Duration, fetched: &FetchedSecrets) -> Self {
        let (backend, http) = access(config, fetched);
        Self { backend, engine, http, stall_timeout, image_max: 0, held: Mutex::default() }
    }

    /// `bytes`: `IMAGE_MAX`; 0: no limit.
    pub fn with_image_max(self, bytes: u64) -> Self {
        Self { image_max: bytes, ..self }
    }

    /// Tags `<deployment>-<attempt>`, pushes, removes that name from the Engine again (also when it fails or is cancelled),
    /// confirms the digest. Prints progress to the log. Retries nothing but an expired token once: the pipeline retries.
    ///
    /// The Engine deletes an image with its last name. The image is therefore kept under a name that nobody else can know,
    /// after a failure too, so that the push alone can be tried again: call [`RegistryStage::release`] when it is not.
    pub async fn push(&self, image: &BuiltImage, ctx: &StageContext) -> Result<PushedImage, Failure> {
        let target = unless_cancelled(ctx, self.target(ctx, TokenAge::Any)).await?;
        let tag = attempt_tag(&ctx.deployment, ctx.attempt);
        ctx.info(format!("Pushing {}:{tag}", target.repository()));
        self.hold(image).await?;
        let name = LocalName::give(&self.engine, image, &target.repository(), &tag).await?;
        let pushed = unless_cancelled(ctx, self.push_and_confirm(target, &tag, ctx)).await;
        name.remove().await;
        if pushed.is_ok() || ctx.cancel.is_cancelled() {
            self.release(image).await;
        }
        pushed
    }

    /// Whether the registry answers now and takes the credentials. One that hangs costs a few seconds.
    pub async fn answers(&self, ctx: &StageContext) -> bool {
        let asking = async {
            let target = self.target(ctx, TokenAge::Any).await.ok()?;
            manifest::ping(&self.http, &target).await.ok()
        };
        tokio::time::timeout(ANSWERS_WITHIN, asking).await.is_ok_and(|answer| answer.is_some())
    }

    /// Lets go of an image whose push will not be tried again: with its last name it goes. Harmless where nothing is held.
    pub async fn release(&self, image: &BuiltImage) {
        let was_held = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&image.id);
        if was_held {
            LocalName::held(&self.engine, image).remove().await;
        }
    }

    /// Moves `latest` to the pushed manifest (GET by digest, PUT by tag). Called last, behind the outcome's fence; `may_move` is asked
    /// right before the PUT, because a tag has no owner in a registry: whoever writes last wins.
    pub async fn move_latest(&self, image: &PushedImage, ctx: &StageContext, may_move: MaySend<'_>) -> Result<Latest, Failure> {
        let moving = async {
            let target = self.target(ctx, TokenAge::Any).await?;
            match manifest::retag(&self.http, &target, image.reference.digest(), "latest", may_move).await {
                Ok(()) => Ok(Latest::Moved),
                Err(Trouble::Withheld) => Ok(Latest::Withheld),
                Err(trouble) => Err(trouble.failure(&format!("The tag latest of {} was not moved", target.repository()))),
            }
        };
        unless_cancelled(ctx, moving).await
    }

    /// Secrets that are known from the start: registry password, AWS keys; passwords also as logins join and encode them.
    pub fn secrets(&self) -> Vec<SecretString> {
        match &self.backend {
            Backend::Ecr(ecr) => ecr.secrets(),
            Backend::Generic(generic) => generic.credentials().iter().flat_map(Credentials::secrets).collect(),
        }
    }

    async fn target(&self, ctx: &StageContext, age: TokenAge) -> Result<Target, Failure> {
        match &self.backend {
            Backend::Ecr(ecr) => ecr.target(&ctx.service, age, |line| ctx.warn(line)).await,
            Backend::Generic(generic) => generic.target(&ctx.service),
        }
    }

    async fn push_and_confirm(&self, target: Target, tag: &str, ctx: &StageContext) -> Result<PushedImage, Failure> {
        let (target, digest) = self.push_with_a_good_token(target, tag, ctx).await?;
        self.confirmed(&target, tag, &digest, ctx).await
    }

    /// What the registry says about `digest` under `tag`, turned into the image that is reported.
    async fn confirmed(&self, target: &Target, tag: &str, digest: &str, ctx: &StageContext) -> Result<PushedImage, Failure> {
        match manifest::confirm(&self.http, target, tag, digest).await {
            Confirmation::Confirmed => {}
            Confirmation::Unproved(why) => {
                ctx.warn(format!(
                    "The registry could not be asked whether it has the image ({why}); the word of who pushed it counts."
                ));
            }
            Confirmation::Refuted(why) => {
                return Err(Failure::new(
                    Code::RegistryDigest,
                    format!("The image was pushed as {digest}, but {why}."),
                    "Check what stands between this host and the registry (proxy, cache, replication).",
                ));
            }
        }
        let reference = ImageRef::new(&target.repository(), tag, digest)
            .ok_or_else(|| Failure::new(Code::WorkerInternal, "The pushed image's reference is malformed.", ""))?;
        Ok(PushedImage { reference, registry: target.kind })
    }

    /// An ECR token may be taken back before it runs out: refused, the push is tried once more with a fresh one.
    async fn push_with_a_good_token(&self, target: Target, tag: &str, ctx: &StageContext) -> Result<(Target, String), Failure> {
        let refused = match push::push(&self.engine, &target, tag, self.stall_timeout, &self.http, ctx).await {
            Ok(digest) => return Ok((target, digest)),
            Err(refused) => refused,
        };
        match (&self.backend, &refused) {
            (Backend::Ecr(_), PushError::Refused(refusal, _)) if refusal.asks_for_fresh_credentials() => {
                let fresh = self.target(ctx, TokenAge::Fresh).await?;
                let digest = push::push(&self.engine, &fresh, tag, self.stall_timeout, &self.http, ctx)
                    .await
                    .map_err(PushError::into_failure)?;
                Ok((fresh, digest))
            }
            (Backend::Ecr(ecr), PushError::Refused(Refusal::NoRepository, _)) => {
                ecr.forget(&target.path).await;
                Err(refused.into_failure())
            }
            (Backend::Generic(_), PushError::Refused(Refusal::Unauthorized, _)) => {
                self.push_if_the_login_is_good(target, tag, refused, ctx).await
            }
            _ => Err(refused.into_failure()),
        }
    }

    /// An Engine whose first word was answered 503 or 429 goes on without a login, and is refused for that. So the registry is
    /// asked about the credentials: where it takes them the push is tried once more, where it is away that is the failure.
    async fn push_if_the_login_is_good(
        &self,
        target: Target,
        tag: &str,
        refused: PushError,
        ctx: &StageContext,
    ) -> Result<(Target, String), Failure> {
        if let Err(trouble) = manifest::ping(&self.http, &target).await {
            let failure = trouble.failure(&format!("The push to {} was refused", target.repository()));
            return Err(if failure.code == Code::RegistryUnreachable { failure } else { refused.into_failure() });
        }
        let digest =
            push::push(&self.engine, &target, tag, self.stall_timeout, &self.http, ctx).await.map_err(PushError::into_failure)?;
        Ok((target, digest))
    }

    async fn hold(&self, image: &BuiltImage) -> Result<(), Failure> {
        // Noted first: the Engine may carry it out and lose its answer.
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(image.id.clone());
        LocalName::hold(&self.engine, image).await
    }
}

/// Drops `work` when the job's token trips.
async fn unless_cancelled<T>(ctx: &StageContext, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = ctx.cancel.cancelled() => Err(Failure::interrupted()),
        result = work => result,
    }
}
