//! What a build can reach on its host, said once at start-up, with the rules that close it.

use bollard::Docker;
use bollard::query_parameters::InspectNetworkOptions;

use super::buildpacks::bridge_interface;
use crate::config::{BuildConfig, BuildNetwork, BuildpacksConfig, BuildpacksNetwork};

/// Lines for the worker's log at start-up. Makes the buildpacks' bridge, to name its interface.
pub async fn exposure_warnings(build: &BuildConfig, buildpacks: &BuildpacksConfig, engine: &Docker) -> Vec<String> {
    let mut warnings = Vec::from(of_what_the_engine_fetches());
    if build.network == BuildNetwork::Default {
        warnings.extend(of_dockerfiles(&engines_bridge(engine).await));
    }
    if buildpacks.network == BuildpacksNetwork::Own {
        match bridge_interface(engine).await {
            Ok(interface) => warnings.extend(of_buildpacks(&interface)),
            Err(error) => {
                warnings.push(format!("The bridge of buildpacks could not be made: {error}. The first build tries again."))
            }
        }
    }
    if buildpacks.trusted {
        warnings.push(
            "BUILDPACKS_TRUSTED is on: the app's code runs on this host's network and can read the registry's login.".to_owned(),
        );
    }
    warnings
}

/// BuildKit resolves and fetches these in the Engine's process: no network of a build stands between.
fn of_what_the_engine_fetches() -> [String; 2] {
    [
        "ADD, FROM and # syntax= lines of every Dockerfile are fetched by the Engine itself, on this host's own network whatever BUILD_NETWORK says: they reach its ports, on 127.0.0.1 too, and the cloud's metadata address.",
        "Close that address to them: iptables -I OUTPUT -d 169.254.0.0/16 -m owner --uid-owner 0 -j REJECT (it is closed to all that root runs here). What listens on 127.0.0.1 should ask for a password.",
    ]
    .map(str::to_owned)
}

/// The interface of the network that RUN steps are in. An Engine may have been told another name than the usual one.
async fn engines_bridge(engine: &Docker) -> String {
    let network = engine.inspect_network("bridge", None::<InspectNetworkOptions>).await.ok();
    let name = network.and_then(|network| network.options?.remove("com.docker.network.bridge.name"));
    name.unwrap_or_else(|| "docker0".to_owned())
}

fn of_dockerfiles(bridge: &str) -> [String; 4] {
    [
        "RUN steps of every job reach this host's ports that listen on 0.0.0.0, and the cloud's metadata address with this host's credentials.".to_owned(),
        format!("Close both: iptables -I INPUT -i {bridge} -m conntrack --ctstate NEW -j DROP"),
        "       and: iptables -I DOCKER-USER -d 169.254.0.0/16 -j DROP".to_owned(),
        format!("({bridge}: the Engine's bridge; where builds use the host's own resolver, allow port 53 of it first.) Or give RUN steps no network: BUILD_NETWORK=none."),
    ]
}

fn of_buildpacks(interface: &str) -> [String; 2] {
    [
        format!("Buildpacks of every job reach the same by the bridge {interface}, though no other container."),
        format!(
            "Close it: iptables -I INPUT -i {interface} -m conntrack --ctstate NEW -j DROP, and the rule for 169.254.0.0/16 above. \
             Or give them no network: BUILDPACKS_NETWORK=none."
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_buildpacks_names_their_bridge() {
        assert!(of_buildpacks("br-0123456789ab").iter().all(|line| line.contains("br-0123456789ab")));
    }
}
