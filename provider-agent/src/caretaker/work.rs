//! One action on one lease.

use alloy_primitives::B256;
use bindings::OrderState;
use daemon::causes::with_causes;
use workload::{Assignment, LeaseId, LeaseStatus, ReplicaState};

use super::Caretaker;
use super::memory::Ordered;
use crate::chain::is_closed;
use crate::leases::{Action, Reason};
use crate::manifests::StoredManifest;
use crate::metrics::ClosedBecause;
use crate::store::Lease;
use crate::updates::{self, Verdict, Watched};

/// One action.
pub(super) struct Work {
    pub(super) caretaker: Caretaker,
    /// The workload.
    pub(super) id: LeaseId,
    /// Its current lease.
    pub(super) lease: Option<Lease>,
    pub(super) steadily: Option<Steadily>,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    /// On the engine; whether the workload cannot start, where that was looked at, whether it runs whole and as ordered, and
    /// what hindered the work.
    Engine {
        lease: LeaseId,
        /// What the workload was to run when the work was begun.
        ordered: Option<Ordered>,
        is_failing: Option<bool>,
        is_ready: bool,
        steadily: Option<Steadily>,
        problem: Option<String>,
    },
    /// On the chain.
    Chain { lease: LeaseId },
}

/// Containers that run, by service, replica and start: another start is another entry.
type Running = Vec<(String, u32, String)>;

/// Everything runs, and has since a block of this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Steadily {
    running: Running,
    since: u64,
}

/// What was seen of a workload.
#[derive(Debug, Default)]
struct Look {
    is_failing: Option<bool>,
    is_ready: bool,
    steadily: Option<Steadily>,
}

/// What is remembered of a manifest that took the place of another.
struct Watch {
    switched_at: Option<u64>,
    steadily: Option<Steadily>,
}

/// The manifest that is to run.
struct Target {
    stored: StoredManifest,
    /// Whether it is the one before, because the ordered one did not come to run.
    is_fallback: bool,
}

impl Work {
    pub(super) async fn carry_out(self, action: Action) -> Done {
        let lease = self.id;
        let outcome = match action {
            Action::Apply => self.apply().await,
            Action::Stop => self.stop().await.map(|()| Look::default()),
            Action::StopAtEnd => self.stop_at_end().await.map(|()| Look::default()),
            Action::Remove => self.remove().await.map(|()| Look::default()),
            Action::Close(reason) => {
                if let Err(problem) = self.close(reason).await {
                    tracing::warn!(%lease, ?reason, problem, "the lease could not be closed; it is tried again");
                }
                return Done::Chain { lease };
            }
        };
        let (look, problem) = match outcome {
            Ok(look) => (look, None),
            Err(problem) => (Look::default(), Some(format!("{action:?}: {problem}"))),
        };
        Done::Engine {
            lease,
            ordered: self.lease.as_ref().map(Ordered::by),
            is_failing: look.is_failing,
            is_ready: look.is_ready,
            steadily: look.steadily,
            problem,
        }
    }

