use std::fmt;

use super::WordError;

/// An order's id, unpacked: `account << 32 | token << 24 | nonce`.
///
/// Orders by packed value, which is the order in which a task lists its orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId {
    /// Escrow account that pays.
    pub account: u32,
    /// Payment token id.
    pub token: u8,
    /// The account's own count of orders in that token, from 1; at most 24 bits.
    pub nonce: u32,
}

impl OrderId {
    /// # Errors
    /// When the nonce does not fit 24 bits.
    pub fn pack(&self) -> Result<u64, WordError> {
        const NONCE_MAXIMUM: u32 = (1 << 24) - 1;
        if self.nonce > NONCE_MAXIMUM {
            return Err(WordError::OutOfRange {
                word: "order id",
                field: "nonce",
                value: self.nonce.into(),
                minimum: 0,
                maximum: NONCE_MAXIMUM.into(),
            });
        }
        Ok(u64::from(self.account) << 32 | u64::from(self.token) << 24 | u64::from(self.nonce))
    }

    /// Every 64-bit number is an order id.
    #[inline]
    pub fn unpack(id: u64) -> Self {
        Self {
            account: (id >> 32) as u32,
            token: (id >> 24) as u8,
            nonce: (id & 0xff_ffff) as u32,
        }
    }
}

impl From<u64> for OrderId {
    fn from(id: u64) -> Self {
        Self::unpack(id)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "account {}, token {}, order {}",
            self.account, self.token, self.nonce
        )
    }
}
