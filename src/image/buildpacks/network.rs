//! The bridge of detect and build: no traffic between its containers. Made once, kept.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::ListNetworksOptionsBuilder;

use super::trouble::{engine_failure, interruptible};
use crate::protocol::Failure;
use crate::stage::StageContext;

pub const NAME: &str = "slipway-buildpacks";

/// The network's id in the Engine: the name may stand for several, see [`make`].
pub async fn ensure(engine: &Docker, ctx: &StageContext) -> Result<String, Failure> {
    interruptible(ctx, async { Ok(find_or_make(engine).await) }).await?.map_err(|error| engine_failure(&error))
}

/// Returns the bridge's interface on the host.
pub async fn make(engine: &Docker) -> Result<String, Error> {
    let id = find_or_make(engine).await?;
    Ok(format!("br-{}", id.get(..12).unwrap_or(&id)))
}

/// Two workers on one Engine that make it at the same moment get two of one name, whatever they ask for: the Engine's names are
/// no locks. So the one that is used is the same for all, and the other is taken away by whoever made it.
async fn find_or_make(engine: &Docker) -> Result<String, Error> {
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
        Ok(made) => made.id,
        // Another worker was quicker.
        Err(Error::DockerResponseServerError { status_code: 409, .. }) => String::new(),
        Err(error) => return Err(error),
    };
    let used = find(engine).await?.unwrap_or_else(|| made.clone());
    if used != made && !made.is_empty() {
        // Somebody may use it already: then it stays, and does no harm.
        if let Err(error) = engine.remove_network(&made).await {
            tracing::debug!(%error, "a second network of one name stays");
        }
    }
    Ok(used)
}

/// The oldest of the name: everybody finds the same.
async fn find(engine: &Docker) -> Result<Option<String>, Error> {
    let options = ListNetworksOptionsBuilder::default().filters(&HashMap::from([("name", vec![NAME])])).build();
    let networks = engine.list_networks(Some(options)).await?;
    // The filter finds every name that has this one in it.
    let ours = networks.into_iter().filter(|n| n.name.as_deref() == Some(NAME));
    Ok(ours.filter_map(|n| Some((n.created, n.id?))).min().map(|(_, id)| id))
}
