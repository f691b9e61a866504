//! Bids: what [`crate::bidding`] decides, as one transaction per block.

mod command;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use ::chain::endpoints::Reachability;
use ::chain::{SubmitError, Transactions};
use avs::matching::Parameters;
use avs::words::{Capacity, OrderId};
use bindings::IOrderBook;
use daemon::StoreError;
use daemon::causes::with_causes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use command::{PricingCommand, too_slow};

use crate::bidding::{self, Bid, Declined, Moment, OpenOrder};
use crate::chain::Market;
use crate::docker::Ground;
use crate::follow::Seen;
use crate::metrics::ProviderMetrics;
use crate::pricing::{Prices, TooDear};
use crate::store::Store;
use crate::wording;

/// How often the market's windows are read again.
const PARAMETERS_LIFETIME: Duration = Duration::from_secs(60);

/// Weights do not decide whether a bid is valid; the rule just wants some to read an order with.
pub(crate) const ANY_WEIGHTS: [u32; 8] = [1_000_000, 0, 0, 0, 0, 0, 0, 0];

/// What the bidder works with.
#[derive(Debug)]
pub struct Bidder {
    /// The contracts.
    pub market: Market,
    /// The store.
    pub store: Store,
    /// The transaction actor.
    pub transactions: Transactions,
    /// The provider's supplier id.
    pub own: u32,
    /// Prices by token id.
    pub prices: BTreeMap<u8, Prices>,
    /// Whether to bid at all.
    pub enabled: bool,
    /// A program that prices orders.
    pub command: Option<PricingCommand>,
    /// How far the store is.
    pub seen: watch::Receiver<Seen>,
    /// Whether workloads may come.
    pub ground: watch::Receiver<Ground>,
    /// Whether the chain answers.
    pub reachability: watch::Receiver<Reachability>,
    /// Failed writes of the stores.
    pub failures: Vec<watch::Receiver<Option<StoreError>>>,
    /// What is left to offer, for whoever asks.
    pub left: watch::Sender<Option<Capacity>>,
    /// What is counted.
    pub metrics: ProviderMetrics,
}

/// What came of a look.
#[derive(Default)]
struct Decided {
    bids: Vec<Bid>,
    /// Orders that get no bid, and were not told of before.
    declined: Vec<(u64, Declined)>,
}

/// A batch that was sent.
struct Placed {
    bids: Vec<(u64, u64)>,
    outcome: Result<(), SubmitError>,
    took: Duration,
}

