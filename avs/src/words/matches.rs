use alloy_primitives::U256;

use super::{
    Offer, WordError,
    bits::{Field, Packer, check_unused_above},
};

const HEADER: &str = "match header word";
const RANKS: Field = Field::new("ranks", 0, 8);
const ORDER_ID: Field = Field::new("order id", 8, 64);

const RANK: &str = "rank word";
const GPU_ENTRY: Field = Field::new("GPU entry", 0, 2);
const RATE: Field = Field::new("rate", 2, 84);
const FIZZ: Field = Field::new("fizz", 86, 32);
const PROVIDER: Field = Field::new("provider", 118, 32);

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
            order_id: ORDER_ID.of(&word),
            ranks: RANKS.of(&word) as u8,
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
            .put(GPU_ENTRY, self.gpu_entry)?
            .put(RATE, self.rate)?
            .put(FIZZ, self.fizz)?
            .put(PROVIDER, self.provider)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(RANK, &word, 150)?;
        Ok(Self {
            provider: PROVIDER.of(&word) as u32,
            fizz: FIZZ.of(&word) as u32,
            rate: RATE.wide_of(&word),
            gpu_entry: GPU_ENTRY.of(&word) as u8,
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
