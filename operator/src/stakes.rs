//! Whether the operator's signatures count, and whether it was slashed: its stake in every quorum, as the registries have it.

use std::time::Duration;

use alloy::contract::Error as ContractError;
use alloy::primitives::{Address, B256};
use alloy::providers::RootProvider;
use chain::network::{Network, Quorum};
use daemon::health::Component;
use eigenlayer::contracts::{IAllocationManager, IBlsApkRegistry, IStakeRegistry};

use crate::eigen_metrics::{EigenMetrics, QuorumLabels};

/// How often the registry is asked.
const LOOK: Duration = Duration::from_secs(15);
/// The magnitude of an operator that was never slashed (EigenLayer `WAD`).
const WHOLE_MAGNITUDE: u64 = 1_000_000_000_000_000_000;

/// The operator's stakes, as metrics and as a health component.
#[derive(Debug)]
pub struct Stakes {
    provider: RootProvider,
    network: Network,
    operator_id: B256,
    metrics: EigenMetrics,
}

/// What a look found.
struct Found {
    has_stake: bool,
    slashed: bool,
}

impl Stakes {
    pub fn new(provider: RootProvider, network: &Network, operator_id: B256, metrics: EigenMetrics) -> Self {
        Self {
            provider,
            network: network.clone(),
            operator_id,
            metrics,
        }
    }

    /// Looks for ever.
    pub async fn watch(self, component: Component) {
        let mut was_slashed = false;
        loop {
            match self.look().await {
                Ok(Found { has_stake, slashed }) => {
                    if slashed && !was_slashed {
                        tracing::error!("the operator was slashed; run: operator status");
                    }
                    was_slashed = slashed;
                    match has_stake {
                        true => component.ok(),
                        false => component.degraded(
                            "the operator has no stake in any quorum, so its signatures do not count; run: operator opt-in",
                        ),
                    }
                }
                // That the chain cannot be read says nothing of the membership; another component shows it.
                Err(error) => tracing::debug!(%error, "the stake registry cannot be read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<Found, ContractError> {
        let eigenlayer = &self.network.eigenlayer;
        let registry = IStakeRegistry::new(eigenlayer.stake_registry, &self.provider);
        let mut has_stake = false;
        for quorum in &eigenlayer.quorums {
            let stake = registry
                .getCurrentStake(self.operator_id, quorum.number)
                .call()
                .await?
                .to::<u128>();
            has_stake |= stake > 0;
            self.metrics
                .registered_stakes
                .get_or_create(&labels(quorum))
                .set(stake as f64);
        }
        let slashed = self.is_slashed().await?;
        self.metrics.slashing_status.set(slashed.into());
        Ok(Found { has_stake, slashed })
    }

    /// Whether any of the quorums' strategies lost a part of the operator's magnitude: it never comes back.
    async fn is_slashed(&self) -> Result<bool, ContractError> {
        let eigenlayer = &self.network.eigenlayer;
        let keys = IBlsApkRegistry::new(eigenlayer.bls_apk_registry, &self.provider);
        let operator = keys.getOperatorFromPubkeyHash(self.operator_id).call().await?;
        if operator == Address::ZERO {
            return Ok(false);
        }
        let allocation = IAllocationManager::new(eigenlayer.allocation_manager, &self.provider);
        for quorum in &eigenlayer.quorums {
            let magnitude = allocation.getMaxMagnitude(operator, quorum.strategy).call().await?;
            if magnitude < WHOLE_MAGNITUDE {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn labels(quorum: &Quorum) -> QuorumLabels {
    QuorumLabels {
        quorum_number: quorum.number.to_string(),
        quorum_name: quorum.name.clone(),
    }
}
