//! Leases: what [`crate::leases`] decides, done on the engine and on the chain.
//!
//! Leases that came from updates run the workload of the first one, under its name. Every workload is worked on by one task at
//! a time. Nothing here is remembered that a restart may not forget: what must not
//! be decided twice is in the store before it is used.

mod memory;
mod work;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::chain::Transactions;
use ::chain::endpoints::Reachability;
use daemon::StoreError;
use daemon::causes::with_causes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use workload::{Engine, LeaseId, ObservedLease};

use crate::chain::Market;
use crate::docker::Ground;
use crate::follow::Seen;
use crate::funds::Windows;
use crate::leases::{self, Action, Facts, Now, Objects, OnChain, Patience};
use crate::manifests::Manifests;
use crate::metrics::{Phase, ProviderMetrics};
use crate::store::{Lease, Store};
use crate::updates::Trial;
use memory::{Memory, Ordered, Schedule, Trigger};
use work::{Done, Work};
use workloads::{Workload, by_workload};

/// Between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// What the caretaker works with.
#[derive(Debug, Clone)]
pub struct Caretaker {
    /// The contracts.
    pub market: Market,
    /// The store.
    pub store: Store,
    /// The manifests.
    pub manifests: Manifests,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The transaction actor.
    pub transactions: Transactions,
    /// The provider's supplier id.
    pub own: u32,
    /// How patient to be.
    pub patience: Patience,
    /// How long a new manifest is watched.
    pub trial: Trial,
    /// The market's windows.
    pub windows: Windows,
    /// How far the store is.
    pub seen: watch::Receiver<Seen>,
    /// The engine's state.
    pub ground: watch::Receiver<Ground>,
    /// Whether the chain answers.
    pub reachability: watch::Receiver<Reachability>,
    /// Failed writes of the stores.
    pub failures: Vec<watch::Receiver<Option<StoreError>>>,
    /// What is counted.
    pub metrics: ProviderMetrics,
}

