//! Who must sign: stakes, thresholds, and the lists the contract wants.

use std::collections::{BTreeMap, BTreeSet};

use alloy_primitives::B256;

/// An operator's id in EigenLayer's registries: keccak256 of its G1 key.
pub type OperatorId = B256;

/// Stakes on chain have 96 bits.
const STAKE_MAXIMUM: u128 = (1 << 96) - 1;
/// A coordinator's bitmap of quorums has this many bits.
const QUORUM_NUMBER_MAXIMUM: u8 = 191;

/// One quorum as it stood at the reference block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    number: u8,
    threshold: u8,
    stakes: BTreeMap<OperatorId, u128>,
    total: u128,
}

/// All quorums that an answer needs, in the order the verifier names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorums(Vec<Quorum>);

/// How much of a quorum's stake signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub quorum: u8,
    /// Percent of the stake that must sign.
    pub threshold: u8,
    pub signed: u128,
    pub total: u128,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    #[error("quorum {quorum}: the threshold is {threshold} %, allowed is 1 to 100")]
    Threshold { quorum: u8, threshold: u8 },
    #[error("quorum {quorum}: operator {operator} has a stake of {stake}, more than 96 bits")]
    Stake {
        quorum: u8,
        operator: OperatorId,
        stake: u128,
    },
    #[error("quorum {quorum} is listed twice")]
    Twice { quorum: u8 },
    #[error("quorum number {quorum} does not exist, the largest is {QUORUM_NUMBER_MAXIMUM}")]
    Number { quorum: u8 },
    #[error("no quorum is configured")]
    None,
}

impl Quorum {
    /// `threshold` is the percentage of stake that must sign. An operator with no stake is still a member, if the registry
    /// says so: its key is in the aggregate key.
    ///
    /// # Errors
    /// When the threshold is not 1 to 100 or a stake is wider than on chain.
    pub fn new(number: u8, threshold: u8, stakes: BTreeMap<OperatorId, u128>) -> Result<Self, QuorumError> {
        if number > QUORUM_NUMBER_MAXIMUM {
            return Err(QuorumError::Number { quorum: number });
        }
        if threshold == 0 || threshold > 100 {
            return Err(QuorumError::Threshold {
                quorum: number,
                threshold,
            });
        }
        let mut total = 0u128;
        for (operator, stake) in &stakes {
            let too_wide = QuorumError::Stake {
                quorum: number,
                operator: *operator,
                stake: *stake,
            };
            total = total
                .checked_add(*stake)
                .filter(|sum| *sum <= STAKE_MAXIMUM)
                .ok_or(too_wide)?;
        }
        Ok(Self {
            number,
            threshold,
            stakes,
            total,
        })
    }

    pub fn number(&self) -> u8 {
        self.number
    }

    /// Members and their stakes, ascending by operator id.
    pub fn stakes(&self) -> &BTreeMap<OperatorId, u128> {
        &self.stakes
    }

    fn tally(&self, signers: &BTreeSet<OperatorId>) -> Tally {
        let signed = self
            .stakes
            .iter()
            .filter(|(operator, _)| signers.contains(*operator))
            .map(|(_, stake)| stake);
        Tally {
            quorum: self.number,
            threshold: self.threshold,
            signed: signed.sum(),
            total: self.total,
        }
    }
}

impl Quorums {
    /// # Errors
    /// When there is none, or one twice.
    pub fn new(quorums: Vec<Quorum>) -> Result<Self, QuorumError> {
        if quorums.is_empty() {
            return Err(QuorumError::None);
        }
        let mut seen = BTreeSet::new();
        match quorums.iter().find(|quorum| !seen.insert(quorum.number)) {
            Some(quorum) => Err(QuorumError::Twice { quorum: quorum.number }),
            None => Ok(Self(quorums)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Quorum> {
        self.0.iter()
    }

    /// Every member of any quorum.
    pub fn operators(&self) -> BTreeSet<OperatorId> {
        self.0.iter().flat_map(|quorum| quorum.stakes.keys().copied()).collect()
    }

    /// Number of these quorums an operator is in: how often its key and signature count in the sums.
    pub fn multiplicity(&self, operator: &OperatorId) -> u8 {
        self.0
            .iter()
            .filter(|quorum| quorum.stakes.contains_key(operator))
            .count() as u8
    }

    /// How much of each quorum signed.
    pub fn tally(&self, signers: &BTreeSet<OperatorId>) -> Vec<Tally> {
        self.0.iter().map(|quorum| quorum.tally(signers)).collect()
    }

    /// Whether the signers reach every quorum's threshold.
    pub fn reached_by(&self, signers: &BTreeSet<OperatorId>) -> bool {
        self.0.iter().all(|quorum| quorum.tally(signers).is_reached())
    }

    /// Members of any quorum who did not sign, strictly ascending by id (the hash of the key), as the contract wants them.
    pub fn non_signers(&self, signers: &BTreeSet<OperatorId>) -> Vec<OperatorId> {
        self.operators().difference(signers).copied().collect()
    }
}

impl Tally {
    /// Whether enough signed; a quorum without stake is never reached.
    pub fn is_reached(&self) -> bool {
        // 96 and 7 bits: the products fit.
        self.total > 0 && self.signed * 100 >= self.total * u128::from(self.threshold)
    }
}
