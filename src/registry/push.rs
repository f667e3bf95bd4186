//! One push through the Engine, followed to its digest.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::{BollardRequest, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, Method, Uri};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout_at};

use super::http_auth::RegistryHttp;
use super::local_name::engine_failure;
use super::manifest;
use super::push_failure::{Refusal, one_line};
use super::push_stream::{Event, Lines, Moved, Progress};
use super::target::{Credentials, Target};
use crate::protocol::{Code, Failure};
use crate::stage::StageContext;

/// How long a push may wait in the Engine's queue behind others: an upload that hangs there holds its place for ever.
const QUEUED_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long a registry may take to say whether it takes uploads.
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// How a push that did not succeed ended.
#[derive(Debug)]
pub(super) enum PushError {
    /// The registry's answer, in the Engine's words.
    Refused(Refusal, Failure),
    Failed(Failure),
}

impl PushError {
    pub(super) fn into_failure(self) -> Failure {
        match self {
            PushError::Refused(_, failure) | PushError::Failed(failure) => failure,
        }
    }
}

/// Pushes `<target's repository>:<tag>`, which has to be a name in the Engine, and returns the manifest's digest.
/// Dropping the future drops the request; the Engine then ends the upload (measured: within 18 ms).
pub(super) async fn push(
    engine: &Docker,
    target: &Target,
    tag: &str,
    stall_timeout: Duration,
    http: &RegistryHttp,
    ctx: &StageContext,
) -> Result<String, PushError> {
    let started = Instant::now();
    let mut moved_at = started;
    let mut said_queued = false;
    let mut lines = Lines::default();
    let mut progress = Progress::default();
    let mut stream = std::pin::pin!(raw_push(engine, target, tag).map_err(PushError::Failed)?);
    loop {
        let patience = if progress.is_queued() { QUEUED_TIMEOUT } else { stall_timeout };
        if progress.is_queued() && !said_queued {
            said_queued = true;
            ctx.info("The Engine has not begun to upload: it takes a few layers at a time, of all pushes together (max-concurrent-uploads).");
        }
        let chunk = match timeout_at(moved_at + patience, stream.next()).await {
            Err(_) => return Err(PushError::Failed(stalled(&target.host, patience))),
            Ok(None) => break,
            Ok(Some(Err(error))) => return Err(broken(target, &error)),
            Ok(Some(Ok(chunk))) => chunk,
        };
        for event in lines.push(&chunk).map_err(garbled)? {
            match follow(&mut progress, event, target, ctx)? {
                Moved::No => {}
                Moved::Yes => moved_at = Instant::now(),
                Moved::Broke => {
                    if let Some(refused) = why_broken(http, target, ctx).await {
                        return Err(refused);
                    }
                    moved_at = Instant::now();
                }
            }
        }
        if let Some(line) = progress.line_due(started.elapsed()) {
            ctx.info(line);
        }
    }
    if let Some(event) = lines.finish().map_err(garbled)? {
        follow(&mut progress, event, target, ctx)?;
    }
    let Some(digest) = progress.digest() else {
        let cause = "The Docker Engine ended the push without saying the image's digest.";
        return Err(PushError::Failed(Failure::new(
            Code::EngineLost,
            cause,
            "See whether the Engine was restarted (journalctl -u docker).",
        )));
    };
    ctx.info(format!("{} in {:.1} s, {digest}", progress.summary(), started.elapsed().as_secs_f32()));
    Ok(digest.to_owned())
}

/// The Engine tries a layer five times, for more than a minute, and only then tells what it was answered. So the registry is asked
/// whether it takes uploads at all.
async fn why_broken(http: &RegistryHttp, target: &Target, ctx: &StageContext) -> Option<PushError> {
    let asked = tokio::time::timeout(ASKED_WITHIN, manifest::refused_upload(http, target)).await;
    let (refusal, said) = asked.ok().flatten()?;
    ctx.warn(format!("The registry takes no upload, in its words: {}.", one_line(&said)));
    Some(PushError::Refused(refusal, refusal.failure(target.kind, &target.host, &target.path, &said)))
}

fn follow(progress: &mut Progress, event: Event, target: &Target, ctx: &StageContext) -> Result<Moved, PushError> {
    if let Event::Error(said) = &event {
        // The failure says what it means and what to do; these are the words that it was read from.
        ctx.warn(format!("The push failed, in the Engine's words: {}.", one_line(said)));
        return Err(refused(target, said, progress.has_broken()));
    }
    let moved = progress.apply(&event);
    if moved == Moved::Broke {
        ctx.warn("The upload of a layer broke; the Engine tries it again.");
    }
    Ok(moved)
}

/// `broken`: uploads had broken off before. An Engine that was answered 503 goes on without having logged in, and is told in
/// the end that it has not: credentials that were really refused are refused at once.
fn refused(target: &Target, said: &str, broken: bool) -> PushError {
    let refusal = match Refusal::of(said) {
        Refusal::Unauthorized if broken => Refusal::Unreachable,
        refusal => refusal,
    };
    PushError::Refused(refusal, refusal.failure(target.kind, &target.host, &target.path, said))
}

