//! What the gateway asks of the chain: who may ask about a lease, and what the names in a manifest stand for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use avs::words::OrderId;
use bindings::OrderState;
use manifest::{Catalog, GpuModel, Manifest, OrderRequest, Token};
use workload::LeaseId;

use super::{ChainError, Market, is_closed, why_closed};
use crate::api::access::{ChainUnavailable, LeaseAccess, OnChainLease};
use crate::store::Store;

/// How long the catalogue of regions and GPUs is believed: governance adds to it now and then.
const CATALOG_LIFETIME: Duration = Duration::from_secs(30);

/// The chain behind the agent's own store.
#[derive(Debug)]
pub struct ChainAccess {
    market: Market,
    store: Store,
    supplier: tokio::sync::watch::Receiver<Option<u32>>,
    catalog: Mutex<Option<(Instant, Catalog)>>,
}

impl ChainAccess {
    /// `supplier` is the provider's id once it is registered.
    pub fn new(market: Market, store: Store, supplier: tokio::sync::watch::Receiver<Option<u32>>) -> Self {
        Self {
            market,
            store,
            supplier,
            catalog: Mutex::default(),
        }
    }

    async fn listed(&self) -> Result<Catalog, ChainError> {
        let remembered = self
            .catalog
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone();
        if let Some((at, catalog)) = remembered
            && at.elapsed() < CATALOG_LIFETIME
        {
            return Ok(catalog);
        }
        let asked_at = Instant::now();
        let (gpus, regions) = tokio::try_join!(self.market.gpu_models(), self.market.regions())?;
        let token = |token: &::chain::network::Token| {
            let listed = Token {
                id: token.id,
                decimals: token.decimals,
            };
            (token.symbol.clone(), listed)
        };
        let model = |model: bindings::IProviderRegistry::GpuModel| GpuModel {
            vendor: model.vendor,
            model: model.model,
            memory_bytes: u64::from(model.vram) << 30,
            interface: None,
        };
        let catalog = Catalog {
            tokens: self.market.network().tokens.iter().map(token).collect(),
            gpus: gpus.into_iter().map(|(id, found)| (id, model(found))).collect(),
            regions: regions.into_iter().map(|(id, name)| (name, id)).collect(),
            suppliers: BTreeMap::new(),
        };
        *self.catalog.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((asked_at, catalog.clone()));
        Ok(catalog)
    }
}

fn away(error: impl std::error::Error + Send + Sync + 'static) -> ChainUnavailable {
    ChainUnavailable(Box::new(error))
}

#[async_trait]
impl LeaseAccess for ChainAccess {
    async fn lease(&self, lease: LeaseId) -> Result<Option<OnChainLease>, ChainUnavailable> {
        let Some(own) = *self.supplier.borrow() else {
            // After a restart the gateway listens before the registration is read: who does not know yet must not deny.
            return Err(ChainUnavailable("the provider's registration is not read yet".into()));
        };
        // Strangers may ask about any number: only orders that were seen on chain are looked up.
        let Some(row) = self.store.order(lease.0).await.map_err(away)? else {
            return Ok(None);
        };
        let word = self.market.order(lease.0).await.map_err(away)?;
        let is_lease = word.state == OrderState::Leased || is_closed(word.state);
        if !is_lease || word.supplier != own {
            return Ok(None);
        }
        let OrderId { account, token, .. } = OrderId::unpack(lease.0);
        let owner = self.market.account_owner(account).await.map_err(away)?;
        let owner_keys = self.market.keys_of(owner).await.map_err(away)?;
        Ok(Some(OnChainLease {
            order: OrderRequest {
                token,
                terms: row.terms,
            },
            owner,
            owner_keys,
            started_at: word.start.into(),
            closed: is_closed(word.state).then(|| why_closed(word.state)),
        }))
    }

    async fn catalog(&self, manifest: &Manifest) -> Result<Catalog, ChainUnavailable> {
        let mut catalog = self.listed().await.map_err(away)?;
        for address in manifest::named_suppliers(manifest) {
            if let Some(id) = self.market.supplier_of(address).await.map_err(away)? {
                catalog.suppliers.insert(address, id);
            }
        }
        Ok(catalog)
    }
}
