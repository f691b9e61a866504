//! Updates that users propose: what [`crate::updates`] decides, done on the engine and on the chain. The switch itself is the
//! caretaker's, once the update is a lease.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::chain::endpoints::Reachability;
use ::chain::{SubmitError, Transactions};
use avs::matching::Parameters;
use avs::words::OrderId;
use daemon::StoreError;
use daemon::causes::with_causes;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use workload::{Engine, LeaseId};

use crate::bidder::{ANY_WEIGHTS, PricingCommand};
use crate::bidding::{Moment, OpenOrder, unreserved};
use crate::chain::Market;
use crate::follow::Seen;
use crate::manifests::Manifests;
use crate::metrics::ProviderMetrics;
use crate::pricing::Prices;
use crate::store::{Lease, Phase, Proposal, ProposalKey, Store};
use crate::updates::{self, Accept, Asked, Facts, Images, Now, Refusal, Step};
use crate::wording;

/// How often images that are on the way are looked after.
const STAGING_PAUSE: Duration = Duration::from_millis(500);
/// The longest time between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// How long to wait for one transaction before the proposal is looked at again; it goes on being sent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the updater works with.
#[derive(Debug, Clone)]
pub struct Updater {
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
    /// Which updates are taken.
    pub accept: Accept,
    /// Prices by token id.
    pub prices: BTreeMap<u8, Prices>,
    /// A program that prices orders.
    pub command: Option<PricingCommand>,
    /// Blocks in which an answer to an order may still come.
    pub answer_window: u64,
    /// How far the store is.
    pub seen: watch::Receiver<Seen>,
    /// Whether the chain answers.
    pub reachability: watch::Receiver<Reachability>,
    /// Failed writes of the stores.
    pub failures: Vec<watch::Receiver<Option<StoreError>>>,
    /// What is counted.
    pub metrics: ProviderMetrics,
}

/// What the updater remembers between looks, and may forget.
#[derive(Debug, Default)]
struct Memory {
    busy: BTreeSet<LeaseId>,
    /// Leases whose proposals were to be looked at while one was being worked on.
    missed: BTreeSet<LeaseId>,
    /// Leases for whose updates images are on the way.
    staging: BTreeSet<LeaseId>,
    /// The proposal for which images of a lease were asked for last, and the lease's workload.
    asked_for: HashMap<LeaseId, (ProposalKey, LeaseId)>,
}

impl Memory {
    /// Workloads for which images were asked for that nobody wants any more, because their proposal was withdrawn, replaced or
    /// taken, or expired: each once. What is being worked on waits for the next look.
    fn abandoned(&mut self, proposals: &[Proposal], time: u64) -> Vec<LeaseId> {
        let Self { busy, asked_for, .. } = self;
        let is_wanted = |key: &ProposalKey| {
            let mut open = proposals.iter().filter(|proposal| time < proposal.expiry);
            open.any(|proposal| proposal.key == *key)
        };
        let mut workloads = Vec::new();
        asked_for.retain(|lease, (key, workload)| {
            let keeps = busy.contains(lease) || is_wanted(key);
            if !keeps {
                workloads.push(*workload);
            }
            keeps
        });
        workloads
    }
}

/// What came of a look at one proposal.
struct Done {
    lease: LeaseId,
    is_staging: bool,
    /// The proposal for which images were asked for, and the workload.
    asked_for: Option<(ProposalKey, LeaseId)>,
}

