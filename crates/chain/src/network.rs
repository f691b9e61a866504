//! A network: where its chain is, and which contracts are its. One JSON file, written by the deployment or by the devnet,
//! read by the command line and by every agent.

use std::path::Path;

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

/// Finer than any token that is listed: what is counted in ten times finer units still has a power of ten in 256 bits.
pub const MOST_DECIMALS: u8 = 36;

/// A network file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub name: String,
    pub chain_id: u64,
    /// JSON-RPC endpoints, in order of preference.
    pub rpc: Vec<String>,
    /// First block that can hold an event of the contracts.
    pub deployed_at: u64,
    pub contracts: Contracts,
    pub roles: Roles,
    pub eigenlayer: EigenLayer,
    /// Payment tokens by the symbols deployment files use.
    pub tokens: Vec<Token>,
    /// Where operators send signatures unless their configuration says otherwise.
    #[serde(default)]
    pub aggregators: Vec<String>,
}

/// Our contracts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contracts {
    pub access_manager: Address,
    pub escrow: Address,
    pub order_book: Address,
    pub payment_tokens: Address,
    pub provider_registry: Address,
    pub certificate_registry: Address,
    pub stake_manager: Address,
    pub task_manager: Address,
    /// The quorums' verifier; tasks of a close block may be decided by another one, which the task manager names.
    pub quorum_verifier: Address,
    /// Runs the matching rule on chain.
    pub matching_rule: Address,
    pub disputes: Address,
    /// Slashes the quorums' operators.
    pub slasher: Address,
    /// The escrow's foundation.
    pub commission_split: Address,
    pub service_manager: Address,
    pub spon: Address,
}

/// Who held which role of the access manager when the contracts were deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Announces, waits and executes; new code and new roles with a longer wait.
    pub governor: Address,
    /// Payment tokens, their feeds and caps.
    pub token_lister: Address,
    /// Tiers and attributes of providers.
    pub verifier: Address,
    /// Stops at once, and cancels what others announced.
    pub guardian: Address,
}

/// EigenLayer's core, and the middleware of our service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EigenLayer {
    pub delegation_manager: Address,
    pub strategy_manager: Address,
    pub allocation_manager: Address,
    pub registry_coordinator: Address,
    pub stake_registry: Address,
    pub bls_apk_registry: Address,
    pub index_registry: Address,
    pub socket_registry: Address,
    pub operator_state_retriever: Address,
    pub rewards_coordinator: Address,
    pub quorums: Vec<Quorum>,
}

/// A quorum of stake: an EigenLayer operator set with one strategy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    pub number: u8,
    pub name: String,
    pub strategy: Address,
    pub token: Address,
}

/// A listed payment token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub id: u8,
    pub symbol: String,
    pub address: Address,
    pub decimals: u8,
}

/// Why a network file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("network file {path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("network file {path} is not a network description: {problem}")]
    Malformed { path: String, problem: String },
    #[error("network file {path} names no RPC endpoint")]
    NoEndpoint { path: String },
    #[error(
        "network file {path} says that {symbol} has {decimals} decimals; no token can have more than {MOST_DECIMALS}"
    )]
    Decimals { path: String, symbol: String, decimals: u8 },
}

impl Network {
    /// Reads a network file.
    pub fn load(path: &Path) -> Result<Self, NetworkError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| NetworkError::Read {
            path: name.clone(),
            source,
        })?;
        let network: Self = serde_json::from_str(&text).map_err(|error| NetworkError::Malformed {
            path: name.clone(),
            problem: error.to_string(),
        })?;
        if network.rpc.is_empty() {
            return Err(NetworkError::NoEndpoint { path: name });
        }
        if let Some(token) = network.tokens.iter().find(|token| token.decimals > MOST_DECIMALS) {
            return Err(NetworkError::Decimals {
                path: name,
                symbol: token.symbol.clone(),
                decimals: token.decimals,
            });
        }
        Ok(network)
    }

    /// The payment token of a symbol.
    pub fn token(&self, symbol: &str) -> Option<&Token> {
        self.tokens.iter().find(|token| token.symbol == symbol)
    }

    /// The payment token of an id.
    pub fn token_by_id(&self, id: u8) -> Option<&Token> {
        self.tokens.iter().find(|token| token.id == id)
    }
}
