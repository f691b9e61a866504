//! Removing what a devnet's providers left on the container engine: agents leave containers alone when they stop, so the
//! devnet that started them cleans up.

use alloy::primitives::Address;
use bollard::{API_DEFAULT_VERSION, Docker};
use eyre::WrapErr as _;
use workload::{Engine as _, Scope, Settings};

/// Connects to the engine at an address (`unix:///var/run/docker.sock`), or at the environment's.
pub async fn engine(address: Option<&str>) -> eyre::Result<Docker> {
    let docker = match address {
        Some(address) => Docker::connect_with_unix(address.trim_start_matches("unix://"), 120, API_DEFAULT_VERSION),
        None => Docker::connect_with_defaults(),
    };
    let docker = docker.wrap_err("no Docker engine")?;
    docker.negotiate_version().await.wrap_err(
        "the Docker engine does not answer: run script/setup, then start through script/devnet or script/test",
    )
}

/// Removes all containers, networks, volumes and firewall rules of these providers that carry the devnet's id.
pub async fn remove(devnet: &str, providers: &[Address], address: Option<&str>) -> eyre::Result<()> {
    for provider in providers {
        let scope = Scope {
            provider: *provider,
            devnet: Some(devnet.to_owned()),
        };
        let state = tempfile::tempdir()?;
        let mut settings = Settings::new(scope, state.path());
        settings.address = address.map(ToOwned::to_owned);
        let engine = workload::Docker::new(settings).wrap_err("the container engine")?;
        engine
            .remove_all()
            .await
            .wrap_err_with(|| format!("removing what provider {provider} left on the engine"))?;
    }
    Ok(())
}
