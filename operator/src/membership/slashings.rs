//! What an operator was slashed for: the slasher's own log.

use alloy::primitives::{Address, B256, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent as _;
use bindings::{IMatchingDisputes, ISlasher};
use chain::network::Network;
use eyre::WrapErr as _;
use serde::Serialize;

use crate::rewards::amounts::decimal;

/// One cut of an operator's stake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slashing {
    pub block: u64,
    /// The verdict it was for.
    pub verdict: B256,
    pub quorum: u8,
    /// Share of the operator's stake in the quorum's strategies that was cut, of 10^18; token units for a matchmaker's bond.
    #[serde(serialize_with = "decimal")]
    pub cut: U256,
}

impl std::fmt::Display for Slashing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            block,
            verdict,
            quorum,
            cut,
        } = self;
        write!(
            formatter,
            "in block {block}: {cut} of quorum {quorum}, verdict {verdict}"
        )
    }
}

/// Every cut by a slasher that the disputes contract ever named, oldest first.
pub(super) async fn of(provider: &RootProvider, network: &Network, operator: Address) -> eyre::Result<Vec<Slashing>> {
    let from = network.deployed_at;
    let named = Filter::new()
        .address(network.contracts.disputes)
        .event_signature(IMatchingDisputes::SlasherSet::SIGNATURE_HASH)
        .from_block(from);
    let named = provider.get_logs(&named).await.wrap_err("the slashers' names")?;
    let mut slashers: Vec<Address> = named
        .iter()
        .filter_map(|log| IMatchingDisputes::SlasherSet::decode_log_data(log.data()).ok())
        .map(|event| event.slasher)
        .collect();
    if slashers.is_empty() {
        return Ok(Vec::new());
    }
    slashers.sort_unstable();
    slashers.dedup();
    let cuts = Filter::new()
        .address(slashers)
        .event_signature(ISlasher::OperatorSlashed::SIGNATURE_HASH)
        .topic2(operator.into_word())
        .from_block(from);
    let cuts = provider.get_logs(&cuts).await.wrap_err("the slashers' logs")?;
    let slashing = cuts.iter().filter_map(|log| {
        let event = ISlasher::OperatorSlashed::decode_log_data(log.data()).ok()?;
        Some(Slashing {
            block: log.block_number?,
            verdict: event.verdict,
            quorum: event.quorum,
            cut: event.cut,
        })
    });
    Ok(slashing.collect())
}
