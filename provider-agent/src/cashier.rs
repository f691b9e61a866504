//! Pay: what closed leases still owe is settled and withdrawn as soon as the payout hold is over, what running ones have
//! accrued every now and then.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::Duration;

use ::chain::endpoints::Reachability;
use ::chain::{SubmitError, Transactions};
use avs::words::OrderId;
use daemon::StoreError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workload::LeaseId;

use crate::chain::{CREDIT_DUST, Market, is_closed};
use crate::docker::in_words;
use crate::follow::Seen;
use crate::metrics::ProviderMetrics;
use crate::store::{Lease, Store};

/// Leases settled by one transaction.
const BATCH: usize = 50;
/// How long to wait for one payment before the next is looked at; it goes on being sent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the cashier works with.
#[derive(Debug)]
pub struct Cashier {
    /// The contracts.
    pub market: Market,
    /// The store.
    pub store: Store,
    /// The transaction actor.
    pub transactions: Transactions,
    /// The provider's supplier id.
    pub own: u32,
    /// Seconds after a lease's start in which nothing is paid.
    pub hold_seconds: u64,
    /// Seconds between two payments of a running lease.
    pub interval_seconds: u64,
    /// Blocks after which what was paid is certain.
    pub depth: u64,
    /// How far the store is.
    pub seen: watch::Receiver<Seen>,
    /// Whether the chain answers.
    pub reachability: watch::Receiver<Reachability>,
    /// Failed writes of the stores.
    pub failures: Vec<watch::Receiver<Option<StoreError>>>,
    /// What is counted.
    pub metrics: ProviderMetrics,
}

impl Cashier {
    /// Collects until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        // When running leases are settled next, by chain time; forgotten at a restart, which settles a little early.
        let mut next = HashMap::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.seen.changed() => if changed.is_err() { return Ok(()) },
            }
            let seen = *self.seen.borrow_and_update();
            let works = self.failures.iter().all(|failure| failure.borrow().is_none());
            if !seen.caught_up || !works || !self.reachability.borrow().is_reachable() {
                continue;
            }
            if let Err(reason) = self.round(seen, &mut next).await {
                tracing::warn!(reason, "pay could not be looked at");
            }
        }
    }

    async fn round(&self, seen: Seen, next: &mut HashMap<LeaseId, u64>) -> Result<(), String> {
        let leases = self
            .store
            .unfinished_leases(self.own)
            .await
            .map_err(|error| in_words(&error))?;
        next.retain(|id, _| leases.iter().any(|lease| lease.id == *id));
        let mut due: BTreeMap<u8, Vec<Lease>> = BTreeMap::new();
        for lease in leases {
            if is_due(&lease, seen, self.hold_seconds, self.interval_seconds, next) {
                due.entry(OrderId::unpack(lease.id.0).token).or_default().push(lease);
            }
        }
        for (token, leases) in due {
            for batch in leases.chunks(BATCH) {
                self.collect(token, batch, seen, next).await?;
            }
        }
        Ok(())
    }

    async fn collect(
        &self,
        token: u8,
        leases: &[Lease],
        seen: Seen,
        next: &mut HashMap<LeaseId, u64>,
    ) -> Result<(), String> {
        let mut owing = Vec::new();
        let mut settled = Vec::new();
        for lease in leases {
            let word = self.market.order(lease.id.0).await.map_err(|error| in_words(&error))?;
            if word.supplier != self.own {
                continue;
            }
            if is_closed(word.state) && word.settledFor == word.duration {
                settled.push(lease);
            } else {
                owing.push(lease.id);
            }
        }
        let credit = self.market.credit(token).await.map_err(|error| in_words(&error))?;
        if owing.is_empty() && credit <= CREDIT_DUST {
            return self.finish(&settled, seen).await;
        }
        let named = if owing.is_empty() {
            settled.iter().take(1).map(|lease| lease.id).collect()
        } else {
            owing.clone()
        };
        if named.is_empty() {
            return Ok(());
        }
        match self
            .transactions
            .submit(self.market.withdraw(token, &named).wait(PATIENCE))
            .await
        {
            Ok(included) => {
                self.metrics.withdrawals.inc();
                tracing::info!(
                    token,
                    leases = named.len(),
                    block = included.block.number,
                    "pay withdrawn"
                );
            }
            // Nothing is due yet after all: the next block's time decides.
            Err(SubmitError::WouldRevert { reason, .. }) => tracing::debug!(token, reason, "nothing to withdraw yet"),
            Err(error) => return Err(in_words(&error)),
        }
        for lease in leases {
            next.insert(lease.id, seen.time + self.interval_seconds);
        }
        Ok(())
    }

    /// Closed, settled and withdrawn, deep enough: nothing is left to do.
    async fn finish(&self, settled: &[&Lease], seen: Seen) -> Result<(), String> {
        let certain = |lease: &&&Lease| {
            let closed = lease.leased.and_then(|leased| leased.closed);
            closed.is_some_and(|closed| seen.head >= closed.block + self.depth)
        };
        let paid: Vec<LeaseId> = settled.iter().filter(certain).map(|lease| lease.id).collect();
        if paid.is_empty() {
            return Ok(());
        }
        self.store.set_paid(paid).await.map_err(|error| in_words(&error))
    }
}

/// Whether a lease may owe something that can be had now.
fn is_due(lease: &Lease, seen: Seen, hold: u64, interval: u64, next: &mut HashMap<LeaseId, u64>) -> bool {
    let Some(leased) = lease.leased else { return false };
    if lease.paid || seen.time < leased.start + hold {
        return false;
    }
    leased.closed.is_some() || seen.time >= *next.entry(lease.id).or_insert(leased.start + interval.max(hold))
}
