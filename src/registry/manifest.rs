//! Our own calls to the registry's HTTP API: confirm a pushed digest, move `latest` to it, look whether the registry answers.

use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use reqwest::Response;

use super::http_auth::{MaySend, RegistryHttp, Trouble};
use super::push_failure::Refusal;
use super::target::Target;
use crate::peer::retry_after;

/// Manifests are a few KiB; the specification lets a registry refuse more than this.
const MAX_MANIFEST: usize = 4 << 20;
/// A registry with replicas may need a moment until all of them know a tag.
const MISSING_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
const MANIFEST_TYPES: &str = "application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";

/// What the registry says about a tag that was just pushed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Confirmation {
    Confirmed,
    /// The registry has not the tag, or has another digest under it.
    Refuted(String),
    /// The registry could not be asked: the push stream's digest has to do.
    Unproved(String),
}

/// Asks the registry which digest `tag` has.
pub(super) async fn confirm(http: &RegistryHttp, target: &Target, tag: &str, digest: &str) -> Confirmation {
    let mut waits = MISSING_AGAIN_AFTER.into_iter();
    loop {
        let said = confirm_once(http, target, tag, digest).await;
        match (said, waits.next()) {
            (Ok(confirmation), _) => return confirmation,
            (Err(Missing), Some(wait)) => tokio::time::sleep(wait).await,
            (Err(Missing), None) => return Confirmation::Refuted(format!("{} does not know the tag {tag}", target.host)),
        }
    }
}

/// The registry answered 404.
struct Missing;

async fn confirm_once(http: &RegistryHttp, target: &Target, tag: &str, digest: &str) -> Result<Confirmation, Missing> {
    let response = match http.send(target, Method::HEAD, &manifest_path(target, tag), accept_manifests).await {
        Ok(response) => response,
        Err(trouble) => return Ok(Confirmation::Unproved(trouble.to_string())),
    };
    if response.status() == StatusCode::NOT_FOUND {
        return Err(Missing);
    }
    if !response.status().is_success() {
        return Ok(Confirmation::Unproved(format!("{} answered {}", target.host, response.status())));
    }
    Ok(match response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok()) {
        Some(there) if there == digest => Confirmation::Confirmed,
        Some(there) => Confirmation::Refuted(format!("{} has {there} under the tag {tag}", target.host)),
        None => Confirmation::Unproved(format!("{} does not tell digests", target.host)),
    })
}

#[derive(serde::Deserialize)]
struct Parts {
    config: Part,
    layers: Vec<Part>,
}
#[derive(serde::Deserialize)]
struct Part {
    size: u64,
}

/// The bytes of all that the image's manifest names: its config and its layers, packed.
pub(super) async fn size(http: &RegistryHttp, target: &Target, digest: &str) -> Result<u64, Trouble> {
    let response = http.send(target, Method::GET, &manifest_path(target, digest), accept_manifests).await?;
    let body = read_at_most(expect_success(target, response).await?, MAX_MANIFEST).await?;
    let parts: Parts =
        serde_json::from_slice(&body).map_err(|error| Trouble::Protocol(format!("its manifest cannot be read: {error}")))?;
    Ok(parts.layers.iter().chain([&parts.config]).map(|part| part.size).fold(0, u64::saturating_add))
}

/// Puts the manifest that `digest` names under the tag `to`, byte for byte. `may_move` is asked right before each PUT.
pub(super) async fn retag(
    http: &RegistryHttp,
    target: &Target,
    digest: &str,
    to: &str,
    may_move: MaySend<'_>,
) -> Result<(), Trouble> {
    let response = http.send(target, Method::GET, &manifest_path(target, digest), accept_manifests).await?;
    let response = expect_success(target, response).await?;
    let media_type = response.headers().get(CONTENT_TYPE).cloned();
    let Some(media_type) = media_type else {
        return Err(Trouble::Protocol("its manifest has no media type".into()));
    };
    let body = read_at_most(response, MAX_MANIFEST).await?;
    // The digest names these bytes; others must not get the tag, whoever sent them.
    if sha256(&body) != digest {
        return Err(Trouble::Protocol(format!("what it sent for {digest} has another digest")));
    }
    let with_body = |request: reqwest::RequestBuilder| request.header(CONTENT_TYPE, media_type.clone()).body(body.clone());
    let response = http.send_if(may_move, target, Method::PUT, &manifest_path(target, to), with_body).await?;
    expect_success(target, response).await.map(drop)
}

/// Why the registry takes no upload to the repository, where that stays so: it is asked for one, which is given back at once.
pub(super) async fn refused_upload(http: &RegistryHttp, target: &Target) -> Option<(Refusal, String)> {
    let path = format!("{}/blobs/uploads/", target.path);
    let response = http.send(target, Method::POST, &path, |request| request.header(CONTENT_LENGTH, 0)).await.ok()?;
    let status = response.status();
    if status.is_success() {
        give_back(http, target, &response).await;
        return None;
    }
    let body = read_at_most(response, 64 << 10).await.unwrap_or_default();
    let said = refusal_words(status, &body);
    Some((Refusal::of(&said), said)).filter(|(refusal, _)| refusal.is_settled())
}

/// As the Engine words it: `name unknown: repository name not known to registry`.
fn refusal_words(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        errors: Vec<Error>,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let first = serde_json::from_slice::<Answer>(body).ok().and_then(|answer| answer.errors.into_iter().next());
    let words = first.map(|e| format!("{}: {}", e.code.to_ascii_lowercase().replace('_', " "), e.message)).unwrap_or_default();
    match Refusal::of(&words) {
        // A code of the registry's own, or a page.
        Refusal::Other => format!("{words} (unexpected HTTP status: {status})"),
        _ => words,
    }
}

/// The upload is the registry's to forget anyhow, after some days.
async fn give_back(http: &RegistryHttp, target: &Target, begun: &Response) {
    let Some(location) = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok()) else { return };
    let api = target.api();
    let below = location.strip_prefix(&api).or_else(|| location.strip_prefix("/v2/"));
    if let Some(path) = below {
        let _ = http.send(target, Method::DELETE, path, |request| request).await;
    }
}

/// Whether the registry answers and takes the credentials.
pub(super) async fn ping(http: &RegistryHttp, target: &Target) -> Result<(), Trouble> {
    let response = http.send(target, Method::GET, "", |request| request).await?;
    expect_success(target, response).await.map(drop)
}

fn manifest_path(target: &Target, reference: &str) -> String {
    format!("{}/manifests/{reference}", target.path)
}

fn accept_manifests(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request.header(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES))
}

async fn expect_success(target: &Target, response: Response) -> Result<Response, Trouble> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let patience = retry_after(response.headers());
    let body = read_at_most(response, 64 << 10).await.unwrap_or_default();
    Err(Trouble::from_status(&target.host, status, &String::from_utf8_lossy(&body), patience))
}

pub(super) async fn read_at_most(mut response: Response, limit: usize) -> Result<bytes::Bytes, Trouble> {
    let mut body = bytes::BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| Trouble::transport(&error))? {
        if body.len() + chunk.len() > limit {
            return Err(Trouble::Protocol(format!("its answer is longer than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest::digest(&digest::SHA256, bytes)))
}
