//! Pay: what [`crate::settling`] decides is settled and withdrawn, and what [`crate::funds`] decides is announced. What is owed
//! is always read from the contracts.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::time::Duration;

use ::chain::endpoints::Reachability;
use ::chain::network::Token;
use ::chain::{Included, SubmitError, Transactions};
use alloy::sol_types::SolEvent;
use alloy_primitives::U256;
use avs::words::OrderId;
use bindings::{IEscrow, IOrderBook, OrderState};
use daemon::StoreError;
use daemon::causes::with_causes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use workload::LeaseId;

use crate::chain::{CREDIT_DUST, Market, is_closed};
use crate::follow::Seen;
use crate::funds::{self, Announced, Live, Windows};
use crate::metrics::ProviderMetrics;
use crate::settling::{self, Collection, Earned, Purse, Worth};
use crate::store::{Lease, Store};

/// How long to wait for one payment before the next is looked at; it goes on being sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds between two looks at what has been earned, where nothing ended.
const LOOK_SECONDS: u64 = 60;

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
    /// When pay is collected.
    pub terms: settling::Terms,
    /// Dollars with 18 decimals for 10^18 wei, where it is configured.
    pub native_price: Option<U256>,
    /// Whether leases that are low on funds are announced.
    pub announces: bool,
    /// The market's windows.
    pub windows: Windows,
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

/// What a cashier remembers between looks, and may forget.
#[derive(Debug, Default)]
struct Memory {
    /// When what was earned is looked at next, Unix seconds of a block.
    next_look: u64,
    /// When a lease that ended, and did not pay for its gas, is looked at again.
    not_before: HashMap<LeaseId, u64>,
    /// Since when there is a credit in a token.
    credit_since: HashMap<u8, u64>,
    announced: Announced,
}

