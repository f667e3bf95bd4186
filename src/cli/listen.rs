//! `slipway listen`: a dashboard in the terminal.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use url::{Host, Url};

use super::start;
use crate::config::TerminalHints;
use crate::exit::Exit;
use crate::peer::is_loopback;
use crate::report::listen::{ListenConfig, ListenError, Screen};

/// Serve the dashboard's API and show deployments, their status and their lines as workers report them.
///
/// Colours on a terminal (not with NO_COLOR), plain lines elsewhere. Checks x-api-key against API_KEY; without an API_KEY any key is taken, and
/// only loopback addresses are listened on. GET {API_URL}/follow/ID streams one deployment as lines of JSON.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on [default: where API_URL points, if that is this machine's own, else 127.0.0.1:3000]. Routes stand
    /// below the path of API_URL.
    #[arg(long, value_name = "ADDRESS:PORT")]
    address: Option<SocketAddr>,
}

/// Where the worker of the same configuration posts to, if that is a loopback address that can be listened on without TLS.
fn address_of(api: &Url) -> SocketAddr {
    let default = (Ipv4Addr::LOCALHOST, 3000).into();
    if !is_loopback(api) || api.scheme() != "http" {
        return default;
    }
    let Some(port) = api.port_or_known_default() else { return default };
    match api.host() {
        Some(Host::Ipv4(address)) => (address, port).into(),
        Some(Host::Ipv6(address)) => (address, port).into(),
        Some(Host::Domain(_)) | None => (Ipv4Addr::LOCALHOST, port).into(),
    }
}

pub(super) fn run(args: Args, config_file: Option<PathBuf>) -> Exit {
    let settings = match start::settings(config_file) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let dashboard = match settings.dashboard_address() {
        Ok(dashboard) => dashboard,
        Err(errors) => return start::fail(Exit::Config, errors),
    };
    let _log = match start::log_of(&settings) {
        Ok(log) => log,
        Err(exit) => return exit,
    };
    let colours = io::stdout().is_terminal() && !TerminalHints::of_process().no_color;
    let config = ListenConfig {
        address: args.address.unwrap_or_else(|| address_of(&dashboard.url)),
        base_path: dashboard.url.path().trim_end_matches('/').to_owned(),
        key: dashboard.key,
        screen: Screen { colours },
    };
    start::block_on(async {
        match crate::report::listen::run(config, io::stdout()).await {
            Ok(()) => Exit::Ok,
            // `slipway listen | head`
            Err(ListenError::Terminal(e)) if e.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Err(e @ ListenError::NeedsKey(_)) => start::fail(Exit::Config, e),
            Err(e) => start::fail(Exit::Unavailable, e),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_where_api_url_points_if_that_is_this_machine() {
        for (api, address) in [
            ("http://127.0.0.1:3100/api", "127.0.0.1:3100"),
            ("http://localhost:4000/api", "127.0.0.1:4000"),
            ("http://[::1]:3100/api", "[::1]:3100"),
            ("http://127.0.0.3/api", "127.0.0.3:80"),
            ("https://127.0.0.1:3100/api", "127.0.0.1:3000"),
            ("https://dashboard.example/api", "127.0.0.1:3000"),
        ] {
            assert_eq!(address_of(&api.parse().unwrap()).to_string(), address, "{api}");
        }
    }
}
