//! Orders, leases and suppliers as the chain has them.

use ::chain::network::Token;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use avs::terms::Terms;
use avs::words::OrderId;
use bindings::{FeeSchedule, ICertificateRegistry, IEscrow, IOrderBook, IProviderRegistry, Order, OrderState};
use eyre::{OptionExt as _, WrapErr as _, bail};
use gateway::{GatewayClient, PinnedFingerprints};
use serde_json::{Value, json};
use url::Url;

use crate::amounts;
use crate::chain::{Chain, read};
use crate::failure::Failure;
use crate::session::Session;

/// The logs of one event of a contract, oldest first, with these indexed operands.
pub(crate) async fn logs<E: SolEvent>(
    chain: &Chain,
    address: Address,
    first: Option<B256>,
    second: Option<B256>,
) -> eyre::Result<Vec<(Log, E)>> {
    let mut filter = Filter::new()
        .address(address)
        .event_signature(E::SIGNATURE_HASH)
        .from_block(chain.network.deployed_at);
    if let Some(first) = first {
        filter = filter.topic1(first);
    }
    if let Some(second) = second {
        filter = filter.topic2(second);
    }
    let logs = chain
        .provider
        .get_logs(&filter)
        .await
        .wrap_err("cannot read the chain's logs")?;
    logs.into_iter()
        .map(|log| {
            let event = E::decode_log(&log.inner)
                .wrap_err("the chain holds a log that is not understood")?
                .data;
            Ok((log, event))
        })
        .collect()
}

/// An order id as an indexed operand.
pub(crate) fn topic(order: u64) -> Option<B256> {
    Some(B256::from(U256::from(order)))
}

/// How an order was created.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub(crate) terms: Terms,
    pub(crate) block: u64,
}

/// Who serves a lease.
#[derive(Debug, Clone)]
pub(crate) struct Supplier {
    pub(crate) id: u32,
    pub(crate) owner: Address,
    pub(crate) name: String,
    pub(crate) gateway: String,
}

impl Supplier {
    pub(crate) fn json(&self) -> Value {
        json!({"id": self.id.to_string(), "name": self.name, "gateway": self.gateway, "owner": self.owner})
    }
}

impl Session<'_> {
    pub(crate) fn order_book(&self) -> IOrderBook::IOrderBookInstance<&RootProvider> {
        IOrderBook::new(self.chain.network.contracts.order_book, &self.chain.provider)
    }

    /// An order's word. An order that does not exist is bad input.
    pub(crate) async fn order(&self, order: u64) -> eyre::Result<Order> {
        let word = read(self.order_book().order(order)).await?;
        if word.state == OrderState::None {
            bail!(Failure::bad_input(format!(
                "there is no order {order} on {}",
                self.chain.network.name
            )));
        }
        Ok(word)
    }

    /// The payment token of an order.
    pub(crate) fn token_of(&self, order: u64) -> eyre::Result<&Token> {
        self.token_by_id(OrderId::unpack(order).token)
    }

    /// An order's terms, from the log of its creation.
    pub(crate) async fn created(&self, order: u64) -> eyre::Result<Created> {
        let address = self.chain.network.contracts.order_book;
        let found = logs::<IOrderBook::OrderCreated>(&self.chain, address, topic(order), None).await?;
        let (log, event) = found.into_iter().next().ok_or_eyre(format!(
            "the log of order {order} cannot be found; does this RPC endpoint keep old logs?"
        ))?;
        Ok(Created {
            terms: event.terms.into(),
            block: log.block_number.unwrap_or_default(),
        })
    }

    pub(crate) async fn fee_schedule(&self, id: u16) -> eyre::Result<FeeSchedule> {
        let escrow = IEscrow::new(self.chain.network.contracts.escrow, &self.chain.provider);
        read(escrow.feeSchedule(id)).await
    }

    pub(crate) async fn supplier(&self, id: u32) -> eyre::Result<Supplier> {
        let (book, registry) = (self.order_book(), self.registry());
        let (owner, about) = tokio::try_join!(
            read(book.supplierOwner(id)),
            read(registry.call_builder(&IProviderRegistry::providerCall { id }))
        )?;
        Ok(Supplier {
            id,
            owner,
            name: about.name,
            gateway: about.gateway,
        })
    }

    /// A supplier's gateway, recognised by the fingerprints that its owner published.
    pub(crate) async fn gateway(&self, supplier: &Supplier) -> eyre::Result<GatewayClient> {
        let certificates =
            ICertificateRegistry::new(self.chain.network.contracts.certificate_registry, &self.chain.provider);
        let published = read(certificates.fingerprints(supplier.owner)).await?;
        let pinned = PinnedFingerprints::from_chain(published.current, published.next).ok_or_eyre(format!(
            "provider {} ({}) has no certificate on chain, or revoked it: nothing can be sent to it safely",
            supplier.id, supplier.name
        ))?;
        let url: Url = supplier.gateway.parse().wrap_err_with(|| {
            format!(
                "provider {} names a gateway that is no URL: {}",
                supplier.id, supplier.gateway
            )
        })?;
        Ok(GatewayClient::new(&url, pinned, &self.home.identity()?)?)
    }
}

