//! Quorums and operators as of one close block: read once, shared by its tasks.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::Address;
use avs::bn254::{G1Point, PointError, PublicKey, sum_g1};
use avs::quorum::{OperatorId, Quorums, Tally};
use chain::BlockReference;

/// An operator of any quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub address: Address,
    pub key: PublicKey,
}

/// All that a quorum proof needs of a block, but the indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockState {
    pub block: BlockReference,
    pub quorums: Quorums,
    pub operators: BTreeMap<OperatorId, Member>,
    /// Each quorum with nothing signed.
    empty: Vec<Tally>,
}

/// Stake that signed, per quorum in their order.
pub(super) type Stakes = Vec<u128>;

impl BlockState {
    pub fn new(block: BlockReference, quorums: Quorums, operators: BTreeMap<OperatorId, Member>) -> Self {
        let empty = quorums.tally(&BTreeSet::new());
        Self {
            block,
            quorums,
            operators,
            empty,
        }
    }

    pub fn quorum_numbers(&self) -> Vec<u8> {
        self.quorums.iter().map(avs::quorum::Quorum::number).collect()
    }

    /// Aggregate key of every quorum, in their order.
    ///
    /// # Errors
    /// Never with keys that were parsed.
    pub fn quorum_keys(&self) -> Result<Vec<G1Point>, PointError> {
        self.quorums
            .iter()
            .map(|quorum| {
                let keys: Vec<G1Point> = quorum
                    .stakes()
                    .keys()
                    .filter_map(|id| self.operators.get(id))
                    .map(|member| member.key.g1())
                    .collect();
                sum_g1(&keys)
            })
            .collect()
    }

    pub(super) fn no_stake(&self) -> Stakes {
        vec![0; self.empty.len()]
    }

    pub(super) fn add(&self, stakes: &mut Stakes, operator: &OperatorId) {
        for (sum, quorum) in stakes.iter_mut().zip(self.quorums.iter()) {
            *sum += quorum.stakes().get(operator).copied().unwrap_or_default();
        }
    }

    pub(super) fn subtract(&self, stakes: &mut Stakes, operator: &OperatorId) {
        for (sum, quorum) in stakes.iter_mut().zip(self.quorums.iter()) {
            *sum -= quorum.stakes().get(operator).copied().unwrap_or_default();
        }
    }

    pub(super) fn tally(&self, stakes: &Stakes) -> Vec<Tally> {
        let tallies = self.empty.iter().zip(stakes);
        tallies
            .map(|(empty, signed)| Tally {
                signed: *signed,
                ..*empty
            })
            .collect()
    }

    pub(super) fn is_reached(&self, stakes: &Stakes) -> bool {
        self.tally(stakes).iter().all(Tally::is_reached)
    }

    /// Share of the stake in millionths, summed over the quorums: what answers are compared by.
    pub(super) fn weight(&self, stakes: &Stakes) -> u128 {
        let shares = self.tally(stakes).into_iter().map(|tally| match tally.total {
            0 => 0,
            total => tally.signed * 1_000_000 / total,
        });
        shares.sum()
    }

    pub(super) fn address(&self, operator: &OperatorId) -> Address {
        self.operators
            .get(operator)
            .map_or(Address::ZERO, |member| member.address)
    }
}
