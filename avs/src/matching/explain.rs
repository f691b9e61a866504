use std::cmp::Reverse;

use alloy_primitives::B256;

use super::{Order, Rejection, Scores, last_bid_of_each};
use crate::{
    draw::Draws,
    words::{Offer, PackedBid},
};

/// What the rule made of one bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedBid {
    /// Who offered what; `None` when the word is malformed.
    pub offer: Option<Offer>,
    pub verdict: Verdict,
}

/// Where a bid ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The same (provider, fizz) bid again later.
    Superseded,
    Rejected(Rejection),
    Ranked {
        /// From 1; the answer holds those up to the parameters' rank limit.
        rank: usize,
        scores: Scores,
        /// Weighted sum of the scores, 0 to 10^12.
        total: u64,
        gpu_entry: u8,
    },
}

/// Says of every bid, in log order, where it ended and why: the same rule as [`super::rank`], told at length.
pub fn explain(order: &Order<'_>, seed: B256, bids: &[PackedBid]) -> Vec<ExplainedBid> {
    let mut explained: Vec<ExplainedBid> = bids
        .iter()
        .map(|bid| ExplainedBid {
            offer: Offer::unpack(bid.offer).ok(),
            verdict: Verdict::Superseded,
        })
        .collect();
    let mut draws = Draws::new(seed);
    let mut ranking = Vec::new();
    for index in last_bid_of_each(bids) {
        let bid = &bids[index];
        explained[index].verdict = match order.accept(bid) {
            Err(rejection) => Verdict::Rejected(rejection),
            Ok(gpus) => {
                let scores = order.scores(bid, gpus, draws.next_draw());
                let total = scores.total(order.parameters());
                ranking.push((Reverse(total), bid.rate(), bid.bidder(), index));
                Verdict::Ranked {
                    rank: 0,
                    scores,
                    total,
                    gpu_entry: gpus.index,
                }
            }
        };
    }
    ranking.sort_unstable();
    for (position, (.., index)) in ranking.into_iter().enumerate() {
        if let Verdict::Ranked { rank, .. } = &mut explained[index].verdict {
            *rank = position + 1;
        }
    }
    explained
}
