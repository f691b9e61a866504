//! What the aggregator counts.

use alloy_primitives::Address;
use avs::submission::RefusalCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::collect::Note;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OperatorLabel {
    operator: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct QuorumLabel {
    pub(crate) quorum: u8,
}

/// Operators are labels only once the chain named them as members, so that nobody can make up labels.
#[derive(Debug, Clone)]
pub struct AggregatorMetrics {
    /// Signatures taken
    accepted: Counter,
    /// Submissions refused, by reason
    refused: Family<ReasonLabel, Counter>,
    /// Signatures in an operator's name that do not verify
    invalid: Family<OperatorLabel, Counter>,
    /// Operators that signed two answers to one task
    equivocations: Family<OperatorLabel, Counter>,
    /// Signatures over another answer than the quorum's
    minority: Family<OperatorLabel, Counter>,
    /// Tasks that reached their quorum here
    quorums: Counter,
    /// Answers seen on chain
    answered: Counter,
    /// Answers seen on chain that this aggregator sent
    won: Counter,
    /// Responses that another aggregator sent first
    pub(crate) lost: Counter,
    /// Answers on chain that differ from the one that reached the quorum here
    different: Counter,
    /// Attempts to respond that failed
    failed: Counter,
    /// Tasks whose window closed without an answer
    unanswered: Counter,
    /// Orders this aggregator expired
    pub(crate) expired: Counter,
    /// Blocks since the last refresh of a quorum's stakes that counts
    pub(crate) stake_age: Family<QuorumLabel, Gauge>,
    /// Refreshes of a quorum's stakes by this aggregator
    pub(crate) refreshed: Counter,
    /// Aggregate keys this aggregator proved on chain
    pub(crate) keys_proven: Counter,
    /// Tasks in memory
    pub(crate) tasks: Gauge,
    /// Submissions that wait for a block or a check
    pub(crate) waiting: Gauge,
    /// Seconds from a submission's arrival to its answer
    pub(crate) latency: Histogram,
}

impl Default for AggregatorMetrics {
    fn default() -> Self {
        Self {
            accepted: Counter::default(),
            refused: Family::default(),
            invalid: Family::default(),
            equivocations: Family::default(),
            minority: Family::default(),
            quorums: Counter::default(),
            answered: Counter::default(),
            won: Counter::default(),
            lost: Counter::default(),
            different: Counter::default(),
            failed: Counter::default(),
            unanswered: Counter::default(),
            expired: Counter::default(),
            stake_age: Family::default(),
            refreshed: Counter::default(),
            keys_proven: Counter::default(),
            tasks: Gauge::default(),
            waiting: Gauge::default(),
            latency: Histogram::new(exponential_buckets(0.000_5, 2.0, 14)),
        }
    }
}

impl AggregatorMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("signatures", "Signatures taken", self.accepted.clone());
        registry.register("refused", "Submissions refused, by reason", self.refused.clone());
        registry.register(
            "invalid_signatures",
            "Signatures in an operator's name that do not verify",
            self.invalid.clone(),
        );
        registry.register(
            "equivocations",
            "Operators that signed two answers to one task",
            self.equivocations.clone(),
        );
        registry.register(
            "minority_signatures",
            "Signatures over another answer than the quorum's",
            self.minority.clone(),
        );
        registry.register("quorums", "Tasks that reached their quorum here", self.quorums.clone());
        registry.register("answered", "Answers seen on chain", self.answered.clone());
        registry.register(
            "responses_won",
            "Answers seen on chain that this aggregator sent",
            self.won.clone(),
        );
        registry.register(
            "responses_lost",
            "Responses that another aggregator sent first",
            self.lost.clone(),
        );
        registry.register(
            "answered_differently",
            "Answers on chain that differ from the one that reached the quorum here",
            self.different.clone(),
        );
        registry.register(
            "responses_failed",
            "Attempts to respond that failed",
            self.failed.clone(),
        );
        registry.register(
            "tasks_unanswered",
            "Tasks whose window closed without an answer",
            self.unanswered.clone(),
        );
        registry.register("orders_expired", "Orders this aggregator expired", self.expired.clone());
        registry.register(
            "stake_age_blocks",
            "Blocks since the last refresh of a quorum's stakes that counts",
            self.stake_age.clone(),
        );
        registry.register(
            "stake_refreshes",
            "Refreshes of a quorum's stakes by this aggregator",
            self.refreshed.clone(),
        );
        registry.register(
            "keys_proven",
            "Aggregate keys this aggregator proved on chain",
            self.keys_proven.clone(),
        );
        registry.register("tasks", "Tasks in memory", self.tasks.clone());
        registry.register(
            "waiting",
            "Submissions that wait for a block or a check",
            self.waiting.clone(),
        );
        registry.register(
            "submission_seconds",
            "Seconds from a submission's arrival to its answer",
            self.latency.clone(),
        );
    }

    pub(crate) fn refused(&self, code: RefusalCode) {
        let reason = serde_json::to_value(code)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default();
        self.refused.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a note and writes its line.
    pub(crate) fn note(&self, note: &Note, own_address: Address) {
        let label = |operator: &Address| OperatorLabel {
            operator: operator.to_string(),
        };
        match note {
            Note::Accepted { task, operator } => {
                self.accepted.inc();
                tracing::debug!(%task, %operator, "signature taken");
            }
            Note::InvalidSignature {
                task,
                operator,
                digest,
                source,
            } => {
                self.invalid.get_or_create(&label(operator)).inc();
                tracing::warn!(%task, %operator, %digest, %source, "refused a signature in the operator's name: it does not verify");
            }
            Note::Equivocation {
                task,
                operator,
                first,
                second,
            } => {
                self.equivocations.get_or_create(&label(operator)).inc();
                tracing::warn!(%task, %operator, %first, %second, "the operator signed two answers to one task; the first counts");
            }
            Note::Minority { task, operator, digest } => {
                self.minority.get_or_create(&label(operator)).inc();
                tracing::warn!(%task, %operator, %digest, "the operator signed another answer than the quorum");
            }
            Note::QuorumReached {
                task,
                digest,
                signatures,
            } => {
                self.quorums.inc();
                tracing::info!(%task, %digest, signatures, "quorum reached");
            }
            Note::Answered { task, responder } => {
                self.answered.inc();
                if *responder == own_address {
                    self.won.inc();
                    tracing::info!(%task, "answered on chain by this aggregator");
                } else {
                    tracing::info!(%task, %responder, "answered on chain by another aggregator");
                }
            }
            Note::AnsweredDifferently { task, responder } => {
                self.different.inc();
                tracing::error!(%task, %responder, "the chain has another answer than the one that reached the quorum here");
            }
            Note::WindowOver { task, signatures } => {
                self.unanswered.inc();
                tracing::warn!(%task, signatures, "the response window is over without an answer");
            }
            Note::ResponseFailed { task, reason, attempt } => {
                self.failed.inc();
                if *attempt == 1 {
                    tracing::warn!(%task, "cannot respond: {reason}; trying again after the next block");
                } else {
                    tracing::debug!(%task, attempt, "cannot respond: {reason}");
                }
            }
            Note::Dropped { task } => {
                tracing::info!(%task, "its close block was reorganised away; the task is dropped");
            }
        }
    }
}
