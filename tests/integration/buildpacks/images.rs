//! Where the builder comes from, by whose login, and that one build keeps to what it began with.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::held::{Held, Phase};
use super::{app, builder, run_image, variant};
use crate::support::{Engine, Job, Rig, WorkerOptions, parts, unique};

/// What moto gives out; the registry takes it beside the login of the push.
const READER: (&str, &str) = ("AWS", "123456789012-auth-token");

/// The builder in a repository of its own of the registry, and not in the Engine. Returns repository and reference.
async fn pushed_builder(engine: &Engine, registry: &str) -> (String, String) {
    let repository = format!("slipway-test/{}", unique());
    let there = format!("{}/{repository}:1", parts().registry);
    engine.docker(&["tag", builder(), &there]).await;
    engine.docker(&["push", "--quiet", &there]).await;
    engine.docker(&["image", "rm", &there]).await;
    (repository.clone(), format!("{registry}/{repository}:1"))
}

/// Before the registry; remembers what it is asked.
struct Witness {
    address: String,
    heard: Arc<Mutex<Vec<u8>>>,
    _task: JoinSet<()>,
}

impl Witness {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        task.spawn(serve(listener, heard.clone()));
        Self { address, heard, _task: task }
    }

    /// The logins that came with requests for this repository; empty for a request without one.
    fn logins(&self, repository: &str) -> Vec<String> {
        let heard = String::from_utf8_lossy(&self.heard.lock().expect("not poisoned")).into_owned();
        let heads = heard.split("\r\n\r\n").filter(|head| head.contains(&format!(" /v2/{repository}/")));
        let login = |head: &str| {
            let header = head.lines().find_map(|line| line.strip_prefix("Authorization: Basic ")).unwrap_or_default();
            String::from_utf8(STANDARD.decode(header).expect("base64")).expect("text")
        };
        let mut logins: Vec<String> = heads.map(login).collect();
        logins.sort();
        logins.dedup();
        logins
    }
}

async fn serve(listener: TcpListener, heard: Arc<Mutex<Vec<u8>>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let heard = heard.clone();
        connections.spawn(async move {
            let server = TcpStream::connect(&parts().registry).await.expect("the registry listens");
            let ((mut asks, mut hears), (mut answers, mut passes)) = (client.into_split(), server.into_split());
            let ask = async {
                let mut piece = vec![0; 16 * 1024];
                while let Ok(read @ 1..) = asks.read(&mut piece).await {
                    heard.lock().expect("not poisoned").extend_from_slice(&piece[..read]);
                    if passes.write_all(&piece[..read]).await.is_err() {
                        break;
                    }
                }
                // The other side may have gone first.
                let _ = passes.shutdown().await;
            };
            let _ = tokio::join!(ask, tokio::io::copy(&mut answers, &mut hears));
        });
    }
}

#[tokio::test]
async fn a_builder_is_pulled_with_the_login_for_pulls_and_never_with_the_one_of_the_push() {
    let registry = Witness::new().await;
    let engine = Engine::new();
    let (repository, image) = pushed_builder(&engine, &registry.address).await;
    // The very registry that is pushed to.
    let builders = format!("{image}={}/slipway-test/run:1", registry.address);
    let pushed_to = |o: WorkerOptions| o.set("REGISTRY_HOST", &registry.address).set("BUILDPACKS_BUILDERS", &builders);
    let mut rig = Rig::with(|options| pushed_to(options).set("RETRY_LIMIT", "1")).await;
    let app = app("true\n");
    let refused = Job::of(&app);
    rig.push(&refused).await;
    rig.failed(&refused, "buildpacks.lifecycle").await;
    let last = rig.dashboard.lines(&refused.id).pop().expect("a last line").1;
    assert!(last.contains("cannot be pulled") && last.contains("PULL_REGISTRIES"), "{last}");
    assert!(!registry.logins(&repository).iter().any(|login| !login.is_empty()), "{:?}", registry.logins(&repository));
    rig.finish().await;

    let pull = format!("{}={}:{}", registry.address, READER.0, READER.1);
    let mut rig = Rig::with(|options| pushed_to(options).set("PULL_REGISTRIES", &pull)).await;
    let pulled = Job::of(&app);
    rig.push(&pulled).await;
    rig.built(&pulled).await;
    let log = rig.dashboard.log(&pulled.id);
    assert!(log.contains(&format!("Pulling {image}")));
    let digest = rig.registry.digest(&image).await.expect("the builder is in the registry");
    assert!(
        log.contains(&format!("Builder: {image} is sha256:")) && log.contains(&format!(", in its registry {digest}\n")),
        "{log}"
    );
    let logins = registry.logins(&repository);
    assert_eq!(logins.into_iter().filter(|login| !login.is_empty()).collect::<Vec<_>>(), [format!("{}:{}", READER.0, READER.1)]);
    let of_push = format!("{}:{}", parts().registry_login.username, parts().registry_login.password);
    assert_eq!(registry.logins(&pulled.service), [String::new(), of_push], "the phases write with the push's own login");
    rig.finish().await;
    engine.docker(&["image", "rm", &image]).await;
}

#[tokio::test]
async fn a_build_keeps_to_the_images_that_it_began_with_whatever_their_names_mean_meanwhile() {
    let engine = Engine::new();
    // The builder has a lifecycle too.
    let own_builder = variant(&engine, builder(), &unique(), "true").await;
    let own_lifecycle = variant(&engine, builder(), &unique(), "true").await;
    let held = Held::by(Phase::Detect, &own_builder, &own_lifecycle).await;
    for name in [&own_builder, &own_lifecycle] {
        engine.docker(&["tag", "busybox:base", name]).await;
    }
    held.go_on().await;
    held.rig.built(&held.job).await;
    held.rig.finish().await;
    for name in [&own_builder, &own_lifecycle] {
        engine.docker(&["image", "rm", name]).await;
    }
}

#[tokio::test]
async fn the_log_tells_two_builders_behind_one_name_apart_and_names_the_run_images_digest() {
    let name = variant(&Engine::new(), builder(), &unique(), "true").await;
    let builders = format!("{name}={}", run_image());
    let mut rig = Rig::with(|options| options.set("BUILDPACKS_BUILDERS", &builders)).await;
    let run_image_is = format!("Run image: {}", run_image().rsplit_once(':').expect("a tag").0);
    let run_digest = rig.registry.digest(run_image()).await.expect("the run image is in the registry");
    let app = app("true\n");
    let mut told = Vec::new();
    for _ in 0..2 {
        let id = rig.engine.docker(&["image", "inspect", "--format", "{{.Id}}", &name]).await;
        let job = Job::of(&app);
        rig.push(&job).await;
        rig.built(&job).await;
        let log = rig.dashboard.log(&job.id);
        assert!(log.contains(&format!("Builder: {name} is {}\n", id.trim())), "{log}");
        assert!(log.contains(&format!("{run_image_is}@{run_digest}\n")), "{log}");
        told.push(id);
        // As if it were pulled anew.
        let other = variant(&rig.engine, &name, &unique(), "touch /another").await;
        rig.engine.docker(&["tag", &other, &name]).await;
        rig.engine.docker(&["image", "rm", &other]).await;
    }
    assert_ne!(told[0], told[1]);
    rig.engine.docker(&["image", "rm", &name]).await;
    rig.finish().await;
}
