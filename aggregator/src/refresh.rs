//! Refreshing the operators' stakes: a quorum verifier with an age limit takes no answer once the last refresh of a whole
//! quorum is older than that.
//!
//! One transaction for each quorum. Aggregators do not speak to each other: each has its own age from which it acts, by its
//! address, and looks at the pending block before it sends.

use alloy::contract::Error as ContractError;
use alloy::eips::BlockNumberOrTag;
use alloy::providers::RootProvider;
use alloy::sol_types::{SolCall, SolError};
use alloy_primitives::{Address, Bytes, keccak256};
use bindings::IBlsQuorumVerifier;
use bindings::IBlsQuorumVerifier::IBlsQuorumVerifierInstance;
use bindings::standard::ICoordinatorErrors::QuorumOperatorCountMismatch;
use chain::{Call, SubmitError, Transactions};
use daemon::causes::with_causes;
use eigenlayer::contracts::IOperatorStateRetriever;
use eigenlayer::registration::Addresses;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::RefreshSettings;
use crate::follow::next_block;
use crate::metrics::{AggregatorMetrics, QuorumLabel};
use crate::verifiers::Verifiers;

/// Blocks between two looks while nothing is due: governance may name another verifier.
const LOOK_EVERY: u64 = 16;
/// Blocks before another try after a failure.
const RETRY_AFTER: u64 = 2;
/// A refresh that waits longer than this many blocks is looked at again.
const VALID_FOR: u64 = 20;
/// Between the estimate and the block it lands in, allocations may take effect, and each change of a stake costs more.
const GAS_FACTOR: u64 = 2;
/// No transaction may have more (EIP-7825).
const GAS_LIMIT: u64 = 1 << 24;

