//! Proving the aggregate key of all operators on chain, once for every change of the operators: an answer that all of them
//! sign then need not prove it again.
//!
//! Nothing waits for it, so it waits for everything: until the operators were the same for a while, until no response is on
//! its way, and until it is this aggregator's turn.

use std::sync::Arc;

use alloy::contract::Error as ContractError;
use alloy::eips::BlockNumberOrTag;
use alloy::sol_types::SolCall;
use alloy_primitives::keccak256;
use avs::bn254::{PublicKey, sum_keys};
use bindings::IBlsQuorumVerifier;
use chain::{Call, SubmitError, Transactions};
use daemon::causes::with_causes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::collect::BlockState;
use crate::config::ProveKeySettings;
use crate::follow::next_block;
use crate::metrics::AggregatorMetrics;
use crate::respond::{g1, g2};
use crate::verifiers::Verifiers;

/// Aggregators take turns by this many blocks.
const TURNS: u64 = 3;
/// A proof that waits longer than this many blocks is looked at again.
const VALID_FOR: u64 = 20;

/// Why the key was not proven.
#[derive(Debug, thiserror::Error)]
enum ProveKeyError {
    #[error("the quorum verifier cannot be read")]
    Contract(#[from] ContractError),
    #[error("{0}")]
    Submit(#[from] SubmitError),
}

/// When it is worth a look: pure, so that a test can walk through the blocks.
#[derive(Debug)]
struct Patience {
    settle_blocks: u64,
    turn: u64,
    /// The key of all operators, and the block since which it is that.
    current: Option<(PublicKey, u64)>,
    /// Known to be on chain.
    proven: Option<PublicKey>,
}

impl Patience {
    /// The key to prove in this block, if it is time.
    fn due(&mut self, key: Option<PublicKey>, head: u64, responding: bool) -> Option<PublicKey> {
        let key = key?;
        let since = match self.current {
            Some((current, since)) if current == key => since,
            _ => head,
        };
        self.current = Some((key, since));
        let settled = head >= since + self.settle_blocks;
        let due = settled && !responding && self.proven != Some(key) && head % TURNS == self.turn;
        due.then_some(key)
    }
}

/// The job.
#[derive(Debug)]
pub(crate) struct KeyProver {
    verifiers: Verifiers,
    transactions: Transactions,
    metrics: AggregatorMetrics,
    patience: Patience,
}

impl KeyProver {
    pub(crate) fn new(
        verifiers: Verifiers,
        transactions: Transactions,
        settings: &ProveKeySettings,
        metrics: AggregatorMetrics,
    ) -> Self {
        let patience = Patience {
            settle_blocks: settings.settle_blocks,
            turn: u64::from(keccak256(transactions.sender())[1]) % TURNS,
            current: None,
            proven: None,
        };
        Self {
            verifiers,
            transactions,
            metrics,
            patience,
        }
    }

    /// Looks after every block that was caught up with, until `stop`. The operators are those of the last close block: no
    /// read is made for this alone.
    pub(crate) async fn run(
        mut self,
        mut head: watch::Receiver<Option<u64>>,
        state: watch::Receiver<Option<Arc<BlockState>>>,
        responding: watch::Receiver<usize>,
        stop: CancellationToken,
    ) {
        let mut newest: Option<(u64, Option<PublicKey>)> = None;
        while let Some(block) = next_block(&mut head, &stop).await {
            let Some(state) = state.borrow().clone() else {
                continue;
            };
            let read_at = state.block.number;
            if newest.is_none_or(|(known, _)| known != read_at) {
                newest = Some((read_at, key_of_all(&state)));
            }
            let key = newest.and_then(|(_, key)| key);
            let busy = *responding.borrow() > 0;
            let Some(key) = self.patience.due(key, block, busy) else {
                continue;
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.prove(key, read_at as u32, block) => outcome,
            };
            match outcome {
                Ok(()) => self.patience.proven = Some(key),
                Err(error) => {
                    let reason = with_causes(&error);
                    tracing::warn!("cannot prove the operators' aggregate key: {reason}; trying again later");
                    // As long as it takes to settle, so that a failure is not repeated with every turn.
                    self.patience.current = Some((key, block));
                }
            }
        }
    }

    async fn prove(&self, key: PublicKey, close_block: u32, head: u64) -> Result<(), ProveKeyError> {
        let Some(verifier) = self.verifiers.at(close_block).await? else {
            return Ok(());
        };
        let (key_g1, key_g2) = (g1(key.g1()), g2(key.g2()));
        let known = verifier
            .isProvenKey(key_g1.clone(), key_g2.clone())
            .block(BlockNumberOrTag::Pending.into());
        if known.call().await? {
            return Ok(());
        }
        let call = IBlsQuorumVerifier::proveKeyCall {
            keyG1: key_g1,
            keyG2: key_g2,
        };
        let label = format!("prove-key/{}", key.operator_id());
        let call = Call::new(label, *verifier.address(), call.abi_encode()).valid_until(head + VALID_FOR);
        let included = self.transactions.submit(call).await?;
        self.metrics.keys_proven.inc();
        tracing::info!(
            block = included.block.number,
            gas = included.gas_used,
            "the operators' aggregate key is proven on chain"
        );
        Ok(())
    }
}

/// What all operators together sign with, each as often as quorums count it.
fn key_of_all(state: &BlockState) -> Option<PublicKey> {
    let members = state.operators.iter();
    sum_keys(members.map(|(id, member)| (&member.key, state.quorums.multiplicity(id))))
}

#[cfg(test)]
mod tests {
    use avs::bn254::{Aggregate, SignedBy, sum_g1};

    use super::*;
    use crate::collect::fixture::{self, Operator};

    #[test]
    fn the_key_of_all_is_the_sum_of_the_quorums_keys_and_what_all_sign_with() {
        let operators = Operator::many(3);
        let quorums = [(66, vec![Some(1); 3]), (66, vec![Some(1), None, Some(1)])];
        let state = fixture::state(fixture::block(1, 0), &operators, &quorums);
        let key = key_of_all(&state).expect("there are operators");
        let quorum_keys = state.quorum_keys().expect("points");
        assert_eq!(key.g1(), sum_g1(&quorum_keys).expect("points"));
        let digest = alloy_primitives::B256::repeat_byte(5);
        let mut aggregate = Aggregate::empty();
        for operator in &operators {
            let signature = operator.secret.sign(digest);
            let signed = SignedBy {
                key: &operator.member.key,
                signature: &signature,
            };
            aggregate.add(signed, state.quorums.multiplicity(&operator.id));
        }
        assert_eq!(key.g2(), aggregate.key_g2());
        assert!(aggregate.verify(digest));
    }

    #[test]
    fn it_waits_until_the_operators_settled_no_response_is_on_its_way_and_for_its_turn() {
        let [one, other] = [1, 2].map(|number| Operator::new(number).member.key);
        let mut patience = Patience {
            settle_blocks: 6,
            turn: 0,
            current: None,
            proven: None,
        };
        assert_eq!(patience.due(None, 9, false), None, "nobody is known yet");
        for head in 10..16 {
            assert_eq!(patience.due(Some(one), head, false), None, "block {head}: not settled");
        }
        assert_eq!(patience.due(Some(one), 16, false), None, "another aggregator's turn");
        assert_eq!(patience.due(Some(one), 18, true), None, "a response is on its way");
        assert_eq!(patience.due(Some(one), 21, false), Some(one));
        patience.proven = Some(one);
        assert_eq!(patience.due(Some(one), 24, false), None, "it is proven");
        assert_eq!(patience.due(Some(other), 27, false), None, "the operators changed");
        assert_eq!(patience.due(Some(other), 33, false), Some(other));
    }
}
