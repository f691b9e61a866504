//! The contracts, as far as a provider talks to them.

pub mod access;
mod catalog;

use std::sync::Arc;
use std::time::Duration;

use ::chain::network::{Network, Token};
use ::chain::{Call, RootProvider};
use alloy::eips::BlockNumberOrTag;
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use alloy_primitives::aliases::U96;
use alloy_primitives::{Address, B256, U256};
use avs::terms::{Terms, TermsError};
use bindings::{
    BidRequest, ICertificateRegistry, IEscrow, ILeases, IOrderBook, IPaymentTokens, IProviderRegistry, LeaseResources,
    Order, OrderState, OrderTerms,
};
use gateway::PinnedFingerprints;
use workload::LeaseId;

use crate::bidding::{Bid, Standing};
use crate::leases::Reason;

/// Token units that stay behind in an account of credit, so that its slot is not freed and taken again.
pub const CREDIT_DUST: U256 = U256::from_limbs([1, 0, 0, 0]);

/// The chain cannot be read, or said no.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} from the chain")]
pub struct ChainError {
    what: &'static str,
    #[source]
    source: alloy::contract::Error,
}

fn reading<E: Into<alloy::contract::Error>>(what: &'static str) -> impl FnOnce(E) -> ChainError {
    move |source| ChainError {
        what,
        source: source.into(),
    }
}

/// A network's contracts, read by one provider. Clones share connections.
#[derive(Debug, Clone)]
pub struct Market {
    provider: RootProvider,
    network: Arc<Network>,
    owner: Address,
    catalog: Arc<catalog::Remembered>,
}

/// A block as far as time goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Height.
    pub number: u64,
    /// Unix seconds.
    pub time: u64,
}

impl Market {
    /// Of a network, for the provider with this address.
    pub fn new(provider: RootProvider, network: Arc<Network>, owner: Address) -> Self {
        Self {
            provider,
            network,
            owner,
            catalog: Arc::default(),
        }
    }

    /// The network file's content.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The provider's address.
    pub fn owner(&self) -> Address {
        self.owner
    }

    /// For what has no method here.
    pub fn provider(&self) -> &RootProvider {
        &self.provider
    }

    fn book(&self) -> IOrderBook::IOrderBookInstance<&RootProvider> {
        IOrderBook::new(self.network.contracts.order_book, &self.provider)
    }

    /// The order book's address answers this too.
    fn leases(&self) -> ILeases::ILeasesInstance<&RootProvider> {
        ILeases::new(self.network.contracts.order_book, &self.provider)
    }

    fn registry(&self) -> IProviderRegistry::IProviderRegistryInstance<&RootProvider> {
        IProviderRegistry::new(self.network.contracts.provider_registry, &self.provider)
    }

    fn escrow(&self) -> IEscrow::IEscrowInstance<&RootProvider> {
        IEscrow::new(self.network.contracts.escrow, &self.provider)
    }

    /// The provider's supplier id, once it is registered.
    pub async fn provider_id(&self) -> Result<Option<u32>, ChainError> {
        let id = self
            .registry()
            .providerOf(self.owner)
            .call()
            .await
            .map_err(reading("the provider registry"))?;
        Ok((id != 0).then_some(id))
    }

    /// What the registry holds of the provider.
    pub async fn registered(&self, id: u32) -> Result<IProviderRegistry::Provider, ChainError> {
        self.registry()
            .call_builder(&IProviderRegistry::providerCall { id })
            .call()
            .await
            .map_err(reading("the provider registry"))
    }

    /// Score card and capacity at the newest block.
    pub async fn standing(&self, id: u32) -> Result<Standing, ChainError> {
        let (registry, book) = (self.registry(), self.book());
        let (card, capacity) = (registry.scoreCard(id), book.capacityOf(id));
        let (score_card, capacity) = tokio::join!(card.call(), capacity.call());
        Ok(Standing {
            provider: id,
            score_card: score_card.map_err(reading("the score card"))?,
            capacity: capacity.map_err(reading("the capacity"))?.capacity,
        })
    }

