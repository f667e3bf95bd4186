//! Looks into the test registry: what was really pushed.

use std::process::{Command, Stdio};

use reqwest::StatusCode;
use serde_json::Value;

use super::parts;

const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";

pub struct Registry {
    client: reqwest::Client,
}

/// A client for the parts' own HTTP.
pub fn http() -> reqwest::Client {
    // A second installation of the same provider changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).build().expect("a client")
}

/// A reference, taken apart: `127.0.0.1:5000/svc:tag@sha256:…`.
struct Reference<'r> {
    repository: &'r str,
    tag_or_digest: &'r str,
}

fn reference(text: &str) -> Reference<'_> {
    // Whatever host it names: it may be a proxy before the registry.
    let (_, name) = text.split_once('/').unwrap_or_else(|| panic!("{text} names no registry"));
    match name.split_once('@') {
        Some((tagged, digest)) => Reference { repository: tagged.split(':').next().unwrap_or(tagged), tag_or_digest: digest },
        None => {
            let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
            Reference { repository, tag_or_digest: tag }
        }
    }
}

impl Registry {
    #[allow(clippy::new_without_default, reason = "it is opened, not made")]
    pub fn new() -> Self {
        Self { client: http() }
    }

    /// The tags of a repository; none when it does not exist.
    pub async fn tags(&self, repository: &str) -> Vec<String> {
        match self.get(&format!("{repository}/tags/list"), "application/json").await {
            (StatusCode::OK, _, body) => {
                let list: Value = serde_json::from_slice(&body).expect("a list of tags");
                let mut tags: Vec<String> = serde_json::from_value(list["tags"].clone()).unwrap_or_default();
                tags.sort();
                tags
            }
            _ => Vec::new(),
        }
    }

    /// The digest that a reference (tag or digest) has in the registry; `None` when it is not there.
    pub async fn digest(&self, image: &str) -> Option<String> {
        let r = reference(image);
        let (status, digest, _) = self.get(&format!("{}/manifests/{}", r.repository, r.tag_or_digest), MANIFESTS).await;
        (status == StatusCode::OK).then_some(digest).flatten()
    }

    /// Whether the image can be pulled: its manifest under the digest that the reference names, its config and its layers.
    pub async fn holds(&self, image: &str) -> Result<(), String> {
        let named = image.split_once('@').map(|(_, digest)| digest.to_owned());
        if self.digest(image).await != named || named.is_none() {
            return Err(format!("{image} is not in the registry"));
        }
        let manifest = self.manifest(image).await;
        let layers = manifest["layers"].as_array().into_iter().flatten();
        for blob in layers.chain([&manifest["config"]]).filter_map(|b| b["digest"].as_str()) {
            let (status, _, _) = self.get(&format!("{}/blobs/{blob}", reference(image).repository), "*/*").await;
            if status != StatusCode::OK {
                return Err(format!("{blob} of {image} is not in the registry: {status}"));
            }
        }
        Ok(())
    }

    pub async fn manifest(&self, image: &str) -> Value {
        let r = reference(image);
        self.json(&format!("{}/manifests/{}", r.repository, r.tag_or_digest), MANIFESTS).await
    }

    /// The image's config: `config.Labels`, `config.Env`, `history` …
    pub async fn config(&self, image: &str) -> Value {
        let digest = self.manifest(image).await["config"]["digest"].as_str().expect("a config").to_owned();
        self.json(&format!("{}/blobs/{digest}", reference(image).repository), "*/*").await
    }

    /// The paths in all layers, lowest first; whiteouts included.
    pub async fn files(&self, image: &str) -> Vec<String> {
        let mut files = Vec::new();
        for layer in self.layers(image).await {
            files.extend(
                String::from_utf8_lossy(&tar(&["-tzf", "-"], layer).await)
                    .lines()
                    .map(|l| l.trim_start_matches("./").trim_start_matches('/').to_owned()),
            );
        }
        files
    }

