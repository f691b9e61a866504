use alloy_primitives::U256;

use super::{
    Offer, WordError,
    bits::{Packer, check_unused_above, take, take_wide},
};

const HEADER: &str = "match header word";
const RANK: &str = "rank word";

/// First word of an order's packed match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatchHeader {
    /// Packed order id.
    pub order_id: u64,
    /// Rank words that follow the resource word and the rest hash; zero means the order expires and nothing follows.
    pub ranks: u8,
}

impl MatchHeader {
    pub fn pack(&self) -> U256 {
        U256::from(u128::from(self.order_id) << 8 | u128::from(self.ranks))
    }

    /// # Errors
    /// When bits outside the fields are set.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(HEADER, &word, 72)?;
        Ok(Self {
            order_id: take(&word, 8, 64),
            ranks: take(&word, 0, 8) as u8,
        })
    }
}

/// One ranked supplier of a packed match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RankedSupplier {
    pub provider: u32,
    /// Zero for the provider itself.
    pub fizz: u32,
    /// Token units per 36 000 seconds.
    pub rate: u128,
    /// Index of the GPU entry of the capacity word that serves the order, 0 when it asks for no GPU.
    pub gpu_entry: u8,
}

impl RankedSupplier {
    /// # Errors
    /// When a field does not fit its width.
    pub fn pack(&self) -> Result<U256, WordError> {
        Ok(Packer::new(RANK)
            .put("GPU entry", 0, 2, self.gpu_entry)?
            .put("rate", 2, 84, self.rate)?
            .put("fizz", 86, 32, self.fizz)?
            .put("provider", 118, 32, self.provider)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(RANK, &word, 150)?;
        Ok(Self {
            provider: take(&word, 118, 32) as u32,
            fizz: take(&word, 86, 32) as u32,
            rate: take_wide(&word, 2, 84),
            gpu_entry: take(&word, 0, 2) as u8,
        })
    }

    /// The supplier that would hold the lease: the fizz node where one is named, else the provider.
    pub fn supplier(&self) -> u32 {
        if self.fizz == 0 { self.provider } else { self.fizz }
    }
}

impl RankedSupplier {
    /// What the rank word says of an offer.
    pub fn from_offer(offer: &Offer, gpu_entry: u8) -> Self {
        Self {
            provider: offer.provider,
            fizz: offer.fizz,
            rate: offer.rate,
            gpu_entry,
        }
    }
}
