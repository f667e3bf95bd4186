//! `slipway listen`: a dashboard in the terminal.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;

use super::start;
use crate::config::TerminalHints;
use crate::exit::Exit;
use crate::report::listen::{ListenConfig, ListenError, Screen};

/// Serve the dashboard's API and show deployments, their status and their lines as workers report them.
///
/// Colours on a terminal (not with NO_COLOR), plain lines elsewhere. Checks x-api-key against API_KEY; without an API_KEY any key is taken, and
/// only loopback addresses are listened on. GET {API_URL}/follow/ID streams one deployment as lines of JSON.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address and port to listen on. Routes stand below the path of API_URL.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    address: SocketAddr,
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
        address: args.address,
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