    /// The capacity word, and the one that a decrease will make of it.
    pub async fn capacity(&self, id: u32) -> Result<(U256, U256), ChainError> {
        let capacity = self
            .book()
            .capacityOf(id)
            .call()
            .await
            .map_err(reading("the capacity"))?;
        Ok((capacity.capacity, capacity.pending))
    }

    /// Windows and limits.
    pub async fn parameters(&self) -> Result<IOrderBook::Parameters, ChainError> {
        self.book()
            .parameters()
            .call()
            .await
            .map_err(reading("the market's parameters"))
    }

    /// An order word at the newest block.
    pub async fn order(&self, order: u64) -> Result<Order, ChainError> {
        self.book().order(order).call().await.map_err(reading("an order"))
    }

    /// Unix seconds of a live lease's end and of the end of its grace, at the newest block; nothing when it is no live lease.
    pub async fn end_of(&self, lease: LeaseId) -> Result<Option<(u64, u64)>, ChainError> {
        let found = self
            .leases()
            .endOf(lease.0)
            .call()
            .await
            .map_err(reading("the end of a lease"))?;
        let seconds = |time: U256| u64::try_from(time).unwrap_or(u64::MAX);
        Ok((!found.end.is_zero()).then(|| (seconds(found.end), seconds(found.graceEnd))))
    }

    /// Hash and expiry of the update that stands for a lease at the newest block.
    pub async fn update_proposal(&self, lease: LeaseId) -> Result<Option<(B256, u64)>, ChainError> {
        let found = self
            .leases()
            .updateProposal(lease.0)
            .call()
            .await
            .map_err(reading("the proposed update of a lease"))?;
        Ok((!found.hash.is_zero()).then(|| (found.hash, found.expiry.to())))
    }

    /// Whether the market takes no orders and updates now.
    pub async fn is_paused(&self) -> Result<bool, ChainError> {
        self.book()
            .paused()
            .call()
            .await
            .map_err(reading("whether the market is paused"))
    }

    /// What settling a lease would credit now: to its supplier's owner, and to its gateway's.
    pub async fn claimable(&self, lease: LeaseId) -> Result<(U256, U256), ChainError> {
        let found = self
            .book()
            .claimable(lease.0)
            .call()
            .await
            .map_err(reading("what a lease has earned"))?;
        Ok((found.amount, found.gatewayAmount))
    }

    /// Dollars with 18 decimals for a whole token: today's price, else the last one kept; nothing when there never was one.
    pub async fn token_price(&self, token: u8) -> Result<Option<U256>, ChainError> {
        let tokens = IPaymentTokens::new(self.network.contracts.payment_tokens, &self.provider);
        // It reverts where the feed cannot be used.
        if let Ok(price) = tokens.price(token).call().await {
            return Ok(Some(price));
        }
        let last = tokens
            .lastPrice(token)
            .call()
            .await
            .map_err(reading("the price of a token"))?;
        Ok((!last.price.is_zero()).then_some(last.price))
    }

    /// Wei for a unit of gas now.
    pub async fn gas_price(&self) -> Result<u128, ChainError> {
        self.provider.get_gas_price().await.map_err(reading("the price of gas"))
    }

    /// What the provider can withdraw of a token at once.
    pub async fn credit(&self, token: u8) -> Result<U256, ChainError> {
        self.escrow()
            .creditOf(self.owner, token)
            .call()
            .await
            .map_err(reading("the credit"))
    }

    /// Who owns an account.
    pub async fn account_owner(&self, account: u32) -> Result<Address, ChainError> {
        self.escrow()
            .ownerOf(U256::from(account))
            .call()
            .await
            .map_err(reading("the owner of an account"))
    }

    /// The keys that an address published; nothing when there are none.
    pub async fn keys_of(&self, holder: Address) -> Result<Option<PinnedFingerprints>, ChainError> {
        let registry = ICertificateRegistry::new(self.network.contracts.certificate_registry, &self.provider);
        let found = registry
            .fingerprints(holder)
            .call()
            .await
            .map_err(reading("the published certificates"))?;
        Ok(PinnedFingerprints::from_chain(found.current, found.next))
    }

