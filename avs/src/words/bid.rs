use alloy_primitives::U256;

use super::{
    Attributes, Capacity, GpuEntry, GpuSet, Offer, ScoreCard, WordError, bits::Field, offer, resources, score,
};

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
    pub fn unpack(&self) -> Result<Bid, WordError> {
        Ok(Bid {
            offer: Offer::unpack(self.offer)?,
            score_card: ScoreCard::unpack(self.score_card)?,
            capacity: Capacity::unpack(self.capacity)?,
        })
    }

    /// Who bids, as one number that orders by (provider, fizz); defined for every word.
    #[inline(always)]
    pub fn bidder(&self) -> u64 {
        const BIDDER: Field = Field::new("bidder", 116, 64);
        BIDDER.of(&self.offer)
    }
}

/// Single fields of a bid, read where they are needed: the matching rule reads a few of many bids, and unpacking all of
/// them would take it longer than scoring does.
impl PackedBid {
    /// Refuses bits outside the fields, and gives the only field that has such bits inside.
    #[inline(always)]
    pub(crate) fn checked_attributes(&self) -> Result<Attributes, WordError> {
        Offer::check(&self.offer)?;
        ScoreCard::check_bits(&self.score_card)?;
        Capacity::check_bits(&self.capacity)?;
        ScoreCard::attributes_of(&self.score_card)
    }

    /// Whether offer and capacity have no bits outside their fields and the capacity is active.
    #[inline(always)]
    pub(crate) fn is_offer_with_active_capacity(&self) -> bool {
        Offer::check(&self.offer).is_ok() & Capacity::is_active_without_stray_bits(&self.capacity)
    }

    #[inline(always)]
    pub(crate) fn rate(&self) -> u128 {
        offer::RATE.wide_of(&self.offer)
    }

    #[inline(always)]
    pub(crate) fn fizz(&self) -> u32 {
        offer::FIZZ.of(&self.offer) as u32
    }

    #[inline(always)]
    pub(crate) fn provider(&self) -> u32 {
        offer::PROVIDER.of(&self.offer) as u32
    }

    /// Whether both the provider and its capacity are active.
    #[inline(always)]
    pub(crate) fn active(&self) -> (bool, bool) {
        (
            score::ACTIVE.of(&self.score_card) == 1,
            resources::ACTIVE.of(&self.capacity) == 1,
        )
    }

    #[inline(always)]
    pub(crate) fn stake(&self) -> u64 {
        score::STAKE.of(&self.score_card)
    }

    #[inline(always)]
    pub(crate) fn slashes(&self) -> u32 {
        score::SLASHES.of(&self.score_card) as u32
    }

    /// Sum and count of the ratings.
    #[inline(always)]
    pub(crate) fn feedback(&self) -> (u64, u64) {
        (
            score::FEEDBACK_SUM.of(&self.score_card),
            score::FEEDBACK_COUNT.of(&self.score_card),
        )
    }

    /// Region and zone.
    #[inline(always)]
    pub(crate) fn region(&self) -> (u8, u8) {
        (
            score::REGION.of(&self.score_card) as u8,
            score::ZONE.of(&self.score_card) as u8,
        )
    }

    #[inline(always)]
    pub(crate) fn tier(&self) -> u8 {
        score::TIER.of(&self.score_card) as u8
    }

    #[inline(always)]
    pub(crate) fn accepts_token(&self, token: u8) -> bool {
        token < 32 && score::TOKENS.of(&self.score_card) >> token & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn compliance(&self) -> u16 {
        score::COMPLIANCE.of(&self.score_card) as u16
    }

    /// Free and total units.
    #[inline(always)]
    pub(crate) fn cpu(&self) -> (u32, u32) {
        (
            resources::CPU_FREE.of(&self.capacity) as u32,
            resources::CPU_TOTAL.of(&self.capacity) as u32,
        )
    }

    /// Free and total units.
    #[inline(always)]
    pub(crate) fn memory(&self) -> (u32, u32) {
        (
            resources::MEMORY_FREE.of(&self.capacity) as u32,
            resources::MEMORY_TOTAL.of(&self.capacity) as u32,
        )
    }

    /// Free and total units.
    #[inline(always)]
    pub(crate) fn storage(&self) -> (u32, u32) {
        (
            resources::STORAGE_FREE.of(&self.capacity) as u32,
            resources::STORAGE_TOTAL.of(&self.capacity) as u32,
        )
    }

    /// The GPU entry that serves `count` GPUs of the acceptable models, and its index.
    #[inline(always)]
    pub(crate) fn gpu_entry_for(&self, count: u16, acceptable: &GpuSet) -> Option<(u8, GpuEntry)> {
        resources::gpu_entry_for(&self.capacity, count, acceptable)
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
