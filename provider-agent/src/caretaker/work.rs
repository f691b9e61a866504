//! One action on one lease.

use bindings::OrderState;
use workload::{Assignment, LeaseId};

use super::Caretaker;
use crate::chain::is_closed;
use crate::docker::in_words;
use crate::leases::{Action, Reason};
use crate::metrics::ClosedBecause;
use crate::store::Lease;

/// One action.
pub(super) struct Work {
    pub(super) caretaker: Caretaker,
    pub(super) id: LeaseId,
    pub(super) lease: Option<Lease>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// On the engine; whether the workload cannot start, where that was looked at, whether it runs whole, and what hindered
    /// the work.
    Engine {
        lease: LeaseId,
        is_failing: Option<bool>,
        is_ready: bool,
        problem: Option<String>,
    },
    /// On the chain.
    Chain { lease: LeaseId },
}

/// What was seen of a workload.
#[derive(Debug, Default)]
struct Look {
    is_failing: Option<bool>,
    is_ready: bool,
}

impl Work {
    pub(super) async fn carry_out(self, action: Action) -> Done {
        let lease = self.id;
        let outcome = match action {
            Action::Apply => self.apply().await,
            Action::Stop => self.stop().await.map(|()| Look::default()),
            Action::Remove => self.remove().await.map(|()| Look::default()),
            Action::Close(reason) => {
                if let Err(problem) = self.close(reason).await {
                    tracing::warn!(%lease, ?reason, problem, "the lease could not be closed; it is tried again");
                }
                return Done::Chain { lease };
            }
        };
        let (Look { is_failing, is_ready }, problem) = match outcome {
            Ok(look) => (look, None),
            Err(problem) => (Look::default(), Some(format!("{action:?}: {problem}"))),
        };
        Done::Engine {
            lease,
            is_failing,
            is_ready,
            problem,
        }
    }

    async fn apply(&self) -> Result<Look, String> {
        let Some(lease) = &self.lease else {
            return Ok(Look::default());
        };
        let Caretaker {
            store,
            manifests,
            engine,
            ..
        } = &self.caretaker;
        let stored = match manifests.newest(self.id).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(Look::default()),
            Err(error) => return Err(in_words(&error)),
        };
        if stored.hash != lease.terms.manifest_hash {
            return Err(format!(
                "the stored manifest {} is not the one that was ordered, {}; its owner must send it again",
                stored.hash, lease.terms.manifest_hash
            ));
        }
        let before = match &lease.assignment {
            Some(assignment) => assignment.clone(),
            None => {
                // From here on something may exist: a manifest that is lost later was here once.
                let nothing = Assignment::default();
                store
                    .set_assignment(self.id, &nothing)
                    .await
                    .map_err(|error| in_words(&error))?;
                nothing
            }
        };
        let applied = engine
            .apply(self.id, &stored.salted.manifest, &before)
            .await
            .map_err(|error| in_words(&error))?;
        if applied.assignment != before {
            store
                .set_assignment(self.id, &applied.assignment)
                .await
                .map_err(|error| in_words(&error))?;
        }
        if applied.changes > 0 {
            tracing::info!(lease = %self.id, changes = applied.changes, ready = applied.status.is_ready(), "workload brought closer to its manifest");
        }
        if applied.status.is_ready() {
            if !stored.applied {
                manifests
                    .mark_applied(self.id, stored.hash)
                    .await
                    .map_err(|error| in_words(&error))?;
            }
            if !lease.ready {
                store.set_ready(self.id).await.map_err(|error| in_words(&error))?;
                tracing::info!(lease = %self.id, "workload runs");
            }
        }
        let failure = applied.status.failure();
        if let Some((service, reason)) = failure {
            tracing::debug!(lease = %self.id, service, reason, "workload cannot start");
        }
        Ok(Look {
            is_failing: Some(failure.is_some()),
            is_ready: applied.status.is_ready(),
        })
    }

    async fn stop(&self) -> Result<(), String> {
        tracing::info!(lease = %self.id, "stopping the workload: its lease is over, or not on the chain any more");
        self.caretaker
            .engine
            .stop(self.id)
            .await
            .map_err(|error| in_words(&error))
    }

    /// The events said that it is over, deep enough; the contract is asked once more, because this cannot be undone.
    async fn remove(&self) -> Result<(), String> {
        let Caretaker {
            market,
            store,
            manifests,
            engine,
            metrics,
            own,
            ..
        } = &self.caretaker;
        let word = market.order(self.id.0).await.map_err(|error| in_words(&error))?;
        let lives = word.state == OrderState::Leased && word.supplier == *own;
        let expected_closed = self.lease.as_ref().is_some_and(|lease| lease.leased.is_some());
        if lives || (expected_closed && !is_closed(word.state)) {
            return Err(format!(
                "the contract says that it is {:?}; nothing is removed",
                word.state
            ));
        }
        engine.remove(self.id).await.map_err(|error| in_words(&error))?;
        manifests.remove(self.id).await.map_err(|error| in_words(&error))?;
        store.set_removed(self.id).await.map_err(|error| in_words(&error))?;
        metrics.workloads_removed.inc();
        tracing::info!(lease = %self.id, state = ?word.state, "workload removed");
        Ok(())
    }

    async fn close(&self, reason: Reason) -> Result<(), String> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let Caretaker {
            market,
            transactions,
            metrics,
            own,
            ..
        } = &self.caretaker;
        let word = market.order(self.id.0).await.map_err(|error| in_words(&error))?;
        if word.state != OrderState::Leased || word.supplier != *own {
            // Somebody was faster; the event is on its way.
            return Ok(());
        }
        transactions
            .submit(market.close(self.id, &lease.terms, reason))
            .await
            .map_err(|error| in_words(&error))?;
        let label = ClosedBecause {
            reason: format!("{reason:?}"),
        };
        metrics.leases_closed.get_or_create(&label).inc();
        tracing::info!(lease = %self.id, ?reason, "lease closed");
        Ok(())
    }
}
