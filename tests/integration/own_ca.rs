//! A dashboard whose certificate a CA of one's own has signed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::support::{Job, Repository, Rig};

const MAKE_CERTIFICATES: &str = "openssl req -x509 -newkey rsa:2048 -nodes -subj '/CN=own CA' -days 2 -keyout ca.key -out ca.pem && \
    openssl req -newkey rsa:2048 -nodes -subj /CN=dashboard -keyout key.pem -out request.pem && \
    printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > extensions && \
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out cert.pem";

/// Ends TLS before the dashboard. Returns its port; it ends with `tasks`.
async fn tls_before(dashboard: String, dir: &std::path::Path, tasks: &mut JoinSet<()>) -> u16 {
    let made = Command::new("sh").args(["-ec", MAKE_CERTIFICATES]).current_dir(dir).stderr(Stdio::null()).status().await;
    assert!(made.expect("openssl is installed by make test").success());
    let chain = vec![CertificateDer::from_pem_file(dir.join("cert.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).expect("a certificate")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, dashboard) = (acceptor.clone(), dashboard.clone());
            connections.spawn(async move {
                let Ok(mut outside) = acceptor.accept(stream).await else { return };
                let Ok(mut inside) = TcpStream::connect(&dashboard).await else { return };
                drop(copy_bidirectional(&mut outside, &mut inside).await);
            });
        }
    });
    port
}

#[tokio::test]
async fn a_dashboard_with_a_ca_of_ones_own_is_used_once_ssl_cert_file_names_it() {
    let (dir, mut tasks) = (tempfile::tempdir().expect("a temporary directory"), JoinSet::new());
    let mut rig = Rig::without_worker(|options| options).await;
    let port = tls_before(rig.dashboard.address(), dir.path(), &mut tasks).await;
    rig.host.options = rig.host.options.clone().set("API_URL", &format!("https://127.0.0.1:{port}/api"));
    let output = rig.host.command().arg("check").stdout(Stdio::piped()).output().await.expect("run slipway check");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("wrong  the dashboard at https://127.0.0.1") && said.contains("SSL_CERT_FILE"), "{said}");
    let ca = dir.path().join("ca.pem");
    rig.host.options = rig.host.options.clone().set("SSL_CERT_FILE", &ca.display().to_string());
    let here = rig.host.options.clone();
    rig.host.options = here.clone().set("API_URL", &format!("https://localhost:{port}/api"));
    let output = rig.host.command().arg("check").stdout(Stdio::piped()).output().await.expect("run slipway check");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("certificate that is not for localhost") && said.contains("Name it in API_URL"), "{said}");
    rig.host.options = here;
    rig.start_worker();
    let repository = Repository::public(&[("Dockerfile", "FROM busybox:base\n")]);
    let job = Job::of(&repository);
    rig.push(&job).await;
    rig.built(&job).await;
    rig.stop_worker(Duration::from_secs(20)).await;
    rig.finish().await;
}
