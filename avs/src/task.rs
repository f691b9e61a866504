//! Tasks: the orders of one close block, in the chunks that operators sign.

use std::collections::BTreeSet;

use alloy_primitives::{B256, U256};

use crate::{
    draw,
    matching::{self, Order, Parameters},
    response::{self, OrderMatch, ResponseError},
    terms::Terms,
    words::PackedBid,
};

/// One task of a close block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Counts from 0 through all versions of the close block.
    pub index: u16,
    /// Version of the parameters that all its orders name.
    pub params_version: u16,
    /// Ascending.
    pub order_ids: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("parameters version {version} is not known, order {order_id} names it")]
    UnknownVersion { version: u16, order_id: u64 },
    #[error("order {order_id} is listed twice in one close block")]
    OrderTwice { order_id: u64 },
    #[error("the close block holds more than {maximum} tasks", maximum = u16::MAX)]
    TooManyChunks,
}

/// Groups the orders of one close block, given as (parameters version, order id) in any order: sorted by that pair, each
/// chunk holds at most its version's chunk size and never two versions.
///
/// Give the orders that are Open in the close block and have a bid: one without expires without a quorum.
///
/// # Errors
/// When `chunk_size` does not know a version, an order comes twice, or chunks cannot be numbered in 16 bits.
pub fn chunks(
    orders: impl IntoIterator<Item = (u16, u64)>,
    chunk_size: impl Fn(u16) -> Option<u16>,
) -> Result<Vec<Chunk>, TaskError> {
    let mut sorted: Vec<(u16, u64)> = orders.into_iter().collect();
    sorted.sort_unstable();
    let mut seen = BTreeSet::new();
    let mut chunks: Vec<Chunk> = Vec::new();
    for (params_version, order_id) in sorted {
        if !seen.insert(order_id) {
            return Err(TaskError::OrderTwice { order_id });
        }
        let size = chunk_size(params_version)
            .filter(|size| *size > 0)
            .ok_or(TaskError::UnknownVersion {
                version: params_version,
                order_id,
            })?;
        match chunks.last_mut() {
            Some(chunk) if chunk.params_version == params_version && chunk.order_ids.len() < usize::from(size) => {
                chunk.order_ids.push(order_id);
            }
            _ => {
                let index = u16::try_from(chunks.len()).map_err(|_| TaskError::TooManyChunks)?;
                chunks.push(Chunk {
                    index,
                    params_version,
                    order_ids: vec![order_id],
                });
            }
        }
    }
    Ok(chunks)
}

/// One order of a task with all its bids, checked against its digest by the caller.
#[derive(Debug, Clone, Copy)]
pub struct TaskOrder<'a> {
    pub order_id: u64,
    pub terms: &'a Terms,
    /// In log order.
    pub bids: &'a [PackedBid],
}

/// Answers one order.
pub fn match_order(
    parameters: &Parameters,
    chain_id: u64,
    close_block_hash: B256,
    order: &TaskOrder<'_>,
) -> OrderMatch {
    let TaskOrder { order_id, terms, bids } = *order;
    // No contract lets malformed terms in; if one did, that order must not keep its chunk from being answered.
    let ranks = Order::new(parameters, order_id, terms).map_or_else(
        |_malformed| Vec::new(),
        |order| matching::rank(&order, draw::seed(chain_id, order_id, close_block_hash), bids),
    );
    OrderMatch {
        order_id,
        resources: terms.resources,
        rest_hash: terms.rest_hash(),
        ranks,
    }
}

/// Answers a chunk: the packed match words that operators sign the hash of.
///
/// # Errors
/// When the orders are not strictly ascending by id.
pub fn answer(
    parameters: &Parameters,
    chain_id: u64,
    close_block_hash: B256,
    orders: &[TaskOrder<'_>],
) -> Result<Vec<U256>, ResponseError> {
    let matches: Vec<OrderMatch> = orders
        .iter()
        .map(|order| match_order(parameters, chain_id, close_block_hash, order))
        .collect();
    response::encode(&matches)
}
