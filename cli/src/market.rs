//! Orders, leases and suppliers as the chain has them.

use ::chain::network::Token;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::RootProvider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use avs::terms::Terms;
use avs::words::OrderId;
use bindings::{FeeSchedule, IEscrow, ILeases, IOrderBook, IProviderRegistry, Order, OrderState};
use eyre::bail;
use serde_json::{Value, json};

use crate::amounts::{self, Origin};
use crate::chain::{Chain, read};
use crate::failure::Failure;
use crate::log_pages::decoded;
use crate::output::plain;
use crate::session::Session;

/// A filter for one event of a contract with these indexed operands.
pub(crate) fn filter<E: SolEvent>(address: Address, first: Option<B256>, second: Option<B256>) -> Filter {
    let mut filter = Filter::new().address(address).event_signature(E::SIGNATURE_HASH);
    if let Some(first) = first {
        filter = filter.topic1(first);
    }
    if let Some(second) = second {
        filter = filter.topic2(second);
    }
    filter
}

/// The logs of one event of a contract since its deployment, oldest first, with these indexed operands.
pub(crate) async fn logs<E: SolEvent>(
    chain: &Chain,
    address: Address,
    first: Option<B256>,
    second: Option<B256>,
) -> eyre::Result<Vec<(Log, E)>> {
    logs_since(chain, address, first, second, chain.network.deployed_at).await
}

/// [`logs`] from a block on.
pub(crate) async fn logs_since<E: SolEvent>(
    chain: &Chain,
    address: Address,
    first: Option<B256>,
    second: Option<B256>,
    block: u64,
) -> eyre::Result<Vec<(Log, E)>> {
    let (head, _) = chain.head().await?;
    let found = chain
        .logs_in(&filter::<E>(address, first, second), block..=head)
        .await?;
    found
        .into_iter()
        .map(|log| {
            let event = decoded(&log)?;
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

    /// What the order book answers about leases after their match.
    pub(crate) fn leases(&self) -> ILeases::ILeasesInstance<&RootProvider> {
        ILeases::new(self.chain.network.contracts.order_book, &self.chain.provider)
    }

    pub(crate) fn escrow(&self) -> IEscrow::IEscrowInstance<&RootProvider> {
        IEscrow::new(self.chain.network.contracts.escrow, &self.chain.provider)
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

    /// An order's terms, from the log of its creation, or of the proposal that it was the answer to.
    pub(crate) async fn created(&self, order: u64) -> eyre::Result<Created> {
        let (book, leases) = (self.chain.network.contracts.order_book, self.leases());
        let (word, workload, head) =
            tokio::try_join!(self.order(order), read(leases.workloadOf(order)), self.chain.head())?;
        let (close, first) = (u64::from(word.closeBlock), self.chain.network.deployed_at);
        let missing = || eyre::eyre!("the log of order {order} cannot be found; does this RPC endpoint keep old logs?");
        if workload != order && workload != 0 {
            // An updated lease names the block in which its update was taken.
            let taken = filter::<ILeases::LeaseUpdated>(book, None, topic(order));
            let taken = self.chain.last_log(&taken, close..=close).await?.ok_or_else(missing)?;
            let earlier = decoded::<ILeases::LeaseUpdated>(&taken)?.orderId;
            let proposed = filter::<ILeases::UpdateProposed>(book, topic(earlier), None);
            let log = self
                .chain
                .last_log(&proposed, first..=close)
                .await?
                .ok_or_else(missing)?;
            return Ok(Created {
                terms: decoded::<ILeases::UpdateProposed>(&log)?.terms.into(),
                block: close,
            });
        }
        // Orders are younger than their close block.
        let created = filter::<IOrderBook::OrderCreated>(book, topic(order), None);
        let log = self.chain.last_log(&created, first..=close.min(head.0)).await?;
        let log = log.ok_or_else(missing)?;
        Ok(Created {
            terms: decoded::<IOrderBook::OrderCreated>(&log)?.terms.into(),
            block: log.block_number.unwrap_or_default(),
        })
    }

    pub(crate) async fn fee_schedule(&self, id: u16) -> eyre::Result<FeeSchedule> {
        read(self.escrow().feeSchedule(id)).await
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
            // Anybody registers what he likes.
            name: plain(&about.name),
            gateway: plain(&about.gateway),
        })
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
        OrderState::ClosedAbnormalService => (
            "closed",
            Some("the provider says that its services do not run, or restart abnormally"),
        ),
        OrderState::ClosedCannotStart => ("closed", Some("the provider could not start the workload")),
        OrderState::ClosedSlashed => (
            "closed",
            Some("the provider was slashed, which ended it in the user's favour"),
        ),
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

/// What a lease's windows are measured by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    /// Seconds after its end in which a lease can still be extended, at most.
    pub(crate) grace: u32,
    /// Seconds before its end from which it is low on funds, at most.
    pub(crate) low_funds: u32,
    /// Seconds after its start in which nothing of it is paid out.
    pub(crate) payout_hold: u32,
}

impl From<&IOrderBook::Parameters> for Windows {
    fn from(parameters: &IOrderBook::Parameters) -> Self {
        Self {
            grace: parameters.graceWindow,
            low_funds: parameters.lowFundsWindow,
            payout_hold: parameters.challengeWindow,
        }
    }
}

/// How near its end a live lease is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// There is time.
    Ample,
    /// The low-funds window has begun.
    Low,
    /// Its end has passed; so many seconds are left in which it can still be extended.
    Grace(u64),
    /// Nothing but a close is left.
    Over,
}

impl Time {
    /// One word, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Low => "low",
            Self::Grace(_) => "grace",
            Self::Over => "over",
        }
    }
}