impl Bidder {
    /// Bids until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let (placed_sender, mut placed) = mpsc::channel(1);
        let mut windows: Option<(Instant, IOrderBook::Parameters)> = None;
        let mut told = BTreeSet::new();
        let mut in_flight = false;
        let mut pace = Pace::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = self.seen.changed() => if changed.is_err() { return Ok(()) },
                Some(result) = placed.recv() => {
                    in_flight = false;
                    self.note(result).await;
                }
            }
            let seen = *self.seen.borrow_and_update();
            let obstacle = self.obstacle(seen);
            self.metrics.bidding.set(i64::from(obstacle.is_none()));
            if let Some(obstacle) = obstacle {
                tracing::debug!(obstacle, "no bids");
                continue;
            }
            if in_flight {
                continue;
            }
            pace.note(seen);
            match self.round(seen, &mut windows, &mut told, pace).await {
                Ok(decided) => {
                    if !decided.bids.is_empty() {
                        in_flight = true;
                        self.place(seen.head, decided.bids, placed_sender.clone());
                    }
                    self.tell(decided.declined);
                }
                Err(reason) => tracing::warn!(reason, "no bids in this block"),
            }
        }
    }

    /// Why no bid may be made now.
    fn obstacle(&self, seen: Seen) -> Option<String> {
        if !self.enabled {
            return Some("bidding.enabled is false".to_owned());
        }
        if !seen.caught_up {
            return Some("the newest block was not seen yet".to_owned());
        }
        if !self.reachability.borrow().is_reachable() {
            return Some("the chain does not answer".to_owned());
        }
        if let Some(error) = self.failures.iter().find_map(|failure| failure.borrow().clone()) {
            return Some(error.to_string());
        }
        let ground = self.ground.borrow();
        (!ground.problems.is_empty() || !ground.answers).then(|| ground.problems.join("; "))
    }

    /// Once for each order. Nothing waits for it: names may have to be read first.
    fn tell(&self, declined: Vec<(u64, Declined)>) {
        if declined.is_empty() {
            return;
        }
        self.metrics.declined.inc_by(declined.len() as u64);
        let market = self.market.clone();
        tokio::spawn(async move {
            // Ids will do where the names cannot be read now.
            let catalog = market.catalog().await.unwrap_or_default();
            for (order, reason) in declined {
                tracing::info!(
                    order,
                    reason = wording::declined(&reason, &catalog),
                    "no bid for this order"
                );
            }
        });
    }

    /// One look at the open orders; what is to be placed is reserved already.
    async fn round(
        &self,
        seen: Seen,
        windows: &mut Option<(Instant, IOrderBook::Parameters)>,
        told: &mut BTreeSet<u64>,
        pace: Pace,
    ) -> Result<Decided, String> {
        let parameters = match windows {
            Some((at, parameters)) if at.elapsed() < PARAMETERS_LIFETIME => parameters.clone(),
            _ => {
                let parameters = self.market.parameters().await.map_err(|error| with_causes(&error))?;
                windows.insert((Instant::now(), parameters)).1.clone()
            }
        };
        let moment = Moment {
            head: seen.head,
            // After the operators' window anyone may still run the rule on chain.
            response_window: u64::from(parameters.responseWindow) + u64::from(parameters.matchWindow),
        };
        let orders = self
            .store
            .open_orders(seen.head, moment.response_window)
            .await
            .map_err(|error| with_causes(&error))?;
        told.retain(|told| orders.iter().any(|order| order.id == *told));
        let wants_bid =
            |order: &OpenOrder| order.bid_for != Some(order.close_block) && seen.head + 1 < order.close_block;
        if !orders.iter().any(wants_bid) && self.left.borrow().is_some() && !seen.head.is_multiple_of(8) {
            return Ok(Decided::default());
        }
        let standing = self
            .market
            .standing(self.own)
            .await
            .map_err(|error| with_causes(&error))?;
        let any = Parameters::new(ANY_WEIGHTS, 1, 1, 1).map_err(|error| with_causes(&error))?;
        let decision =
            bidding::decide(&self.prices, &any, &standing, moment, &orders).map_err(|error| with_causes(&error))?;
        self.left.send_replace(Some(decision.left));
        let bids = match &self.command {
            Some(command) => {
                let window = pace.block_time() * u32::from(parameters.bidWindow);
                if let Some(problem) = too_slow(command.timeout, window) {
                    return Err(problem);
                }
                command.price(&self.prices, &orders, decision.bids).await
            }
            None => decision.bids,
        };
        if !bids.is_empty() {
            let reserved = bids.iter().map(|bid| (bid.order, bid.close_block)).collect();
            self.store
                .reserve(reserved)
                .await
                .map_err(|error| with_causes(&error))?;
        }
        let mut declined = decision.declined;
        declined.retain(|(order, _)| told.insert(*order));
        Ok(Decided { bids, declined })
    }

    fn place(&self, head: u64, bids: Vec<Bid>, placed: mpsc::Sender<Placed>) {
        let call = self.market.place_bids(head, &bids);
        let transactions = self.transactions.clone();
        let begun = Instant::now();
        for bid in &bids {
            let Some(list) = self.prices.get(&OrderId::unpack(bid.order).token) else {
                continue;
            };
            let TooDear { asked, offered, symbol } = list.too_dear(bid.rate, bid.maximum_rate);
            tracing::info!(
                order = bid.order,
                close_block = bid.close_block,
                "bidding {asked} {symbol}/h of at most {offered}"
            );
        }
        tokio::spawn(async move {
            let outcome = transactions.submit(call).await.map(drop);
            let result = Placed {
                bids: bids.iter().map(|bid| (bid.order, bid.close_block)).collect(),
                outcome,
                took: begun.elapsed(),
            };
            // Nobody listens any more when the process stops.
            let _ = placed.send(result).await;
        });
    }

    async fn note(&self, placed: Placed) {
        let count = placed.bids.len() as u64;
        let error = match placed.outcome {
            Ok(()) => {
                self.metrics.bids.inc_by(count);
                self.metrics.bid_seconds.observe(placed.took.as_secs_f64());
                return;
            }
            Err(error) => error,
        };
        self.metrics.bids_missed.inc_by(count);
        tracing::warn!(error = with_causes(&error), "bids were not placed");
        let is_over = matches!(
            error,
            SubmitError::WouldRevert { .. }
                | SubmitError::Reverted { .. }
                | SubmitError::Rpc { .. }
                | SubmitError::Refused { .. }
                | SubmitError::Store { .. }
                | SubmitError::Cancelled { .. }
        );
        // What may still be included stays reserved until its answer can come no more.
        if is_over && let Err(error) = self.store.release(placed.bids).await {
            tracing::error!(%error, "reservations stay until they run out");
        }
    }
}

