//! Prometheus metrics: one registry per process, one sub-registry per subsystem.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;

/// The content type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry of a process. Clones share it.
///
/// A subsystem keeps its metrics in one commented struct and registers them once:
/// `metrics.register("follower", |registry| registry.register("blocks", "Blocks applied", self.blocks.clone()))`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a subsystem's metrics under `spheron_subsystem_`.
    pub fn register<T>(&self, subsystem: &str, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix(format!("spheron_{subsystem}")))
    }

    /// Registers metrics whose names others prescribe (such as `eigen_*`), without a prefix.
    pub fn register_unprefixed<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything, in the OpenMetrics text format.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(
            &mut text,
            &self.registry.lock().unwrap_or_else(PoisonError::into_inner),
        )?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn subsystems_have_their_own_prefix_and_prescribed_names_have_none() {
        let metrics = Metrics::new();
        let blocks = Counter::<u64>::default();
        metrics.register("follower", |registry| {
            registry.register("blocks", "Blocks applied", blocks.clone())
        });
        metrics.register_unprefixed(|registry| registry.register("eigen_fees", "Fees", Counter::<u64>::default()));
        blocks.inc_by(3);
        let text = metrics.encode().expect("encode");
        assert!(text.contains("spheron_follower_blocks_total 3"), "{text}");
        assert!(text.contains("\neigen_fees_total 0"), "{text}");
    }
}
