//! What is read from the chain: answers in logs, quorums and operators as of a close block.

use std::collections::BTreeMap;

use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use alloy_primitives::{Address, B256};
use avs::quorum::{Quorum, QuorumError, Quorums};
use bindings::{IBlsQuorumVerifier, IMatchingTaskManager, IQuorumVerifier};
use chain::network::Network;
use chain::{BlockReference, Transactions};
use daemon::causes::with_causes;
use eigenlayer::registration::Addresses;
use eigenlayer::registry::{OperatorState, Registry, RegistryError};
use tokio::sync::Mutex;

use crate::collect::{AnsweredOnChain, BlockState, Member, Response, ResponseOutcome, StateRead, TaskId};
use crate::respond::Responder;

/// Verifiers whose quorums are remembered; governance names a new one rarely.
const VERIFIER_LIMIT: usize = 16;

/// What the service asks of the chain.
pub trait ChainAccess: Send + Sync + 'static {
    /// Quorums and operators as of a block.
    fn read_state(&self, block: BlockReference) -> impl Future<Output = StateRead> + Send;

    /// The canonical hash of a block far below the head, or nothing if it cannot be read now.
    fn read_block(&self, number: u64) -> impl Future<Output = Option<B256>> + Send;

    /// Takes back a response that is on its way.
    fn abandon(&self, task: TaskId) -> impl Future<Output = ()> + Send;

    /// Posts a response and waits until it is in a block, or somebody else's is.
    fn respond(&self, response: &Response) -> impl Future<Output = ResponseOutcome> + Send;
}

/// The network's contracts.
#[derive(Debug)]
pub(crate) struct NetworkAccess {
    provider: RootProvider,
    reader: Mutex<StateReader>,
    responder: Responder,
}

impl NetworkAccess {
    pub(crate) fn new(
        provider: RootProvider,
        transactions: Transactions,
        network: &Network,
        response_window: u64,
    ) -> Self {
        Self {
            reader: Mutex::new(StateReader::new(provider.clone(), network)),
            responder: Responder::new(provider.clone(), transactions, network, response_window),
            provider,
        }
    }
}

impl ChainAccess for NetworkAccess {
    async fn read_state(&self, block: BlockReference) -> StateRead {
        match self.reader.lock().await.read(block).await {
            Ok(read) => read,
            Err(error) => {
                let reason = with_causes(&error);
                tracing::warn!(
                    block = block.number,
                    "cannot read the operators' stakes: {reason}; trying again"
                );
                StateRead::Unavailable
            }
        }
    }

    async fn read_block(&self, number: u64) -> Option<B256> {
        match self.provider.get_block_by_number(number.into()).await {
            Ok(block) => block.map(|block| block.header.hash),
            Err(error) => {
                tracing::warn!(number, "cannot read a block: {}; trying again", with_causes(&error));
                None
            }
        }
    }

    async fn abandon(&self, task: TaskId) {
        self.responder.abandon(task).await;
    }

    async fn respond(&self, response: &Response) -> ResponseOutcome {
        self.responder.respond(response).await
    }
}

/// First topic of the task manager's log that is followed.
pub(crate) const ANSWERED: B256 = IMatchingTaskManager::TaskResponded::SIGNATURE_HASH;

/// Why the stakes of a close block could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("the task manager or its quorum verifier did not answer")]
    Contract(#[from] alloy::contract::Error),
    #[error("the operators' stakes could not be read")]
    Registry(#[from] RegistryError),
    #[error("the quorum verifier {verifier} names no usable quorums")]
    Quorums { verifier: Address, source: QuorumError },
}

/// An answer in the logs of the task manager.
pub(crate) fn answer(log: &Log, task_manager: Address) -> Option<AnsweredOnChain> {
    if log.inner.address != task_manager {
        return None;
    }
    let event = IMatchingTaskManager::TaskResponded::decode_log(&log.inner).ok()?;
    Some(AnsweredOnChain {
        task: TaskId {
            close_block: event.closeBlock,
            chunk: event.chunk,
        },
        responder: event.responder,
        matches_hash: event.matchesHash,
    })
}

/// Reads quorums and operators of close blocks.
#[derive(Debug)]
struct StateReader {
    provider: RootProvider,
    task_manager: Address,
    registry: Registry<RootProvider>,
    /// Numbers and thresholds by verifier, or nothing where it has no quorums: neither ever changes.
    quorums: BTreeMap<Address, Option<Vec<(u8, u8)>>>,
}

impl StateReader {
    fn new(provider: RootProvider, network: &Network) -> Self {
        Self {
            registry: Registry::new(provider.clone(), Addresses::from(network)),
            task_manager: network.contracts.task_manager,
            provider,
            quorums: BTreeMap::new(),
        }
    }

    /// Four calls at most: the verifier, what it is and its quorums the first time, the operators.
    async fn read(&mut self, block: BlockReference) -> Result<StateRead, StateError> {
        let number = block.number as u32;
        let manager = IMatchingTaskManager::new(self.task_manager, &self.provider);
        let verifier = manager.quorumVerifierAt(number).call().await?;
        if !self.quorums.contains_key(&verifier) {
            let found = self.quorums_of(verifier).await?;
            if self.quorums.len() >= VERIFIER_LIMIT {
                self.quorums.clear();
            }
            self.quorums.insert(verifier, found);
        }
        let Some(quorums) = &self.quorums[&verifier] else {
            return Ok(StateRead::SingleMatchmaker);
        };
        let numbers: Vec<u8> = quorums.iter().map(|(number, _)| *number).collect();
        let state = self.registry.operator_state(number, &numbers).await?;
        let state = block_state(block, quorums, state).map_err(|source| StateError::Quorums { verifier, source })?;
        Ok(StateRead::Quorums(Box::new(state)))
    }

    async fn quorums_of(&self, verifier: Address) -> Result<Option<Vec<(u8, u8)>>, StateError> {
        if IQuorumVerifier::new(verifier, &self.provider).capped().call().await? {
            return Ok(None);
        }
        let found = IBlsQuorumVerifier::new(verifier, &self.provider)
            .quorums()
            .call()
            .await?;
        Ok(Some(found.numbers.into_iter().zip(found.thresholds).collect()))
    }
}

fn block_state(block: BlockReference, quorums: &[(u8, u8)], state: OperatorState) -> Result<BlockState, QuorumError> {
    let quorums = quorums.iter().map(|(number, threshold)| {
        let stakes = state
            .operators
            .iter()
            .filter_map(|(id, operator)| Some((*id, *operator.stakes.get(number)?)));
        Quorum::new(*number, *threshold, stakes.collect())
    });
    let quorums = Quorums::new(quorums.collect::<Result<_, _>>()?)?;
    let operators = state.operators.into_iter().map(|(id, operator)| {
        let member = Member {
            address: operator.address,
            key: operator.key,
        };
        (id, member)
    });
    Ok(BlockState::new(block, quorums, operators.collect()))
}
