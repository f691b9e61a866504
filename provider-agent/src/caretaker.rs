//! Leases: what [`crate::leases`] decides, done on the engine and on the chain.
//!
//! Every lease is worked on by one task at a time. Nothing here is remembered that a restart may not forget: what must not
//! be decided twice is in the store before it is used.

mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::chain::Transactions;
use ::chain::endpoints::Reachability;
use daemon::StoreError;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use workload::{Engine, LeaseId, ObservedLease};

use crate::chain::Market;
use crate::docker::{Ground, in_words};
use crate::follow::Seen;
use crate::leases::{self, Action, Facts, Now, Objects, OnChain, Patience};
use crate::manifests::Manifests;
use crate::metrics::{Phase, ProviderMetrics};
use crate::store::{Lease, Store};
use work::{Done, Work};

/// The longest time between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
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

/// What a caretaker remembers between looks, and may forget.
#[derive(Debug, Default)]
struct Memory {
    /// Since when a lease cannot start, Unix seconds of a block.
    failing_since: HashMap<LeaseId, u64>,
    /// Labels without a lease: the newest block when they were first seen.
    strange_since: HashMap<LeaseId, u64>,
    /// Worked on now: on the engine, and on the chain.
    busy: BTreeSet<LeaseId>,
    closing: BTreeSet<LeaseId>,
    /// Leases that ran whole when they were last looked at: a new block alone is no reason to look again.
    steady: BTreeSet<LeaseId>,
    /// What hindered the last work on a lease: the same again is not news.
    problems: HashMap<LeaseId, String>,
    /// Whether something was to be done on a lease that was being worked on.
    missed: bool,
}

impl Memory {
    /// Whether a new block alone changes nothing about a lease.
    fn rests(&self, lease: &Lease, time: u64) -> bool {
        if !self.strange_since.is_empty() {
            return false;
        }
        match (lease.leased, lease.end()) {
            (Some(leased), Some(end)) if leased.closed.is_none() => self.steady.contains(&lease.id) && time < end,
            _ => lease.removed,
        }
    }
}

/// Why to look at the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    /// A new block: only what depends on time and chain.
    Block,
    /// Something happened here, or it is time to look at everything.
    Everything,
}

