//! What the gateway asks of the chain: who may ask about a lease, and what the names in a manifest stand for.

use alloy_primitives::{Address, U256};
use async_trait::async_trait;
use avs::words::OrderId;
use bindings::OrderState;
use gateway::wire::UpdateStatus;
use manifest::{Catalog, Manifest, OrderRequest};
use workload::LeaseId;

use super::{ChainError, Market, is_closed, reading, why_closed};
use crate::api::access::{ChainUnavailable, LeaseAccess, OnChainHolder, OnChainLease, Proposed, SpendingRight};
use crate::funds::Windows;
use crate::store::Store;
use crate::updates;

/// The chain behind the agent's own store.
#[derive(Debug)]
pub struct ChainAccess {
    market: Market,
    store: Store,
    supplier: tokio::sync::watch::Receiver<Option<u32>>,
    windows: tokio::sync::watch::Receiver<Windows>,
}

impl Market {
    /// What is left of a right to spend of an account in a token; all zero where there is none, or the account changed hands.
    async fn spending_right(&self, account: u32, spender: Address, token: u8) -> Result<SpendingRight, ChainError> {
        let found = self
            .escrow()
            .spendingRight(account, spender, token)
            .call()
            .await
            .map_err(reading("a spending right"))?;
        Ok(SpendingRight {
            limit: U256::from(found.limit),
            expiry: found.expiry.to(),
            may_close: found.mayClose,
        })
    }
}

impl ChainAccess {
    /// `supplier` is the provider's id once it is registered, `windows` are the market's.
    pub fn new(
        market: Market,
        store: Store,
        supplier: tokio::sync::watch::Receiver<Option<u32>>,
        windows: tokio::sync::watch::Receiver<Windows>,
    ) -> Self {
        Self {
            market,
            store,
            supplier,
            windows,
        }
    }

    /// The lease that an update put in this one's place: the next one of the workload.
    async fn successor(
        &self,
        own: u32,
        lease: LeaseId,
        workload: LeaseId,
    ) -> Result<Option<LeaseId>, ChainUnavailable> {
        let leases = self.store.leases_of(own, workload).await.map_err(away)?;
        let closed = leases
            .iter()
            .find(|one| one.id == lease)
            .and_then(|one| one.leased?.closed)
            .map(|closed| closed.block);
        let next = leases
            .iter()
            .filter(|one| one.id > lease)
            .find(|one| one.leased.map(|leased| leased.block) == closed && closed.is_some());
        Ok(next.map(|next| next.id))
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
        let known = self.store.lease(own, lease).await.map_err(away)?;
        let workload = known.as_ref().map_or(lease, |known| known.workload);
        let ends = self.market.end_of(lease).await.map_err(away)?;
        let now = self.market.head().await.map_err(away)?.time;
        let low_on_funds =
            ends.is_some() && (word.noted || self.windows.borrow().is_low(now, word.start.into(), word.duration));
        let replaced_by = match word.state {
            OrderState::ClosedUpdated => self.successor(own, lease, workload).await?,
            _ => None,
        };
        Ok(Some(OnChainLease {
            order: OrderRequest {
                token,
                terms: row.terms,
            },
            owner,
            owner_keys,
            workload,
            replaced_by,
            ends,
            low_on_funds,
            setback: known.and_then(|known| known.setback),
            started_at: word.start.into(),
            closed: is_closed(word.state).then(|| why_closed(word.state)),
        }))
    }

    async fn holder(&self, holder: Address, account: u32, token: u8) -> Result<OnChainHolder, ChainUnavailable> {
        let (keys, right, head) = tokio::try_join!(
            self.market.keys_of(holder),
            self.market.spending_right(account, holder, token),
            self.market.head()
        )
        .map_err(away)?;
        Ok(OnChainHolder {
            keys,
            right,
            now: head.time,
        })
    }

    async fn proposal(&self, lease: LeaseId) -> Result<Proposed, ChainUnavailable> {
        let Some((hash, _)) = self.market.update_proposal(lease).await.map_err(away)? else {
            return Ok(Proposed::Nothing);
        };
        let seen = self.store.last_proposal(lease).await.map_err(away)?;
        Ok(match seen.filter(|seen| !seen.ended && seen.hash() == hash) {
            Some(seen) => Proposed::Update(Box::new(OrderRequest {
                token: OrderId::unpack(lease.0).token,
                terms: seen.terms,
            })),
            None => Proposed::NotSeenYet,
        })
    }

    async fn said_of_update(&self, lease: LeaseId) -> Result<Option<UpdateStatus>, ChainUnavailable> {
        let Some(proposal) = self.store.last_proposal(lease).await.map_err(away)? else {
            return Ok(None);
        };
        let now = self.market.head().await.map_err(away)?.time;
        Ok(updates::told(&proposal, now))
    }

    async fn catalog(&self, manifest: &Manifest) -> Result<Catalog, ChainUnavailable> {
        let mut catalog = self.market.catalog().await.map_err(away)?;
        for address in manifest::named_suppliers(manifest) {
            if let Some(id) = self.market.supplier_of(address).await.map_err(away)? {
                catalog.suppliers.insert(address, id);
            }
        }
        Ok(catalog)
    }
}
