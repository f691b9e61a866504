//! What a provider says about itself.

use serde::{Deserialize, Serialize};

/// What a provider says about itself, to anybody with a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStatus {
    /// [`super::VERSION`].
    pub version: u32,
    /// The release of the agent's software.
    pub software: String,
    /// The chain it works on.
    pub chain_id: u64,
    /// Its id in the provider registry.
    pub provider: u32,
    /// Whether it bids.
    pub bidding: bool,
    /// Leases it serves.
    pub leases: u32,
    /// What it offers in all.
    pub total: ResourceAmounts,
    /// What of it is free, reservations for bids taken off.
    pub free: ResourceAmounts,
}

/// Amounts of each resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceAmounts {
    /// Thousandths of a core.
    pub milli_cpu: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub storage_bytes: u64,
    /// By kind, in the order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuCapacity>,
}

/// GPUs of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuCapacity {
    /// The governed id of model and memory.
    pub id: u8,
    /// How many.
    pub count: u32,
}
