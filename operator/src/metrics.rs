//! What the operator counts.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds; the answer has to be there before the next block is built.
const LATENCY_BUCKETS: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Why a task was not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Refusal {
    /// Bids do not fold to the digest on chain.
    Digest,
    /// Another answer was signed before.
    SignOnce,
    /// The matchmaker's bond does not stand behind any of it; signed later if it does by then.
    Bond,
    /// The orders name parameters the task manager does not have, or cannot be put into tasks.
    Malformed,
}

/// What became of one attempt to hand a signature to an aggregator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Delivery {
    Accepted,
    Duplicate,
    Answered,
    /// Refused for good.
    Refused,
    /// Not now, or not reached; tried again.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefusalLabels {
    pub reason: Refusal,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DeliveryLabels {
    pub aggregator: String,
    pub outcome: Delivery,
}

/// What the operator counts. Clones count together.
#[derive(Debug, Clone)]
pub struct OperatorMetrics {
    /// Orders kept because they may be in a task.
    pub orders: Gauge,
    /// Tasks signed.
    pub signed: Counter,
    /// Orders in signed tasks.
    pub signed_orders: Counter,
    /// Orders left out of signed tasks because the matchmaker's bond does not cover them.
    pub left_out_orders: Counter,
    /// Tasks not signed.
    pub refused: Family<RefusalLabels, Counter>,
    /// Attempts to hand a signature to an aggregator.
    pub deliveries: Family<DeliveryLabels, Counter>,
    /// From seeing the close block to signing.
    pub seconds_to_signature: Histogram,
    /// From seeing the close block to an aggregator having the signature.
    pub seconds_to_delivery: Histogram,
}

/// What the watcher counts. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct WatchMetrics {
    /// Answers recomputed.
    pub examined: Counter,
    /// Answers whose call cannot be seen, so that nobody here can tell whether they are right.
    pub unreadable: Counter,
    /// Orders that answers were wrong about.
    pub wrong: Counter,
    /// Challenges of ours that were taken.
    pub challenges: Counter,
    /// Operators slashed by us.
    pub slashed: Counter,
    /// Orders that we had the rule on chain decide, because nobody answered.
    pub matched: Counter,
    /// Orders about which the rule on chain and ours disagree: a fault of this software.
    pub disagreements: Counter,
}

impl WatchMetrics {
    /// Registers all of them; give it a registry with a prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("examined_answers", "Answers recomputed", self.examined.clone());
        registry.register(
            "unreadable_answers",
            "Answers whose call cannot be seen: nobody here can tell whether they are right",
            self.unreadable.clone(),
        );
        registry.register(
            "wrong_orders",
            "Orders that answers were wrong about",
            self.wrong.clone(),
        );
        registry.register(
            "challenges",
            "Challenges of ours that were taken",
            self.challenges.clone(),
        );
        registry.register("slashed_operators", "Operators slashed by us", self.slashed.clone());
        registry.register(
            "matched_orders",
            "Orders decided by the rule on chain, because nobody answered",
            self.matched.clone(),
        );
        registry.register(
            "rule_disagreements",
            "Orders about which the rule on chain and ours disagree",
            self.disagreements.clone(),
        );
    }
}

impl Default for OperatorMetrics {
    fn default() -> Self {
        Self {
            orders: Gauge::default(),
            signed: Counter::default(),
            signed_orders: Counter::default(),
            left_out_orders: Counter::default(),
            refused: Family::default(),
            deliveries: Family::default(),
            seconds_to_signature: Histogram::new(LATENCY_BUCKETS),
            seconds_to_delivery: Histogram::new(LATENCY_BUCKETS),
        }
    }
}

impl OperatorMetrics {
    /// Registers all of them; give it a registry with a prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("orders", "Orders that may be in a task", self.orders.clone());
        registry.register("signed", "Tasks signed", self.signed.clone());
        registry.register("signed_orders", "Orders in signed tasks", self.signed_orders.clone());
        registry.register(
            "left_out_orders",
            "Orders left out of signed tasks because the matchmaker's bond does not cover them",
            self.left_out_orders.clone(),
        );
        registry.register("refused", "Tasks not signed, by reason", self.refused.clone());
        registry.register(
            "deliveries",
            "Attempts to hand a signature to an aggregator, by outcome",
            self.deliveries.clone(),
        );
        registry.register(
            "seconds_to_signature",
            "From seeing the close block to the signature",
            self.seconds_to_signature.clone(),
        );
        registry.register(
            "seconds_to_delivery",
            "From seeing the close block to an aggregator having the signature",
            self.seconds_to_delivery.clone(),
        );
    }

    /// Counts a task that was not signed.
    pub fn refuse(&self, reason: Refusal) {
        self.refused.get_or_create(&RefusalLabels { reason }).inc();
    }

    /// Counts an attempt.
    pub fn deliver(&self, aggregator: &str, outcome: Delivery) {
        let aggregator = aggregator.to_owned();
        self.deliveries
            .get_or_create(&DeliveryLabels { aggregator, outcome })
            .inc();
    }
}
