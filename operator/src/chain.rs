//! The chain, as the operator needs it: which logs to follow and what they say, and reads as of a close block.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy::contract::Error as ContractError;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::aliases::U96;
use alloy::primitives::{Address, B256, LogData, U256};
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use alloy::transports::TransportError;
use avs::digest::BidsDigest;
use avs::matching::{Parameters, ParametersError};
use avs::words::PackedBid;
use bindings::{IBlsQuorumVerifier, IEscrow, IMatchingDisputes, IMatchingTaskManager, IOrderBook, ISingleMatchmaker};
use chain::Follow;
use chain::reverts::RevertDecoder;
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
    /// Blocks after that in which anyone may run the rule on chain for an order that nobody answered.
    pub matching: u64,
    /// Blocks after an answer in which it can be disputed; zero where the network has no disputes contract.
    pub challenge: u64,
}

/// Who decides the tasks of a close block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decider {
    /// A quorum of stake, by this verifier.
    Quorum { verifier: Address },
    /// One key in place of it.
    Matchmaker { verifier: Address, matchmaker: Address },
}

impl Decider {
    /// The contract that verifies answers.
    pub fn verifier(&self) -> Address {
        match self {
            Self::Quorum { verifier } | Self::Matchmaker { verifier, .. } => *verifier,
        }
    }
}

impl Windows {
    /// Blocks before the head in which the creation of an order lies that can still be in a task or a dispute: a bid window,
    /// the answer that requeues it, the second bid window and its answer, and the time to dispute that.
    pub fn lookback(&self) -> u64 {
        2 * (self.bid + self.response + self.matching) + self.challenge + 2
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
    /// What a verifier is never changes either.
    deciders: Mutex<BTreeMap<Address, Decider>>,
}

impl Market {
    pub fn new(provider: RootProvider, order_book: Address, task_manager: Address) -> Self {
        Self {
            provider,
            order_book,
            task_manager,
            parameters: Mutex::default(),
            deciders: Mutex::default(),
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
        let challenge = match self.disputes().await? {
            Some(disputes) => {
                IMatchingDisputes::new(disputes, &self.provider)
                    .challengeBlocks()
                    .call()
                    .await?
            }
            None => 0,
        };
        Ok(Windows {
            bid: parameters.maximumBidWindow.into(),
            response: response.into(),
            matching: parameters.matchWindow.into(),
            challenge: challenge.into(),
        })
    }

    /// The contract that undoes leases, where the order book names one.
    pub async fn disputes(&self) -> Result<Option<Address>, ReadError> {
        let order_book = IOrderBook::new(self.order_book, &self.provider);
        let named = order_book
            .collaborator(IOrderBook::Collaborator::Disputes)
            .call()
            .await?;
        Ok((named != Address::ZERO).then_some(named))
    }

    /// Who decides the tasks of this close block; fixed once the block is there.
    pub async fn decider(&self, close_block: u32) -> Result<Decider, ReadError> {
        let task_manager = IMatchingTaskManager::new(self.task_manager, &self.provider);
        let verifier = task_manager.quorumVerifierAt(close_block).call().await?;
        let known = |deciders: &Mutex<BTreeMap<Address, Decider>>| {
            let deciders = deciders.lock().unwrap_or_else(PoisonError::into_inner);
            deciders.get(&verifier).copied()
        };
        if let Some(decider) = known(&self.deciders) {
            return Ok(decider);
        }
        // Told by what it answers, not by what it refuses: an endpoint may refuse anything.
        let decider = match ISingleMatchmaker::new(verifier, &self.provider)
            .matchmaker()
            .call()
            .await
        {
            Ok(matchmaker) => Decider::Matchmaker { verifier, matchmaker },
            Err(_) => {
                IBlsQuorumVerifier::new(verifier, &self.provider)
                    .quorums()
                    .call()
                    .await?;
                Decider::Quorum { verifier }
            }
        };
        self.deciders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(verifier, decider);
        Ok(decider)
    }

    /// An order as the order book has it now.
    pub async fn order(&self, order_id: u64) -> Result<bindings::Order, ReadError> {
        let order_book = IOrderBook::new(self.order_book, &self.provider);
        Ok(order_book.order(order_id).call().await?)
    }

    /// Who takes the answers.
    pub fn task_manager(&self) -> Address {
        self.task_manager
    }

    /// The chain below.
    pub fn provider(&self) -> &RootProvider {
        &self.provider
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

    /// Token units that would be locked for orders leased at these rates, match fee included, in their order.
    pub async fn locks(&self, at: BlockId, leases: &[(u64, u128)]) -> Result<Vec<U256>, ReadError> {
        let order_book = IOrderBook::new(self.order_book, &self.provider);
        let escrow = order_book.escrow().block(at).call().await?;
        let reads = leases
            .iter()
            .copied()
            .map(|(order_id, rate)| self.lock(at, escrow, order_id, rate));
        stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
    }

    async fn lock(&self, at: BlockId, escrow: Address, order_id: u64, rate: u128) -> Result<U256, ReadError> {
        let order_book = IOrderBook::new(self.order_book, &self.provider);
        let order = order_book.order(order_id).block(at).call().await?;
        // A rate has 84 bits.
        let rate = U96::saturating_from(rate);
        let escrow = IEscrow::new(escrow, &self.provider);
        let lock = escrow.lockFor(rate, order.duration, order.feeSchedule);
        Ok(lock.block(at).call().await?)
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

/// Reverts of our contracts and of EigenLayer's, as sentences.
pub fn revert_decoder() -> RevertDecoder {
    Arc::new(|data: &[u8]| {
        eigenlayer::contracts::describe_revert(data)
            .map(str::to_owned)
            .or_else(|| bindings::describe_revert(data))
    })
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