impl Caretaker {
    /// Takes care until `stop`. Workloads go on running.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut memory = Memory::default();
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut manifests = self.manifests.changes();
        let mut trigger = Trigger::Everything;
        loop {
            if let Err(reason) = self.round(trigger, &mut memory, &mut tasks).await {
                tracing::warn!(reason, "leases could not be looked at");
            }
            // Several things often change together.
            tokio::time::sleep(SHORTEST_PAUSE).await;
            trigger = loop {
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
                        self.note(done, &mut memory);
                        if std::mem::take(&mut memory.missed) {
                            break Trigger::Everything;
                        }
                    }
                    () = tokio::time::sleep(LONGEST_PAUSE) => break Trigger::Everything,
                }
            };
        }
    }

    fn note(&self, done: Result<Done, tokio::task::JoinError>, memory: &mut Memory) {
        let done = match done {
            Ok(done) => done,
            // Which lease it was is lost with it; the others are looked at again.
            Err(error) => {
                tracing::error!(%error, "work on a lease was cut short");
                memory.busy.clear();
                memory.closing.clear();
                return;
            }
        };
        match done {
            Done::Engine {
                lease,
                is_failing,
                is_ready,
                problem,
            } => {
                memory.busy.remove(&lease);
                self.tell(lease, problem, memory);
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
            }
            Done::Chain { lease } => drop(memory.closing.remove(&lease)),
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

    async fn round(&mut self, trigger: Trigger, memory: &mut Memory, tasks: &mut JoinSet<Done>) -> Result<(), String> {
        let seen = *self.seen.borrow_and_update();
        let ground = self.ground.borrow_and_update().clone();
        if seen.head == 0 || !ground.measured {
            // Who starts reads the chain first, and measures the disks before anything is started on them.
            return Ok(());
        }
        let known = self
            .store
            .unfinished_leases(self.own)
            .await
            .map_err(|error| in_words(&error))?;
        if trigger == Trigger::Block && known.iter().all(|lease| memory.rests(lease, seen.time)) {
            // A block in which nothing of ours happened: the engine need not be asked what it runs.
            return Ok(());
        }
        let manifests: BTreeSet<LeaseId> = match self.manifests.leases().await {
            Ok(leases) => leases.into_iter().collect(),
            Err(error) => return Err(in_words(&error)),
        };
        let observed: Option<BTreeMap<LeaseId, ObservedLease>> = match self.engine.observe().await {
            Ok(observed) => Some(observed.into_iter().map(|one| (one.lease, one)).collect()),
            Err(error) => {
                tracing::debug!(error = in_words(&error), "the engine does not say what exists");
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
        let mut leases: BTreeMap<LeaseId, Option<Lease>> =
            known.into_iter().map(|lease| (lease.id, Some(lease))).collect();
        for id in observed.keys().chain(&manifests) {
            if !leases.contains_key(id) {
                leases.insert(
                    *id,
                    self.store
                        .lease(self.own, *id)
                        .await
                        .map_err(|error| in_words(&error))?,
                );
            }
        }
        memory.strange_since.retain(|id, _| leases.contains_key(id));
        memory.failing_since.retain(|id, _| leases.contains_key(id));
        memory.steady.retain(|id| leases.contains_key(id));
        memory.problems.retain(|id, _| leases.contains_key(id));
        self.count(&leases);
        for (id, lease) in leases {
            let Some(on_chain) = on_chain(lease.as_ref(), id, &now, memory) else {
                continue;
            };
            let facts = facts(
                on_chain,
                lease.as_ref(),
                manifests.contains(&id),
                observed.get(&id),
                memory.failing_since.get(&id).copied(),
            );
            let mut actions = leases::decide(&self.patience, &now, &facts);
            if trigger == Trigger::Block && memory.steady.contains(&id) {
                actions.retain(|action| *action != Action::Apply);
            }
            self.start(id, lease, actions, memory, tasks);
        }
        Ok(())
    }

    fn start(
        &self,
        id: LeaseId,
        lease: Option<Lease>,
        actions: Vec<Action>,
        memory: &mut Memory,
        tasks: &mut JoinSet<Done>,
    ) {
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
                };
                tasks.spawn(work.carry_out(action));
            } else if !matches!(action, Action::Close(_)) {
                memory.missed = true;
            }
        }
    }

    fn count(&self, leases: &BTreeMap<LeaseId, Option<Lease>>) {
        let phase_of = |lease: &Option<Lease>| match lease.as_ref().and_then(|lease| lease.leased) {
            Some(leased) if leased.closed.is_some() => "ended",
            Some(_) => "live",
            None => "gone",
        };
        for phase in ["live", "ended", "gone"] {
            let count = leases.values().filter(|lease| phase_of(lease) == phase).count();
            self.metrics
                .leases
                .get_or_create(&Phase { phase })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

/// The lease on the chain. Nothing while the chain was not read to its end: what was not seen yet is not gone.
fn on_chain(lease: Option<&Lease>, id: LeaseId, now: &Now, memory: &mut Memory) -> Option<OnChain> {
    if let Some(lease) = lease {
        if let (Some(leased), Some(end)) = (lease.leased, lease.end()) {
            return Some(match leased.closed {
                Some(closed) => OnChain::Closed {
                    since_block: closed.block,
                },
                None => OnChain::Active {
                    since_block: leased.block,
                    start: leased.start,
                    end,
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
    failing_since: Option<u64>,
) -> Facts {
    Facts {
        on_chain,
        has_manifest,
        was_applied: lease.is_some_and(|lease| lease.assignment.is_some()),
        was_ready: lease.is_some_and(|lease| lease.ready),
        failing_since,
        objects: observed.map_or_else(Objects::default, |observed| Objects {
            containers: observed.containers,
            running: observed.running,
            exist: true,
        }),
        removed: lease.is_none_or(|lease| lease.removed),
    }
}