    async fn apply(&self) -> Result<Look, String> {
        let Some(lease) = &self.lease else {
            return Ok(Look::default());
        };
        let Caretaker { store, engine, .. } = &self.caretaker;
        let Some(target) = self.target(lease).await? else {
            return Ok(Look::default());
        };
        let hash = target.stored.hash;
        let (before, is_switch) = self.assignment(lease, &target).await?;
        let mut watch = Watch {
            switched_at: match is_switch {
                true => None,
                false => lease.switched_at,
            },
            steadily: None,
        };
        let applied = match engine.apply(self.id, &target.stored.salted.manifest, &before).await {
            Ok(applied) => applied,
            Err(error) => {
                let problem = with_causes(&error);
                self.settle(lease, &target, Err(&problem), &watch).await?;
                return Err(problem);
            }
        };
        if is_switch && lease.is_update() && !target.is_fallback {
            // What was there before took its time to end: the new containers are watched from now on.
            watch.switched_at = Some(self.switched(lease).await?);
        }
        if applied.assignment != before {
            store
                .set_assignment(self.id, hash, &applied.assignment)
                .await
                .map_err(|error| with_causes(&error))?;
        }
        if applied.changes > 0 {
            tracing::info!(lease = %lease.id, workload = %self.id, changes = applied.changes, ready = applied.status.is_ready(), "workload brought closer to its manifest");
        }
        if applied.status.is_ready() && !lease.ready {
            store.set_ready(self.id).await.map_err(|error| with_causes(&error))?;
            tracing::info!(lease = %lease.id, "workload runs");
        }
        watch.steadily = self.steadily(&applied.status);
        let is_settled = self.settle(lease, &target, Ok(&applied.status), &watch).await?;
        let failure = applied.status.failure();
        if let Some((service, reason)) = failure {
            tracing::debug!(lease = %lease.id, service, reason, "workload cannot start");
        }
        Ok(Look {
            is_failing: Some(failure.is_some()),
            is_ready: applied.status.is_ready() && is_settled,
            steadily: watch.steadily,
        })
    }

    /// The ordered manifest; of an update that did not come to run, the last one that did.
    async fn target(&self, lease: &Lease) -> Result<Option<Target>, String> {
        let manifests = &self.caretaker.manifests;
        let ordered = lease.terms.manifest_hash;
        if lease.setback.is_some()
            && let Some(stored) = self.last_good(lease).await?
        {
            return Ok(Some(Target {
                stored,
                is_fallback: true,
            }));
        }
        match manifests.get(self.id, ordered).await {
            Ok(Some(stored)) => Ok(Some(Target {
                stored,
                is_fallback: false,
            })),
            Ok(None) => Err(format!(
                "the manifest that was ordered, {ordered}, is not stored here; its owner must send it again"
            )),
            Err(error) => Err(with_causes(&error)),
        }
    }

    async fn last_good(&self, lease: &Lease) -> Result<Option<StoredManifest>, String> {
        let ordered = lease.terms.manifest_hash;
        match self.caretaker.manifests.last_good_but(self.id, ordered).await {
            Ok(stored) => Ok(stored),
            Err(error) if error.is_lost_manifest() => Ok(None),
            Err(error) => Err(with_causes(&error)),
        }
    }

    async fn switched(&self, lease: &Lease) -> Result<u64, String> {
        let Caretaker { store, seen, .. } = &self.caretaker;
        let time = seen.borrow().time;
        store
            .set_switched(lease.id, time)
            .await
            .map_err(|error| with_causes(&error))?;
        Ok(time)
    }

    /// What was decided for the manifest that is to run, and whether another one ran until now: then everything is written down
    /// first that the one before needs to come back.
    async fn assignment(&self, lease: &Lease, target: &Target) -> Result<(Assignment, bool), String> {
        let Caretaker { store, engine, .. } = &self.caretaker;
        let hash = target.stored.hash;
        let known = store
            .assignments(self.id, hash)
            .await
            .map_err(|error| with_causes(&error))?;
        let in_force = match known.in_force {
            Some((of, assignment)) if of == hash => return Ok((assignment, false)),
            Some((_, assignment)) => Some(assignment),
            None => None,
        };
        let is_switch = in_force.is_some();
        let mut assignment = known.asked.unwrap_or_default();
        if let Some(before) = in_force {
            // The same ports for the same services: URLs outlive an update.
            assignment.ports = before.ports;
        }
        if lease.is_update() && !target.is_fallback {
            let update = store
                .update_that_made(lease.id)
                .await
                .map_err(|error| with_causes(&error))?;
            assignment
                .images
                .extend(update.map(|update| update.images).unwrap_or_default());
            self.switched(lease).await?;
        }
        // From here on something may exist: a manifest that is lost later was here once.
        store
            .set_assignment(self.id, hash, &assignment)
            .await
            .map_err(|error| with_causes(&error))?;
        if is_switch {
            tracing::info!(lease = %lease.id, workload = %self.id, manifest = %hash, fallback = target.is_fallback, "another manifest takes the place of what runs");
            engine.unstage(self.id).await;
            engine.forget_failures(self.id).await;
        }
        Ok((assignment, is_switch))
    }

