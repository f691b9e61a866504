//! Expiring orders that nobody will answer any more, so that their users' money unlocks by itself.
//!
//! Logs only say which orders to look at; what is sent was open in the pending block a moment before.

use alloy::eips::BlockNumberOrTag;
use alloy::providers::RootProvider;
use alloy::sol_types::SolCall;
use alloy_primitives::{Address, keccak256};
use bindings::{IOrderBook, OrderState};
use chain::{Call, SubmitError, Transactions};
use daemon::{Store, StoreError};
use futures::StreamExt;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::ExpireSettings;
use crate::follow::next_block;
use crate::metrics::AggregatorMetrics;
use crate::orders;

/// Aggregators take turns by this many blocks, so that not all send the same.
const TURNS: u64 = 3;
/// Orders whose state is read at the same time.
const READS_AT_ONCE: usize = 8;
/// A batch that waits longer than this many blocks is of no use: it is looked at again.
const VALID_FOR: u64 = 20;

/// Why a look at expirable orders ended without an effect.
#[derive(Debug, thiserror::Error)]
enum ExpireError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("an order cannot be read: {0}")]
    Contract(#[from] alloy::contract::Error),
    #[error("{0}")]
    Submit(#[from] SubmitError),
}

/// The job.
#[derive(Debug)]
pub(crate) struct Expirer {
    pub(crate) provider: RootProvider,
    pub(crate) transactions: Transactions,
    pub(crate) store: Store,
    pub(crate) order_book: Address,
    pub(crate) response_window: u64,
    pub(crate) settings: ExpireSettings,
    pub(crate) metrics: AggregatorMetrics,
}

impl Expirer {
    /// Looks after every block that was caught up with, until `stop`.
    pub(crate) async fn run(self, mut head: watch::Receiver<Option<u64>>, stop: CancellationToken) {
        let turn = u64::from(keccak256(self.transactions.sender())[0]) % TURNS;
        while let Some(block) = next_block(&mut head, &stop).await {
            // The next block is the one a transaction is in.
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.expire((block + 1).saturating_sub(turn), block) => outcome,
            };
            if let Err(error) = outcome {
                tracing::warn!("cannot expire orders: {error}; trying again after the next block");
            }
        }
    }

    async fn expire(&self, ready_by: u64, head: u64) -> Result<(), ExpireError> {
        let (window, batch) = (self.response_window, self.settings.batch);
        let candidates = self
            .store
            .read(move |connection| orders::expirable(connection, ready_by, window, batch))
            .await?;
        if candidates.is_empty() {
            return Ok(());
        }
        let order_ids = self.open(candidates).await?;
        if order_ids.is_empty() {
            return Ok(());
        }
        let count = order_ids.len();
        let label = format!("expire/{}-{}", order_ids[0], count);
        let call = IOrderBook::expireOrdersCall {
            orderIds: order_ids.clone(),
        };
        let call = Call::new(label, self.order_book, call.abi_encode()).valid_until(head + VALID_FOR);
        let included = self.transactions.submit(call).await?;
        self.metrics.expired.inc_by(count as u64);
        tracing::info!(orders = ?order_ids, block = included.block.number, "orders expired");
        Ok(())
    }

    /// Those that are open in the pending block.
    async fn open(&self, order_ids: Vec<u64>) -> Result<Vec<u64>, ExpireError> {
        let book = IOrderBook::new(self.order_book, &self.provider);
        let reads = order_ids.into_iter().map(|order_id| {
            let call = book.order(order_id).block(BlockNumberOrTag::Pending.into());
            async move { call.call().await.map(|order| (order_id, order.state)) }
        });
        let states: Vec<_> = futures::stream::iter(reads).buffered(READS_AT_ONCE).collect().await;
        let mut open = Vec::new();
        for state in states {
            let (order_id, state) = state?;
            if state == OrderState::Open {
                open.push(order_id);
            }
        }
        Ok(open)
    }
}
