use alloy_primitives::U256;

use super::{Capacity, Offer, ScoreCard, WordError};

/// A bid as `BidPlaced` carries it and as the order's digest folds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PackedBid {
    pub offer: U256,
    pub score_card: U256,
    pub capacity: U256,
}

/// A bid, unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bid {
    pub offer: Offer,
    pub score_card: ScoreCard,
    pub capacity: Capacity,
}

impl PackedBid {
    /// # Errors
    /// When a word has bits that no contract sets.
    #[inline]
    pub fn unpack(&self) -> Result<Bid, WordError> {
        Ok(Bid {
            offer: Offer::unpack(self.offer)?,
            score_card: ScoreCard::unpack(self.score_card)?,
            capacity: Capacity::unpack(self.capacity)?,
        })
    }

    /// Who bids, as one number that orders by (provider, fizz); defined for every word.
    #[inline]
    pub fn bidder(&self) -> u64 {
        super::bits::take(&self.offer, 116, 64)
    }
}

impl Bid {
    /// # Errors
    /// When a field does not fit its width.
    pub fn pack(&self) -> Result<PackedBid, WordError> {
        Ok(PackedBid {
            offer: self.offer.pack()?,
            score_card: self.score_card.pack()?,
            capacity: self.capacity.pack()?,
        })
    }
}
