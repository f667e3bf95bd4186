//! The bridge of detect and build: no traffic between its containers. Made once, kept.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Network, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::trouble::{engine_failure, interruptible};
use crate::protocol::Failure;
use crate::stage::StageContext;

pub const NAME: &str = "slipway-buildpacks";

/// The network's id in the Engine.
pub async fn ensure(engine: &Docker, ctx: &StageContext) -> Result<String, Failure> {
    interruptible(ctx, async { Ok(network(engine).await) }).await?.map_err(|error| engine_failure(&error))
}

/// Returns the bridge's interface on the host.
pub async fn make(engine: &Docker) -> Result<String, Error> {
    let id = network(engine).await?;
    Ok(format!("br-{}", id.get(..12).unwrap_or(&id)))
}

/// By id: where two workers start at once on one host, the Engine makes two networks of one name, and the name alone names neither.
async fn network(engine: &Docker) -> Result<String, Error> {
    if let Some(id) = find(engine).await? {
        return Ok(id);
    }
    let request = NetworkCreateRequest {
        name: NAME.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        ..Default::default()
    };
    let made = match engine.create_network(request).await {
        Ok(made) => Some(made.id),
        // Another worker was quicker.
        Err(Error::DockerResponseServerError { status_code: 409, .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(find(engine).await?.or(made).unwrap_or_else(|| NAME.to_owned()))
}

/// Where there are several, all workers take the same one.
async fn find(engine: &Docker) -> Result<Option<String>, Error> {
    // The Engine's filter takes longer names too.
    let options = ListNetworksOptionsBuilder::new().filters(&HashMap::from([("name", vec![NAME])])).build();
    let listed = engine.list_networks(Some(options)).await?;
    Ok(first_of(listed))
}

fn first_of(listed: Vec<Network>) -> Option<String> {
    listed.into_iter().filter(|network| network.name.as_deref() == Some(NAME)).filter_map(|network| network.id).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_networks_of_the_name_every_worker_takes_the_same() {
        let network = |name: &str, id: &str| Network { name: Some(name.into()), id: Some(id.into()), ..Default::default() };
        let listed =
            vec![network("slipway-buildpacks", "c2"), network("slipway-buildpacks", "b1"), network("slipway-buildpacks-2", "a0")];
        assert_eq!(first_of(listed).as_deref(), Some("b1"));
        assert_eq!(first_of(vec![network("my-slipway-buildpacks", "a")]), None);
    }
}
