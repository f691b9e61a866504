//! Whether a block is canonical, and how deep it lies: asked before anything that cannot be undone.

use alloy::eips::BlockNumberOrTag;
use alloy::providers::{Provider, RootProvider};
use alloy::transports::TransportError;

use crate::BlockReference;

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Canonical, with this many blocks on top of it: 0 is the head.
    Canonical(u64),
    /// Another block is canonical at its height.
    Replaced,
    /// The chain (as this endpoint knows it) is not that long. An endpoint that lags says so too: do not take it for gone.
    NotThere,
}

impl Depth {
    /// Whether it is canonical with at least `depth` blocks on top of it.
    pub fn is_at_least(self, depth: u64) -> bool {
        matches!(self, Self::Canonical(actual) if actual >= depth)
    }
}

/// Asks the chain. The order of the two calls matters: the head is read first, so that a block found canonical afterwards
/// is at least as deep as the answer says.
pub async fn depth(provider: &RootProvider, block: BlockReference) -> Result<Depth, TransportError> {
    let head = provider.get_block_number().await?;
    let canonical = provider
        .get_block_by_number(BlockNumberOrTag::Number(block.number))
        .await?;
    Ok(match canonical {
        None => Depth::NotThere,
        Some(canonical) if canonical.header.hash != block.hash => Depth::Replaced,
        Some(_) => Depth::Canonical(head.saturating_sub(block.number)),
    })
}