impl Cashier {
    /// Collects until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut memory = Memory::default();
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
            if let Err(reason) = self.round(seen, &mut memory).await {
                tracing::warn!(reason, "not all of the pay could be looked at");
            }
        }
    }

    async fn round(&self, seen: Seen, memory: &mut Memory) -> Result<(), String> {
        let leases = self
            .store
            .unfinished_leases(self.own)
            .await
            .map_err(|error| with_causes(&error))?;
        memory
            .not_before
            .retain(|id, _| leases.iter().any(|lease| lease.id == *id));
        memory
            .announced
            .retain(|id, _| leases.iter().any(|lease| lease.id == *id && lease.is_live()));
        // What goes wrong with one thing, such as a token that cannot be paid out, keeps no other waiting.
        let mut problems = Vec::new();
        if self.announces
            && let Err(reason) = self.announce(seen, &leases, memory).await
        {
            problems.push(reason);
        }

        let past_hold = |lease: &&Lease| {
            let is_owed = |leased: &crate::store::Leased| seen.time >= leased.start + self.hold_seconds;
            !lease.paid && lease.leased.as_ref().is_some_and(is_owed)
        };
        let owed: Vec<&Lease> = leases.iter().filter(past_hold).collect();
        let has_ended =
            |lease: &&Lease| !lease.is_live() && memory.not_before.get(&lease.id).is_none_or(|at| seen.time >= *at);
        let tokens: Vec<Token> = if seen.time >= memory.next_look {
            memory.next_look = seen.time + LOOK_SECONDS;
            self.market.network().tokens.clone()
        } else {
            let ended = |token: &&Token| {
                owed.iter()
                    .copied()
                    .filter(has_ended)
                    .any(|lease| token_of(lease) == token.id)
            };
            self.market.network().tokens.iter().filter(ended).cloned().collect()
        };
        for token in tokens {
            let leases: Vec<&Lease> = owed
                .iter()
                .copied()
                .filter(|lease| token_of(lease) == token.id)
                .collect();
            if let Err(reason) = self.look(&token, &leases, seen, memory).await {
                problems.push(format!("{}: {reason}", token.symbol));
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("; "))
        }
    }

    /// One token.
    async fn look(&self, token: &Token, leases: &[&Lease], seen: Seen, memory: &mut Memory) -> Result<(), String> {
        let mut purse = Purse::default();
        let mut settled = Vec::new();
        for lease in leases {
            let (word, (amount, gateways)) =
                tokio::try_join!(self.market.order(lease.id.0), self.market.claimable(lease.id))
                    .map_err(|error| with_causes(&error))?;
            if word.supplier != self.own {
                continue;
            }
            let is_over = is_closed(word.state);
            if is_over && word.settledFor == word.duration {
                settled.push(*lease);
                continue;
            }
            let paid_until = u64::from(word.start) + u64::from(word.settledFor);
            purse.leases.push(Earned {
                lease: lease.id,
                amount,
                paid_until,
                ended: is_over || lease.end().is_some_and(|end| seen.time >= end),
                // A close after the hold pays at once.
                closed_in_hold: is_over,
                shared: !gateways.is_zero(),
            });
        }
        let credit = self
            .market
            .credit(token.id)
            .await
            .map_err(|error| with_causes(&error))?;
        if credit > CREDIT_DUST {
            purse.credit = credit;
            // What was earned by a lease that closed is due like the lease; what others credited waits its turn.
            let closed_now = settled.iter().any(|lease| !memory.not_before.contains_key(&lease.id));
            let since = memory.credit_since.entry(token.id).or_insert(seen.time);
            purse.credit_since = *since;
            purse.credit_of_closed = closed_now;
        } else {
            memory.credit_since.remove(&token.id);
        }
        self.finish(&settled, seen).await?;
        if purse.leases.is_empty() && purse.credit.is_zero() {
            return Ok(());
        }
        let worth = self.worth(token).await?;
        for collection in settling::plan(&self.terms, seen.time, &worth, &purse) {
            self.collect(token, &collection, memory).await?;
        }
        for lease in leases {
            memory.not_before.insert(lease.id, seen.time + LOOK_SECONDS);
        }
        Ok(())
    }

    async fn worth(&self, token: &Token) -> Result<Worth, String> {
        let (gas_price, token_price) = tokio::try_join!(self.market.gas_price(), self.market.token_price(token.id))
            .map_err(|error| with_causes(&error))?;
        Ok(Worth {
            gas_price,
            native: self.native_price,
            token: token_price,
            decimals: token.decimals,
        })
    }

    async fn collect(&self, token: &Token, collection: &Collection, memory: &mut Memory) -> Result<(), String> {
        let call = match collection.leases.is_empty() {
            true => self.market.withdraw_credit(token.id),
            false => self.market.withdraw(token.id, &collection.leases),
        };
        match self.transactions.submit(call.wait(PATIENCE)).await {
            Ok(included) => {
                memory.credit_since.remove(&token.id);
                let earned = withdrawn(&included);
                self.metrics.collected(
                    &token.symbol,
                    token.decimals,
                    earned,
                    included.gas_used,
                    included.gas_price,
                );
                tracing::info!(
                    token = token.symbol,
                    leases = collection.leases.len(),
                    earned = %earned,
                    gas = included.gas_used,
                    paid_wei = included.gas_price.saturating_mul(included.gas_used.into()),
                    block = included.block.number,
                    "pay withdrawn"
                );
                Ok(())
            }
            // Nothing is due yet after all: the next block's time decides.
            Err(SubmitError::WouldRevert { reason, .. }) => {
                tracing::debug!(token = token.symbol, reason, "nothing to withdraw yet");
                Ok(())
            }
            Err(error) => Err(with_causes(&error)),
        }
    }

    /// Closed and settled, deep enough: what it earned is credited, and looked after with all credits.
    async fn finish(&self, settled: &[&Lease], seen: Seen) -> Result<(), String> {
        let certain = |lease: &&&Lease| {
            let closed = lease.leased.and_then(|leased| leased.closed);
            closed.is_some_and(|closed| seen.head >= closed.block + self.depth)
        };
        let paid: Vec<LeaseId> = settled.iter().filter(certain).map(|lease| lease.id).collect();
        if paid.is_empty() {
            return Ok(());
        }
        self.store.set_paid(paid).await.map_err(|error| with_causes(&error))
    }

    async fn announce(&self, seen: Seen, leases: &[Lease], memory: &mut Memory) -> Result<(), String> {
        let live: BTreeMap<LeaseId, Live> = leases
            .iter()
            .filter(|lease| lease.is_live())
            .filter_map(|lease| {
                let live = Live {
                    lease: lease.id,
                    start: lease.leased?.start,
                    duration: lease.duration,
                };
                Some((lease.id, live))
            })
            .collect();
        let all: Vec<Live> = live.values().copied().collect();
        let mut announced = Vec::new();
        for id in funds::due(&self.windows, seen.time, &all, &memory.announced) {
            let word = self.market.order(id.0).await.map_err(|error| with_causes(&error))?;
            let Some(lease) = live.get(&id) else { continue };
            // Announced already counts until the next extension.
            let until = if word.noted { u64::MAX } else { seen.time };
            memory.announced.insert(id, (lease.duration, until));
            let is_as_seen = word.state == OrderState::Leased && word.duration == lease.duration;
            if is_as_seen && !word.noted {
                announced.push(id);
            }
        }
        if announced.is_empty() {
            return Ok(());
        }
        let call = self.market.announce(seen.head, &announced);
        match self.transactions.submit(call.wait(PATIENCE)).await {
            Ok(_) => {
                for id in announced {
                    let Some(lease) = live.get(&id) else { continue };
                    let end = lease.start + u64::from(lease.duration);
                    let stops_at = end + self.windows.grace_of(lease.duration);
                    tracing::warn!(lease = %id, end, stops_at, "low on funds: unless it is extended, this lease ends, and its workload is stopped after the grace");
                }
                Ok(())
            }
            Err(error) => Err(format!("low funds were not announced: {}", with_causes(&error))),
        }
    }
}

fn token_of(lease: &Lease) -> u8 {
    OrderId::unpack(lease.id.0).token
}

/// What a transaction brought, in token units.
fn withdrawn(included: &Included) -> U256 {
    let logs = included.logs.iter().map(|log| &log.inner);
    logs.filter_map(|log| {
        let settled = IOrderBook::LeaseSettled::decode_log(log).ok().map(|event| event.amount);
        settled.or_else(|| IEscrow::CreditWithdrawn::decode_log(log).ok().map(|event| event.amount))
    })
    .fold(U256::ZERO, U256::saturating_add)
}

#[cfg(test)]
mod tests;
