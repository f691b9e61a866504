//! What an order asks for, as `OrderCreated` carries it, and the hashes that storage keeps of it.

use alloy_primitives::{B256, Keccak256, U256};

use crate::words::{DURATION_MAXIMUM, RATE_MAXIMUM, Requirements, Resources, WordError};

/// The contracts' `OrderTerms`, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Resource word, see [`Resources`].
    pub resources: U256,
    /// Requirement word, see [`Requirements`].
    pub requirements: U256,
    /// Bitmap of acceptable region ids; all ones means any.
    pub regions: U256,
    /// Salted hash of the manifest.
    pub manifest_hash: B256,
    /// Highest acceptable rate: token units per 36 000 seconds; 1 to 2^84 - 1.
    pub maximum_rate: u128,
    /// Seconds; 1 to 2^29 - 1.
    pub duration: u32,
    /// Strictly ascending supplier ids; empty means any supplier.
    pub wanted_suppliers: Vec<u32>,
    /// Strictly ascending supplier ids that must not win.
    pub excluded_suppliers: Vec<u32>,
}

/// Terms that no contract accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    #[error("the terms hold a malformed word")]
    Word(#[from] WordError),
    #[error("the maximum rate is {rate}, allowed is 1 to 2^84 - 1 token units per 36 000 seconds")]
    MaximumRate { rate: u128 },
    #[error("the duration is {duration} s, allowed is 1 to {maximum} s", maximum = DURATION_MAXIMUM)]
    Duration { duration: u32 },
    #[error("the {list} suppliers are not strictly ascending at supplier {supplier}; sort them and drop repetitions")]
    SuppliersNotAscending { list: &'static str, supplier: u32 },
}

impl Terms {
    /// Unpacks the two words after checking everything the contracts check at `createOrder`.
    ///
    /// # Errors
    /// When a field is outside what the contracts accept.
    pub fn unpack(&self) -> Result<(Resources, Requirements), TermsError> {
        if self.maximum_rate == 0 || self.maximum_rate > RATE_MAXIMUM {
            return Err(TermsError::MaximumRate {
                rate: self.maximum_rate,
            });
        }
        if self.duration == 0 || self.duration > DURATION_MAXIMUM {
            return Err(TermsError::Duration {
                duration: self.duration,
            });
        }
        for (list, suppliers) in [
            ("wanted", &self.wanted_suppliers),
            ("excluded", &self.excluded_suppliers),
        ] {
            if let Some(pair) = suppliers.windows(2).find(|pair| pair[0] >= pair[1]) {
                return Err(TermsError::SuppliersNotAscending {
                    list,
                    supplier: pair[1],
                });
            }
        }
        Ok((
            Resources::unpack(self.resources)?,
            Requirements::unpack(self.requirements)?,
        ))
    }

    /// Version of the matching parameters that the requirement word names, whatever else it holds: it decides which task an
    /// order belongs to.
    pub fn params_version(&self) -> u16 {
        Requirements::params_version_of(&self.requirements)
    }

    /// Hash over all but the resources: whoever needs only the resources passes this and one word.
    pub fn rest_hash(&self) -> B256 {
        let mut hasher = Keccak256::new();
        let mut word = |value: U256| hasher.update(value.to_be_bytes::<32>());
        word(self.requirements);
        word(self.regions);
        word(self.manifest_hash.into());
        word(U256::from(self.maximum_rate));
        word(U256::from(self.duration));
        for suppliers in [&self.wanted_suppliers, &self.excluded_suppliers] {
            word(U256::from(suppliers.len()));
            suppliers.iter().for_each(|supplier| word(U256::from(*supplier)));
        }
        hasher.finalize()
    }

    /// The hash that the order book stores.
    pub fn terms_hash(&self) -> B256 {
        terms_hash(self.resources, self.rest_hash())
    }
}

/// The stored hash from its two parts.
pub fn terms_hash(resources: U256, rest_hash: B256) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(resources.to_be_bytes::<32>());
    hasher.update(rest_hash);
    hasher.finalize()
}
