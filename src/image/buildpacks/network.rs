//! The bridge of detect and build: no traffic between its containers. Made once, kept.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::trouble::{engine_failure, interruptible};
use crate::protocol::Failure;
use crate::stage::StageContext;

pub const NAME: &str = "slipway-buildpacks";

const BRIDGE: &str = "com.docker.network.bridge.name";
/// While another worker's network is being made it is not listed yet.
const LOOKS: usize = 30;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// The network's name in the Engine.
pub async fn ensure(engine: &Docker, ctx: &StageContext) -> Result<String, Failure> {
    interruptible(ctx, async { Ok(make(engine).await) }).await?.map_err(|error| engine_failure(&error))?;
    Ok(NAME.to_owned())
}

/// Returns the bridge's interface on the host.
///
/// Workers may start at once on one host, and the Engine makes two networks of one name, which then neither can be used by. Two with
/// one interface it does not make: so the interface gets a name, which is this Engine's own, for a host may have several.
pub async fn make(engine: &Docker) -> Result<String, Error> {
    if let Some(interface) = find(engine).await? {
        return Ok(interface);
    }
    let engine_id = engine.info().await?.id.unwrap_or_default();
    let request = NetworkCreateRequest {
        name: NAME.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([
            ("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned()),
            (BRIDGE.to_owned(), interface_name(&engine_id)),
        ])),
        ..Default::default()
    };
    let refusal = match engine.create_network(request).await {
        Ok(_) => None,
        // Another worker was quicker.
        Err(error @ Error::DockerResponseServerError { status_code: 403 | 409, .. }) => Some(error),
        Err(error) => return Err(error),
    };
    for _ in 0..LOOKS {
        if let Some(interface) = find(engine).await? {
            return Ok(interface);
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err(refusal.unwrap_or_else(|| Error::DockerResponseServerError {
        status_code: 404,
        message: format!("the network {NAME} was made and is not there"),
    }))
}

async fn find(engine: &Docker) -> Result<Option<String>, Error> {
    // The Engine's filter takes longer names too.
    let options = ListNetworksOptionsBuilder::new().filters(&HashMap::from([("name", vec![NAME])])).build();
    let listed = engine.list_networks(Some(options)).await?;
    Ok(listed.iter().find(|network| network.name.as_deref() == Some(NAME)).map(interface_of))
}

fn interface_of(network: &Network) -> String {
    let named = network.options.as_ref().and_then(|options| options.get(BRIDGE)).cloned();
    named.unwrap_or_else(|| {
        let id = network.id.as_deref().unwrap_or_default();
        format!("br-{}", id.get(..12).unwrap_or(id))
    })
}

/// At most 15 characters, as the kernel has it.
fn interface_name(engine_id: &str) -> String {
    let hash = digest::digest(&digest::SHA256, engine_id.as_bytes());
    format!("slipbp{}", hex::encode(&hash.as_ref()[..4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_of_a_host_has_an_interface_of_its_own_that_the_kernel_takes() {
        let (one, other) = (interface_name("ABCD:EFGH"), interface_name("IJKL:MNOP"));
        assert!(one.len() <= 15 && one != other);
        assert_eq!(one, interface_name("ABCD:EFGH"));
    }

    #[test]
    fn the_interface_of_a_network_that_somebody_made_by_hand_is_known_too() {
        let network = Network { id: Some("0123456789abcdef".to_owned()), ..Default::default() };
        assert_eq!(interface_of(&network), "br-0123456789ab");
    }
}