impl Updater {
    /// Looks after proposals until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut memory = Memory::default();
        let mut tasks: JoinSet<Done> = JoinSet::new();
        let mut manifests = self.manifests.changes();
        let mut looked_at = Instant::now();
        let mut only = None;
        loop {
            if let Err(reason) = self.round(only, &mut memory, &mut tasks).await {
                tracing::warn!(reason, "proposed updates could not be looked at");
            }
            if only.is_none() {
                looked_at = Instant::now();
            }
            only = loop {
                let pause = match memory.staging.is_empty() {
                    true => LONGEST_PAUSE,
                    false => STAGING_PAUSE,
                };
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    changed = self.seen.changed() => match changed {
                        Ok(()) => break None,
                        Err(_) => return Ok(()),
                    },
                    changed = manifests.changed() => match changed {
                        Ok(()) => break None,
                        Err(_) => return Ok(()),
                    },
                    Some(done) = tasks.join_next() => if let Some(lease) = self.note(done, &mut memory) {
                        break Some(lease);
                    },
                    () = tokio::time::sleep_until(looked_at + pause) => break None,
                }
            };
        }
    }

    /// Returns the lease if its proposal is to be looked at again.
    fn note(&self, done: Result<Done, JoinError>, memory: &mut Memory) -> Option<LeaseId> {
        let done = match done {
            Ok(done) => done,
            // Which lease it was is lost with it; the others are looked at again.
            Err(error) => {
                tracing::error!(%error, "work on an update was cut short");
                memory.busy.clear();
                return None;
            }
        };
        memory.busy.remove(&done.lease);
        if done.is_staging {
            memory.staging.insert(done.lease);
        } else {
            memory.staging.remove(&done.lease);
        }
        if let Some(asked_for) = done.asked_for {
            memory.asked_for.insert(done.lease, asked_for);
        }
        memory.missed.remove(&done.lease).then_some(done.lease)
    }

    /// Looks at all proposals, or at one lease's only.
    async fn round(&self, only: Option<LeaseId>, memory: &mut Memory, tasks: &mut JoinSet<Done>) -> Result<(), String> {
        // What came since is the next look's: this one may be for one lease only.
        let seen = *self.seen.borrow();
        if seen.head == 0 {
            return Ok(());
        }
        let proposals = self
            .store
            .open_proposals(self.own)
            .await
            .map_err(|error| with_causes(&error))?;
        let works = self.failures.iter().all(|failure| failure.borrow().is_none());
        let now = Now {
            time: seen.time,
            may_act: seen.caught_up && works && self.reachability.borrow().is_reachable(),
        };
        memory.staging.retain(|lease| {
            proposals
                .iter()
                .any(|proposal| proposal.key.lease == *lease && now.time < proposal.expiry)
        });
        for workload in memory.abandoned(&proposals, now.time) {
            // Its pulls would keep others waiting, and a later proposal would get what a tag meant for this one.
            self.engine.unstage(workload).await;
        }
        for proposal in proposals {
            let lease = proposal.key.lease;
            let is_over = matches!(proposal.phase, Phase::Refused { .. }) || now.time >= proposal.expiry;
            if is_over || !now.may_act || only.is_some_and(|only| only != lease) {
                continue;
            }
            if !memory.busy.insert(lease) {
                memory.missed.insert(lease);
                continue;
            }
            let work = Work {
                updater: self.clone(),
                proposal,
                now,
            };
            tasks.spawn(work.carry_out());
        }
        Ok(())
    }
}

/// Work on one proposal.
struct Work {
    updater: Updater,
    proposal: Proposal,
    now: Now,
}

impl Work {
    async fn carry_out(self) -> Done {
        let lease = self.proposal.key.lease;
        let mut done = Done {
            lease,
            is_staging: false,
            asked_for: None,
        };
        if let Err(problem) = self.steps(&mut done).await {
            tracing::warn!(%lease, problem, "the proposed update could not be dealt with; it is tried again");
        }
        done
    }

    /// One step after the other, as long as the next one can be taken at once.
    async fn steps(&self, done: &mut Done) -> Result<(), String> {
        let Updater { market, store, own, .. } = &self.updater;
        let key = self.proposal.key;
        let lease = store
            .lease(*own, key.lease)
            .await
            .map_err(|error| with_causes(&error))?
            .filter(Lease::is_live);
        let Some(lease) = lease else { return Ok(()) };
        let standing = market
            .update_proposal(key.lease)
            .await
            .map_err(|error| with_causes(&error))?;
        let mut facts = Facts {
            phase: self.proposal.phase.clone(),
            stands: standing.is_some_and(|(hash, _)| hash == self.proposal.hash()),
            expiry: self.proposal.expiry,
            has_manifest: self.manifest(&lease).await?.is_some(),
            images: Images::Unknown,
            judged: None,
            refused_at: self.refused_at().await?,
        };
        loop {
            match updates::decide(self.now, &facts) {
                Step::Nothing => return Ok(()),
                Step::Judge => {
                    facts.judged = match self.judge(&lease).await? {
                        Ok(rate) => Some(Ok(rate)),
                        Err(refusal) => Some(Err(self.words(&refusal).await)),
                    }
                }
                Step::Await => {
                    facts.phase = self.note(Phase::Awaiting).await?;
                    tracing::info!(lease = %lease.id, manifest = %self.proposal.terms.manifest_hash, "an update is proposed that would be taken; its manifest is waited for");
                }
                Step::Stage => {
                    done.asked_for = Some((key, lease.workload));
                    (facts.phase, facts.images) = self.stage(&lease, facts.phase).await?;
                    done.is_staging = matches!(facts.images, Images::Waiting(_));
                    // What was judged before is as old as the images.
                    facts.judged = None;
                }
                Step::Accept { rate } => return self.accept(&lease, rate).await,
                Step::Withhold { reason } => return self.withhold(&lease, reason).await,
                Step::Refuse { reason } => return self.refuse(&lease, reason).await,
            }
        }
    }

