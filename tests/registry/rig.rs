//! Where the real parts are, images to push, a job's context, and what the registry and the Engine say afterwards.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bollard::query_parameters::{CreateImageOptions, ListImagesOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use slipway::config::{GenericRegistryConfig, RegistryConfig};
use slipway::image::{BuiltImage, labels};
use slipway::protocol::{DeploymentId, Failure, LogSink, LogType, ServiceId};
use slipway::registry::{PushedImage, RegistryStage, STALL_TIMEOUT};
use slipway::secrets::{FetchedSecrets, Redactor};
use slipway::stage::StageContext;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[allow(clippy::disallowed_methods, reason = "a test learns from its environment where the real parts are")]
pub fn address(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run make test, which starts the real parts"))
}
pub fn registry_host() -> String {
    address("SLIPWAY_TEST_REGISTRY")
}

pub async fn engine() -> Docker {
    let host = address("SLIPWAY_TEST_DOCKER_HOST");
    Docker::connect_with_unix(&host, 120, API_DEFAULT_VERSION).unwrap().negotiate_version().await.unwrap()
}

/// The registry of the rig, reached at `host` (itself or a proxy before it).
pub fn generic(host: &str) -> GenericRegistryConfig {
    GenericRegistryConfig {
        host: host.to_owned(),
        repository_prefix: "octo/".into(),
        username: Some(address("SLIPWAY_TEST_REGISTRY_USER")),
        password: Some(address("SLIPWAY_TEST_REGISTRY_PASSWORD").into()),
        // As the configuration's default has it.
        insecure: host.starts_with("127.") || host.starts_with("localhost"),
    }
}
pub async fn stage(config: GenericRegistryConfig) -> RegistryStage {
    stage_that_tells(config, &FetchedSecrets::default()).await
}
/// The same, where a test looks at what it fetches.
pub async fn stage_that_tells(config: GenericRegistryConfig, fetched: &FetchedSecrets) -> RegistryStage {
    RegistryStage::new(RegistryConfig::Generic(config), engine().await, STALL_TIMEOUT, fetched)
}

/// What `slipway check` finds of the registry.
pub async fn check(config: GenericRegistryConfig) -> Result<(), Failure> {
    slipway::registry::check(RegistryConfig::Generic(config)).await
}

/// `prefix` and 16 hexadecimal digits that no other test has.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut random = [0; 6];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    format!("{prefix}{}{:04x}", hex::encode(random), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Default)]
pub struct Log(Mutex<Vec<(LogType, String)>>);
impl LogSink for Log {
    fn line(&self, kind: LogType, text: &str) {
        self.0.lock().unwrap().push((kind, text.to_owned()));
    }
}

/// One attempt, as a stage is handed it.
pub struct Attempt {
    pub ctx: StageContext,
    log: Arc<Log>,
}
impl Attempt {
    pub fn new() -> Self {
        Self::of(&unique("svc"))
    }
    pub fn of(service: &str) -> Self {
        let log = Arc::new(Log::default());
        let ctx = StageContext {
            deployment: DeploymentId::parse(&unique("dpl")).unwrap(),
            service: ServiceId::parse(service).unwrap(),
            attempt: 1,
            cancel: CancellationToken::new(),
            log: log.clone(),
            redactor: Arc::new(Redactor::new(&[], &[], &[])),
            tasks: TaskTracker::new(),
        };
        Self { ctx, log }
    }
    pub fn tag(&self) -> String {
        format!("{}-{}", self.ctx.deployment, self.ctx.attempt)
    }
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().iter().map(|(kind, text)| format!("{kind:?} {text}\n")).collect()
    }
    /// An untagged image of this attempt in the Engine, with one layer of `size` random bytes.
    pub async fn image(&self, size: usize) -> BuiltImage {
        self.image_of_worker("worker-of-the-push-tests", size).await
    }
    pub async fn image_of_worker(&self, worker: &str, size: usize) -> BuiltImage {
        self.image_made_by(worker, "", size).await
    }
    /// `process`: the mark of the process that made it.
    pub async fn image_made_by(&self, worker: &str, process: &str, size: usize) -> BuiltImage {
        let label = |name: &str, value: &str| format!("LABEL {name}={value}");
        let changes = vec![
            label(labels::WORKER, worker),
            label(labels::DEPLOYMENT, self.ctx.deployment.as_str()),
            label(labels::ATTEMPT, &self.ctx.attempt.to_string()),
            label(labels::PROCESS, process),
        ];
        let options = CreateImageOptions { from_src: Some("-".into()), changes, ..Default::default() };
        let engine = engine().await;
        let mut answers = std::pin::pin!(engine.create_image(Some(options), Some(bollard::body_full(tar(size).into())), None));
        let mut id = None;
        while let Some(answer) = answers.next().await {
            id = answer.unwrap().status.filter(|status| status.starts_with("sha256:")).or(id);
        }
        BuiltImage { id: id.expect("the Engine imports the image") }
    }
    /// Names in the Engine that this attempt was given.
    pub async fn names_left(&self) -> Vec<String> {
        let tag = self.tag();
        all_names().await.into_iter().filter(|name| name.ends_with(&tag)).collect()
    }
}

