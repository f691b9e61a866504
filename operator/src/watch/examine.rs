//! Recomputes an answer that stands on chain, and disputes what is wrong about it: challenges first, because the lease must be
//! undone inside its payout hold, then the signers' slashing.

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider as _;
use alloy::providers::ext::DebugApi as _;
use alloy::rpc::types::trace::geth::{CallConfig, GethDebugTracingOptions};
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::{SolCall as _, SolError as _, SolEvent as _, SolValue as _};
use alloy::transports::TransportError;
use avs::dispute::{self, entries};
use avs::task::{TaskOrder, match_order};
use avs::terms::TermsError;
use bindings::IMatchingDisputes::{self, Answer, Inputs};
use bindings::{IBlsQuorumVerifier, IMatchingTaskManager, OrderTerms};
use chain::{Call, SubmitError};
use eigenlayer::registry::{Registry, RegistryError};

use super::Watcher;
use super::plan::{Answered, Outcome};
use crate::answers::GivenAnswer;
use crate::chain::{Decider, ReadError};
use crate::tasks::OpenOrder;

/// Signers slashed in one transaction. Each costs up to 250 000 gas a quorum, its refresh included, and a transaction has at
/// most 2^24.
const SLASHED_AT_ONCE: usize = 16;

/// Gas left for the challenger's reward, which the disputes contract pays in a call of its own.
const REWARD_GAS: u64 = 500_000;
/// The most a transaction may use (EIP-7825).
const GAS_MAXIMUM: u64 = 1 << 24;

