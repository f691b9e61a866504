//! Follows the chain: keeps checkpoint and open orders in one transaction, and tells the collector afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use alloy_primitives::Address;
use chain::network::Network;
use chain::{BlockReference, Endpoints, Event, Follow, FollowError, Follower, RpcSettings, checkpoint};
use daemon::Store;
use rusqlite::{Connection, Transaction};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::chain::{ANSWERED, answer};
use crate::collect::AnsweredOnChain;
use crate::{orders, store};

/// Wait after a failed write.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// The next block that was caught up with, for jobs that look after every one; nothing more once `stop` is asked for or nobody
/// tells of blocks any more.
pub(crate) async fn next_block(head: &mut watch::Receiver<Option<u64>>, stop: &CancellationToken) -> Option<u64> {
    loop {
        stop.run_until_cancelled(head.changed()).await?.ok()?;
        if let Some(block) = *head.borrow_and_update() {
            return Some(block);
        }
    }
}

/// What the collector is told of the chain.
#[derive(Debug)]
pub enum ChainChange {
    Applied {
        block: BlockReference,
        /// Orders with a bid that close in it.
        closing_orders: u32,
        answers: Vec<AnsweredOnChain>,
    },
    Reverted {
        above: u64,
    },
    /// Blocks that were left out far behind the head and that close orders, each with how many.
    Skipped {
        closing: Vec<(u64, u32)>,
    },
}

/// Changes that belong together.
#[derive(Debug)]
pub struct ChainNews {
    /// In order.
    pub changes: Vec<ChainChange>,
    /// The newest block known of.
    pub head: BlockReference,
    /// Whether the last change is that block.
    pub caught_up: bool,
}

/// The blocks applied before a restart, oldest first, each with the orders that closed in it.
pub(crate) fn history(connection: &Connection) -> rusqlite::Result<Vec<(BlockReference, u32)>> {
    checkpoint::load_history(connection)?
        .into_iter()
        .map(|block| Ok((block, orders::closing(connection, block.number)?)))
        .collect()
}

/// Close blocks that a task can still name and that are not among the blocks applied before a restart.
pub(crate) fn skipped_before(
    connection: &Connection,
    history: &[(BlockReference, u32)],
    response_window: u64,
) -> rusqlite::Result<Vec<(u64, u32)>> {
    let Some((tip, _)) = history.last() else {
        return Ok(Vec::new());
    };
    let oldest = tip.number.saturating_sub(response_window);
    let mut closing = orders::closing_between(connection, oldest, tip.number)?;
    closing.retain(|(number, _)| !history.iter().any(|(block, _)| block.number == *number));
    Ok(closing)
}

#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) follower: Follower,
    store: Store,
    followed: Followed,
}

/// What makes sense of logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Followed {
    pub(crate) order_book: Address,
    pub(crate) task_manager: Address,
    pub(crate) response_window: u64,
}

impl Following {
    pub(crate) fn new(
        endpoints: &Endpoints,
        rpc: &RpcSettings,
        network: &Network,
        store: Store,
        history: Vec<BlockReference>,
        response_window: u64,
    ) -> Result<Self, FollowError> {
        let follow = Follow {
            addresses: vec![network.contracts.order_book, network.contracts.task_manager],
            topics: orders::TOPICS.into_iter().chain([ANSWERED]).collect(),
            start_block: network.deployed_at,
        };
        Ok(Self {
            follower: Follower::new(endpoints, rpc, follow, history)?,
            store,
            followed: Followed {
                order_book: network.contracts.order_book,
                task_manager: network.contracts.task_manager,
                response_window,
            },
        })
    }

    pub(crate) async fn run(mut self, news: mpsc::Sender<ChainNews>, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = self.next() => next,
            };
            if news.send(next).await.is_err() {
                return;
            }
        }
    }

    async fn next(&mut self) -> ChainNews {
        loop {
            let batch = self.follower.next_batch().await;
            let events = batch.events;
            let followed = self.followed;
            let taken_over = self
                .store
                .write(move |transaction| take_over(transaction, events, followed))
                .await;
            match taken_over {
                Ok(changes) => {
                    return ChainNews {
                        changes,
                        head: batch.head,
                        caught_up: batch.caught_up,
                    };
                }
                Err(error) => {
                    tracing::error!(%error, "cannot store the chain's progress; trying again");
                    tokio::time::sleep(STORE_RETRY).await;
                    match self.store.read(checkpoint::load_history).await {
                        Ok(history) => self.follower.rewind(history),
                        Err(error) => tracing::error!(%error, "cannot read the chain's progress"),
                    }
                }
            }
        }
    }
}

/// Keeps what events mean, and says what the collector must be told.
pub(crate) fn take_over(
    transaction: &Transaction<'_>,
    events: Vec<Event>,
    followed: Followed,
) -> rusqlite::Result<Vec<ChainChange>> {
    let mut changes = Vec::with_capacity(events.len());
    // The newest block before, as far as it is still canonical, and the newest after.
    let mut before = checkpoint::load_history(transaction)?.last().map(|block| block.number);
    let mut applied = BTreeSet::new();
    for event in events {
        match &event {
            Event::Applied(block) => {
                applied.insert(block.number);
            }
            Event::Reverted { above } => {
                before = before.map(|before| before.min(*above));
                applied.retain(|number| number <= above);
            }
        }
        checkpoint::save(transaction, &event)?;
        orders::apply(transaction, followed.order_book, &event)?;
        changes.push(match event {
            Event::Applied(block) => {
                store::prune(transaction, block.number.saturating_sub(followed.response_window))?;
                ChainChange::Applied {
                    block: block.reference(),
                    closing_orders: orders::closing(transaction, block.number)?,
                    answers: block
                        .logs
                        .iter()
                        .filter_map(|log| answer(log, followed.task_manager))
                        .collect(),
                }
            }
            Event::Reverted { above } => ChainChange::Reverted { above },
        });
    }
    if let Some(&tip) = applied.last() {
        let oldest = tip.saturating_sub(followed.response_window);
        let first = before.map_or(oldest, |before| oldest.max(before + 1));
        if applied.range(first..).count() as u64 <= tip.saturating_sub(first) {
            let mut closing = orders::closing_between(transaction, first, tip)?;
            closing.retain(|(number, _)| !applied.contains(number));
            if !closing.is_empty() {
                changes.push(ChainChange::Skipped { closing });
            }
        }
    }
    Ok(changes)
}
