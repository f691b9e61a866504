//! The chain, as the operator needs it: which logs to follow and what they say, and reads as of a close block.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use alloy::contract::Error as ContractError;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Address, B256, LogData, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use alloy::transports::TransportError;
use avs::digest::BidsDigest;
use avs::matching::{Parameters, ParametersError};
use avs::words::PackedBid;
use bindings::{IMatchingTaskManager, IOrderBook};
use chain::Follow;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::tasks::{Fact, OpenOrder};

/// Reads of digests in flight at once.
const READS_AT_ONCE: usize = 16;

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the contracts did not answer")]
    Contract(#[from] ContractError),
    #[error("the chain did not answer")]
    Rpc(#[from] TransportError),
    #[error("the node does not know block {0}")]
    NoBlock(u64),
    #[error("the task manager's parameters version {version} is not one that can be")]
    Parameters { version: u16, source: ParametersError },
}

/// How long orders take bids and answers, in blocks. Neither ever changes in a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Longest bid window of any order.
    pub bid: u64,
    /// Blocks after the close block in which an answer is taken.
    pub response: u64,
}

impl Windows {
    /// Blocks before the head in which the creation of an order lies that can still be in a task: a bid window, the answer
    /// that requeues it, and the second bid window.
    pub fn lookback(&self) -> u64 {
        2 * self.bid + self.response + 2
    }
}

/// The order book and the task manager.
#[derive(Debug)]
pub struct Market {
    provider: RootProvider,
    order_book: Address,
    task_manager: Address,
    /// Versions are append-only and never change.
    parameters: Mutex<BTreeMap<u16, Parameters>>,
}

impl Market {
    pub fn new(provider: RootProvider, order_book: Address, task_manager: Address) -> Self {
        Self {
            provider,
            order_book,
            task_manager,
            parameters: Mutex::default(),
        }
    }

    /// The logs that [`fact_of`] understands.
    pub fn follow(&self, start_block: u64) -> Follow {
        Follow {
            addresses: vec![self.order_book, self.task_manager],
            topics: vec![
                IOrderBook::OrderCreated::SIGNATURE_HASH,
                IOrderBook::BidPlaced::SIGNATURE_HASH,
                IOrderBook::LeaseCreated::SIGNATURE_HASH,
                IOrderBook::OrderRequeued::SIGNATURE_HASH,
                IOrderBook::OrderCancelled::SIGNATURE_HASH,
                IOrderBook::OrderExpired::SIGNATURE_HASH,
                IMatchingTaskManager::TaskResponded::SIGNATURE_HASH,
            ],
            start_block,
        }
    }

    /// The newest block's height.
    pub async fn head(&self) -> Result<u64, ReadError> {
        Ok(self.provider.get_block_number().await?)
    }

    pub async fn windows(&self) -> Result<Windows, ReadError> {
        let order_book = IOrderBook::new(self.order_book, &self.provider);
        let task_manager = IMatchingTaskManager::new(self.task_manager, &self.provider);
        let (parameters, response) = (order_book.parameters(), task_manager.responseWindow());
        let (parameters, response) = tokio::try_join!(parameters.call(), response.call())?;
        Ok(Windows {
            bid: parameters.maximumBidWindow.into(),
            response: response.into(),
        })
    }

    /// Reads every version there is ahead of its first use.
    pub async fn read_all_parameters(&self) -> Result<u16, ReadError> {
        let task_manager = IMatchingTaskManager::new(self.task_manager, &self.provider);
        let count = task_manager.matchingParametersCount().call().await?;
        for version in 1..=count {
            self.parameters(version).await?;
        }
        Ok(count)
    }

