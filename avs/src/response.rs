//! Responses: packed matches, and the EIP-712 digest that operators sign.

use alloy_primitives::{Address, B256, Keccak256, U256, keccak256};

use crate::{
    matching::RANK_LIMIT_MAXIMUM,
    words::{MatchHeader, RankedSupplier, WordError},
};

const DOMAIN_TYPE: &[u8] = b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const RESPONSE_TYPE: &[u8] =
    b"MatchResponse(uint32 closeBlock,bytes32 closeBlockHash,uint16 chunk,uint16 paramsVersion,bytes32 matchesHash)";
const NAME: &[u8] = b"Spheron Matching";
const VERSION: &[u8] = b"1";

/// One order's outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderMatch {
    pub order_id: u64,
    /// Resource word of the order's terms; not encoded when nobody is ranked.
    pub resources: U256,
    /// Hash of the rest of the terms; not encoded when nobody is ranked.
    pub rest_hash: B256,
    /// Best first; empty means no bid was valid and the order expires.
    pub ranks: Vec<RankedSupplier>,
}

/// Match words that no honest operator would produce.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    #[error("word {index} of the matches is malformed")]
    Word {
        index: usize,
        #[source]
        source: WordError,
    },
    #[error("the matches end inside order {order_id}: {missing} words are missing")]
    Truncated { order_id: u64, missing: usize },
    #[error("order {order_id} is not above the order before it")]
    NotAscending { order_id: u64 },
    #[error("order {order_id} ranks {ranks} suppliers, allowed is at most {RANK_LIMIT_MAXIMUM}")]
    TooManyRanks { order_id: u64, ranks: usize },
}

/// Packs outcomes, ascending by order id.
///
/// # Errors
/// When orders are not strictly ascending, a field does not fit its width or too many suppliers are ranked.
pub fn encode(matches: &[OrderMatch]) -> Result<Vec<U256>, ResponseError> {
    let mut words = Vec::with_capacity(matches.iter().map(|order| 3 + order.ranks.len()).sum());
    let mut last = None;
    for order in matches {
        check_next(&mut last, order.order_id, order.ranks.len())?;
        words.push(
            MatchHeader {
                order_id: order.order_id,
                ranks: order.ranks.len() as u8,
            }
            .pack(),
        );
        if order.ranks.is_empty() {
            continue;
        }
        words.push(order.resources);
        words.push(order.rest_hash.into());
        for rank in &order.ranks {
            let index = words.len();
            words.push(rank.pack().map_err(|source| ResponseError::Word { index, source })?);
        }
    }
    Ok(words)
}

/// Unpacks match words from anywhere.
///
/// # Errors
/// When they are not what [`encode`] writes. Orders without a ranked supplier come back with zero resources and rest hash.
pub fn decode(words: &[U256]) -> Result<Vec<OrderMatch>, ResponseError> {
    let mut matches = Vec::new();
    let mut last = None;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let header = MatchHeader::unpack(*word).map_err(|source| ResponseError::Word { index: at, source })?;
        let MatchHeader { order_id, ranks } = header;
        let ranks = usize::from(ranks);
        check_next(&mut last, order_id, ranks)?;
        at += 1;
        if ranks == 0 {
            matches.push(OrderMatch {
                order_id,
                resources: U256::ZERO,
                rest_hash: B256::ZERO,
                ranks: Vec::new(),
            });
            continue;
        }
        let Some(body) = words.get(at..at + 2 + ranks) else {
            return Err(ResponseError::Truncated {
                order_id,
                missing: at + 2 + ranks - words.len(),
            });
        };
        let suppliers = body[2..].iter().enumerate().map(|(rank, word)| {
            RankedSupplier::unpack(*word).map_err(|source| ResponseError::Word {
                index: at + 2 + rank,
                source,
            })
        });
        let suppliers = suppliers.collect::<Result<_, _>>()?;
        matches.push(OrderMatch {
            order_id,
            resources: body[0],
            rest_hash: body[1].into(),
            ranks: suppliers,
        });
        at += body.len();
    }
    Ok(matches)
}

fn check_next(last: &mut Option<u64>, order_id: u64, ranks: usize) -> Result<(), ResponseError> {
    if last.is_some_and(|last| last >= order_id) {
        return Err(ResponseError::NotAscending { order_id });
    }
    if ranks > usize::from(RANK_LIMIT_MAXIMUM) {
        return Err(ResponseError::TooManyRanks { order_id, ranks });
    }
    *last = Some(order_id);
    Ok(())
}

/// Hash of the packed match words.
pub fn matches_hash(words: &[U256]) -> B256 {
    let mut hasher = Keccak256::new();
    for word in words {
        hasher.update(word.to_be_bytes::<32>());
    }
    hasher.finalize()
}

/// The task manager that a signature is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain {
    pub chain_id: u64,
    pub task_manager: Address,
}

/// What operators sign about one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchResponse {
    pub close_block: u32,
    pub close_block_hash: B256,
    pub chunk: u16,
    pub params_version: u16,
    pub matches_hash: B256,
}

impl Domain {
    /// EIP-712 domain separator.
    pub fn separator(&self) -> B256 {
        struct_hash(&[
            keccak256(DOMAIN_TYPE),
            keccak256(NAME),
            keccak256(VERSION),
            U256::from(self.chain_id).into(),
            self.task_manager.into_word(),
        ])
    }
}

impl MatchResponse {
    /// The EIP-712 digest: the message of an operator's signature.
    pub fn digest(&self, domain: &Domain) -> B256 {
        let response = struct_hash(&[
            keccak256(RESPONSE_TYPE),
            U256::from(self.close_block).into(),
            self.close_block_hash,
            U256::from(self.chunk).into(),
            U256::from(self.params_version).into(),
            self.matches_hash,
        ]);
        let mut hasher = Keccak256::new();
        hasher.update([0x19, 0x01]);
        hasher.update(domain.separator());
        hasher.update(response);
        hasher.finalize()
    }
}

fn struct_hash(words: &[B256]) -> B256 {
    keccak256(words.concat())
}
