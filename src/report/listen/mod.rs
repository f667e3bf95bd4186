//! `slipway listen`: a dashboard in the terminal. Takes the reports of workers and shows deployments, their status and lines live.

mod board;
mod routes;
mod screen;
#[cfg(test)]
mod tests;

pub use board::{Event, Status};
pub use screen::Screen;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use routes::Api;

/// Rendered posts that wait for the terminal.
const QUEUED_POSTS: usize = 256;
/// How long open requests may go on after a signal.
const GRACE: Duration = Duration::from_secs(5);

/// How to listen.
pub struct ListenConfig {
    pub address: SocketAddr,
    /// The path of `API_URL`: routes stand below it.
    pub base_path: String,
    /// `None`: any key is good; only on loopback.
    pub key: Option<SecretString>,
    pub screen: Screen,
}

/// Why there is no dashboard. `Display` names the address, the cause and the cure.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{0} is taken by another program. End that one, or choose another --address and set API_URL to it for the worker")]
    Taken(SocketAddr),
    #[error("{address} cannot be listened on: {cause}")]
    Bind { address: SocketAddr, cause: io::Error },
    #[error("{0} can be reached from other machines: set API_KEY, or listen on 127.0.0.1")]
    NeedsKey(SocketAddr),
    #[error("the dashboard stopped: {0}")]
    Serve(io::Error),
    #[error("the terminal cannot be written to: {0}")]
    Terminal(io::Error),
}

/// Serves until SIGINT or SIGTERM. Lines go to `terminal`, words about the dashboard itself to standard error.
pub async fn run(config: ListenConfig, terminal: impl Write + Send + 'static) -> Result<(), ListenError> {
    if config.key.is_none() && !config.address.ip().is_loopback() {
        return Err(ListenError::NeedsKey(config.address));
    }
    let listener = bind(config.address).await?;
    let address = listener.local_addr().map_err(ListenError::Serve)?;
    let stop = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ListenError::Serve)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(ListenError::Serve)?;
    let keys = if config.key.is_some() { "x-api-key is checked" } else { "any x-api-key is taken" };
    eprintln!("slipway listens at http://{address}{} ({keys}). Ctrl-C ends it.", config.base_path);
    let signalled = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stop.cancelled() => {}
        }
        stop.cancel();
        Ok(())
    };
    let (summary, _) = tokio::try_join!(serve(listener, config, terminal, stop.clone()), signalled)?;
    eprintln!("slipway listened to {summary}");
    Ok(())
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken(address),
        _ => ListenError::Bind { address, cause },
    })
}

/// Serves on `listener` until `stop`, or until the terminal is gone (then `stop` is cancelled). Returns what was seen, in words.
pub async fn serve(
    listener: TcpListener,
    config: ListenConfig,
    terminal: impl Write + Send + 'static,
    stop: CancellationToken,
) -> Result<String, ListenError> {
    let (lines, printed) = mpsc::channel(QUEUED_POSTS);
    let api = Api::new(config.screen, config.key, lines, stop.clone());
    let app = routes::router(api.clone(), &config.base_path);
    let printer = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            // However it ends, nobody may go on posting into nothing.
            let _stop = stop.drop_guard();
            print(printed, terminal)
        }
    });
    let served = tokio::select! {
        served = axum::serve(listener, app).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future() => served,
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    };
    let seen: Vec<String> = api.board.summary().iter().map(|(status, n)| format!("{n} {}", status.as_str())).collect();
    // The last sender: the printer writes what is queued and ends.
    drop(api);
    let printed = match tokio::time::timeout(GRACE, printer).await {
        Ok(printed) => printed.unwrap_or_else(|e| Err(io::Error::other(e))),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "it takes no more lines")),
    };
    served.map_err(ListenError::Serve)?;
    printed.map_err(ListenError::Terminal)?;
    Ok(if seen.is_empty() { "no deployment".to_owned() } else { format!("deployments: {}", seen.join(", ")) })
}

/// Writes whatever comes, in order, and lets the terminal have it whenever nothing more waits.
fn print(mut lines: mpsc::Receiver<String>, mut terminal: impl Write) -> io::Result<()> {
    while let Some(text) = lines.blocking_recv() {
        terminal.write_all(text.as_bytes())?;
        if lines.is_empty() {
            terminal.flush()?;
        }
    }
    terminal.flush()
}
