//! The bridge of detect and build: no traffic between its containers. Made once, kept.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::NetworkCreateRequest;
use bollard::query_parameters::InspectNetworkOptions;

use super::trouble::{engine_failure, interruptible};
use crate::protocol::Failure;
use crate::stage::StageContext;

pub const NAME: &str = "slipway-buildpacks";

/// The network's name in the Engine.
pub async fn ensure(engine: &Docker, ctx: &StageContext) -> Result<String, Failure> {
    interruptible(ctx, async { Ok(make(engine).await) }).await?.map_err(|error| engine_failure(&error))?;
    Ok(NAME.to_owned())
}

/// Returns the bridge's interface on the host.
pub async fn make(engine: &Docker) -> Result<String, Error> {
    let missing = match inspect(engine).await {
        Ok(interface) => return Ok(interface),
        Err(error) => error,
    };
    if !matches!(missing, Error::DockerResponseServerError { status_code: 404, .. }) {
        return Err(missing);
    }
    let request = NetworkCreateRequest {
        name: NAME.to_owned(),
        driver: Some("bridge".to_owned()),
        options: Some(HashMap::from([("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned())])),
        ..Default::default()
    };
    match engine.create_network(request).await {
        // Another build was quicker.
        Ok(_) | Err(Error::DockerResponseServerError { status_code: 409, .. }) => inspect(engine).await,
        Err(error) => Err(error),
    }
}

async fn inspect(engine: &Docker) -> Result<String, Error> {
    let network = engine.inspect_network(NAME, None::<InspectNetworkOptions>).await?;
    let id = network.id.unwrap_or_default();
    Ok(format!("br-{}", id.get(..12).unwrap_or(&id)))
}
