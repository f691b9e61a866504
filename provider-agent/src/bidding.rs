//! Which orders to bid for, and how much. No I/O and no clock: what is known goes in, bids come out.
//!
//! A bid is judged by the same rule as the operators judge it, against what this provider will have left after every bid
//! it made that may still win: what is promised is reserved until the order's answer can come no more.

use std::collections::BTreeMap;

use alloy_primitives::{B256, U256};
use avs::matching::{Order, Parameters, Rejection, Verdict, explain};
use avs::terms::Terms;
use avs::words::{Capacity, Offer, OrderId, PackedBid, Resources, WordError};

use crate::pricing::{PriceError, Prices, TooDear};

/// An order that nobody has won yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrder {
    /// Its id.
    pub id: u64,
    /// The first block that takes no bid.
    pub close_block: u64,
    /// What is asked for.
    pub terms: Terms,
    /// The close block for which this provider bid already. A requeued order has another one.
    pub bid_for: Option<u64>,
}

/// The provider as the chain knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its supplier id.
    pub provider: u32,
    /// Its score card word.
    pub score_card: U256,
    /// Its capacity word: what is free there is free of leases, not of bids.
    pub capacity: U256,
}

/// What the chain says about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The newest block: a transaction comes into the next one at the earliest.
    pub head: u64,
    /// Blocks after a close block in which an answer may come.
    pub response_window: u64,
}

/// A bid to place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bid {
    /// The order.
    pub order: u64,
    /// Its close block.
    pub close_block: u64,
    /// Token units per 36 000 seconds.
    pub rate: u128,
    /// The most that the order pays.
    pub maximum_rate: u128,
}

/// Why an order gets no bid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// The order is malformed; no bid on it is valid.
    #[error("the order's terms are malformed")]
    Malformed,
    /// No price list for its token.
    #[error("no prices are configured for token {token}")]
    NoPrices {
        /// The token's id.
        token: u8,
    },
    /// It cannot be priced.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// It offers too little.
    #[error("{0}, the order offers at most {offered}", offered = .0.offered)]
    TooDear(TooDear),
    /// The rule would refuse the bid.
    #[error(transparent)]
    Refused(#[from] Rejection),
    /// A word could not be packed.
    #[error(transparent)]
    Word(#[from] WordError),
}

/// What a look at the open orders came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Ascending by order, as the contract wants them.
    pub bids: Vec<Bid>,
    /// Orders that get none, and why.
    pub declined: Vec<(u64, Declined)>,
    /// What is left after leases, earlier bids and these.
    pub left: Capacity,
}

/// Looks at every open order. `prices` by token id; `parameters` are only needed to read an order (a bid's validity does
/// not depend on weights).
///
/// # Errors
/// When the provider's own words are malformed.
pub fn decide(
    prices: &BTreeMap<u8, Prices>,
    parameters: &Parameters,
    standing: &Standing,
    moment: Moment,
    orders: &[OpenOrder],
) -> Result<Decision, WordError> {
    let mut left = unreserved(standing, moment, orders)?;
    let mut sorted: Vec<&OpenOrder> = orders.iter().collect();
    sorted.sort_by_key(|order| order.id);
    let mut decision = Decision::default();
    for order in sorted {
        let already = order.bid_for == Some(order.close_block);
        if already || moment.head + 1 >= order.close_block {
            continue;
        }
        match evaluate(prices, parameters, standing, &left, order) {
            Ok((bid, resources, gpu_entry)) => {
                reserve(&mut left, &resources, gpu_entry);
                decision.bids.push(bid);
            }
            Err(reason) => decision.declined.push((order.id, reason)),
        }
    }
    decision.left = left;
    Ok(decision)
}

/// What is left after leases and bids that may still win.
///
/// # Errors
/// When the provider's capacity word is malformed.
pub fn unreserved(standing: &Standing, moment: Moment, orders: &[OpenOrder]) -> Result<Capacity, WordError> {
    let mut left = Capacity::unpack(standing.capacity)?;
    let mut sorted: Vec<&OpenOrder> = orders.iter().collect();
    sorted.sort_by_key(|order| order.id);
    for order in sorted {
        if order.bid_for == Some(order.close_block) && moment.head <= order.close_block + moment.response_window {
            reserve_any(&mut left, &order.terms);
        }
    }
    Ok(left)
}

/// What one order would be bid, if it fits in `left`.
pub(crate) fn evaluate(
    prices: &BTreeMap<u8, Prices>,
    parameters: &Parameters,
    standing: &Standing,
    left: &Capacity,
    order: &OpenOrder,
) -> Result<(Bid, Resources, u8), Declined> {
    let (resources, _) = order.terms.unpack().map_err(|_| Declined::Malformed)?;
    let rule = Order::new(parameters, order.id, &order.terms).map_err(|_| Declined::Malformed)?;
    let token = OrderId::unpack(order.id).token;
    let list = prices.get(&token).ok_or(Declined::NoPrices { token })?;
    let bid_at = |rate: u128| -> Result<PackedBid, WordError> {
        let offer = Offer {
            rate,
            provider: standing.provider,
            ..Offer::default()
        };
        Ok(PackedBid {
            offer: offer.pack()?,
            score_card: standing.score_card,
            capacity: left.pack()?,
        })
    };
    // The price depends on the GPU that would serve, which the rule picks.
    let gpu_entry = accept(&rule, bid_at(1)?)?;
    let gpu = (resources.gpu_count > 0).then(|| left.gpus[usize::from(gpu_entry)].id);
    let rate = list.rate(&resources, gpu)?;
    accept(&rule, bid_at(rate)?).map_err(|rejection| match rejection {
        Rejection::RateAboveMaximum { rate, maximum } => Declined::TooDear(list.too_dear(rate, maximum)),
        rejection => rejection.into(),
    })?;
    let bid = Bid {
        order: order.id,
        close_block: order.close_block,
        rate,
        maximum_rate: order.terms.maximum_rate,
    };
    Ok((bid, resources, gpu_entry))
}

/// What the rule says about one bid: the GPU entry that would serve, or why not.
fn accept(rule: &Order<'_>, bid: PackedBid) -> Result<u8, Rejection> {
    match explain(rule, B256::ZERO, &[bid]).pop().map(|bid| bid.verdict) {
        Some(Verdict::Ranked { gpu_entry, .. }) => Ok(gpu_entry),
        Some(Verdict::Rejected(rejection)) => Err(rejection),
        // One bid is superseded by none.
        Some(Verdict::Superseded) | None => Err(Rejection::RateZero),
    }
}

fn reserve(left: &mut Capacity, resources: &Resources, gpu_entry: u8) {
    left.cpu_free = left.cpu_free.saturating_sub(resources.cpu);
    left.memory_free = left.memory_free.saturating_sub(resources.memory);
    left.storage_free = left.storage_free.saturating_sub(resources.storage);
    if resources.gpu_count > 0
        && let Some(entry) = left.gpus.get_mut(usize::from(gpu_entry))
    {
        entry.free = entry.free.saturating_sub(resources.gpu_count);
    }
}

/// For a bid that was made: whatever does not fit any more is as good as taken.
fn reserve_any(left: &mut Capacity, terms: &Terms) {
    let Ok((resources, _)) = terms.unpack() else { return };
    let entry = left
        .gpus
        .iter()
        .position(|entry| resources.gpus.contains(entry.id) && entry.free >= resources.gpu_count);
    reserve(
        left,
        &resources,
        entry.and_then(|index| u8::try_from(index).ok()).unwrap_or(u8::MAX),
    );
}

#[cfg(test)]
mod tests;
