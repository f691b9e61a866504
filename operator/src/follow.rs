//! Follows the chain, keeps what it says on disk, and tells whoever has to act on it: the signer, the watcher, or both.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::B256;
use chain::{Batch, BlockReference, Endpoints, Event, Follower, RpcSettings, checkpoint};
use daemon::causes::with_causes;
use daemon::health::Component;
use daemon::{Metrics, Shutdown, StoreError};

use crate::chain::{Market, Windows, fact_of};
use crate::metrics::OperatorMetrics;
use crate::sign::Signing;
use crate::store::{Forgotten, OperatorStore};
use crate::tasks::Tasks;
use crate::watch::Watch;

/// Wait before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What is known of the chain.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) tasks: Tasks,
    /// Newest applied blocks.
    pub(crate) recent: BTreeMap<u64, B256>,
    pub(crate) windows: Windows,
    /// Only close blocks after this one are signed.
    pub(crate) beginning: u64,
}

/// The follower's task, with all it knows.
pub(crate) struct Following {
    pub(crate) market: Arc<Market>,
    pub(crate) store: OperatorStore,
    pub(crate) metrics: OperatorMetrics,
    pub(crate) shutdown: Shutdown,
    pub(crate) caught_up: Component,
    pub(crate) known: Known,
    pub(crate) signing: Option<Signing>,
    pub(crate) watch: Option<Watch>,
}

impl Following {
    pub(crate) async fn run(
        mut self,
        endpoints: Endpoints,
        rpc: RpcSettings,
        deployed_at: u64,
        head: u64,
        metrics: Metrics,
    ) -> eyre::Result<()> {
        let token = self.shutdown.token();
        self.known.beginning = self.store.begin(head).await?;
        let start_block = deployed_at.max(head.saturating_sub(self.known.windows.lookback()));
        let history = self.reload().await?;
        if history.last().is_some_and(|tip| tip.number == head) {
            self.caught_up.ok();
        }
        let mut follower = Follower::new(&endpoints, &rpc, self.market.follow(start_block), history)?;
        metrics.register("follower", |registry| follower.register_metrics(registry));
        loop {
            let unfinished = self.signing.as_ref().is_some_and(Signing::is_unfinished);
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                batch = follower.next_batch() => {
                    let seen = Instant::now();
                    if let Err(error) = self.apply(&batch).await {
                        tracing::error!(%error, "what the chain says cannot be stored; nothing is signed until it can");
                        tokio::time::sleep(RETRY).await;
                        follower.rewind(self.reload().await.unwrap_or_default());
                        continue;
                    }
                    if batch.caught_up {
                        self.caught_up.ok();
                        self.act(batch.head.number, seen).await;
                    }
                }
                () = tokio::time::sleep(RETRY), if unfinished => {
                    if let Some(head) = self.known.recent.keys().next_back().copied() {
                        self.act(head, Instant::now()).await;
                    }
                }
            }
        }
    }

    async fn act(&mut self, head: u64, seen: Instant) {
        if let Some(signing) = &mut self.signing {
            signing.sign_due(&self.known, head, seen).await;
        }
        if let Some(watch) = &mut self.watch {
            watch.look(&self.known.tasks, head);
        }
    }

    /// Takes everything from the store.
    async fn reload(&mut self) -> Result<Vec<BlockReference>, StoreError> {
        let kept = self.store.load().await?;
        self.known.tasks = kept.tasks;
        self.known.beginning = kept.beginning.unwrap_or(self.known.beginning);
        self.known.recent = kept.history.iter().map(|block| (block.number, block.hash)).collect();
        Ok(kept.history)
    }

    /// Applies a batch, in memory and on disk.
    async fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let known = &mut self.known;
        let mut events = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            match event {
                Event::Applied(block) => {
                    let facts = block.logs.iter().filter_map(|log| fact_of(log.data()));
                    known.tasks.apply(block.number, facts);
                    known.recent.insert(block.number, block.hash);
                    events.push(event.clone());
                }
                Event::Reverted { above } => {
                    // Without a common block the chain is another one, of which nothing is known at any height.
                    let above = if known.recent.contains_key(above) { *above } else { 0 };
                    known.tasks.revert(above);
                    known.recent.split_off(&(above + 1));
                    known.beginning = known.beginning.min(above);
                    if let Some(signing) = &mut self.signing {
                        signing.reorganised();
                    }
                    if let Some(watch) = &mut self.watch {
                        watch.reorganised();
                    }
                    events.push(Event::Reverted { above });
                }
            }
        }
        while known.recent.len() > checkpoint::HISTORY_LENGTH {
            known.recent.pop_first();
        }
        let tip = known.recent.keys().next_back().copied().unwrap_or_default();
        let lookback = known.windows.lookback();
        let oldest = tip.saturating_sub(lookback + checkpoint::HISTORY_LENGTH as u64);
        let forgotten = Forgotten {
            orders: known.tasks.forget_closed_before(oldest),
            // An order that is kept was created at most this long before it closes.
            logs_before: oldest.saturating_sub(lookback),
        };
        self.metrics.orders.set(known.tasks.len() as i64);
        if let Some(signing) = &mut self.signing {
            signing.stop_sending(known, tip);
        }
        self.store.save(events, forgotten).await
    }
}

/// Waits for the chain, which may be away, and reads what does not change: the head and the windows.
pub(crate) async fn first_reads(market: &Market, caught_up: &Component) -> (u64, Windows) {
    loop {
        match tokio::try_join!(market.head(), market.windows(), market.read_all_parameters()) {
            Ok((head, windows, versions)) => {
                tracing::info!(head, ?windows, versions, "the network's parameters");
                return (head, windows);
            }
            Err(error) => {
                let reason = with_causes(&error);
                caught_up.degraded(reason.clone());
                tracing::warn!("the network's parameters cannot be read: {reason}");
                tokio::time::sleep(RETRY * 5).await;
            }
        }
    }
}
