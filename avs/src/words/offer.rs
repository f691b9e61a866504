use alloy_primitives::U256;

use super::{
    WordError,
    bits::{Field, Packer, check_unused_above},
};

const WORD: &str = "offer word";
const BLOCK: Field = Field::new("block", 0, 32);
pub(super) const RATE: Field = Field::new("rate", 32, 84);
pub(super) const FIZZ: Field = Field::new("fizz", 116, 32);
pub(super) const PROVIDER: Field = Field::new("provider", 148, 32);

/// Who offers what, when: the first word of a bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offer {
    /// Block in which the bid was placed.
    pub block: u32,
    /// Token units per 36 000 seconds; at most 84 bits.
    pub rate: u128,
    /// Fizz node that would run the workload, zero for the provider itself.
    pub fizz: u32,
    /// Provider that bids.
    pub provider: u32,
}

impl Offer {
    /// # Errors
    /// When a field does not fit its width.
    pub fn pack(&self) -> Result<U256, WordError> {
        Ok(Packer::new(WORD)
            .put(BLOCK, self.block)?
            .put(RATE, self.rate)?
            .put(FIZZ, self.fizz)?
            .put(PROVIDER, self.provider)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set.
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        Self::check(&word)?;
        Ok(Self {
            block: BLOCK.of(&word) as u32,
            rate: RATE.wide_of(&word),
            fizz: FIZZ.of(&word) as u32,
            provider: PROVIDER.of(&word) as u32,
        })
    }

    #[inline(always)]
    pub(super) fn check(word: &U256) -> Result<(), WordError> {
        check_unused_above(WORD, word, 180)
    }

    /// The supplier that would hold the lease: the fizz node where one is named, else the provider.
    #[inline]
    pub fn supplier(&self) -> u32 {
        if self.fizz == 0 { self.provider } else { self.fizz }
    }
}
