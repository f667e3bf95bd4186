//! A registry that wants a Bearer token, as ghcr.io and Docker Hub do: a real one with a token server of the test's own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use slipway::config::GenericRegistryConfig;
use slipway::protocol::Code;
use slipway::secrets::{FetchedSecrets, Redactor};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::rig::{self, Attempt, base64, stage, stage_that_tells};

const USER: &str = "octo";
const PASSWORD: &str = "a-token-of-the-user";

struct TokenRegistry {
    host: String,
    scopes: Arc<Mutex<Vec<String>>>,
    /// Those that it gave out.
    tokens: Arc<Mutex<Vec<String>>>,
    dir: tempfile::TempDir,
    _registry: Child,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Signer {
    key: std::path::PathBuf,
    certificate: String,
    scopes: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<Vec<String>>>,
}

impl TokenRegistry {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("cert.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tokens", "-days", "2", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.await.expect("openssl is installed by make test").success());
        let pem = std::fs::read_to_string(&certificate).unwrap();
        let der = pem.lines().filter(|line| !line.starts_with("-----")).collect::<String>();

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let realm = format!("http://{}/token", listener.local_addr().unwrap());
        let scopes = Arc::new(Mutex::new(Vec::new()));
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let signer = Signer { key, certificate: der, scopes: scopes.clone(), tokens: tokens.clone() };
        let router = axum::Router::new().route("/token", axum::routing::get(give_token)).with_state(signer);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });

        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let registry = start_registry(dir.path(), free, &realm, &certificate).await;
        Self { host: free.to_string(), scopes, tokens, dir, _registry: registry, _tasks: tasks }
    }
    fn config(&self, password: &str) -> GenericRegistryConfig {
        GenericRegistryConfig {
            host: self.host.clone(),
            repository_prefix: "octo/".into(),
            username: Some(USER.into()),
            password: Some(password.to_owned().into()),
            insecure: true,
        }
    }
    /// The digest under a tag, read from the registry's own disk.
    fn digest_of(&self, path: &str, tag: &str) -> Option<String> {
        let link = format!("data/docker/registry/v2/repositories/{path}/_manifests/tags/{tag}/current/link");
        std::fs::read_to_string(self.dir.path().join(link)).ok()
    }
}

async fn start_registry(dir: &Path, address: SocketAddr, realm: &str, certificate: &Path) -> Child {
    let config = serde_json::json!({
        "version": "0.1",
        "log": { "level": "error" },
        "storage": { "filesystem": { "rootdirectory": dir.join("data") } },
        "http": { "addr": address.to_string() },
        "auth": { "token": { "realm": realm, "service": "rig", "issuer": "tokens", "rootcertbundle": certificate } },
    });
    let file = dir.join("registry.yml");
    std::fs::write(&file, config.to_string()).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("docker-registry is installed by make test");
    for _ in 0..100 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return child;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("docker-registry did not start");
}

/// <https://distribution.github.io/distribution/spec/auth/jwt/>
async fn give_token(State(signer): State<Signer>, uri: Uri, headers: HeaderMap) -> Response {
    let basic = format!("Basic {}", base64(&format!("{USER}:{PASSWORD}")));
    if headers.get("authorization").and_then(|value| value.to_str().ok()) != Some(&basic) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let scope = query.into_iter().find(|(name, _)| name == "scope").map(|(_, scope)| scope.into_owned()).unwrap_or_default();
    signer.scopes.lock().unwrap().push(scope.clone());
    let access = match scope.split(':').collect::<Vec<_>>()[..] {
        [kind, name, actions] => {
            serde_json::json!([{ "type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>() }])
        }
        _ => serde_json::json!([]),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let header = serde_json::json!({ "typ": "JWT", "alg": "RS256", "x5c": [signer.certificate] });
    let claims = serde_json::json!({ "iss": "tokens", "sub": USER, "aud": "rig", "exp": now + 300, "nbf": now - 10, "iat": now,
        "jti": rig::unique("jti"), "access": access });
    let signed = format!("{}.{}", url_safe(header.to_string().as_bytes()), url_safe(claims.to_string().as_bytes()));
    let signature = sign(&signer.key, signed.as_bytes()).await;
    let token = format!("{signed}.{}", url_safe(&signature));
    signer.tokens.lock().unwrap().push(token.clone());
    axum::Json(serde_json::json!({ "token": token, "expires_in": 300 })).into_response()
}

async fn sign(key: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(bytes).await.unwrap();
    openssl.wait_with_output().await.unwrap().stdout
}

fn url_safe(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

#[tokio::test]
async fn a_registry_with_a_token_server_takes_the_push_confirms_it_and_moves_latest() {
    let registry = TokenRegistry::start().await;
    let attempt = Attempt::new();
    let stage = stage(registry.config(PASSWORD)).await;
    rig::check(registry.config(PASSWORD)).await.unwrap();
    let pushed = stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    stage.move_latest(&pushed, &attempt.ctx, &rig::allowed).await.unwrap();

    let path = format!("octo/{}", attempt.ctx.service);
    assert_eq!(registry.digest_of(&path, &attempt.tag()).as_deref(), Some(pushed.reference.digest()));
    assert_eq!(registry.digest_of(&path, "latest").as_deref(), Some(pushed.reference.digest()));
    assert!(!attempt.log().contains("Warning"), "the digest was confirmed: {}", attempt.log());
    let for_pushing = format!("repository:{path}:pull,push");
    let ours = registry.scopes.lock().unwrap().iter().filter(|scope| **scope == for_pushing).count();
    assert!((1..=2).contains(&ours), "one token of the Engine's and one of ours serve push, HEAD, GET and PUT: {ours}");
}

#[tokio::test]
async fn a_token_of_the_token_server_is_masked_as_soon_as_the_worker_has_it() {
    let registry = TokenRegistry::start().await;
    let fetched = FetchedSecrets::default();
    let redactor = Redactor::none().with_fetched(&fetched);
    let attempt = Attempt::new();
    let stage = stage_that_tells(registry.config(PASSWORD), &fetched).await;
    let pushed = stage.push(&attempt.image(1000).await, &attempt.ctx).await.unwrap();
    stage.move_latest(&pushed, &attempt.ctx, &rig::allowed).await.unwrap();
    // The Engine fetches one of its own, which nobody else ever has.
    let tokens = registry.tokens.lock().unwrap().clone();
    let masked = tokens.iter().filter(|token| redactor.redact(token) == "***").count();
    assert!(masked >= 1 && masked + 1 >= tokens.len(), "{masked} of {}", tokens.len());
}

#[tokio::test]
async fn a_wrong_password_at_the_token_server_is_a_refusal_in_words() {
    let registry = TokenRegistry::start().await;
    let attempt = Attempt::new();
    let image = attempt.image(1000).await;
    let stage = stage(registry.config("a-wrong-one")).await;
    let failure = stage.push(&image, &attempt.ctx).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryDenied, "{failure}");
    let failure = rig::check(registry.config("a-wrong-one")).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryDenied, "{failure}");
    assert!(!failure.to_string().contains("a-wrong-one"));
    stage.release(&image).await;
}