fn broken(target: &Target, error: &bollard::errors::Error) -> PushError {
    use bollard::errors::Error;
    match error {
        // A refusal before the stream began; its text is of the same kind as within it.
        Error::DockerResponseServerError { message, .. } if Refusal::of(message) != Refusal::Other => {
            refused(target, message, false)
        }
        other => PushError::Failed(engine_failure(other)),
    }
}

fn garbled(error: super::push_stream::Garbled) -> PushError {
    PushError::Failed(Failure::new(
        Code::EngineError,
        format!("The push could not be followed: {error}."),
        "Check the Engine's version.",
    ))
}

fn stalled(host: &str, after: Duration) -> Failure {
    Failure::new(
        Code::RegistryStalled,
        format!("The push to {host} made no progress for {} s.", after.as_secs()),
        "Check the registry and the network. If it happens again, restart the Engine (systemctl restart docker).",
    )
}

/// The bytes of `POST /images/<repository>/push?tag=<tag>`.
///
/// Not bollard's `push_image`: its type drops the layer's id and the digest (`aux`), and it encodes the credentials with the
/// base64 alphabet that the Engine does not read (measured on 20.10: a password with `?`, `>` or `~` at the wrong place is
/// "no basic auth credentials"). So the one call of bollard's that hands out raw bytes is pointed at the push.
fn raw_push(
    engine: &Docker,
    target: &Target,
    tag: &str,
) -> Result<impl Stream<Item = Result<Bytes, bollard::errors::Error>> + use<>, Failure> {
    let unfit = |_| Failure::new(Code::WorkerInternal, "The push request could not be written.", "");
    let repository = target.repository();
    // Before API 1.25 paths had no version, and bollard may or may not put one: keep what stands before `/images/`.
    let uri_end = format!("/images/{repository}/push?tag={tag}");
    Uri::try_from(&uri_end).map_err(|_| unfit(()))?;
    let auth = registry_auth(&target.host, target.credentials.as_ref()).map_err(|_| unfit(()))?;
    let pointed = engine.clone().with_request_modifier(move |mut request: BollardRequest| {
        *request.method_mut() = Method::POST;
        if let Some(uri) = repointed(request.uri(), &uri_end) {
            *request.uri_mut() = uri;
        }
        request.headers_mut().insert("X-Registry-Auth", auth.clone());
        request
    });
    Ok(pointed.export_image(&repository))
}

fn repointed(uri: &Uri, end: &str) -> Option<Uri> {
    let version = uri.path().split_once("/images/").map_or("", |(version, _)| version);
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{version}{end}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// `X-Registry-Auth`: JSON in the URL-safe alphabet. An empty object means "no credentials"; a missing header is refused.
fn registry_auth(host: &str, credentials: Option<&Credentials>) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let json = match credentials {
        Some(c) => serde_json::json!({ "username": c.username, "password": c.password.expose_secret(), "serveraddress": host }),
        None => serde_json::json!({}),
    };
    let mut value = HeaderValue::try_from(URL_SAFE.encode(json.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_reach_the_engine_in_the_alphabet_that_it_reads() {
        let credentials = Credentials { username: "u".into(), password: "~~~???>>>~~~???>>>".to_owned().into() };
        let value = registry_auth("r:5000", Some(&credentials)).unwrap();
        let text = value.to_str().unwrap();
        assert!(text.contains(['-', '_']) && !text.contains(['+', '/']), "{text}");
        assert!(String::from_utf8(URL_SAFE.decode(text).unwrap()).unwrap().contains("~~~???>>>~~~???>>>"));
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_login_that_is_missed_after_uploads_broke_is_the_registrys_trouble_not_the_credentials() {
        let target = Target {
            host: "r.example".into(),
            path: "octo/s".into(),
            kind: crate::protocol::RegistryType::Docker,
            credentials: None,
            plain_http: false,
        };
        let code = |broken| refused(&target, "unauthorized: authentication required", broken).into_failure().code;
        assert_eq!(code(false), Code::RegistryDenied);
        assert_eq!(code(true), Code::RegistryUnreachable);
    }

    #[test]
    fn the_push_goes_to_the_engines_push_with_or_without_a_version_in_the_path() {
        let end = "/images/127.0.0.1:5000/octo/s/push?tag=d-1";
        let plain: Uri = "unix://2f76/images/127.0.0.1:5000/octo/s/get".parse().unwrap();
        assert_eq!(repointed(&plain, end).unwrap().path_and_query().unwrap(), end);
        let versioned: Uri = "unix://2f76/v1.41/images/127.0.0.1:5000/octo/s/get".parse().unwrap();
        assert_eq!(repointed(&versioned, end).unwrap().path(), "/v1.41/images/127.0.0.1:5000/octo/s/push");
    }
}
