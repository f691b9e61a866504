//! Three implementations of the matching rule, asked the same questions: Rust (`avs`, what operators run), Solidity
//! (`MatchingRule.sol`, what a dispute runs) and Python (`avs/vectors/rule.py`, written from the description alone).
//!
//! Cases come from a seed and a number, so that any of them can be asked again. `tests/agreement.rs` runs them.

mod case;
mod fields;
mod python;
mod source;

use std::path::PathBuf;

use alloy_primitives::U256;
use avs::{
    digest::BidsDigest,
    task::{self, TaskOrder},
};

pub use case::Case;
pub use python::{Python, PythonError};
pub use source::Source;

/// What the rule says of one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What the order book stores for the bids: digest 240 at 16 | count 16 at 0; zero without bids.
    pub digest_word: U256,
    /// Rank words, best first.
    pub ranks: Vec<U256>,
}

/// The folder of the Python implementation.
pub fn vectors() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors"))
}

/// What operators compute.
pub fn answer_of_rust(case: &Case) -> Answer {
    let order = TaskOrder {
        order_id: case.order_id,
        terms: &case.terms,
        bids: &case.bids,
    };
    let matched = task::match_order(&case.parameters, case.chain_id, case.close_block_hash, &order);
    let digest_word = if case.bids.is_empty() {
        U256::ZERO
    } else {
        let digest = BidsDigest::of(case.order_id, case.close_block, &case.bids).expect("cases hold at most 512 bids");
        U256::from_be_bytes(digest.digest.0) | U256::from(digest.count)
    };
    let ranks = matched
        .ranks
        .iter()
        .map(|rank| rank.pack().expect("the rule's own fields fit"));
    Answer {
        digest_word,
        ranks: ranks.collect(),
    }
}