pub async fn all_names() -> Vec<String> {
    let images = engine().await.list_images(Some(ListImagesOptionsBuilder::default().build())).await.unwrap();
    images.into_iter().flat_map(|image| image.repo_tags).collect()
}
pub async fn images_of_worker(worker: &str) -> Vec<String> {
    let filter = HashMap::from([("label", vec![format!("{}={worker}", labels::WORKER)])]);
    let options = ListImagesOptionsBuilder::default().filters(&filter).build();
    engine().await.list_images(Some(options)).await.unwrap().into_iter().map(|image| image.id).collect()
}
pub async fn is_in_engine(image: &BuiltImage) -> bool {
    engine().await.inspect_image(&image.id).await.is_ok()
}

/// The digest that the registry has under a tag, asked past Slipway.
pub async fn digest_in_registry(path: &str, tag: &str) -> Option<String> {
    let response = reqwest::Client::new()
        .head(format!("http://{}/v2/{path}/manifests/{tag}", registry_host()))
        .basic_auth(address("SLIPWAY_TEST_REGISTRY_USER"), Some(address("SLIPWAY_TEST_REGISTRY_PASSWORD")))
        .header("accept", "application/vnd.docker.distribution.manifest.v2+json")
        .send()
        .await
        .unwrap();
    let digest = response.headers().get("docker-content-digest")?;
    response.status().is_success().then(|| digest.to_str().unwrap().to_owned())
}
pub async fn is_pushed(pushed: &PushedImage) -> bool {
    let path = pushed.reference.repository().split_once('/').unwrap().1;
    digest_in_registry(path, pushed.reference.tag()).await.as_deref() == Some(pushed.reference.digest())
}

/// A tar archive of one file with random bytes, so that no two layers are the same.
fn tar(size: usize) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..4].copy_from_slice(b"data");
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    let mut random = std::fs::File::open("/dev/urandom").unwrap().take(size as u64);
    random.read_to_end(&mut archive).unwrap();
    archive.resize(archive.len().div_ceil(512) * 512 + 1024, 0);
    archive
}

pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A Dockerfile and a file over HTTP, which BuildKit fetches by itself: a BuildKit build without a session.
pub struct ServedContext {
    address: std::net::SocketAddr,
    _tasks: tokio::task::JoinSet<()>,
}

pub async fn serve_build_context() -> ServedContext {
    use axum::extract::Path;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dockerfile = move |Path((name, size)): Path<(String, usize)>| async move {
        format!("FROM scratch\nADD http://{address}/data/{name}/{size} /data\n")
    };
    let data = |Path((_, size)): Path<(String, usize)>| async move {
        let mut bytes = vec![0; size];
        std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
        bytes
    };
    let router = axum::Router::new()
        .route("/dockerfile/{name}/{size}", axum::routing::get(dockerfile))
        .route("/data/{name}/{size}", axum::routing::get(data));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    ServedContext { address, _tasks: tasks }
}

impl ServedContext {
    /// Leaves cache records of `size` bytes and no image.
    pub async fn build_with_buildkit(&self, size: usize) {
        let remote = format!("http://{}/dockerfile/{}/{size}", self.address, unique("f"));
        let engine = engine().await.with_request_modifier(|mut request| {
            let by_buildkit = request.uri().to_string().replace("version=1", "version=2");
            *request.uri_mut() = by_buildkit.parse().unwrap();
            request
        });
        let tag = unique("cache-test-");
        let options = bollard::query_parameters::BuildImageOptionsBuilder::default().remote(&remote).t(&tag).build();
        let mut lines = std::pin::pin!(engine.build_image(options, None, Some(bollard::body_full(bytes::Bytes::new()))));
        while let Some(line) = lines.next().await {
            line.unwrap();
        }
        let plain = self::engine().await;
        plain.remove_image(&tag, None::<bollard::query_parameters::RemoveImageOptions>, None).await.unwrap();
    }
}

/// Bytes of BuildKit's cache that no image shares.
#[derive(Debug, PartialEq, Eq)]
pub struct CacheSize {
    pub all: u64,
    /// Those that something uses at this moment: no prune removes them.
    pub in_use: u64,
}

/// By `GET /system/df`, whose answer on old engines bollard's types do not have.
pub async fn build_cache_size() -> CacheSize {
    let engine = engine().await.with_request_modifier(|mut request| {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some("/system/df".parse().unwrap());
        *request.uri_mut() = http::Uri::from_parts(parts).unwrap();
        request
    });
    let mut body = std::pin::pin!(engine.export_image("x"));
    let mut json = Vec::new();
    while let Some(chunk) = body.next().await {
        json.extend_from_slice(&chunk.unwrap());
    }
    let answer: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let records = answer["BuildCache"].as_array().cloned().unwrap_or_default();
    let unshared: Vec<_> = records.iter().filter(|record| record["Shared"] == false).collect();
    let bytes = |of: &dyn Fn(&serde_json::Value) -> bool| {
        unshared.iter().filter(|record| of(record)).map(|record| record["Size"].as_u64().unwrap()).sum()
    };
    CacheSize { all: bytes(&|_| true), in_use: bytes(&|record| record["InUse"] == true) }
}

/// Lets `latest` move.
pub fn allowed() -> futures_util::future::BoxFuture<'static, bool> {
    Box::pin(std::future::ready(true))
}
