//! What ids stand for on the network: regions and GPU models from the provider registry, tokens from the network file.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bindings::IProviderRegistry;
use manifest::{Catalog, GpuModel, Token};

use super::{ChainError, Market};

/// How long the catalogue of regions and GPUs is believed: governance adds to it now and then.
const LIFETIME: Duration = Duration::from_secs(30);

/// A catalog, and when it was asked for.
pub(super) type Remembered = std::sync::Mutex<Option<(Instant, Catalog)>>;

impl Market {
    /// What the names of a manifest stand for, except for suppliers; as it was lately.
    pub async fn catalog(&self) -> Result<Catalog, ChainError> {
        let remembered = self.catalog.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, catalog)) = remembered
            && at.elapsed() < LIFETIME
        {
            return Ok(catalog);
        }
        let asked_at = Instant::now();
        let (gpus, regions) = tokio::try_join!(self.gpu_models(), self.regions())?;
        let token = |token: &::chain::network::Token| {
            let listed = Token {
                id: token.id,
                decimals: token.decimals,
            };
            (token.symbol.clone(), listed)
        };
        let model = |model: IProviderRegistry::GpuModel| GpuModel {
            vendor: model.vendor,
            model: model.model,
            memory_bytes: u64::from(model.vram) << 30,
            interface: None,
        };
        let catalog = Catalog {
            tokens: self.network().tokens.iter().map(token).collect(),
            gpus: gpus.into_iter().map(|(id, found)| (id, model(found))).collect(),
            regions: regions.into_iter().map(|(id, name)| (name, id)).collect(),
            suppliers: BTreeMap::new(),
        };
        *self.catalog.lock().unwrap_or_else(PoisonError::into_inner) = Some((asked_at, catalog.clone()));
        Ok(catalog)
    }
}
