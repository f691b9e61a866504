//! Follows the chain: keeps checkpoint and open orders in one transaction, and tells the collector afterwards.

use std::time::Duration;

use alloy_primitives::Address;
use chain::network::Network;
use chain::{BlockReference, Endpoints, Event, Follow, FollowError, Follower, RpcSettings, checkpoint};
use daemon::Store;
use rusqlite::{Connection, Transaction};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::chain::{ANSWERED, answer};
use crate::collect::AnsweredOnChain;
use crate::{orders, store};

/// Wait after a failed write.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// What the collector is told of the chain.
#[derive(Debug)]
pub(crate) enum ChainChange {
    Applied {
        block: BlockReference,
        /// Orders with a bid that close in it.
        closing_orders: u32,
        answers: Vec<AnsweredOnChain>,
    },
    Reverted {
        above: u64,
    },
}

#[derive(Debug)]
pub(crate) struct ChainNews {
    pub(crate) changes: Vec<ChainChange>,
    pub(crate) head: BlockReference,
    pub(crate) caught_up: bool,
}

/// The blocks applied before a restart, oldest first, each with the orders that closed in it.
pub(crate) fn history(connection: &Connection) -> rusqlite::Result<Vec<(BlockReference, u32)>> {
    checkpoint::load_history(connection)?
        .into_iter()
        .map(|block| Ok((block, orders::closing(connection, block.number)?)))
        .collect()
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
    for event in events {
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
    Ok(changes)
}
