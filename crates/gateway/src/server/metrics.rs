//! What the server counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the server counts. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct ServerMetrics {
    /// Connections open now.
    pub connections: Gauge,
    /// Connections refused because there were too many, in all or from one address.
    pub refused_full: Counter,
    /// Handshakes that failed or took too long: no certificate, another protocol, scans.
    pub handshakes_failed: Counter,
    /// Connections that ended in the middle: slow headers, peers that stopped reading, resets.
    pub connections_cut: Counter,
    /// Requests whose header arrived.
    pub requests: Counter,
    /// Requests that no handler saw: not admitted, body too large or too slow.
    pub refused: Counter,
}

impl ServerMetrics {
    /// Registers all of them; give it a registry with a prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("connections", "Connections open now", self.connections.clone());
        registry.register(
            "refused_full",
            "Connections refused because there were too many",
            self.refused_full.clone(),
        );
        registry.register(
            "handshakes_failed",
            "Handshakes that failed or took too long",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "connections_cut",
            "Connections that ended in the middle",
            self.connections_cut.clone(),
        );
        registry.register("requests", "Requests whose header arrived", self.requests.clone());
        registry.register("refused", "Requests that no handler saw", self.refused.clone());
    }
}

/// One more in a gauge for as long as it lives, however it ends.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Counted {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