    /// Since when all of it has run without a restart.
    fn steadily(&self, status: &LeaseStatus) -> Option<Steadily> {
        let running = status.is_ready().then(|| starts(status))?;
        match &self.steadily {
            Some(before) if before.running == running => Some(before.clone()),
            _ => Some(Steadily {
                running,
                since: self.caretaker.seen.borrow().time,
            }),
        }
    }

    /// Whether the manifest that runs is the one to go on with, which is written down. `status` is what the engine said, or why
    /// it could not do what it was asked.
    async fn settle(
        &self,
        lease: &Lease,
        target: &Target,
        status: Result<&LeaseStatus, &str>,
        watch: &Watch,
    ) -> Result<bool, String> {
        let Caretaker {
            store,
            manifests,
            metrics,
            trial,
            seen,
            ..
        } = &self.caretaker;
        if target.is_fallback || (target.stored.applied && !lease.is_update()) {
            return Ok(true);
        }
        let hash = target.stored.hash;
        let is_last_good = match manifests.last_applied(self.id).await {
            Ok(stored) => stored.is_some_and(|stored| stored.hash == hash),
            Err(error) if error.is_lost_manifest() => false,
            Err(error) => return Err(with_causes(&error)),
        };
        if is_last_good {
            return Ok(true);
        }
        let fallback = match lease.is_update() {
            true => self.fallback(lease).await?,
            false => None,
        };
        let Some(fallback) = fallback else {
            // There is nothing to go back to: it is what it is.
            let is_ready = status.is_ok_and(LeaseStatus::is_ready);
            if is_ready {
                manifests
                    .mark_applied(self.id, hash)
                    .await
                    .map_err(|error| with_causes(&error))?;
            }
            return Ok(is_ready);
        };
        let failure = status
            .ok()
            .and_then(LeaseStatus::failure)
            .map(|(service, reason)| format!("{service}: {reason}"));
        let state = status.map_or_else(str::to_owned, in_short);
        let time = seen.borrow().time;
        let watched = Watched {
            switched_at: watch.switched_at.unwrap_or(time),
            steady_since: watch.steadily.as_ref().map(|steadily| steadily.since),
            failure: failure.as_deref(),
            state: &state,
        };
        match updates::verdict(*trial, time, watched) {
            Verdict::Watch => Ok(false),
            Verdict::Stays => {
                manifests
                    .mark_applied(self.id, hash)
                    .await
                    .map_err(|error| with_causes(&error))?;
                metrics.updated("done");
                tracing::info!(lease = %lease.id, workload = %self.id, manifest = %hash, "the updated workload runs");
                Ok(true)
            }
            Verdict::GoesBack(reason) => {
                store
                    .set_setback(lease.id, &reason)
                    .await
                    .map_err(|error| with_causes(&error))?;
                metrics.updated("rolled_back");
                tracing::warn!(lease = %lease.id, workload = %self.id, manifest = %hash, back_to = %fallback, reason, "the updated workload does not run; the manifest before it runs again");
                Ok(false)
            }
        }
    }

    /// The manifest to go back to, where the new lease pays for what it needs.
    async fn fallback(&self, lease: &Lease) -> Result<Option<B256>, String> {
        let Some(last_good) = self.last_good(lease).await? else {
            return Ok(None);
        };
        let Caretaker { store, own, .. } = &self.caretaker;
        let leases = store
            .leases_of(*own, self.id)
            .await
            .map_err(|error| with_causes(&error))?;
        // Not what a reorganisation took away.
        let before = leases
            .iter()
            .find(|other| other.leased.is_some() && other.terms.manifest_hash == last_good.hash);
        let fits = before.is_some_and(|before| updates::holds(&lease.terms, &before.terms));
        Ok(fits.then_some(last_good.hash))
    }