    /// The supplier id of an address; nothing when it has none.
    pub async fn supplier_of(&self, address: Address) -> Result<Option<u32>, ChainError> {
        let id = self
            .registry()
            .providerOf(address)
            .call()
            .await
            .map_err(reading("the provider registry"))?;
        Ok((id != 0).then_some(id))
    }

    /// The catalogue of GPU models: ids from 1.
    pub async fn gpu_models(&self) -> Result<Vec<(u8, IProviderRegistry::GpuModel)>, ChainError> {
        let registry = self.registry();
        let count = registry
            .gpuModelCount()
            .call()
            .await
            .map_err(reading("the catalogue of GPUs"))?;
        let mut models = Vec::new();
        for id in 1..=count {
            let model = registry
                .gpuModel(id)
                .call()
                .await
                .map_err(reading("the catalogue of GPUs"))?;
            models.push((id, model));
        }
        Ok(models)
    }

    /// The catalogue of regions: ids from 1.
    pub async fn regions(&self) -> Result<Vec<(u8, String)>, ChainError> {
        let registry = self.registry();
        let count = registry
            .regionCount()
            .call()
            .await
            .map_err(reading("the catalogue of regions"))?;
        let mut regions = Vec::new();
        for id in 1..=count {
            let name = registry
                .region(id)
                .call()
                .await
                .map_err(reading("the catalogue of regions"))?;
            regions.push((id, name));
        }
        Ok(regions)
    }

    /// How long blocks have taken lately, in whole seconds, at least one.
    pub async fn block_time(&self) -> Result<Duration, ChainError> {
        const BLOCKS: u64 = 20;
        let head = self.head().await?;
        let earlier = self
            .provider
            .get_block_by_number(BlockNumberOrTag::Number(head.number.saturating_sub(BLOCKS)))
            .await
            .map_err(reading("an earlier block"))?
            .map_or(head.time, |block| block.header.timestamp);
        let seconds = head.time.saturating_sub(earlier) / BLOCKS.min(head.number).max(1);
        Ok(Duration::from_secs(seconds.max(1)))
    }

    /// The newest block.
    pub async fn head(&self) -> Result<Head, ChainError> {
        let block = self
            .provider
            .get_block_by_number(BlockNumberOrTag::Latest)
            .await
            .map_err(reading("the newest block"))?;
        let header = block.map(|block| block.header);
        Ok(Head {
            number: header.as_ref().map_or(0, |header| header.number),
            time: header.as_ref().map_or(0, |header| header.timestamp),
        })
    }

    /// How many transactions of the provider's key are in blocks, and how many there are with those that wait.
    pub async fn transaction_counts(&self) -> Result<(u64, u64), ChainError> {
        let count = |pending: bool| {
            let asked = self.provider.get_transaction_count(self.owner);
            async move {
                let count = if pending {
                    asked.pending().await
                } else {
                    asked.latest().await
                };
                count.map_err(reading("the provider's nonce"))
            }
        };
        Ok((count(false).await?, count(true).await?))
    }

    /// A listed token.
    pub fn token(&self, symbol: &str) -> Option<&Token> {
        self.network.token(symbol)
    }

    /// Offers this capacity.
    pub fn set_capacity(&self, capacity: U256) -> Call {
        let call = IOrderBook::setCapacityCall { capacity };
        Call::new("capacity", self.network.contracts.order_book, call.abi_encode())
    }

    /// Publishes the gateway's key.
    pub fn publish(&self, fingerprint: B256) -> Call {
        let call = ICertificateRegistry::publishCall {
            current: fingerprint,
            next: B256::ZERO,
        };
        Call::new(
            "certificate",
            self.network.contracts.certificate_registry,
            call.abi_encode(),
        )
    }

    /// Places bids, in the order given, which must ascend. They are of use until the last of them closes.
    pub fn place_bids(&self, head: u64, bids: &[Bid]) -> Call {
        let last_block = bids.iter().map(|bid| bid.close_block).max().unwrap_or(head + 1) - 1;
        let requests = bids.iter().map(|bid| BidRequest {
            orderId: bid.order,
            fizz: 0,
            rate: U96::saturating_from(bid.rate),
        });
        let call = IOrderBook::placeBidsCall {
            bids: requests.collect(),
        };
        let label = format!("bids/{head}");
        Call::new(label, self.network.contracts.order_book, call.abi_encode()).valid_until(last_block)
    }

