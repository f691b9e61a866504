//! The packed words that travel between the contracts, the operators and the agents.
//!
//! Every word is one `uint256`; the layouts are those of `Resources.sol` and `IOrderBook.sol`. Packing checks every field
//! against its width and never wraps; unpacking refuses bits that no contract sets, so `pack` and `unpack` are inverses on
//! everything they accept.

mod bid;
mod bits;
mod matches;
mod offer;
mod order_id;
mod resources;
mod score;

pub use bid::{Bid, PackedBid};
pub use matches::{MatchHeader, RankedSupplier};
pub use offer::Offer;
pub use order_id::OrderId;
pub use resources::{Capacity, GPU_ENTRIES, GpuEntry, GpuSet, Resources};
pub(crate) use score::ScoreCardFilter;
pub use score::{Attributes, Mode, Requirements, ScoreCard, TierSet};

/// Milli-CPUs in one unit of CPU on chain.
pub const CPU_UNIT_MILLIS: u64 = 10;
/// Bytes in one unit of memory on chain (16 MiB).
pub const MEMORY_UNIT_BYTES: u64 = 16 << 20;
/// Bytes in one unit of storage on chain (256 MiB).
pub const STORAGE_UNIT_BYTES: u64 = 256 << 20;
/// Seconds that a rate covers: rates are token units per this many seconds.
pub const RATE_SECONDS: u64 = 36_000;

/// Largest rate that fits its 84 bits.
pub const RATE_MAXIMUM: u128 = (1 << 84) - 1;
/// Largest lease duration in seconds that fits its 29 bits.
pub const DURATION_MAXIMUM: u32 = (1 << 29) - 1;
/// Largest amount of CPU or memory, in units, that fits its 20 bits.
pub const CPU_MEMORY_MAXIMUM: u32 = (1 << 20) - 1;
/// Largest amount of storage, in units, that fits its 22 bits.
pub const STORAGE_MAXIMUM: u32 = (1 << 22) - 1;
/// Largest number of GPUs that fits its 12 bits.
pub const GPU_COUNT_MAXIMUM: u16 = (1 << 12) - 1;
/// Largest GPU id; ids run from 1.
pub const GPU_ID_MAXIMUM: u8 = 159;
/// Largest attribute level.
pub const ATTRIBUTE_LEVEL_MAXIMUM: u8 = 15;
/// Largest trust tier (the lowest standing); 1 is the best, 0 means none yet.
pub const TIER_MAXIMUM: u8 = 7;

/// A value that its word cannot hold, or a word that no contract would have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// A field is larger than its width, or outside the values it may take.
    #[error("{word}: {field} is {value}, allowed is {minimum} to {maximum}")]
    OutOfRange {
        word: &'static str,
        field: &'static str,
        value: u128,
        minimum: u128,
        maximum: u128,
    },
    /// Bits outside every field are set.
    #[error("{word}: bits are set outside its fields: {value:#x}")]
    ReservedBits {
        word: &'static str,
        value: alloy_primitives::U256,
    },
    /// More is free than there is in total.
    #[error("{word}: {field} has {free} free of {total}")]
    FreeAboveTotal {
        word: &'static str,
        field: &'static str,
        free: u32,
        total: u32,
    },
    /// GPUs are asked for without an acceptable model, or models are named without asking for a GPU.
    #[error(
        "resource word: {count} GPUs asked with {models} acceptable models; name models exactly when GPUs are asked for"
    )]
    GpuCountWithoutModels { count: u16, models: usize },
}