/// The money and the time of a lease: seconds billed until `now`, when it ends, what it spent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) seconds: u32,
    pub(crate) left: u32,
    /// Unix seconds; of a closed lease, until when it was billed.
    pub(crate) end: u64,
    /// Unix seconds until which it can be extended.
    pub(crate) grace_end: u64,
    /// None if it is over.
    pub(crate) time: Option<Time>,
    pub(crate) bill: amounts::Bill,
}

impl Account {
    /// Of a lease, live or closed, at a time (Unix seconds). Nothing for an order that is no lease.
    pub(crate) fn of(word: &Order, schedule: &FeeSchedule, origin: Origin, windows: Windows, now: u64) -> Option<Self> {
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
        let end = u64::from(word.start) + u64::from(word.duration);
        // A sixteenth and a quarter: short leases get no free hours, and no warning that lasts as long as they do.
        let grace_end = end + u64::from(windows.grace.min(word.duration / 16));
        let low_from = end - u64::from(windows.low_funds.min(word.duration / 4));
        let time = match now {
            _ if !live => None,
            now if now >= grace_end => Some(Time::Over),
            now if now >= end => Some(Time::Grace(grace_end - now)),
            now if now >= low_from => Some(Time::Low),
            _ => Some(Time::Ample),
        };
        Some(Self {
            seconds,
            left: if live { word.duration - seconds } else { 0 },
            end,
            grace_end,
            time,
            bill: amounts::Bill::after(seconds, U256::from(word.rate), schedule, origin),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use alloy::primitives::aliases::U96;

    use super::*;

    /// A commission of a fifth and no other fee, for tests elsewhere too.
    pub(crate) fn commission_alone() -> FeeSchedule {
        FeeSchedule {
            commission: 2_000,
            userFee: 0,
            providerFee: 0,
            gatewayShare: 0,
            matchFee: U96::ZERO,
        }
    }

    /// A live lease, of which other tests make what they need.
    pub(crate) fn lease() -> Order {
        Order {
            rate: U96::from(36_000),
            settledFor: 0,
            duration: 160,
            start: 1_000,
            closeBlock: 1,
            supplier: 1,
            feeSchedule: 2,
            requeued: false,
            noted: false,
            gpuEntry: 0,
            state: OrderState::Leased,
        }
    }

    fn at(word: &Order, now: u64) -> Option<Account> {
        let windows = Windows {
            grace: 60,
            low_funds: 30,
            payout_hold: 5,
        };
        Account::of(word, &commission_alone(), Origin::default(), windows, now)
    }

    #[test]
    fn a_live_lease_is_billed_to_now_and_never_beyond_its_end() {
        let mut word = lease();
        let seconds = |word: &Order, now| at(word, now).map(|account| (account.seconds, account.left));
        assert_eq!(seconds(&word, 1_040), Some((40, 120)));
        assert_eq!(seconds(&word, 5_000), Some((160, 0)));
        assert_eq!(seconds(&word, 900), Some((0, 160)));
        (word.state, word.duration) = (OrderState::ClosedByUser, 40);
        assert_eq!(seconds(&word, 5_000), Some((40, 0)));
        assert_eq!(at(&word, 5_000).and_then(|account| account.time), None);
        (word.state, word.start) = (OrderState::Open, 0);
        assert_eq!(seconds(&word, 5_000), None);
    }

    #[test]
    fn a_lease_is_low_then_in_its_grace_then_over() {
        let word = lease();
        let time = |now| at(&word, now).and_then(|account| account.time);
        // The low-funds window is 30 s, the grace a sixteenth of 160 s.
        for (now, expected) in [
            (1_129, Time::Ample),
            (1_130, Time::Low),
            (1_159, Time::Low),
            (1_160, Time::Grace(10)),
            (1_169, Time::Grace(1)),
            (1_170, Time::Over),
        ] {
            assert_eq!(time(now), Some(expected), "{now}");
        }
    }
}
