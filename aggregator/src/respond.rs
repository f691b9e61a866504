//! Posting a response: the quorum proof, and what became of it.

use alloy::providers::RootProvider;
use alloy::sol_types::{SolCall, SolError};
use alloy_primitives::Address;
use avs::bn254::{G1Point, G2Point, PointError, hash_to_g1_roots};
use avs::dispute;
use bindings::{IBlsQuorumVerifier, IMatchingTaskManager, Task, encode_bls_proof};
use chain::network::Network;
use chain::{Call, SubmitError, Transactions};
use daemon::causes::with_causes;
use eigenlayer::registration::Addresses;
use eigenlayer::registry::{ProofIndices, Registry, RegistryError};

use crate::collect::{Response, ResponseOutcome, TaskId};

/// Gas of an answer without its orders, of each order, and of each non-signer in each quorum, with some room
/// (`contracts/snapshots`).
const ANSWER_GAS: u64 = 300_000;
const ORDER_GAS: u64 = 24_000;
const NON_SIGNER_GAS: u64 = 20_000;

/// Why a response could not be posted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RespondError {
    #[error("the indices of the proof could not be read")]
    Registry(#[from] RegistryError),
    #[error("a registered key is no point")]
    Point(#[from] PointError),
    #[error("{0}")]
    Submit(#[from] SubmitError),
}

/// Posts responses with one key.
#[derive(Debug, Clone)]
pub(crate) struct Responder {
    provider: RootProvider,
    transactions: Transactions,
    addresses: Addresses,
    task_manager: Address,
    response_window: u64,
}

impl Responder {
    pub(crate) fn new(
        provider: RootProvider,
        transactions: Transactions,
        network: &Network,
        response_window: u64,
    ) -> Self {
        Self {
            provider,
            transactions,
            addresses: Addresses::from(network),
            task_manager: network.contracts.task_manager,
            response_window,
        }
    }

    /// Posts a response and waits until it is in a block, or somebody else's is.
    pub(crate) async fn respond(&self, response: &Response) -> ResponseOutcome {
        let error = match self.post(response).await {
            Ok(included) => {
                tracing::info!(
                    task = %response.task,
                    block = included.block.number,
                    gas = included.gas_used,
                    non_signers = response.non_signers.len(),
                    "response included"
                );
                return ResponseOutcome::Included;
            }
            Err(error) => error,
        };
        let block = self.answered_at(response).await;
        if block.is_none() && !is_answered_in_pending(&error) {
            return ResponseOutcome::Failed(with_causes(&error));
        }
        tracing::debug!(task = %response.task, "another aggregator was faster");
        ResponseOutcome::AnsweredAlready { block }
    }

    /// Takes back a response that is not in a block yet: reverting would cost more.
    pub(crate) async fn abandon(&self, task: TaskId) {
        self.transactions.cancel(&label(task)).await;
    }

    async fn post(&self, response: &Response) -> Result<chain::Included, RespondError> {
        let block = response.state.block.number as u32;
        let indices = Registry::new(&self.provider, self.addresses.clone())
            .proof_indices(block, &response.state.quorum_numbers(), &response.non_signers)
            .await?;
        let call = IMatchingTaskManager::respondCall {
            task: Task {
                closeBlock: response.task.close_block,
                closeBlockHash: response.close_block_hash,
                chunk: response.task.chunk,
                paramsVersion: response.params_version,
            },
            matches: response.matches.to_vec(),
            proof: encode_bls_proof(&proof(response, indices)?, &hash_to_g1_roots(response.digest)).into(),
        };
        // Tried at the pending block: an answer that is already there costs nothing.
        let call = Call::new(label(response.task), self.task_manager, call.abi_encode())
            .valid_until(u64::from(response.task.close_block) + self.response_window);
        let usual = call.clone().with_gas_limit(usual_gas(response));
        match self.transactions.submit(usual).await.map_err(RespondError::from) {
            // It may be the gas: an estimate tells.
            Err(error) if was_tried_only(&error) && !is_answered_in_pending(&error) => {
                Ok(self.transactions.submit(call).await?)
            }
            outcome => outcome,
        }
    }

    /// The block whose answer was faster, if there is one.
    async fn answered_at(&self, response: &Response) -> Option<u64> {
        let manager = IMatchingTaskManager::new(self.task_manager, &self.provider);
        let answered = manager.answeredAt(response.task.close_block, response.task.chunk);
        let block = answered.call().await.ok()?;
        (block != 0).then_some(u64::from(block))
    }
}

fn label(task: TaskId) -> String {
    format!("respond/{task}")
}

/// Gas that is enough for almost every answer. An endpoint tries a call a dozen times to estimate its gas, each time on top of all
/// that waits in its pool: with many tasks in one block that took seconds.
fn usual_gas(response: &Response) -> u64 {
    let orders = dispute::entries(&response.matches).map_or(0, |entries| entries.len()) as u64;
    let stakes = (response.non_signers.len() * response.state.quorum_numbers().len()) as u64;
    ANSWER_GAS + ORDER_GAS * orders + NON_SIGNER_GAS * stakes
}

/// Whether a call was refused before it was sent.
fn was_tried_only(error: &RespondError) -> bool {
    matches!(
        error,
        RespondError::Submit(SubmitError::WouldRevert { .. } | SubmitError::Refused { .. })
    )
}

/// Whether the trial at the pending block found an answer, perhaps of a transaction that is not in a block yet.
fn is_answered_in_pending(error: &RespondError) -> bool {
    matches!(error, RespondError::Submit(SubmitError::WouldRevert { data, .. })
        if data.starts_with(&IMatchingTaskManager::TaskAlreadyAnswered::SELECTOR))
}

/// The proof as the verifier reads it. Sums count an operator once for each quorum it is in, as the quorums' keys do.
pub(crate) fn proof(response: &Response, indices: ProofIndices) -> Result<IBlsQuorumVerifier::BlsProof, PointError> {
    let non_signers = response
        .non_signers
        .iter()
        .filter_map(|id| response.state.operators.get(id))
        .map(|member| g1(member.key.g1()));
    Ok(IBlsQuorumVerifier::BlsProof {
        nonSignerQuorumBitmapIndices: indices.non_signer_quorum_bitmap_indices,
        nonSignerPubkeys: non_signers.collect(),
        quorumApks: response.state.quorum_keys()?.into_iter().map(g1).collect(),
        apkG2: g2(response.aggregate.key_g2()),
        sigma: g1(response.aggregate.signature()),
        quorumApkIndices: indices.quorum_apk_indices,
        totalStakeIndices: indices.total_stake_indices,
        nonSignerStakeIndices: indices.non_signer_stake_indices,
    })
}

pub(crate) fn g1(point: G1Point) -> IBlsQuorumVerifier::G1Point {
    IBlsQuorumVerifier::G1Point { X: point.x, Y: point.y }
}

pub(crate) fn g2(point: G2Point) -> IBlsQuorumVerifier::G2Point {
    IBlsQuorumVerifier::G2Point { X: point.x, Y: point.y }
}
