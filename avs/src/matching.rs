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
    rate: u128,
    index: usize,
    gpu_entry: u8,
}

impl Candidate {
    /// Whether this one ranks before another that comes earlier in (provider, fizz): that order decides full ties.
    #[inline(always)]
    fn beats_earlier(&self, other: &Self) -> bool {
        self.total > other.total || (self.total == other.total && self.rate < other.rate)
    }
}

/// Ranks an order's bids (in log order): the first K suppliers, best first; empty when no bid is valid.
///
/// `seed` is [`crate::draw::seed`] of the order and its close block.
pub fn rank(order: &Order<'_>, seed: B256, bids: &[PackedBid]) -> Vec<RankedSupplier> {
    let limit = usize::from(order.parameters().rank_limit());
    let randomness_weight = u64::from(order.parameters().weights()[7]);
    // In log order first: bids are read once, in sequence, and nothing but the draws depends on who bids.
    let judged: Vec<Judged> = bids.iter().map(|bid| Judged::new(order, bid)).collect();
    let mut draws = Draws::new(seed);
    let mut best: Vec<Candidate> = Vec::with_capacity(limit);
    for index in last_bid_of_each(bids) {
        let Some((total, gpu_entry)) = judged[index].valid() else {
            continue;
        };
        let total = total + randomness_weight * u64::from(draws.next_draw());
        if best.len() == limit && best.last().is_some_and(|worst| worst.total > total) {
            continue;
        }
        insert(
            &mut best,
            limit,
            Candidate {
                total,
                rate: bids[index].rate(),
                index,
                gpu_entry,
            },
        );
    }
    let supplier = |candidate: Candidate| {
        let Candidate {
            rate, index, gpu_entry, ..
        } = candidate;
        RankedSupplier {
            provider: bids[index].provider(),
            fizz: bids[index].fizz(),
            rate,
            gpu_entry,
        }
    };
    best.into_iter().map(supplier).collect()
}

fn insert(best: &mut Vec<Candidate>, limit: usize, candidate: Candidate) {
    let position = best
        .iter()
        .rposition(|other| !candidate.beats_earlier(other))
        .map_or(0, |last| last + 1);
    if position < limit {
        best.truncate(limit - 1);
        best.insert(position, candidate);
    }
}

/// A bid before its draw: the weighted sum of all its other scores (at most 10^12) above the index of its GPU entry, or
/// that it is not valid. One number, because as many as there are bids wait for their draws.
#[derive(Clone, Copy)]
struct Judged(u64);

impl Judged {
    const NOT_VALID: Self = Self(u64::MAX);

    #[inline(always)]
    fn new(order: &Order<'_>, bid: &PackedBid) -> Self {
        let Ok(gpus) = order.accept(bid) else {
            return Self::NOT_VALID;
        };
        let total = order.scores(bid, gpus, 0).total(order.parameters());
        Self(total << 2 | u64::from(gpus.index))
    }

    /// Total and GPU entry of a valid bid.
    #[inline(always)]
    fn valid(self) -> Option<(u64, u8)> {
        (self.0 != u64::MAX).then_some((self.0 >> 2, self.0 as u8 & 3))
    }
}

/// Pairs (bidder, log position), sorted.
///
/// A radix sort over the bytes in which bidders differ at all: few, because ids are handed out from 1; where all differ it
/// still takes time linear in the bids.
fn sorted_by_bidder(bids: &[PackedBid]) -> Vec<(u64, u32)> {
    let mut pairs: Vec<(u64, u32)> = bids
        .iter()
        .enumerate()
        .map(|(index, bid)| (bid.bidder(), index as u32))
        .collect();
    let first = pairs.first().map_or(0, |pair| pair.0);
    let differing = pairs.iter().fold(0, |bits, pair| bits | (pair.0 ^ first));
    let mut other = vec![(0, 0); pairs.len()];
    for shift in (0..64).step_by(8).filter(|shift| differing >> shift & 0xff != 0) {
        let digit = |pair: &(u64, u32)| (pair.0 >> shift) as usize & 0xff;
        let mut starts = [0u32; 256];
        pairs.iter().for_each(|pair| starts[digit(pair)] += 1);
        let mut next = 0;
        for start in &mut starts {
            next += std::mem::replace(start, next);
        }
        for pair in &pairs {
            let position = &mut starts[digit(pair)];
            other[*position as usize] = *pair;
            *position += 1;
        }
        std::mem::swap(&mut pairs, &mut other);
    }
    pairs
}

/// Indices of each (provider, fizz) pair's last bid, ascending by that pair.
fn last_bid_of_each(bids: &[PackedBid]) -> impl Iterator<Item = usize> {
    let sorted = sorted_by_bidder(bids);
    (0..sorted.len()).filter_map(move |at| {
        let (bidder, index) = sorted[at];
        let superseded = sorted.get(at + 1).is_some_and(|next| next.0 == bidder);
        (!superseded).then_some(index as usize)
    })
}
