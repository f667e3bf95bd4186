//! PURE: what a build can reach on its host, said once at start-up, with the rules that close it.

use crate::config::{BuildConfig, BuildNetwork};

/// Lines for the worker's log at start-up; none where builds have no network.
pub fn exposure_warnings(config: &BuildConfig) -> Vec<String> {
    if config.network == BuildNetwork::None {
        return Vec::new();
    }
    [
        "RUN steps of every job reach this host's ports that listen on 0.0.0.0, and the cloud's metadata address with this host's credentials.",
        "Close both: iptables -I INPUT -i docker0 -m conntrack --ctstate NEW -j DROP",
        "       and: iptables -I DOCKER-USER -d 169.254.0.0/16 -j DROP",
        "(docker0: the Engine's bridge; where builds use the host's own resolver, allow port 53 of it first.) Or give builds no network: BUILD_NETWORK=none.",
    ]
    .map(str::to_owned)
    .into()
}
