//! The images that are on this machine.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::client::{refused, status_code};
use crate::engine::Error;
use crate::image::ImageReference;
use crate::model::ResolvedImage;

/// An image on this machine.
pub(super) struct FoundImage {
    pub(super) id: String,
    digests: Vec<String>,
    architecture: String,
}

impl FoundImage {
    pub(super) fn check(&self, engine_architecture: &str) -> Result<(), String> {
        if self.architecture.is_empty() || self.architecture == engine_architecture {
            return Ok(());
        }
        Err(format!(
            "the image is made for {}, this machine is {engine_architecture}; build it for this one too",
            self.architecture
        ))
    }

    pub(super) fn resolved(&self, reference: &str, parsed: &ImageReference) -> ResolvedImage {
        let name = format!("{}@", parsed.familiar_name());
        ResolvedImage {
            reference: reference.to_owned(),
            id: self.id.clone(),
            digest: self.digests.iter().find(|digest| digest.starts_with(&name)).cloned(),
        }
    }
}

/// The image of this name or id, if it is here.
pub(super) async fn inspect(engine: &bollard::Docker, name: &str) -> Result<Option<FoundImage>, Error> {
    match engine.inspect_image(name).await {
        Ok(image) => Ok(image.id.map(|id| FoundImage {
            id,
            digests: image.repo_digests.unwrap_or_default(),
            architecture: image.architecture.unwrap_or_default(),
        })),
        Err(error) if status_code(&error) == Some(404) => Ok(None),
        Err(error) => Err(refused(format!("look for the image `{name}`"), error)),
    }
}

/// The engine's architecture, as registries write it.
pub(super) async fn engine_architecture(engine: &bollard::Docker) -> Result<String, Error> {
    let version = engine
        .version()
        .await
        .map_err(|error| refused("say its version", error))?;
    Ok(version.arch.unwrap_or_default())
}

/// The images that somebody's login brought to this machine, on disk: a registry's private image is not for everybody
/// who guesses its name, just because it is here.
#[derive(Debug)]
pub(super) struct PrivateImages {
    path: PathBuf,
    known: Mutex<Option<BTreeSet<String>>>,
}

impl PrivateImages {
    /// Reads the list at `path` when it is first needed.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: Mutex::default(),
        }
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get_or_insert_with(|| self.load()).contains(id)
    }

    pub(super) fn add(&self, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| self.load());
        if known.insert(id.to_owned())
            && let Err(error) = self.save(known)
        {
            tracing::error!(path = %self.path.display(), %error, "cannot write the list of private images; it is kept in memory only");
        }
    }

    fn load(&self) -> BTreeSet<String> {
        std::fs::read_to_string(&self.path)
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn save(&self, known: &BTreeSet<String>) -> std::io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let text: String = known.iter().map(|id| format!("{id}\n")).collect();
        let new = self.path.with_extension("new");
        std::fs::write(&new, text)?;
        std::fs::rename(&new, &self.path)
    }
}
