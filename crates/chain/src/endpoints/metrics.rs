//! How often and how long endpoints are asked, under the names and labels of EigenLayer's node specification.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: String,
    client_version: String,
}

/// Calls by method and by what the endpoint says it is.
#[derive(Debug, Clone)]
pub(super) struct RpcMetrics {
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    requests: Family<Labels, Counter>,
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            requests: Family::default(),
        }
    }
}

impl RpcMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "eigen_rpc_request_duration_seconds",
            "Duration of JSON-RPC calls",
            self.seconds.clone(),
        );
        registry.register("eigen_rpc_request", "JSON-RPC calls", self.requests.clone());
    }

    pub(super) fn count(&self, method: &str, client_version: &str, took: Duration) {
        let labels = Labels {
            method: method.to_owned(),
            client_version: client_version.to_owned(),
        };
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_those_of_the_specification() {
        let metrics = RpcMetrics::default();
        metrics.count("eth_call", "anvil/v1.7.1", Duration::from_millis(2));
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let labels = "{method=\"eth_call\",client_version=\"anvil/v1.7.1\"}";
        for line in [
            format!("eigen_rpc_request_total{labels} 1"),
            format!("eigen_rpc_request_duration_seconds_count{labels} 1"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