    /// A version of the matching parameters; `None` where the task manager does not have it.
    pub async fn parameters(&self, version: u16) -> Result<Option<Parameters>, ReadError> {
        let known = |cache: &Mutex<BTreeMap<u16, Parameters>>| {
            let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.get(&version).copied()
        };
        if let Some(parameters) = known(&self.parameters) {
            return Ok(Some(parameters));
        }
        let task_manager = IMatchingTaskManager::new(self.task_manager, &self.provider);
        let raw = match task_manager.matchingParameters(version).call().await {
            Ok(raw) => raw,
            Err(error) if error.as_revert_data().is_some() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let parameters = Parameters::try_from(&raw).map_err(|source| ReadError::Parameters { version, source })?;
        self.parameters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(version, parameters);
        Ok(Some(parameters))
    }

    /// Hash of a canonical block.
    pub async fn hash_of(&self, block: u64) -> Result<B256, ReadError> {
        let found = self
            .provider
            .get_block_by_number(BlockNumberOrTag::Number(block))
            .await?;
        Ok(found.ok_or(ReadError::NoBlock(block))?.header.hash)
    }

    /// The digests that the order book stores of these orders at the end of a block, in their order.
    pub async fn digests(&self, block_hash: B256, order_ids: &[u64]) -> Result<Vec<BidsDigest>, ReadError> {
        let reads = order_ids
            .iter()
            .copied()
            .map(|order_id| self.digest(block_hash, order_id));
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    async fn digest(&self, block_hash: B256, order_id: u64) -> Result<BidsDigest, ReadError> {
        let order_book = IOrderBook::new(self.order_book, &self.provider);
        let stored = order_book
            .bidsDigest(order_id)
            .block(BlockId::hash(block_hash))
            .call()
            .await?;
        Ok(BidsDigest {
            digest: stored.digest,
            count: stored.count,
        })
    }

    /// An order's bids, asked for by themselves: for when the followed logs do not fold to the stored digest.
    pub async fn bids_of(&self, order: &OpenOrder) -> Result<Vec<PackedBid>, ReadError> {
        let filter = Filter::new()
            .address(self.order_book)
            .event_signature(IOrderBook::BidPlaced::SIGNATURE_HASH)
            .topic1(U256::from(order.order_id))
            .from_block(order.open_since)
            .to_block(u64::from(order.close_block));
        let mut logs = self.provider.get_logs(&filter).await?;
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        let facts = logs.iter().filter_map(|log| match fact_of(log.data()) {
            Some(Fact::Bid { order_id, bid }) if order_id == order.order_id => Some(bid),
            _ => None,
        });
        Ok(facts.collect())
    }
}

/// What a log of the followed contracts says; `None` for what does not concern tasks.
pub fn fact_of(log: &LogData) -> Option<Fact> {
    fn decode<E: SolEvent>(log: &LogData) -> Option<E> {
        E::decode_raw_log(log.topics().iter().copied(), &log.data).ok()
    }
    let ended = |order_id| Fact::Ended { order_id };
    let signature = *log.topics().first()?;
    match signature {
        IOrderBook::OrderCreated::SIGNATURE_HASH => {
            decode::<IOrderBook::OrderCreated>(log).map(|event| Fact::Created {
                order_id: event.orderId,
                close_block: event.closeBlock,
                terms: event.terms.into(),
            })
        }
        IOrderBook::BidPlaced::SIGNATURE_HASH => decode::<IOrderBook::BidPlaced>(log).map(|event| Fact::Bid {
            order_id: event.orderId,
            bid: PackedBid::from(&event),
        }),
        IOrderBook::OrderRequeued::SIGNATURE_HASH => {
            decode::<IOrderBook::OrderRequeued>(log).map(|event| Fact::Requeued {
                order_id: event.orderId,
                close_block: event.closeBlock,
            })
        }
        IOrderBook::LeaseCreated::SIGNATURE_HASH => {
            decode::<IOrderBook::LeaseCreated>(log).map(|event| ended(event.orderId))
        }
        IOrderBook::OrderCancelled::SIGNATURE_HASH => {
            decode::<IOrderBook::OrderCancelled>(log).map(|event| ended(event.orderId))
        }
        IOrderBook::OrderExpired::SIGNATURE_HASH => {
            decode::<IOrderBook::OrderExpired>(log).map(|event| ended(event.orderId))
        }
        IMatchingTaskManager::TaskResponded::SIGNATURE_HASH => {
            decode::<IMatchingTaskManager::TaskResponded>(log).map(|event| Fact::Answered {
                close_block: event.closeBlock,
                chunk: event.chunk,
            })
        }
        _ => None,
    }
}