    /// A file's content in the topmost layer that has it.
    pub async fn file(&self, image: &str, path: &str) -> Option<Vec<u8>> {
        for layer in self.layers(image).await.into_iter().rev() {
            let listed = String::from_utf8_lossy(&tar(&["-tzf", "-"], layer.clone()).await).into_owned();
            if let Some(name) = listed.lines().find(|l| l.trim_start_matches("./").trim_start_matches('/') == path) {
                return Some(tar(&["-xzOf", "-", name], layer).await);
            }
        }
        None
    }

    /// The layers' blobs as pushed (gzip), lowest first.
    pub async fn layers(&self, image: &str) -> Vec<Vec<u8>> {
        let manifest = self.manifest(image).await;
        let mut layers = Vec::new();
        for layer in manifest["layers"].as_array().expect("layers") {
            let path = format!("{}/blobs/{}", reference(image).repository, layer["digest"].as_str().expect("a digest"));
            let (status, _, body) = self.get(&path, "*/*").await;
            assert_eq!(status, StatusCode::OK, "{path}");
            layers.push(body);
        }
        layers
    }

    /// Puts an image under another tag of its repository, with another config.
    pub async fn copy(&self, image: &str, to: &str, change: impl FnOnce(&mut Value)) {
        let mut config = self.config(image).await;
        change(&mut config);
        let mut manifest = self.manifest(image).await;
        let config = config.to_string().into_bytes();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &config);
        let digest = format!("sha256:{}", hex::encode(digest));
        manifest["config"]["size"] = config.len().into();
        manifest["config"]["digest"] = digest.clone().into();
        let (repository, tag) = to.split_once(':').expect("repository:tag");
        let address = format!("http://{}", parts().registry);
        let login = &parts().registry_login;
        let send = async |request: reqwest::RequestBuilder| {
            let answer = request.basic_auth(&login.username, Some(&login.password)).send().await.expect("the registry answers");
            assert!(answer.status().is_success(), "{}", answer.status());
            answer
        };
        let upload = send(self.client.post(format!("{address}/v2/{repository}/blobs/uploads/"))).await;
        let location = upload.headers()["location"].to_str().expect("a path").to_owned();
        let separator = if location.contains('?') { '&' } else { '?' };
        send(self.client.put(format!("{address}{location}{separator}digest={digest}")).body(config)).await;
        let kind = manifest["mediaType"].as_str().expect("a media type").to_owned();
        let put = self.client.put(format!("{address}/v2/{repository}/manifests/{tag}")).header("content-type", kind);
        send(put.body(manifest.to_string())).await;
    }

    async fn json(&self, path: &str, accept: &str) -> Value {
        let (status, _, body) = self.get(path, accept).await;
        assert_eq!(status, StatusCode::OK, "{path} in the registry");
        serde_json::from_slice(&body).expect("JSON")
    }

    async fn get(&self, path: &str, accept: &str) -> (StatusCode, Option<String>, Vec<u8>) {
        let login = &parts().registry_login;
        let request = self.client.get(format!("http://{}/v2/{path}", parts().registry));
        let request = request.basic_auth(&login.username, Some(&login.password)).header("accept", accept);
        let answer = request.send().await.expect("the registry answers");
        let digest = answer.headers().get("docker-content-digest").and_then(|d| d.to_str().ok()).map(str::to_owned);
        (answer.status(), digest, answer.bytes().await.expect("the registry's answer").to_vec())
    }
}

/// The tar program over a blob.
async fn tar(arguments: &[&str], input: Vec<u8>) -> Vec<u8> {
    let mut command = Command::new("tar");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let run = move || {
        use std::io::Write;
        let mut child = command.spawn().expect("start tar");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            // Two ways at once: neither pipe may fill up while nobody reads the other.
            scope.spawn(move || stdin.write_all(&input));
            child.wait_with_output().expect("tar ends")
        })
    };
    let done = tokio::task::spawn_blocking(run).await.expect("tar runs");
    assert!(done.status.success(), "tar failed on a layer");
    done.stdout
}
