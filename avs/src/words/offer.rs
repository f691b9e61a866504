use alloy_primitives::U256;

use super::{
    WordError,
    bits::{Packer, check_unused_above, take, take_wide},
};

const WORD: &str = "offer word";

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
            .put("block", 0, 32, self.block)?
            .put("rate", 32, 84, self.rate)?
            .put("fizz", 116, 32, self.fizz)?
            .put("provider", 148, 32, self.provider)?
            .finish())
    }

    /// # Errors
    /// When bits outside the fields are set.
    #[inline]
    pub fn unpack(word: U256) -> Result<Self, WordError> {
        check_unused_above(WORD, &word, 180)?;
        Ok(Self {
            block: take(&word, 0, 32) as u32,
            rate: take_wide(&word, 32, 84),
            fizz: take(&word, 116, 32) as u32,
            provider: take(&word, 148, 32) as u32,
        })
    }

    /// The supplier that would hold the lease: the fizz node where one is named, else the provider.
    #[inline]
    pub fn supplier(&self) -> u32 {
        if self.fizz == 0 { self.provider } else { self.fizz }
    }
}
