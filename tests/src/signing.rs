//! Operators of the tests' own: they sign whatever a test wants.

use alloy::primitives::{B256, U256};
use avs::bn254::SecretKey;
use avs::response::{self, Domain, MatchResponse, OrderMatch};
use avs::submission::{PATH, SignaturePoint, SignatureSubmission};
use serde_json::Value;

use crate::network::Network;

/// An answer to the first task of a close block.
#[derive(Clone, Debug)]
pub struct Answer {
    pub close_block: u64,
    pub close_block_hash: B256,
    pub params_version: u16,
    pub matches: Vec<U256>,
}

impl Answer {
    /// "Nobody bid": well-formed, and wrong for an order that has bids.
    pub fn nobody(order: u64, close_block: u64, close_block_hash: B256, params_version: u16) -> eyre::Result<Self> {
        let nobody = OrderMatch {
            order_id: order,
            resources: U256::ZERO,
            rest_hash: B256::ZERO,
            ranks: Vec::new(),
        };
        Ok(Self {
            close_block,
            close_block_hash,
            params_version,
            matches: response::encode(&[nobody])?,
        })
    }
}

/// Signs an answer as operators do.
pub fn sign(network: &Network, key: &SecretKey, answer: &Answer) -> eyre::Result<SignatureSubmission> {
    let domain = Domain {
        chain_id: network.devnet.network.chain_id,
        task_manager: network.devnet.network.contracts.task_manager,
    };
    let response = MatchResponse {
        close_block: answer.close_block.try_into()?,
        close_block_hash: answer.close_block_hash,
        chunk: 0,
        params_version: answer.params_version,
        matches_hash: response::matches_hash(&answer.matches),
    };
    let digest = response.digest(&domain);
    Ok(SignatureSubmission {
        operator_id: key.public_key().operator_id(),
        close_block: response.close_block,
        close_block_hash: response.close_block_hash,
        chunk: response.chunk,
        params_version: response.params_version,
        digest,
        matches: answer.matches.clone(),
        signature: SignaturePoint::from(&key.sign(digest)),
    })
}

/// Sends a body to an aggregator: HTTP status and answer.
pub async fn post(aggregator: &str, body: Vec<u8>) -> eyre::Result<(u16, Value)> {
    let request = reqwest::Client::new().post(format!("{aggregator}{PATH}"));
    let answer = request
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await?;
    let status = answer.status().as_u16();
    Ok((
        status,
        serde_json::from_slice(&answer.bytes().await?).unwrap_or_default(),
    ))
}