    async fn stop(&self) -> Result<(), String> {
        tracing::info!(lease = %self.id, "stopping the workload: its lease is over, or not on the chain any more");
        self.caretaker
            .engine
            .stop(self.id)
            .await
            .map_err(|error| with_causes(&error))
    }

    /// The contract is asked first: an extension may have come in a block that was not seen yet.
    async fn stop_at_end(&self) -> Result<(), String> {
        let Caretaker { market, .. } = &self.caretaker;
        let Some(lease) = &self.lease else { return Ok(()) };
        let (head, end) =
            tokio::try_join!(market.head(), market.end_of(lease.id)).map_err(|error| with_causes(&error))?;
        if let Some((_, stops_at)) = end
            && head.time < stops_at
        {
            tracing::info!(lease = %lease.id, stops_at, "the contract says that this lease goes on");
            return Ok(());
        }
        self.stop().await
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
        let leases = store
            .leases_of(*own, self.id)
            .await
            .map_err(|error| with_causes(&error))?;
        // Also where no row is left of it: the label is an order's id.
        let mut asked = vec![(self.id, false)];
        asked.extend(
            leases
                .iter()
                .map(|lease| (lease.id, lease.leased.is_some_and(|leased| leased.closed.is_some()))),
        );
        for (lease, expected_closed) in asked {
            let word = market.order(lease.0).await.map_err(|error| with_causes(&error))?;
            let lives = word.state == OrderState::Leased && word.supplier == *own;
            if lives || (expected_closed && !is_closed(word.state)) {
                return Err(format!(
                    "the contract says that lease {lease} is {:?}; nothing is removed",
                    word.state
                ));
            }
        }
        engine.remove(self.id).await.map_err(|error| with_causes(&error))?;
        manifests.remove(self.id).await.map_err(|error| with_causes(&error))?;
        store.set_removed(self.id).await.map_err(|error| with_causes(&error))?;
        metrics.workloads_removed.inc();
        tracing::info!(workload = %self.id, "workload removed");
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
        let word = market.order(lease.id.0).await.map_err(|error| with_causes(&error))?;
        if word.state != OrderState::Leased || word.supplier != *own {
            // Somebody was faster; the event is on its way.
            return Ok(());
        }
        transactions
            .submit(market.close(lease.id, &lease.terms, reason))
            .await
            .map_err(|error| with_causes(&error))?;
        let label = ClosedBecause {
            reason: format!("{reason:?}"),
        };
        metrics.leases_closed.get_or_create(&label).inc();
        tracing::info!(lease = %lease.id, ?reason, "lease closed");
        Ok(())
    }
}

fn starts(status: &LeaseStatus) -> Running {
    let mut running = Vec::new();
    for (name, service) in &status.services {
        for replica in &service.replicas {
            if let ReplicaState::Running { since } = &replica.state {
                running.push((name.clone(), replica.replica, since.clone()));
            }
        }
    }
    running
}

/// What the first container does that does not run.
fn in_short(status: &LeaseStatus) -> String {
    let stands = status.services.iter().flat_map(|(name, service)| {
        service.replicas.iter().filter_map(move |replica| {
            let words = match &replica.state {
                ReplicaState::Running { .. } => return None,
                ReplicaState::Exited { code, .. } => format!("ended with exit status {code}"),
                ReplicaState::Waiting { reason }
                | ReplicaState::Stopped { reason }
                | ReplicaState::Failed { reason } => reason.clone(),
                ReplicaState::Pulling { .. } => "its image is still being pulled".to_owned(),
                ReplicaState::Created => "was not started yet".to_owned(),
            };
            Some(format!("{name}: {words}"))
        })
    });
    stands
        .into_iter()
        .next()
        .unwrap_or_else(|| "it was started again and again".to_owned())
}
