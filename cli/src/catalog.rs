//! What names stand for on a network: regions and GPU models from the provider registry, tokens from the network file.
//!
//! Names are only ever added on chain, under the next id, so what was read once is read no more.

use std::collections::BTreeMap;

use avs::matching::Rejection;
use bindings::IProviderRegistry;
use daemon::causes::with_causes;
use futures::future::try_join_all;
use manifest::{Catalog, GpuModel, Manifest, Token, named_suppliers};
use serde::{Deserialize, Serialize};

use crate::chain::read;
use crate::session::Session;

/// Bytes in a GiB: the registry counts video memory in them.
const GIB: u64 = 1 << 30;

/// Names by id, in the order of their ids, which start at 1.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Names {
    regions: Vec<String>,
    gpus: Vec<GpuModel>,
}

impl Session<'_> {
    /// The network's catalog, with the supplier ids that a manifest needs.
    pub(crate) async fn catalog(&self, manifest: Option<&Manifest>) -> eyre::Result<Catalog> {
        let names = self.names().await?;
        let tokens = self.chain.network.tokens.iter().map(|token| {
            let ::chain::network::Token { id, decimals, .. } = token;
            let listed = Token {
                id: *id,
                decimals: *decimals,
            };
            (token.symbol.clone(), listed)
        });
        let mut catalog = Catalog {
            tokens: tokens.collect(),
            gpus: (1u8..).zip(names.gpus).collect(),
            regions: names.regions.into_iter().zip(1u8..).collect(),
            suppliers: BTreeMap::new(),
        };
        if let Some(manifest) = manifest {
            let registry = self.registry();
            let found = named_suppliers(manifest).map(async |address| {
                let id = read(registry.providerOf(address)).await?;
                eyre::Ok((address, id))
            });
            let found = try_join_all(found).await?;
            catalog.suppliers = found.into_iter().filter(|(_, id)| *id != 0).collect();
        }
        Ok(catalog)
    }

    /// Names of regions by their ids.
    pub(crate) async fn regions(&self) -> eyre::Result<BTreeMap<u8, String>> {
        Ok((1u8..).zip(self.names().await?.regions).collect())
    }

    async fn names(&self) -> eyre::Result<Names> {
        let registry = self.registry();
        let (deployment, regions, gpus) = tokio::try_join!(
            self.chain.deployment(),
            read(registry.regionCount()),
            read(registry.gpuModelCount())
        )?;
        let mut names: Names = self
            .home
            .cached(&deployment, "catalog")
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default();
        let count = |names: usize| u8::try_from(names).unwrap_or(u8::MAX);
        let (known_regions, known_gpus) = (count(names.regions.len()), count(names.gpus.len()));
        if known_regions == regions && known_gpus == gpus {
            return Ok(names);
        }
        let (new_regions, new_gpus) = tokio::try_join!(
            try_join_all((known_regions.saturating_add(1)..=regions).map(|id| read(registry.region(id)))),
            try_join_all((known_gpus.saturating_add(1)..=gpus).map(|id| read(registry.gpuModel(id)))),
        )?;
        names.regions.extend(new_regions);
        names.gpus.extend(new_gpus.into_iter().map(|model| GpuModel {
            vendor: model.vendor,
            model: model.model,
            memory_bytes: u64::from(model.vram) * GIB,
            interface: None,
        }));
        self.home.cache(&deployment, "catalog", &serde_json::to_value(&names)?);
        Ok(names)
    }

    pub(crate) fn registry(&self) -> IProviderRegistry::IProviderRegistryInstance<&alloy::providers::RootProvider> {
        IProviderRegistry::new(self.chain.network.contracts.provider_registry, &self.chain.provider)
    }
}

/// Why the rule takes no bid of a supplier, with regions by their names.
pub(crate) fn rejection_text(rejection: &Rejection, regions: &BTreeMap<u8, String>) -> String {
    match rejection {
        Rejection::Region { region } if regions.contains_key(region) => {
            format!("region {} is not acceptable", regions[region])
        }
        other => with_causes(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_told_by_their_names() {
        let names = BTreeMap::from([(1, "us-east".to_owned()), (2, "eu-west".to_owned())]);
        let told = |region| rejection_text(&Rejection::Region { region }, &names);
        assert_eq!(told(1), "region us-east is not acceptable");
        assert_eq!(told(9), "region 9 is not acceptable");
    }
}
