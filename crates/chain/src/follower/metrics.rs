//! What a follower counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counts of what was followed.
#[derive(Debug, Clone, Default)]
pub(crate) struct FollowerMetrics {
    /// Height of the newest block handed out
    pub(crate) block: Gauge,
    /// Height of the newest block the endpoint knows of
    pub(crate) head: Gauge,
    /// Logs handed out
    pub(crate) logs: Counter,
    /// Reorganisations undone
    pub(crate) reorganisations: Counter,
    /// Looks at the chain that failed
    pub(crate) failures: Counter,
}

impl FollowerMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("block", "Height of the newest block handed out", self.block.clone());
        registry.register(
            "head",
            "Height of the newest block the endpoint knows of",
            self.head.clone(),
        );
        registry.register("logs", "Logs handed out", self.logs.clone());
        registry.register(
            "reorganisations",
            "Reorganisations undone",
            self.reorganisations.clone(),
        );
        registry.register("failures", "Looks at the chain that failed", self.failures.clone());
    }
}