/// How fast blocks come.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    first: Option<Seen>,
    last: Seen,
}

impl Pace {
    fn note(&mut self, seen: Seen) {
        self.first.get_or_insert(seen);
        self.last = seen;
    }

    /// The average since the start; a second before there is one.
    fn block_time(&self) -> Duration {
        let first = self.first.unwrap_or(self.last);
        let blocks = self.last.head.saturating_sub(first.head);
        let seconds = self.last.time.saturating_sub(first.time);
        match u32::try_from(blocks) {
            Ok(blocks) if blocks > 0 && seconds > 0 => Duration::from_secs(seconds) / blocks,
            _ => Duration::from_secs(1),
        }
    }
}

/// Prices by token id, from the configuration's by symbol.
///
/// # Errors
/// Every symbol and model that the network does not have.
pub fn prices_of(
    lists: &BTreeMap<String, crate::config::PriceList>,
    network: &::chain::network::Network,
    gpus: &[(u8, bindings::IProviderRegistry::GpuModel)],
) -> Result<BTreeMap<u8, Prices>, Vec<String>> {
    let mut problems = Vec::new();
    let mut prices = BTreeMap::new();
    for (symbol, list) in lists {
        let Some(token) = network.token(symbol) else {
            let listed: Vec<&str> = network.tokens.iter().map(|token| token.symbol.as_str()).collect();
            problems.push(format!(
                "pricing.{symbol}: no such token; listed are {}",
                listed.join(", ")
            ));
            continue;
        };
        let mut models = BTreeMap::new();
        for (name, price) in &list.gpu {
            let ids: Vec<u8> = gpus
                .iter()
                .filter(|(_, gpu)| gpu.model == *name)
                .map(|(id, _)| *id)
                .collect();
            if ids.is_empty() {
                problems.push(format!(
                    "pricing.{symbol}.gpu.{name}: no such model in the network's catalogue"
                ));
            }
            models.extend(ids.into_iter().map(|id| (id, price.0)));
        }
        let of_token = Prices {
            symbol: symbol.clone(),
            decimals: token.decimals,
            cpu: list.cpu_hour.0,
            memory_gib: list.memory_gib_hour.0,
            storage_gib: list.storage_gib_hour.0,
            gpus: models,
            minimum: list.minimum_hour.0,
        };
        prices.insert(token.id, of_token);
    }
    if problems.is_empty() { Ok(prices) } else { Err(problems) }
}