/// Why an answer is not dealt with yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExamineError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the chain did not answer")]
    Rpc(#[from] TransportError),
    #[error("the contracts did not answer")]
    Contract(#[from] alloy::contract::Error),
    #[error("the operators of the close block cannot be read")]
    Registry(#[from] RegistryError),
    #[error("the terms of an order do not fit the contracts")]
    Terms(#[from] TermsError),
    #[error("block {0} does not hold the answer any more")]
    Moved(u64),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

/// An answer with what its commitment says about it.
struct Opened {
    given: GivenAnswer,
    signatories: B256,
    decider: Decider,
    verdict: B256,
}

impl Watcher {
    /// Looks at one answer.
    pub(super) async fn examine(&self, answered: &Answered) -> Result<Outcome, ExamineError> {
        let (close_block, chunk) = (answered.close_block, answered.chunk);
        let log = self.log_of(answered).await?;
        let Some(opened) = self.open(&log).await? else {
            self.metrics.unreadable.inc();
            tracing::error!(
                close_block,
                chunk,
                transaction = ?log.transaction_hash,
                "an answer cannot be read: it was not sent to the task manager directly, and no endpoint traces calls \
                 (debug_traceTransaction). Nobody here can tell whether it is right: check it by other means"
            );
            return Ok(Outcome::Done);
        };
        let wrong = self.wrong_orders(answered, &opened).await?;
        self.metrics.examined.inc();
        if wrong.is_empty() {
            tracing::debug!(close_block, chunk, "the answer is right");
            return Ok(Outcome::Done);
        }
        self.metrics.wrong.inc_by(wrong.len() as u64);
        let orders: Vec<u64> = wrong.iter().map(|order| order.order_id).collect();
        tracing::error!(close_block, chunk, ?orders, verdict = %opened.verdict, "a wrong answer stands on chain");
        let Some(disputes) = self.market.disputes().await? else {
            tracing::error!("the network has no disputes contract: the answer cannot be challenged");
            return Ok(Outcome::Done);
        };
        let mut outcome = Outcome::Done;
        for order in &wrong {
            if !self.challenge(disputes, answered, &opened, order).await? {
                outcome = Outcome::Again;
            }
        }
        self.slash(disputes, &opened).await?;
        Ok(outcome)
    }

    async fn log_of(&self, answered: &Answered) -> Result<Log, ExamineError> {
        let filter = Filter::new()
            .address(self.market.task_manager())
            .event_signature(IMatchingTaskManager::TaskResponded::SIGNATURE_HASH)
            .topic1(U256::from(answered.close_block))
            .topic2(U256::from(answered.chunk))
            .from_block(answered.block)
            .to_block(answered.block);
        let found = self.market.provider().get_logs(&filter).await?;
        found.into_iter().next().ok_or(ExamineError::Moved(answered.block))
    }

    /// Finds the call that gave the answer: the one that its commitment is about. `None` if no call that can be seen is.
    async fn open(&self, log: &Log) -> Result<Option<Opened>, ExamineError> {
        let Ok(event) = IMatchingTaskManager::TaskResponded::decode_log_data(log.data()) else {
            return Ok(None);
        };
        let decider = self.market.decider(event.closeBlock).await?;
        let Some(hash) = log.transaction_hash else {
            return Ok(None);
        };
        let matching = |calldata: &[u8]| {
            let given = GivenAnswer::read(calldata, &self.domain).ok()?;
            let signatories = match decider {
                Decider::Quorum { .. } => given.quorum_signatories(),
                Decider::Matchmaker { matchmaker, .. } => dispute::matchmaker_signatories(event.closeBlock, matchmaker),
            };
            let verdict = dispute::verdict(given.digest, given.task.closeBlock, signatories);
            let is_it = given.task.closeBlock == event.closeBlock
                && given.task.chunk == event.chunk
                && dispute::commitment(verdict) == U256::from(event.commitment);
            is_it.then_some(Opened {
                given,
                signatories,
                decider,
                verdict,
            })
        };
        let provider = self.market.provider();
        let transaction = provider.get_transaction_by_hash(hash).await?;
        let transaction = transaction.ok_or(ExamineError::Moved(log.block_number.unwrap_or_default()))?;
        let opened = matching(alloy::consensus::Transaction::input(&transaction));
        if opened.is_some() {
            return Ok(opened);
        }
        // Through a contract wallet, perhaps several answers at once.
        let tracing = GethDebugTracingOptions::call_tracer(CallConfig::default());
        match provider.debug_trace_transaction(hash, tracing).await {
            Ok(trace) => {
                let Ok(frame) = trace.try_into_call_frame() else {
                    return Ok(None);
                };
                let to_task_manager = frame
                    .iter()
                    .filter(|frame| frame.to == Some(self.market.task_manager()));
                Ok(to_task_manager.into_iter().find_map(|frame| matching(&frame.input)))
            }
            // The node answers that it does not trace.
            Err(error) if error.as_error_resp().is_some() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Orders of the answer that the rule answers otherwise, with the bids as the chain has them.
    async fn wrong_orders(&self, answered: &Answered, opened: &Opened) -> Result<Vec<OpenOrder>, ExamineError> {
        // The task manager takes no answer that breaks off.
        let entries = entries(&opened.given.matches).unwrap_or_default();
        let hash = opened.given.task.closeBlockHash;
        let mut wrong = Vec::new();
        for entry in entries {
            let known = answered.rounds.iter().find(|order| order.order_id == entry.order_id);
            let Some(order) = known else {
                self.note_unknown(answered, entry.order_id).await?;
                continue;
            };
            let Some(parameters) = self.market.parameters(order.terms.params_version()).await? else {
                continue;
            };
            let is_right = |order: &OpenOrder| {
                let right = match_order(&parameters, self.domain.chain_id, hash, &task_order(order));
                entry.is_right(&right).unwrap_or(false)
            };
            if is_right(order) {
                continue;
            }
            // Before anybody is accused, the bids are asked for by themselves.
            let mut order = order.clone();
            order.bids = self.market.bids_of(&order).await?;
            if !is_right(&order) {
                wrong.push(order);
            }
        }
        Ok(wrong)
    }

    /// An order that was never in this close block is passed over by the order book, and nothing comes of it. One that was, and
    /// is not known here, would be missed.
    async fn note_unknown(&self, answered: &Answered, order_id: u64) -> Result<(), ExamineError> {
        let close_block = answered.close_block;
        let stored = self.market.order(order_id).await?;
        if stored.closeBlock != close_block {
            tracing::warn!(
                order_id,
                close_block,
                "the answer names an order of another close block"
            );
            return Ok(());
        }
        self.metrics.unreadable.inc();
        tracing::error!(
            order_id,
            close_block,
            "the answer is about an order whose logs were not followed: nobody here can tell whether it is right"
        );
        Ok(())
    }

    /// Proves the answer wrong about one order. Returns whether that is done, by whomever.
    async fn challenge(
        &self,
        disputes: Address,
        answered: &Answered,
        opened: &Opened,
        order: &OpenOrder,
    ) -> Result<bool, ExamineError> {
        let order_id = order.order_id;
        let Some(transactions) = &self.transactions else {
            tracing::error!(
                order_id,
                "it is not challenged, because no account is configured to send it from; set keys.ecdsa"
            );
            return Ok(true);
        };
        let Ok(bid_order) = dispute::bid_order(&order.bids) else {
            return Ok(true);
        };
        let call = IMatchingDisputes::challengeCall {
            orderId: order_id,
            inputs: Inputs {
                terms: OrderTerms::try_from(&order.terms)?,
                bids: dispute::bid_words(&order.bids),
                bidOrder: bid_order.into(),
            },
            answer: Answer {
                task: opened.given.task.clone(),
                matches: opened.given.matches.clone(),
                signatories: opened.signatories,
            },
        };
        let label = format!("challenge/{}/{}/{order_id}", answered.close_block, answered.chunk);
        let call = Call::new(label, disputes, call.abi_encode()).valid_until(answered.until);
        // A reward that runs out of gas is missed and reverts nothing, so that an estimate leaves none for it.
        let submitted = match transactions.estimate(&call).await {
            Ok(estimate) => {
                let limit = estimate.saturating_add(estimate / 5 + REWARD_GAS);
                transactions.submit(call.with_gas_limit(limit.min(GAS_MAXIMUM))).await
            }
            Err(error) => Err(error),
        };
        match submitted {
            Ok(included) => {
                self.metrics.challenges.inc();
                self.note_reward(&included.logs);
                tracing::warn!(
                    order_id,
                    block = included.block.number,
                    gas = included.gas_used,
                    "challenged: the answer is proven wrong"
                );
                Ok(true)
            }
            Err(SubmitError::WouldRevert { data, .. })
                if data.starts_with(&IMatchingDisputes::AlreadyProven::SELECTOR) =>
            {
                tracing::info!(order_id, "somebody else proved it");
                Ok(true)
            }
            Err(SubmitError::WouldRevert { reason, data, .. })
                if data.starts_with(&IMatchingDisputes::AnswerIsRight::SELECTOR) =>
            {
                self.metrics.disagreements.inc();
                tracing::error!(
                    order_id,
                    "the rule on chain says that the answer is right, ours does not: {reason}"
                );
                Ok(true)
            }
            Err(error) => {
                tracing::error!(order_id, "not challenged yet: {error}");
                Ok(false)
            }
        }
    }

    /// Slashes everybody who signed an answer that is proven wrong and was not slashed for it yet.
    async fn slash(&self, disputes: Address, opened: &Opened) -> Result<(), ExamineError> {
        if self.transactions.is_none() {
            return Ok(());
        }
        let contract = IMatchingDisputes::new(disputes, self.market.provider());
        if contract.verdictOf(opened.verdict).call().await?.provenAt == 0 {
            return Ok(());
        }
        let mut left = Vec::new();
        for operator in self.signers(opened).await? {
            if !contract.isSlashed(opened.verdict, operator).call().await? {
                left.push(operator);
            }
        }
        let mut batches: Vec<Vec<Address>> = left.chunks(SLASHED_AT_ONCE).map(<[_]>::to_vec).collect();
        while let Some(operators) = batches.pop() {
            match self.slash_batch(disputes, opened, &operators).await {
                Ok(()) => {}
                // One of them cannot be slashed (it left, or somebody was faster): the others are, without it.
                Err(SubmitError::WouldRevert { .. } | SubmitError::Reverted { .. }) if operators.len() > 1 => {
                    let (first, second) = operators.split_at(operators.len() / 2);
                    batches.extend([first.to_vec(), second.to_vec()]);
                }
                Err(SubmitError::WouldRevert { reason, data, .. }) => {
                    if !data.starts_with(&IMatchingDisputes::AlreadySlashed::SELECTOR) {
                        tracing::error!(operator = %operators[0], "a signer of the wrong answer cannot be slashed: {reason}");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn slash_batch(&self, disputes: Address, opened: &Opened, operators: &[Address]) -> Result<(), SubmitError> {
        let Some(transactions) = &self.transactions else {
            return Ok(());
        };
        let evidence = match opened.decider {
            Decider::Quorum { .. } => opened.given.non_signers.abi_encode().into(),
            Decider::Matchmaker { .. } => Bytes::new(),
        };
        let call = IMatchingDisputes::slashCall {
            digest: opened.given.digest,
            closeBlock: opened.given.task.closeBlock,
            signatories: opened.signatories,
            operators: operators.to_vec(),
            evidence,
        };
        let label = format!("slash/{}/{}/{}", opened.verdict, operators[0], operators.len());
        let included = transactions
            .submit(Call::new(label, disputes, call.abi_encode()))
            .await?;
        self.metrics.slashed.inc_by(operators.len() as u64);
        tracing::warn!(
            ?operators,
            block = included.block.number,
            gas = included.gas_used,
            "slashed"
        );
        Ok(())
    }

    /// Who signed: everybody in a quorum at the close block but those that the proof names, ascending.
    async fn signers(&self, opened: &Opened) -> Result<Vec<Address>, ExamineError> {
        let verifier = match opened.decider {
            Decider::Matchmaker { matchmaker, .. } => return Ok(vec![matchmaker]),
            Decider::Quorum { verifier } => verifier,
        };
        let provider = self.market.provider();
        let quorums = IBlsQuorumVerifier::new(verifier, provider).quorums().call().await?;
        let state = Registry::new(provider, self.registries.clone())
            .operator_state(opened.given.task.closeBlock, &quorums.numbers)
            .await?;
        let mut signers: Vec<Address> = state
            .operators
            .into_values()
            .filter(|operator| !opened.given.non_signers.contains(&operator.id))
            .map(|operator| operator.address)
            .collect();
        signers.sort_unstable();
        Ok(signers)
    }
}

pub(super) fn task_order(order: &OpenOrder) -> TaskOrder<'_> {
    TaskOrder {
        order_id: order.order_id,
        terms: &order.terms,
        bids: &order.bids,
    }
}
