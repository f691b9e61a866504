//! The matching rule, version 1: which suppliers an order gets, best first.
//!
//! Total: whatever words an order and its bids hold, the rule has an answer. A bid with a malformed word is not valid; an
//! order whose terms are malformed has no valid bid.

mod explain;
mod order;
mod parameters;
mod score;

use alloy_primitives::B256;

pub use explain::{ExplainedBid, Verdict, explain};
pub use order::{Order, Rejection};
pub use parameters::{Parameters, ParametersError, RANDOMNESS_WEIGHT_MAXIMUM, RANK_LIMIT_MAXIMUM};
pub use score::{SCORE_MAXIMUM, Scores};

use crate::{
    draw::Draws,
    words::{PackedBid, RankedSupplier},
};

/// A valid bid on its way into the ranking.
#[derive(Clone, Copy)]
struct Candidate {
    total: u64,
    supplier: RankedSupplier,
}

impl Candidate {
    /// Whether this one ranks before another that comes earlier in (provider, fizz): that order decides full ties.
    #[inline]
    fn beats_earlier(&self, other: &Self) -> bool {
        self.total > other.total || (self.total == other.total && self.supplier.rate < other.supplier.rate)
    }
}

/// Ranks an order's bids (in log order): the first K suppliers, best first; empty when no bid is valid.
///
/// `seed` is [`crate::draw::seed`] of the order and its close block.
pub fn rank(order: &Order<'_>, seed: B256, bids: &[PackedBid]) -> Vec<RankedSupplier> {
    let limit = usize::from(order.parameters().rank_limit());
    let mut draws = Draws::new(seed);
    let mut best: Vec<Candidate> = Vec::with_capacity(limit + 1);
    for index in last_bid_of_each(bids) {
        let Ok(bid) = bids[index].unpack() else { continue };
        let Ok(gpu_entry) = order.accept(&bid) else { continue };
        let total = order
            .scores(&bid, gpu_entry, draws.next_draw())
            .total(order.parameters());
        let candidate = Candidate {
            total,
            supplier: RankedSupplier::from_offer(&bid.offer, gpu_entry),
        };
        let position = best
            .iter()
            .rposition(|other| !candidate.beats_earlier(other))
            .map_or(0, |last| last + 1);
        if position < limit {
            best.truncate(limit - 1);
            best.insert(position, candidate);
        }
    }
    best.into_iter().map(|candidate| candidate.supplier).collect()
}

/// Indices of each (provider, fizz) pair's last bid, ascending by that pair.
fn last_bid_of_each(bids: &[PackedBid]) -> impl Iterator<Item = usize> {
    // One number per bid sorts by pair, then by log position.
    let mut keys: Vec<u128> = bids
        .iter()
        .enumerate()
        .map(|(index, bid)| u128::from(bid.bidder()) << 64 | index as u128)
        .collect();
    keys.sort_unstable();
    let count = keys.len();
    (0..count).filter_map(move |at| {
        let superseded = at + 1 < count && keys[at + 1] >> 64 == keys[at] >> 64;
        (!superseded).then_some(keys[at] as u64 as usize)
    })
}