/// Why stakes were not refreshed.
#[derive(Debug, thiserror::Error)]
enum RefreshError {
    #[error("the quorum verifier or a registry cannot be read")]
    Contract(#[from] ContractError),
    #[error("{0}")]
    Submit(#[from] SubmitError),
}

/// The job.
#[derive(Debug)]
pub(crate) struct Refresher {
    pub(crate) provider: RootProvider,
    pub(crate) transactions: Transactions,
    pub(crate) verifiers: Verifiers,
    pub(crate) addresses: Addresses,
    pub(crate) settings: RefreshSettings,
    pub(crate) metrics: AggregatorMetrics,
}

impl Refresher {
    /// Looks after every block that was caught up with and in which something may be due, until `stop`.
    pub(crate) async fn run(self, mut head: watch::Receiver<Option<u64>>, stop: CancellationToken) {
        let mut next_look = 0;
        while let Some(block) = next_block(&mut head, &stop).await {
            if block < next_look {
                continue;
            }
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                outcome = self.look(block) => outcome,
            };
            next_look = match outcome {
                Ok(due) => due.clamp(block + 1, block + LOOK_EVERY),
                Err(error) if operators_changed(&error) => {
                    tracing::info!("the quorum's operators changed meanwhile; trying again in {RETRY_AFTER} blocks");
                    block + RETRY_AFTER
                }
                Err(error) => {
                    let reason = with_causes(&error);
                    tracing::warn!(
                        "cannot refresh the operators' stakes: {reason}; trying again in {RETRY_AFTER} blocks"
                    );
                    block + RETRY_AFTER
                }
            };
        }
    }

    /// Refreshes what is due. Returns the block in which something is due next.
    async fn look(&self, head: u64) -> Result<u64, RefreshError> {
        let mut next = u64::MAX;
        for verifier in self.verifiers.in_force().await? {
            let limit = u64::from(verifier.maximumStakeAge().call().await?);
            if limit == 0 {
                continue;
            }
            for quorum in verifier.quorums().call().await?.numbers {
                let refreshed = u64::from(verifier.refreshedAt(quorum, head as u32).call().await?);
                let age = head.saturating_sub(refreshed);
                let label = QuorumLabel { quorum };
                self.metrics.stake_age.get_or_create(&label).set(age as i64);
                tracing::debug!(verifier = %verifier.address(), quorum, age, limit, "age of the quorum's stakes");
                let due_age = due_age(self.transactions.sender(), quorum, limit, self.settings.at_percent);
                let due = match is_due(refreshed, head, due_age) {
                    true => self.refresh(&verifier, quorum, head, due_age).await?,
                    false => refreshed + due_age,
                };
                next = next.min(due);
            }
        }
        Ok(next)
    }

    /// Returns when it is to be looked at again.
    async fn refresh(
        &self,
        verifier: &IBlsQuorumVerifierInstance<RootProvider>,
        quorum: u8,
        head: u64,
        due_age: u64,
    ) -> Result<u64, RefreshError> {
        // Another aggregator's may be on its way.
        let pending = verifier
            .refreshedAt(quorum, u32::MAX)
            .block(BlockNumberOrTag::Pending.into());
        let pending = u64::from(pending.call().await?);
        if !is_due(pending, head, due_age) {
            return Ok(pending + due_age);
        }
        let operators = self.operators(quorum, head as u32).await?;
        if operators.is_empty() {
            tracing::debug!(quorum, "the quorum has no operators yet: there is no stake to refresh");
            return Ok(head + 1);
        }
        let count = operators.len();
        // With the verifier: calls of one label are one transaction, and each verifier notes its own refresh.
        let label = format!("refresh of quorum {quorum} at {}", verifier.address());
        let call = IBlsQuorumVerifier::refreshCall { quorum, operators };
        let call = Call::new(label, *verifier.address(), call.abi_encode()).valid_until(head + VALID_FOR);
        let estimate = self.transactions.estimate(&call).await?;
        let call = call.with_gas_limit(estimate.saturating_mul(GAS_FACTOR).min(GAS_LIMIT));
        let included = self.transactions.submit(call).await?;
        self.metrics.refreshed.inc();
        self.metrics.stake_age.get_or_create(&QuorumLabel { quorum }).set(0);
        tracing::info!(
            quorum,
            operators = count,
            block = included.block.number,
            gas = included.gas_used,
            "stakes refreshed"
        );
        Ok(included.block.number + due_age)
    }

    /// All operators of a quorum, ascending by address, as the contract wants them.
    async fn operators(&self, quorum: u8, block: u32) -> Result<Vec<Address>, ContractError> {
        let retriever = IOperatorStateRetriever::new(self.addresses.operator_state_retriever, &self.provider);
        let coordinator = self.addresses.registry_coordinator;
        let members = retriever
            .getOperatorState(coordinator, Bytes::copy_from_slice(&[quorum]), block)
            .call()
            .await?;
        let mut operators: Vec<Address> = members.into_iter().flatten().map(|member| member.operator).collect();
        operators.sort_unstable();
        operators.dedup();
        Ok(operators)
    }
}

/// Operators joined or left between the list and the call: the next list is right.
fn operators_changed(error: &RefreshError) -> bool {
    matches!(error, RefreshError::Submit(SubmitError::WouldRevert { data, .. })
        if data.starts_with(&QuorumOperatorCountMismatch::SELECTOR))
}

/// A quorum that was never refreshed takes no answer at all: that cannot wait.
fn is_due(refreshed: u64, head: u64, due_age: u64) -> bool {
    refreshed == 0 || head >= refreshed + due_age
}

/// The age from which this aggregator refreshes: `at_percent` of the limit, and by its address up to half of what is left.
fn due_age(own: Address, quorum: u8, limit: u64, at_percent: u64) -> u64 {
    let earliest = limit * at_percent / 100;
    let spread = (limit - earliest) / 2;
    let hash = keccak256([own.as_slice(), &[quorum]].concat());
    let turn = hash[..8].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    (earliest + turn % (spread + 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_refreshed_is_due_at_once_and_the_rest_at_its_age() {
        assert!(is_due(0, 5, 100));
        assert!(!is_due(10, 109, 100));
        assert!(is_due(10, 110, 100));
        // A refresh in the pending block, above the head.
        assert!(!is_due(11, 10, 1));
    }

    #[test]
    fn operators_that_joined_meanwhile_are_told_apart_from_other_reverts() {
        let reverts_with = |data: &[u8]| {
            RefreshError::Submit(SubmitError::WouldRevert {
                label: "refresh of quorum 0".to_owned(),
                reason: "any".to_owned(),
                data: Bytes::copy_from_slice(data),
            })
        };
        assert!(operators_changed(&reverts_with(&[0x8e, 0x5a, 0xee, 0xe7])));
        assert!(!operators_changed(&reverts_with(&[0xba, 0x50, 0xf9, 0x11])));
        assert!(!operators_changed(&reverts_with(&[])));
    }

    #[test]
    fn aggregators_act_at_different_ages_and_all_in_time() {
        let mut ages = std::collections::BTreeSet::new();
        for number in 0..50u8 {
            let age = due_age(Address::repeat_byte(number), 0, 1_000, 50);
            assert!((500..=750).contains(&age), "{age}");
            ages.insert(age);
        }
        assert!(ages.len() > 35, "50 aggregators share {} ages", ages.len());
        for limit in 1..20 {
            for percent in [1, 50, 90] {
                let age = due_age(Address::repeat_byte(1), 1, limit, percent);
                assert!(age >= 1 && age <= limit, "limit {limit}, {percent} %: {age}");
            }
        }
    }
}