/// Where an order stands, in a word, and why, where it ended as a lease.
pub(crate) fn state(state: OrderState) -> (&'static str, Option<&'static str>) {
    match state {
        OrderState::Open => ("open", None),
        OrderState::Leased => ("leased", None),
        OrderState::Cancelled => ("cancelled", None),
        OrderState::Expired => ("expired", None),
        OrderState::ClosedByUser => ("closed", Some("ended by its user")),
        OrderState::ClosedAtEnd => ("closed", Some("it reached its end")),
        OrderState::ClosedNoManifest => ("closed", Some("the provider got no manifest in time")),
        OrderState::ClosedMaintenance => ("closed", Some("the provider takes capacity out of service")),
        OrderState::ClosedAbnormalService => ("closed", Some("the provider says that the workload abused the service")),
        OrderState::ClosedCannotStart => ("closed", Some("the provider could not start the workload")),
        OrderState::ClosedSlashed => ("closed", Some("the provider was slashed")),
        OrderState::ClosedUndone => (
            "closed",
            Some("its match was proven wrong and undone: nothing was billed, the money is unlocked"),
        ),
        OrderState::ClosedUpdated => ("closed", Some("replaced by an updated lease")),
        OrderState::None | OrderState::__Invalid => ("unknown", None),
    }
}

/// [`state`] in one phrase.
pub(crate) fn state_phrase(of: OrderState) -> String {
    match state(of) {
        (state, None) => state.to_owned(),
        (state, Some(reason)) => format!("{state} ({reason})"),
    }
}

/// The money and the time of a lease: seconds billed until `now`, rate, what it spent.
pub(crate) struct Account {
    pub(crate) seconds: u32,
    pub(crate) left: u32,
    pub(crate) bill: amounts::Bill,
}

impl Account {
    /// Of a lease, live or closed, at a time (Unix seconds). Nothing for an order that is no lease.
    pub(crate) fn of(word: &Order, schedule: &FeeSchedule, now: u64) -> Option<Self> {
        if word.start == 0 {
            return None;
        }
        let elapsed = u32::try_from(now.saturating_sub(word.start.into())).unwrap_or(u32::MAX);
        let live = word.state == OrderState::Leased;
        let seconds = if live {
            elapsed.min(word.duration)
        } else {
            word.duration
        };
        Some(Self {
            seconds,
            left: if live { word.duration - seconds } else { 0 },
            bill: amounts::Bill::after(seconds, U256::from(word.rate), schedule),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::aliases::U96;

    use super::*;

    #[test]
    fn a_live_lease_is_billed_to_now_and_never_beyond_its_end() {
        let schedule = FeeSchedule {
            commission: 2_000,
            userFee: 0,
            providerFee: 0,
            matchFee: U96::ZERO,
        };
        let mut word = Order {
            rate: U96::from(36_000),
            settledFor: 0,
            duration: 100,
            start: 1_000,
            closeBlock: 1,
            supplier: 1,
            feeSchedule: 1,
            requeued: false,
            gpuEntry: 0,
            state: OrderState::Leased,
        };
        let at = |word: &Order, now| Account::of(word, &schedule, now).map(|account| (account.seconds, account.left));
        assert_eq!(at(&word, 1_040), Some((40, 60)));
        assert_eq!(at(&word, 5_000), Some((100, 0)));
        assert_eq!(at(&word, 900), Some((0, 100)));
        (word.state, word.duration) = (OrderState::ClosedByUser, 40);
        assert_eq!(at(&word, 5_000), Some((40, 0)));
        (word.state, word.start) = (OrderState::Open, 0);
        assert_eq!(at(&word, 5_000), None);
    }
}
