//! Follows one deployment at the address of `slipway listen` and prints it.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::signal::ctrl_c;

use super::start;
use crate::config::{DashboardAddress, TerminalHints};
use crate::exit::Exit;
use crate::peer::is_loopback;
use crate::protocol::DeploymentId;
use crate::report::listen::{Event, Screen, Status};
use crate::secrets::ExposeSecret;

/// A line of the stream holds one post, which the server limits to 4 MiB.
const LONGEST_LINE: usize = 8 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a deployment cannot be followed. `Display` names the address, the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub(super) enum FollowError {
    #[error("{url} cannot be reached: {cause}. Start `slipway listen`, or set API_URL to where it listens")]
    Unreachable { url: String, cause: String },
    #[error("{url} refused the API_KEY")]
    Denied { url: String },
    #[error(
        "{url} is not served ({status}): --follow needs `slipway listen` at API_URL. On a real dashboard watch the deployment there"
    )]
    NoSuchRoute { url: String, status: u16 },
}

/// A deployment's events, from now on.
pub(super) struct Following {
    id: DeploymentId,
    url: String,
    chunks: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
}

/// Connects. When this returns no later event is missed.
pub(super) async fn connect(dashboard: &DashboardAddress, id: &DeploymentId) -> Result<Following, FollowError> {
    let url = format!("{}/follow/{id}", dashboard.url.as_str().trim_end_matches('/'));
    let unreachable = |e: reqwest::Error| FollowError::Unreachable { url: url.clone(), cause: root_cause(&e) };
    let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
    let builder = if is_loopback(&dashboard.url) { builder.no_proxy() } else { builder };
    let client = builder.build().map_err(unreachable)?;
    let mut request = client.get(format!("{url}?from=now"));
    if let Some(key) = &dashboard.key {
        request = request.header("x-api-key", key.expose_secret());
    }
    // A server that takes the connection and says nothing.
    let answer = match tokio::time::timeout(CONNECT_TIMEOUT, request.send()).await {
        Ok(answer) => answer.map_err(unreachable)?,
        Err(_) => return Err(FollowError::Unreachable { url, cause: "no answer within 10 s".into() }),
    };
    let is_stream = answer.headers().get("content-type").is_some_and(|t| t == "application/x-ndjson");
    match answer.status().as_u16() {
        200 if is_stream => Ok(Following { id: id.clone(), url, chunks: answer.bytes_stream().boxed() }),
        401 | 403 => Err(FollowError::Denied { url }),
        status => Err(FollowError::NoSuchRoute { url, status }),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Following {
    /// Prints lines as they come, to the end of the deployment.
    pub(super) async fn print(self) -> Exit {
        let colours = io::stderr().is_terminal() && !TerminalHints::of_process().no_color;
        let (id, url) = (self.id.clone(), self.url.clone());
        tokio::select! {
            exit = self.print_all(Screen { colours }) => exit,
            _ = ctrl_c() => {
                start::fail(Exit::Temporary, format!("no longer following; {id} goes on (`slipway cancel {id}` ends it), see {url}"))
            }
        }
    }

    async fn print_all(mut self, screen: Screen) -> Exit {
        let mut pending = Vec::new();
        while let Some(chunk) = self.chunks.next().await {
            let Ok(chunk) = chunk else { break };
            pending.extend_from_slice(&chunk);
            while let Some(end) = pending.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                    return start::fail(Exit::Unavailable, format!("{} sent what is no event", self.url));
                };
                // To standard error, where the words of `enqueue` go: standard output has the id alone.
                if let Err(e) = io::stderr().write_all(screen.render(&self.id, 0, &event).as_bytes()) {
                    return start::fail(Exit::Temporary, e);
                }
                if let Some(exit) = end_of(&event) {
                    return exit;
                }
            }
            if pending.len() > LONGEST_LINE {
                return start::fail(Exit::Unavailable, format!("{} sent a line without an end", self.url));
            }
        }
        start::fail(Exit::Temporary, format!("{} ended before the deployment did; {} goes on", self.url, self.id))
    }
}

fn end_of(event: &Event) -> Option<Exit> {
    match event {
        Event::Status { status: Status::Builded | Status::Deployed, .. } => Some(Exit::Ok),
        Event::Status { status: Status::Failed | Status::Cancelled, .. } => Some(Exit::BuildFailed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::report::listen::{ListenConfig, bind, serve};

    /// A listening `slipway listen`; its address and what ends it.
    async fn listening(tasks: &mut JoinSet<()>) -> (DashboardAddress, CancellationToken) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let config =
            ListenConfig { address, base_path: "/api".into(), key: Some("k3y".into()), screen: Screen { colours: false } };
        let end = stop.clone();
        tasks.spawn(async move { drop(serve(listener, config, io::sink(), end).await) });
        (DashboardAddress { url: format!("http://{address}/api").parse().unwrap(), key: Some("k3y".into()) }, stop)
    }

    async fn report(to: &DashboardAddress, id: &DeploymentId, status: &str) {
        let url = format!("{}/webhooks/deployments/{id}/status", to.url);
        let post = reqwest::Client::new().post(url).header("x-api-key", "k3y").body(format!("{{\"status\":\"{status}\"}}"));
        assert_eq!(post.send().await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn the_exit_code_tells_how_the_deployment_ended() {
        let mut tasks = JoinSet::new();
        let (address, stop) = listening(&mut tasks).await;
        for (end, exit) in [("BUILDED", Exit::Ok), ("FAILED", Exit::BuildFailed), ("CANCELLED", Exit::BuildFailed)] {
            let id = DeploymentId::parse(&format!("dpl_{end}")).unwrap();
            let following = connect(&address, &id).await.unwrap();
            report(&address, &id, "BUILDING").await;
            report(&address, &id, end).await;
            assert_eq!(following.print().await, exit, "{end}");
        }
        stop.cancel();
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn a_dashboard_that_goes_away_is_no_failed_build() {
        let mut tasks = JoinSet::new();
        let (address, stop) = listening(&mut tasks).await;
        let following = connect(&address, &DeploymentId::parse("dpl_1").unwrap()).await.unwrap();
        stop.cancel();
        assert_eq!(following.print().await, Exit::Temporary);
        tasks.join_all().await;
    }

    #[tokio::test]
    async fn a_wrong_key_and_a_server_without_the_route_are_told_apart() {
        let mut tasks = JoinSet::new();
        let (address, stop) = listening(&mut tasks).await;
        let id = DeploymentId::parse("dpl_1").unwrap();
        let wrong = DashboardAddress { key: Some("other".into()), ..address.clone() };
        assert!(matches!(connect(&wrong, &id).await, Err(FollowError::Denied { .. })));
        let elsewhere = DashboardAddress { url: address.url.join("/v2").unwrap(), ..address };
        assert!(matches!(connect(&elsewhere, &id).await, Err(FollowError::NoSuchRoute { status: 404, .. })));
        stop.cancel();
        tasks.join_all().await;
    }
}
