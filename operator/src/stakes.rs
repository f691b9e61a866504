//! Whether the operator's signatures count: its stake in every quorum, as the service's registry has it.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use alloy::contract::Error as ContractError;
use alloy::primitives::{Address, B256};
use alloy::providers::RootProvider;
use chain::network::{Network, Quorum};
use daemon::health::Component;
use eigenlayer::contracts::IStakeRegistry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How often the registry is asked.
const LOOK: Duration = Duration::from_secs(15);

/// Labels that EigenLayer's node specification prescribes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuorumLabels {
    quorum_number: String,
    quorum_name: String,
}

/// The operator's stakes, as a gauge and as a health component.
#[derive(Debug)]
pub struct Stakes {
    provider: RootProvider,
    registry: Address,
    quorums: Vec<Quorum>,
    operator_id: B256,
    /// `eigen_registered_stakes`: stake that counts, in the token's smallest unit
    registered: Family<QuorumLabels, Gauge<f64, AtomicU64>>,
}

impl Stakes {
    pub fn new(provider: RootProvider, network: &Network, operator_id: B256) -> Self {
        Self {
            provider,
            registry: network.eigenlayer.stake_registry,
            quorums: network.eigenlayer.quorums.clone(),
            operator_id,
            registered: Family::default(),
        }
    }

    /// Registers the gauge; its name is prescribed, so the registry must have no prefix.
    pub fn register_metrics(&self, registry: &mut Registry) {
        registry.register(
            "eigen_registered_stakes",
            "Stake of the operator that counts in answers",
            self.registered.clone(),
        );
    }

    /// Looks for ever.
    pub async fn watch(self, component: Component) {
        loop {
            match self.look().await {
                Ok(true) => component.ok(),
                Ok(false) => component.degraded(
                    "the operator has no stake in any quorum, so its signatures do not count; run: operator opt-in",
                ),
                // That the chain cannot be read says nothing of the membership; another component shows it.
                Err(error) => tracing::debug!(%error, "the stake registry cannot be read"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether there is stake in any quorum.
    async fn look(&self) -> Result<bool, ContractError> {
        let registry = IStakeRegistry::new(self.registry, &self.provider);
        let mut any = false;
        for quorum in &self.quorums {
            let stake = registry
                .getCurrentStake(self.operator_id, quorum.number)
                .call()
                .await?
                .to::<u128>();
            any |= stake > 0;
            let labels = QuorumLabels {
                quorum_number: quorum.number.to_string(),
                quorum_name: quorum.name.clone(),
            };
            self.registered.get_or_create(&labels).set(stake as f64);
        }
        Ok(any)
    }
}
