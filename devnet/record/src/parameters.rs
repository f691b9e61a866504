//! `parameters.toml`, compiled in: a recording is always made from the parameters its recorder was built with.

use alloy_primitives::Address;
use serde::{Deserialize, Serialize};

/// What the recording is made from; the file explains each field.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    pub source: Source,
    pub chain: Chain,
    pub delays: Delays,
    pub rewards: Rewards,
    pub contracts: Contracts,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub package: String,
    pub version: String,
    pub checksum: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    pub id: u64,
    pub deployer: Address,
    pub maximum_fee_per_gas: u64,
}

/// All in blocks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delays {
    pub deallocation: u32,
    pub allocation_configuration: u32,
    pub withdrawal: u32,
}

/// All in seconds but the split, which is in basis points.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewards {
    pub calculation_interval: u32,
    pub maximum_duration: u32,
    pub maximum_retroactive_length: u32,
    pub maximum_future_length: u32,
    pub genesis_timestamp: u32,
    pub activation_delay: u32,
    pub default_split: u16,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contracts {
    pub version: String,
    pub pod_genesis_time: u64,
}

impl Parameters {
    /// The parameters this recorder was built with.
    pub fn built_in() -> eyre::Result<Self> {
        Ok(toml::from_str(include_str!("../parameters.toml"))?)
    }
}