    async fn note(&self, phase: Phase) -> Result<Phase, String> {
        let Updater { store, seen, .. } = &self.updater;
        let time = seen.borrow().time;
        store
            .set_phase(self.proposal.key, &phase, time)
            .await
            .map_err(|error| with_causes(&error))?;
        Ok(phase)
    }

    /// When the chain was told of the refusal before, in this life or an earlier one.
    async fn refused_at(&self) -> Result<Option<u64>, String> {
        let store = &self.updater.store;
        store
            .last_refusal(self.proposal.key.lease)
            .await
            .map_err(|error| with_causes(&error))
    }

    async fn manifest(&self, lease: &Lease) -> Result<Option<manifest::Manifest>, String> {
        let manifests = &self.updater.manifests;
        match manifests.get(lease.workload, self.proposal.terms.manifest_hash).await {
            Ok(stored) => Ok(stored.map(|stored| stored.salted.manifest)),
            Err(error) if error.is_lost_manifest() => Ok(None),
            Err(error) => Err(with_causes(&error)),
        }
    }

    async fn judge(&self, lease: &Lease) -> Result<Result<u128, Refusal>, String> {
        let Updater {
            market,
            store,
            own,
            accept,
            prices,
            command,
            answer_window,
            seen,
            ..
        } = &self.updater;
        let head = seen.borrow().head;
        let (standing, word) =
            tokio::try_join!(market.standing(*own), market.order(lease.id.0)).map_err(|error| with_causes(&error))?;
        let orders = store
            .open_orders(head, *answer_window)
            .await
            .map_err(|error| with_causes(&error))?;
        let moment = Moment {
            head,
            response_window: *answer_window,
        };
        let left = unreserved(&standing, moment, &orders).map_err(|error| with_causes(&error))?;
        let any = Parameters::new(ANY_WEIGHTS, 1, 1, 1).map_err(|error| with_causes(&error))?;
        let asked = Asked {
            lease: lease.id.0,
            leased: &lease.terms,
            gpu_entry: word.gpuEntry,
            proposed: &self.proposal.terms,
        };
        let bid = match updates::judge(*accept, prices, &any, &standing, &left, asked) {
            Ok(bid) => bid,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(command) = command else {
            return Ok(Ok(bid.rate));
        };
        let order = OpenOrder {
            id: lease.id.0,
            close_block: bid.close_block,
            terms: self.proposal.terms.clone(),
            bid_for: None,
        };
        let priced = command.price(prices, &[order], vec![bid]).await;
        Ok(priced.first().map(|bid| bid.rate).ok_or(Refusal::NotPriced))
    }

    async fn words(&self, refusal: &Refusal) -> String {
        // Ids will do where the names cannot be read now.
        let catalog = self.updater.market.catalog().await.unwrap_or_default();
        wording::refusal(refusal, &catalog)
    }

    /// Has images brought here, and keeps what is to be said of that.
    async fn stage(&self, lease: &Lease, phase: Phase) -> Result<(Phase, Images), String> {
        let begun = match phase {
            Phase::Staging { .. } => phase,
            _ => self.note(Phase::Staging { problem: None }).await?,
        };
        let images = self.images(lease).await?;
        let problem = match &images {
            Images::Waiting(problem) => problem.clone(),
            _ => None,
        };
        let staging = Phase::Staging { problem };
        if staging == begun {
            return Ok((begun, images));
        }
        if let Some(problem) = staging.reason() {
            tracing::info!(lease = %lease.id, problem, "images of a proposed update cannot be had yet; it is tried again");
        }
        Ok((self.note(staging).await?, images))
    }

    async fn images(&self, lease: &Lease) -> Result<Images, String> {
        let Some(manifest) = self.manifest(lease).await? else {
            return Ok(Images::Waiting(None));
        };
        let Updater { engine, store, .. } = &self.updater;
        let staged = engine
            .stage(lease.workload, &manifest)
            .await
            .map_err(|error| with_causes(&error))?;
        if let Some((service, reason)) = staged.failure {
            return Ok(Images::Failed(Refusal::CannotRun { service, reason }));
        }
        if !staged.is_ready() {
            let problem = staged.problem.map(|(service, problem)| format!("{service}: {problem}"));
            return Ok(Images::Waiting(problem));
        }
        // What was tried here is what will run, whatever the tag says by then.
        store
            .set_images(self.proposal.key, &staged.images)
            .await
            .map_err(|error| with_causes(&error))?;
        Ok(Images::Here)
    }

    async fn accept(&self, lease: &Lease, rate: u128) -> Result<(), String> {
        self.note(Phase::Accepting { rate }).await?;
        let Updater {
            market, transactions, ..
        } = &self.updater;
        let call = market
            .accept_update(lease.id, &lease.terms, &self.proposal.terms, rate)
            .map_err(|error| with_causes(&error))?;
        match transactions.submit(call.wait(PATIENCE)).await {
            Ok(included) => {
                let list = self.updater.prices.get(&OrderId::unpack(lease.id.0).token);
                let price = list.map(|list| format!("{} {}/h", list.per_hour(rate), list.symbol));
                tracing::info!(lease = %lease.id, price, block = included.block.number, "update taken");
                Ok(())
            }
            Err(SubmitError::WouldRevert { reason, .. } | SubmitError::Reverted { reason, .. }) => {
                self.contract_refuses(lease, reason).await
            }
            Err(error) => Err(with_causes(&error)),
        }
    }

    /// Withdrawn, expired or replaced meanwhile: then there is nothing to refuse. A market that is paused will go on. Everything
    /// else (no room, no money in the account) is for the user to know.
    async fn contract_refuses(&self, lease: &Lease, reason: String) -> Result<(), String> {
        let market = &self.updater.market;
        let (standing, paused, head) =
            tokio::try_join!(market.update_proposal(lease.id), market.is_paused(), market.head())
                .map_err(|error| with_causes(&error))?;
        let stands = standing.is_some_and(|(hash, expiry)| hash == self.proposal.hash() && head.time < expiry);
        let end = market.end_of(lease.id).await.map_err(|error| with_causes(&error))?;
        let is_over = end.is_none_or(|(_, stops_at)| head.time >= stops_at);
        if !stands || is_over || paused {
            tracing::info!(lease = %lease.id, reason, "the update cannot be taken now");
            self.note(Phase::Seen).await?;
            return Ok(());
        }
        let refusal = Refusal::Contract { reason };
        match updates::refusal(self.now, self.refused_at().await?, refusal.to_string()) {
            Step::Withhold { reason } => self.withhold(lease, reason).await,
            _ => self.refuse(lease, refusal.to_string()).await,
        }
    }

    /// Refuses as far as its user is concerned: the chain is told once the pause after the refusal before is over.
    async fn withhold(&self, lease: &Lease, reason: String) -> Result<(), String> {
        tracing::info!(lease = %lease.id, reason, "update refused; the chain is told later, because it was told of another one a moment ago");
        self.updater.engine.unstage(lease.workload).await;
        self.note(Phase::Withheld { reason }).await.map(drop)
    }

    async fn refuse(&self, lease: &Lease, reason: String) -> Result<(), String> {
        let Updater {
            market,
            transactions,
            metrics,
            engine,
            ..
        } = &self.updater;
        self.note(Phase::Refusing { reason: reason.clone() }).await?;
        match transactions
            .submit(market.reject_update(lease.id, self.proposal.hash()).wait(PATIENCE))
            .await
        {
            Ok(included) => {
                tracing::info!(lease = %lease.id, reason, block = included.block.number, "update refused");
                metrics.updated("refused");
            }
            // It is gone already.
            Err(SubmitError::WouldRevert { .. } | SubmitError::Reverted { .. }) => {}
            Err(error) => return Err(with_causes(&error)),
        }
        engine.unstage(lease.workload).await;
        self.note(Phase::Refused { reason }).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