    /// Closes a lease.
    pub fn close(&self, lease: LeaseId, terms: &Terms, reason: Reason) -> Call {
        let call = ILeases::closeLeaseCall {
            orderId: lease.0,
            reason: state_of(reason),
            resources: resources_of(terms),
        };
        self.call(format!("close/{lease}"), call.abi_encode())
    }

    /// Says of leases that they are low on funds.
    pub fn announce(&self, head: u64, leases: &[LeaseId]) -> Call {
        let call = ILeases::announceLowFundsCall {
            orderIds: leases.iter().map(|lease| lease.0).collect(),
        };
        self.call(format!("low-funds/{head}"), call.abi_encode())
    }

    /// Takes an update as it was proposed. It is of no use once the proposal has expired.
    ///
    /// # Errors
    /// When the terms are such that the contract cannot have them.
    pub fn accept_update(
        &self,
        lease: LeaseId,
        leased: &Terms,
        proposed: &Terms,
        rate: u128,
    ) -> Result<Call, TermsError> {
        let call = ILeases::acceptUpdateCall {
            orderId: lease.0,
            resources: resources_of(leased),
            terms: OrderTerms::try_from(proposed)?,
            rate: U96::saturating_from(rate),
        };
        Ok(self.call(format!("accept/{lease}/{}", proposed.terms_hash()), call.abi_encode()))
    }

    /// Refuses the update of this hash; another one that was proposed meanwhile stands.
    pub fn reject_update(&self, lease: LeaseId, hash: B256) -> Call {
        let call = ILeases::rejectUpdateCall { orderId: lease.0, hash };
        self.call(format!("reject/{lease}"), call.abi_encode())
    }

    fn call(&self, label: String, data: Vec<u8>) -> Call {
        Call::new(label, self.network.contracts.order_book, data)
    }

    /// Settles leases of one token and withdraws everything owed in it.
    pub fn withdraw(&self, token: u8, leases: &[LeaseId]) -> Call {
        let call = IOrderBook::settleAndWithdrawCall {
            orderIds: leases.iter().map(|lease| lease.0).collect(),
            to: self.owner,
        };
        self.call(format!("withdraw/{token}"), call.abi_encode())
    }

    /// Withdraws what was credited in a token.
    pub fn withdraw_credit(&self, token: u8) -> Call {
        let call = IEscrow::withdrawCreditCall { token, to: self.owner };
        Call::new(
            format!("withdraw/{token}"),
            self.network.contracts.escrow,
            call.abi_encode(),
        )
    }
}

fn resources_of(terms: &Terms) -> LeaseResources {
    LeaseResources {
        resources: terms.resources,
        restHash: terms.rest_hash(),
    }
}

fn state_of(reason: Reason) -> OrderState {
    match reason {
        Reason::NoManifest => OrderState::ClosedNoManifest,
        Reason::CannotStart => OrderState::ClosedCannotStart,
        Reason::AtEnd => OrderState::ClosedAtEnd,
    }
}

/// Whether a lease in this state is over.
pub fn is_closed(state: OrderState) -> bool {
    state as u8 >= OrderState::ClosedByUser as u8
}

/// Why a lease is over, in words.
pub fn why_closed(state: OrderState) -> String {
    let words = match state {
        OrderState::ClosedByUser => "closed by its user",
        OrderState::ClosedAtEnd => "its time is over",
        OrderState::ClosedNoManifest => "closed by the provider: no manifest came in time",
        OrderState::ClosedMaintenance => "closed by the provider for maintenance",
        OrderState::ClosedAbnormalService => {
            "closed by the provider because its services did not run, or restarted abnormally"
        }
        OrderState::ClosedCannotStart => "closed by the provider: the workload cannot be started",
        OrderState::ClosedSlashed => "closed because its provider was slashed",
        OrderState::ClosedUndone => "its match was proven wrong and undone",
        OrderState::ClosedUpdated => "replaced by an updated lease",
        _ => "it is no lease any more",
    };
    words.to_owned()
}