impl Caretaker {
    /// Takes care until `stop`. Workloads go on running.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut memory = Memory::default();
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut manifests = self.manifests.changes();
        let mut schedule = Schedule::new(Instant::now());
        let mut trigger = Trigger::Everything;
        loop {
            let looked = self.round(trigger, &mut memory, &mut tasks).await;
            schedule.looked(trigger, looked.is_ok(), Instant::now());
            if let Err(reason) = looked {
                tracing::warn!(reason, "leases could not be looked at");
            }
            // Several things often change together.
            tokio::time::sleep(SHORTEST_PAUSE).await;
            let happened = loop {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    changed = self.seen.changed() => match changed {
                        Ok(()) => break Trigger::Block,
                        Err(_) => return Ok(()),
                    },
                    changed = self.ground.changed() => match changed {
                        Ok(()) => break Trigger::Everything,
                        Err(_) => return Ok(()),
                    },
                    changed = manifests.changed() => match changed {
                        Ok(()) => break Trigger::Everything,
                        Err(_) => return Ok(()),
                    },
                    () = self.engine.changed() => break Trigger::Everything,
                    Some(done) = tasks.join_next() => {
                        if let Some(workload) = self.note(done, &mut memory) {
                            break Trigger::Again(workload);
                        }
                    }
                    () = tokio::time::sleep_until(schedule.deadline) => break Trigger::Everything,
                }
            };
            trigger = schedule.trigger(happened, Instant::now());
        }
    }

    /// Returns the workload if it is to be looked at again.
    fn note(&self, done: Result<Done, tokio::task::JoinError>, memory: &mut Memory) -> Option<LeaseId> {
        let done = match done {
            Ok(done) => done,
            // Which lease it was is lost with it; the others are looked at again.
            Err(error) => {
                tracing::error!(%error, "work on a lease was cut short");
                memory.busy.clear();
                memory.closing.clear();
                return None;
            }
        };
        match done {
            Done::Engine {
                lease,
                ordered,
                is_failing,
                is_ready,
                steadily,
                problem,
            } => {
                memory.busy.remove(&lease);
                self.tell(lease, problem, memory);
                if ordered.is_some_and(|ordered| !memory.is_current(lease, ordered)) {
                    // Another lease, or another manifest, has come meanwhile: of that nothing is known yet.
                    memory.missed.remove(&lease);
                    return Some(lease);
                }
                match steadily {
                    Some(steadily) => drop(memory.steadily.insert(lease, steadily)),
                    None => drop(memory.steadily.remove(&lease)),
                }
                if is_ready {
                    memory.steady.insert(lease);
                } else {
                    memory.steady.remove(&lease);
                }
                match is_failing {
                    Some(true) => {
                        let time = self.seen.borrow().time;
                        memory.failing_since.entry(lease).or_insert(time);
                    }
                    Some(false) => drop(memory.failing_since.remove(&lease)),
                    None => {}
                }
                memory.missed.remove(&lease).then_some(lease)
            }
            Done::Chain { lease } => {
                memory.closing.remove(&lease);
                None
            }
        }
    }

    fn tell(&self, lease: LeaseId, problem: Option<String>, memory: &mut Memory) {
        let Some(problem) = problem else {
            if memory.problems.remove(&lease).is_some() {
                tracing::info!(%lease, "what hindered the work on this lease is over");
            }
            return;
        };
        self.metrics.engine_failures.inc();
        if memory.problems.get(&lease) != Some(&problem) {
            tracing::warn!(%lease, problem, "this could not be done; it is tried again");
            memory.problems.insert(lease, problem);
        }
    }

    async fn round(&self, trigger: Trigger, memory: &mut Memory, tasks: &mut JoinSet<Done>) -> Result<(), String> {
        // What came since is the next look's: this one may not be for everything.
        let seen = *self.seen.borrow();
        let ground = self.ground.borrow().clone();
        if seen.head == 0 || !ground.measured {
            // Who starts reads the chain first, and measures the disks before anything is started on them.
            return Ok(());
        }
        let known = self
            .store
            .unfinished_leases(self.own)
            .await
            .map_err(|error| with_causes(&error))?;
        let known = by_workload(known);
        let rests = |(id, workload): (&LeaseId, &Workload)| {
            let current = workload.current();
            current.is_none_or(|lease| memory.rests(*id, lease, seen.time, &self.windows))
        };
        if trigger == Trigger::Block && known.iter().all(rests) {
            // A block in which nothing of ours happened: the engine need not be asked what it runs.
            return Ok(());
        }
        let manifests: BTreeSet<LeaseId> = match self.manifests.workloads().await {
            Ok(workloads) => workloads.into_iter().collect(),
            Err(error) => return Err(with_causes(&error)),
        };
        let observed: Option<BTreeMap<LeaseId, ObservedLease>> = match self.engine.observe().await {
            Ok(observed) => Some(observed.into_iter().map(|one| (one.lease, one)).collect()),
            Err(error) => {
                tracing::debug!(error = with_causes(&error), "the engine does not say what exists");
                None
            }
        };
        let now = Now {
            head: seen.head,
            time: seen.time,
            chain_is_readable: seen.caught_up && self.reachability.borrow().is_reachable(),
            store_works: self.failures.iter().all(|failure| failure.borrow().is_none()),
            engine_answers: observed.is_some(),
        };
        let observed = observed.unwrap_or_default();
        let mut workloads = known;
        for id in observed.keys().chain(&manifests) {
            if !workloads.contains_key(id) {
                // Finished, or not on the chain at all.
                let leases = self
                    .store
                    .leases_of(self.own, *id)
                    .await
                    .map_err(|error| with_causes(&error))?;
                workloads.insert(*id, by_workload(leases).remove(id).unwrap_or_default());
            }
        }
        memory.keep(|id| workloads.contains_key(id));
        self.count(&workloads);
        for (id, workload) in workloads {
            self.let_go(id, &workload, &now).await?;
            let lease = workload.current().cloned();
            if let Some(lease) = &lease {
                memory.is_to_run(id, Ordered::by(lease));
            }
            let Some(on_chain) = on_chain(lease.as_ref(), id, &now, &self.windows, memory) else {
                continue;
            };
            let facts = facts(
                on_chain,
                lease.as_ref(),
                manifests.contains(&id),
                observed.get(&id),
                (
                    memory.failing_since.get(&id).copied(),
                    memory.over_since.get(&id).copied(),
                ),
            );
            let mut actions = leases::decide(&self.patience, &now, &facts);
            if !trigger.is_for(id) && memory.steady.contains(&id) {
                actions.retain(|action| *action != Action::Apply);
            }
            let is_busy = self.start(id, lease, actions, memory, tasks);
            if is_busy && !matches!(trigger, Trigger::Again(other) if other != id) {
                memory.missed.insert(id);
            }
        }
        Ok(())
    }

    /// Of leases in whose place another one is for good nothing is kept but what runs there now, what ran before where that is
    /// what runs, and what is about to.
    async fn let_go(&self, id: LeaseId, workload: &Workload, now: &Now) -> Result<(), String> {
        if !now.chain_is_readable || !now.store_works {
            return Ok(());
        }
        let superseded: Vec<LeaseId> = workload
            .superseded(now.head, self.patience.removal_depth)
            .map(|lease| lease.id)
            .collect();
        let Some(current) = workload.current().filter(|_| !superseded.is_empty()) else {
            return Ok(());
        };
        let last_good = match self.manifests.last_applied(id).await {
            Ok(stored) => stored.map(|stored| stored.hash),
            Err(error) if error.is_lost_manifest() => None,
            Err(error) => return Err(with_causes(&error)),
        };
        if last_good != Some(current.terms.manifest_hash) && current.setback.is_none() {
            // The new manifest is being watched: what ran before may have to come back.
            return Ok(());
        }
        let proposal = self
            .store
            .last_proposal(current.id)
            .await
            .map_err(|error| with_causes(&error))?;
        let proposed = proposal
            .filter(|proposal| !proposal.ended)
            .map(|proposal| proposal.terms.manifest_hash);
        let keep: Vec<_> = [Some(current.terms.manifest_hash), last_good, proposed]
            .into_iter()
            .flatten()
            .collect();
        self.manifests
            .retain(id, &keep)
            .await
            .map_err(|error| with_causes(&error))?;
        for lease in superseded {
            self.store
                .set_superseded(lease)
                .await
                .map_err(|error| with_causes(&error))?;
        }
        Ok(())
    }

    /// Returns whether something could not be begun because the workload is being worked on.
    fn start(
        &self,
        id: LeaseId,
        lease: Option<Lease>,
        actions: Vec<Action>,
        memory: &mut Memory,
        tasks: &mut JoinSet<Done>,
    ) -> bool {
        let mut is_busy = false;
        for action in actions {
            let turn = match action {
                Action::Close(_) => &mut memory.closing,
                _ => &mut memory.busy,
            };
            if turn.insert(id) {
                let work = Work {
                    caretaker: self.clone(),
                    id,
                    lease: lease.clone(),
                    steadily: memory.steadily.get(&id).cloned(),
                };
                tasks.spawn(work.carry_out(action));
            } else if !matches!(action, Action::Close(_)) {
                is_busy = true;
            }
        }
        is_busy
    }

    fn count(&self, workloads: &BTreeMap<LeaseId, Workload>) {
        let phase_of = |workload: &Workload| match workload.current().and_then(|lease| lease.leased) {
            Some(leased) if leased.closed.is_some() => "ended",
            Some(_) => "live",
            None => "gone",
        };
        for phase in ["live", "ended", "gone"] {
            let count = workloads.values().filter(|one| phase_of(one) == phase).count();
            self.metrics
                .leases
                .get_or_create(&Phase { phase })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn stops_at(lease: &Lease, windows: &Windows) -> Option<u64> {
    lease.end().map(|end| end + windows.grace_of(lease.duration))
}

/// The lease on the chain. Nothing while the chain was not read to its end: what was not seen yet is not gone.
fn on_chain(lease: Option<&Lease>, id: LeaseId, now: &Now, windows: &Windows, memory: &mut Memory) -> Option<OnChain> {
    if let Some(lease) = lease {
        if let (Some(leased), Some(stops_at)) = (lease.leased, stops_at(lease, windows)) {
            if lease.is_live() && now.time >= stops_at {
                if !memory.over_since.contains_key(&id) {
                    tracing::info!(lease = %lease.id, stops_at, "end and grace of this lease are over");
                }
                memory.over_since.entry(id).or_insert(now.head);
            } else {
                memory.over_since.remove(&id);
            }
            return Some(match leased.closed {
                Some(closed) => OnChain::Closed {
                    since_block: closed.block,
                },
                None => OnChain::Active {
                    since_block: leased.block,
                    start: leased.start,
                    stops_at,
                },
            });
        }
        if let Some(since_block) = lease.undone_block {
            return Some(OnChain::Gone { since_block });
        }
    }
    if !now.chain_is_readable {
        return None;
    }
    let since_block = *memory.strange_since.entry(id).or_insert_with(|| {
        tracing::warn!(lease = %id, "something here carries the label of a lease that the chain does not have");
        now.head
    });
    Some(OnChain::Gone { since_block })
}

fn facts(
    on_chain: OnChain,
    lease: Option<&Lease>,
    has_manifest: bool,
    observed: Option<&ObservedLease>,
    (failing_since, over_since): (Option<u64>, Option<u64>),
) -> Facts {
    Facts {
        on_chain,
        has_manifest,
        was_applied: lease.is_some_and(|lease| lease.was_applied),
        was_ready: lease.is_some_and(|lease| lease.ready),
        over_since,
        failing_since,
        objects: observed.map_or_else(Objects::default, |observed| Objects {
            containers: observed.containers,
            running: observed.running,
            exist: true,
        }),
        removed: lease.is_none_or(|lease| lease.removed),
    }
}

#[cfg(test)]
pub(crate) mod tests;
