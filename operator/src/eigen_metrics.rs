//! Metrics whose names and labels EigenLayer's node specification (and eigensdk-go after it) prescribes. Ours have our own
//! prefix.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use alloy::primitives::{U256, utils::format_units};
use chain::network::Network;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Tasks that the score is about.
const SCORED_TASKS: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    token: String,
}

/// Labels of `eigen_registered_stakes`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QuorumLabels {
    pub quorum_number: String,
    pub quorum_name: String,
}

/// The prescribed metrics. Clones count together.
#[derive(Debug, Clone)]
pub struct EigenMetrics {
    /// Stake that counts in answers, in the token's smallest unit
    pub registered_stakes: Family<QuorumLabels, Gauge<f64, AtomicU64>>,
    /// 1 if the operator was ever slashed
    pub slashing_status: Gauge,
    /// Share of the last tasks that were signed, 0 to 100
    performance_score: Gauge<f64, AtomicU64>,
    /// Whole tokens earned by this process: match fees and challengers' rewards
    fees_earned: Family<TokenLabels, Counter<f64, AtomicU64>>,
    /// Whether each of the last tasks was signed.
    tasks: Arc<Mutex<VecDeque<bool>>>,
}

impl Default for EigenMetrics {
    fn default() -> Self {
        let metrics = Self {
            registered_stakes: Family::default(),
            slashing_status: Gauge::default(),
            performance_score: Gauge::default(),
            fees_earned: Family::default(),
            tasks: Arc::default(),
        };
        metrics.performance_score.set(100.0);
        metrics
    }
}

impl EigenMetrics {
    /// Registers all of them; the names are whole, so the registry must have no prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "eigen_registered_stakes",
            "Stake of the operator that counts in answers",
            self.registered_stakes.clone(),
        );
        registry.register(
            "eigen_slashing_status",
            "Whether the operator has been slashed",
            self.slashing_status.clone(),
        );
        registry.register(
            "eigen_performance_score",
            "Share of the last 100 tasks that were signed, from 0 to 100",
            self.performance_score.clone(),
        );
        registry.register(
            "eigen_fees_earned",
            "The amount of fees earned in <token>",
            self.fees_earned.clone(),
        );
    }

    /// Counts a task that was to be signed.
    pub fn task(&self, signed: bool) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.push_back(signed);
        if tasks.len() > SCORED_TASKS {
            tasks.pop_front();
        }
        let good = tasks.iter().filter(|signed| **signed).count();
        self.performance_score.set(100.0 * good as f64 / tasks.len() as f64);
    }

    /// Shows every payment token from the start, with nothing earned.
    pub fn list_tokens(&self, network: &Network) {
        for token in &network.tokens {
            let symbol = token.symbol.clone();
            drop(self.fees_earned.get_or_create(&TokenLabels { token: symbol }));
        }
    }

    /// Counts what was earned, in the token's smallest unit.
    pub fn earned(&self, network: &Network, token: u8, amount: U256) {
        let listed = network.token_by_id(token);
        let (symbol, decimals) = listed.map_or_else(
            || (format!("token {token}"), 0),
            |token| (token.symbol.clone(), token.decimals),
        );
        let whole = format_units(amount, decimals).ok().and_then(|text| text.parse().ok());
        self.fees_earned
            .get_or_create(&TokenLabels { token: symbol })
            .inc_by(whole.unwrap_or(0.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_the_specification() {
        let metrics = EigenMetrics::default();
        let labels = QuorumLabels {
            quorum_number: "0".to_owned(),
            quorum_name: "restaked ETH".to_owned(),
        };
        metrics.registered_stakes.get_or_create(&labels).set(5.0);
        let spon = TokenLabels {
            token: "SPON".to_owned(),
        };
        metrics.fees_earned.get_or_create(&spon).inc_by(1.5);
        metrics.task(true);
        metrics.task(false);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for line in [
            "eigen_registered_stakes{quorum_number=\"0\",quorum_name=\"restaked ETH\"} 5.0",
            "eigen_slashing_status 0",
            "eigen_performance_score 50.0",
            "eigen_fees_earned_total{token=\"SPON\"} 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_score_forgets_old_tasks() {
        let metrics = EigenMetrics::default();
        for _ in 0..SCORED_TASKS {
            metrics.task(false);
        }
        assert_eq!(metrics.performance_score.get(), 0.0);
        for _ in 0..SCORED_TASKS {
            metrics.task(true);
        }
        assert_eq!(metrics.performance_score.get(), 100.0);
    }
}
