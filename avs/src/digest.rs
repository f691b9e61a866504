//! The running digest over an order's bids: what ties logs to storage.

use alloy_primitives::{B256, Keccak256, U256};

use crate::words::PackedBid;

/// Largest number of bids a digest word counts.
pub const COUNT_MAXIMUM: usize = u16::MAX as usize;

/// The 240-bit digest (as 32 bytes, the low 16 bits zero) and count over an order's bids since its close block was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BidsDigest {
    pub digest: B256,
    pub count: u16,
}

/// The bids at hand are not those that the order book folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("order {order_id}: {given} bids were read, the order book counts {expected}; read the logs again")]
    Count { order_id: u64, given: usize, expected: u16 },
    #[error("order {order_id}: the bids read fold to {given}, the order book stores {expected}; read the logs again")]
    Digest { order_id: u64, given: B256, expected: B256 },
    #[error("order {order_id}: more than {COUNT_MAXIMUM} bids")]
    TooMany { order_id: u64 },
}

impl BidsDigest {
    /// The digest before the first bid; a requeued order starts again from its new close block.
    pub fn seed(order_id: u64, close_block: u32) -> Self {
        let mut hasher = Keccak256::new();
        hasher.update(U256::from(order_id).to_be_bytes::<32>());
        hasher.update(U256::from(close_block).to_be_bytes::<32>());
        Self {
            digest: without_count(hasher.finalize()),
            count: 0,
        }
    }

    /// Folds one bid, or `None` when the count is full.
    pub fn fold(self, bid: &PackedBid) -> Option<Self> {
        let mut hasher = Keccak256::new();
        hasher.update(self.digest);
        for word in [bid.offer, bid.score_card, bid.capacity] {
            hasher.update(word.to_be_bytes::<32>());
        }
        Some(Self {
            digest: without_count(hasher.finalize()),
            count: self.count.checked_add(1)?,
        })
    }

    /// Digest over all bids of an order, in log order.
    ///
    /// # Errors
    /// When there are more bids than a digest word counts.
    pub fn of(order_id: u64, close_block: u32, bids: &[PackedBid]) -> Result<Self, DigestError> {
        bids.iter()
            .try_fold(Self::seed(order_id, close_block), |digest, bid| digest.fold(bid))
            .ok_or(DigestError::TooMany { order_id })
    }

    /// Checks bids read from logs against what the order book stores.
    ///
    /// # Errors
    /// When bids are missing, added, changed or in another order.
    pub fn check(&self, order_id: u64, close_block: u32, bids: &[PackedBid]) -> Result<(), DigestError> {
        if bids.len() != usize::from(self.count) {
            return Err(DigestError::Count {
                order_id,
                given: bids.len(),
                expected: self.count,
            });
        }
        // The stored word is zero, not the seed, until the first bid.
        if bids.is_empty() {
            return Ok(());
        }
        let given = Self::of(order_id, close_block, bids)?;
        if given.digest != self.digest {
            return Err(DigestError::Digest {
                order_id,
                given: given.digest,
                expected: self.digest,
            });
        }
        Ok(())
    }
}

/// Clears the 16 bits that the count takes in the digest word.
fn without_count(mut hash: B256) -> B256 {
    hash.0[30..].fill(0);
    hash
}
