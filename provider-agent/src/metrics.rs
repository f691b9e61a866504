//! What the agent counts.

use std::sync::atomic::AtomicU64;

use alloy_primitives::U256;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counts of one agent.
#[derive(Debug, Clone)]
pub struct ProviderMetrics {
    /// Bids that were included in a block
    pub bids: Counter,
    /// Bids that could not be placed in time
    pub bids_missed: Counter,
    /// Looks at an order that ended without a bid
    pub declined: Counter,
    /// Seconds from seeing an order's block to the bid's inclusion
    pub bid_seconds: Histogram,
    /// Whether bids are made now: 1 or 0
    pub bidding: Gauge,
    /// Leases that are not finished, by phase: live, ended, gone
    pub leases: Family<Phase, Gauge>,
    /// Workloads removed after their lease ended
    pub workloads_removed: Counter,
    /// Leases closed by this provider, by reason
    pub leases_closed: Family<ClosedBecause, Counter>,
    /// Payments withdrawn
    pub withdrawals: Counter,
    /// Whole tokens withdrawn, by token
    pub earned: Family<InToken, Counter<f64, AtomicU64>>,
    /// Gas paid to settle and withdraw, in units of 10^9 wei, by the token that was withdrawn
    pub collection_gas_gwei: Family<InToken, Counter<f64, AtomicU64>>,
    /// Updates of leases, by what became of them: done, rolled_back, refused
    pub updates: Family<Outcome, Counter>,
    /// Actions on the engine that failed
    pub engine_failures: Counter,
    /// Whether the isolation rules are in force: 1 or 0
    pub isolated: Gauge,
    /// Bytes left on the engine's file system
    pub disk_free_bytes: Gauge,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Phase {
    /// live, ended, gone
    pub phase: &'static str,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct InToken {
    /// The token's symbol.
    pub token: String,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// done, rolled_back, refused
    pub outcome: &'static str,
}

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClosedBecause {
    /// The reason as the contract names it.
    pub reason: String,
}

impl Default for ProviderMetrics {
    fn default() -> Self {
        Self {
            bids: Counter::default(),
            bids_missed: Counter::default(),
            declined: Counter::default(),
            bid_seconds: Histogram::new(exponential_buckets(0.05, 2.0, 10)),
            bidding: Gauge::default(),
            leases: Family::default(),
            workloads_removed: Counter::default(),
            leases_closed: Family::default(),
            withdrawals: Counter::default(),
            earned: Family::default(),
            collection_gas_gwei: Family::default(),
            updates: Family::default(),
            engine_failures: Counter::default(),
            isolated: Gauge::default(),
            disk_free_bytes: Gauge::default(),
        }
    }
}

impl ProviderMetrics {
    /// Counts what became of an update.
    pub fn updated(&self, outcome: &'static str) {
        self.updates.get_or_create(&Outcome { outcome }).inc();
    }

    /// Counts a payment of so many token units, and its gas. As floating point: they are for dashboards.
    pub fn collected(&self, symbol: &str, decimals: u8, amount: U256, gas: u64, gas_price: u128) {
        let token = InToken {
            token: symbol.to_owned(),
        };
        let whole = f64::from(amount) / 10f64.powi(decimals.into());
        let gwei = gas as f64 * gas_price as f64 / 1e9;
        self.withdrawals.inc();
        self.earned.get_or_create(&token).inc_by(whole);
        self.collection_gas_gwei.get_or_create(&token).inc_by(gwei);
    }

    /// Registers them: `metrics.register("provider", |registry| provider.register(registry))`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("bids", "Bids that were included in a block", self.bids.clone());
        registry.register(
            "bids_missed",
            "Bids that could not be placed in time",
            self.bids_missed.clone(),
        );
        registry.register(
            "declined",
            "Looks at an order that ended without a bid",
            self.declined.clone(),
        );
        registry.register(
            "bid_seconds",
            "Seconds from seeing an order's block to the bid's inclusion",
            self.bid_seconds.clone(),
        );
        registry.register("bidding", "Whether bids are made now", self.bidding.clone());
        registry.register("leases", "Leases that are not finished, by phase", self.leases.clone());
        registry.register(
            "workloads_removed",
            "Workloads removed after their lease ended",
            self.workloads_removed.clone(),
        );
        registry.register(
            "leases_closed",
            "Leases closed by this provider, by reason",
            self.leases_closed.clone(),
        );
        registry.register("withdrawals", "Payments withdrawn", self.withdrawals.clone());
        registry.register("earned", "Whole tokens withdrawn, by token", self.earned.clone());
        registry.register(
            "collection_gas_gwei",
            "Gas paid to settle and withdraw, in units of 10^9 wei, by the token that was withdrawn",
            self.collection_gas_gwei.clone(),
        );
        registry.register(
            "updates",
            "Updates of leases, by what became of them",
            self.updates.clone(),
        );
        registry.register(
            "engine_failures",
            "Actions on the engine that failed",
            self.engine_failures.clone(),
        );
        registry.register(
            "isolated",
            "Whether the isolation rules are in force",
            self.isolated.clone(),
        );
        registry.register(
            "disk_free_bytes",
            "Bytes left on the engine's file system",
            self.disk_free_bytes.clone(),
        );
    }
}
