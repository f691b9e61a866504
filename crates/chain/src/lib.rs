//! Reading and writing a chain whose nodes fail, lag and reorganise.
//!
//! * [`Endpoints`]: several RPC URLs behind one alloy provider; calls fall over, chain ids are checked, health is known.
//! * [`Follower`]: the canonical chain's logs of given addresses, block by block, from a checkpoint that the caller stores
//!   in the same SQLite transaction as what it derived ([`checkpoint`]).
//! * [`Transactions`]: one actor per key; it stores what it is about to send before it sends it.
//! * [`confirmations`]: whether a block is canonical, and how deep.
//! * [`keys`], [`reverts`]: what goes in, and what comes back as a sentence.
//! * [`network`]: where a network's chain is and which contracts are its.

pub mod checkpoint;
pub mod confirmations;
pub mod endpoints;
pub mod follower;
pub mod keys;
pub mod network;
pub mod reverts;
pub mod transactions;

pub use alloy::providers::RootProvider;
pub use endpoints::{Endpoints, RpcSettings};
pub use follower::{AppliedBlock, Batch, Event, Follow, FollowError, Follower};
pub use transactions::{Call, Gas, Included, SubmitError, TransactionSettings, Transactions};

use alloy::primitives::B256;

/// A block by number and hash: the number alone does not name a block on a chain that reorganises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockReference {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
}
