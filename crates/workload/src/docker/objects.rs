//! Single calls to the engine, each done when the object is already as it should be.

use bollard::models::{NetworkDisconnectRequest, VolumeCreateRequest};
use bollard::query_parameters::{
    RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder, StopContainerOptionsBuilder,
};

use super::client::status_code;
use super::{Docker, labels};
use crate::engine::Error;
use crate::model::LeaseId;

impl Docker {
    /// Asks a container to end, and ends it after the grace. One that is gone or stands still is stopped.
    pub(super) async fn stop_container(&self, id: &str) -> Result<(), Error> {
        let grace = i32::try_from(self.settings.stop_grace.as_secs()).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::new().t(grace).build();
        match self.client.engine().await?.stop_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.client.error(format!("stop container {id}"), error)),
        }
    }

    pub(super) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.stop_container(id).await?;
        self.followers.drain(id).await;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client.engine().await?.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            // Gone, or going: somebody else removes it.
            Err(error) if matches!(status_code(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(self.client.error(format!("remove container {id}"), error)),
        }
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<(), Error> {
        let engine = self.client.engine().await?;
        let Err(error) = engine.remove_network(id).await else {
            return Ok(());
        };
        match status_code(&error) {
            Some(404) => return Ok(()),
            // Endpoints are left: of a container that is on its way out, or that an engine's crash forgot.
            Some(403 | 409) => {}
            _ => return Err(self.client.error(format!("remove network {id}"), error)),
        }
        let endpoints = match engine.inspect_network(id, None).await {
            Ok(network) => network.containers.unwrap_or_default(),
            Err(error) if status_code(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(self.client.error(format!("inspect network {id}"), error)),
        };
        for container in endpoints.into_keys() {
            let request = NetworkDisconnectRequest {
                container,
                force: Some(true),
            };
            if let Err(error) = engine.disconnect_network(id, request).await {
                tracing::warn!(network = id, %error, "cannot disconnect a container");
            }
        }
        match engine.remove_network(id).await {
            Ok(()) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.client.error(format!("remove network {id}"), error)),
        }
    }

    pub(super) async fn create_volume(&self, lease: LeaseId, name: &str) -> Result<(), Error> {
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            labels: Some(labels::of_lease(&self.settings.scope, lease)),
            ..VolumeCreateRequest::default()
        };
        match self.client.engine().await?.create_volume(request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.client.error(format!("create volume {name}"), error)),
        }
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let options = RemoveVolumeOptionsBuilder::new().force(true).build();
        match self.client.engine().await?.remove_volume(name, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if status_code(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.client.error(format!("remove volume {name}"), error)),
        }
    }
}
