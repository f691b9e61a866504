//! The randomness term: ChaCha20 draws, seeded by what nobody knew while bids were taken.
//!
//! Only raw stream words are used, nothing whose meaning a release of `rand` may change; this file alone knows the
//! generator, and the vectors pin its output.

use alloy_primitives::{B256, Keccak256, U256};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

const DOMAIN: &[u8; 16] = b"spheron.match.v1";

/// Number of values a draw can take: 0 to 1 000 000.
const VALUES: u64 = 1_000_001;
/// Stream words above it are skipped: up to it every value has the same number of words.
const LAST_ACCEPTED: u64 = u64::MAX - (u64::MAX % VALUES + 1) % VALUES;

/// Seed of an order's draws.
pub fn seed(chain_id: u64, order_id: u64, close_block_hash: B256) -> B256 {
    let mut hasher = Keccak256::new();
    hasher.update(DOMAIN);
    hasher.update(U256::from(chain_id).to_be_bytes::<32>());
    hasher.update(order_id.to_be_bytes());
    hasher.update(close_block_hash);
    hasher.finalize()
}

/// The draws of one order, one for each surviving bid in ascending (provider, fizz).
#[derive(Debug, Clone)]
pub struct Draws {
    stream: ChaCha20Rng,
}

impl Draws {
    pub fn new(seed: B256) -> Self {
        Self {
            stream: ChaCha20Rng::from_seed(seed.0),
        }
    }

    /// The next draw, 0 to 1 000 000.
    #[inline]
    pub fn next_draw(&mut self) -> u32 {
        loop {
            if let Some(draw) = map(self.stream.next_u64()) {
                return draw;
            }
        }
    }
}

/// Maps a stream word to a draw, or rejects it.
#[inline]
pub fn map(word: u64) -> Option<u32> {
    (word <= LAST_ACCEPTED).then_some((word % VALUES) as u32)
}
