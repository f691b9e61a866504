//! Operators, blocks and submissions for tests.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256, U256, keccak256};
use avs::bn254::SecretKey;
use avs::quorum::{OperatorId, Quorum, Quorums};
use avs::response::{self, Domain, MatchResponse, OrderMatch, matches_hash};
use avs::submission::{SignaturePoint, SignatureSubmission};
use avs::words::RankedSupplier;
use chain::BlockReference;

use super::{BlockState, Member};

pub(crate) const DOMAIN: Domain = Domain {
    chain_id: 31_337,
    task_manager: Address::repeat_byte(0x7a),
};

/// An operator: the same number is the same operator in every test.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) secret: SecretKey,
    pub(crate) id: OperatorId,
    pub(crate) member: Member,
}

impl Operator {
    pub(crate) fn new(number: u8) -> Self {
        let mut seed = [number; 64];
        seed[1] = 0xa5;
        let secret = SecretKey::from_random_bytes(&seed).expect("not zero");
        let key = secret.public_key();
        let member = Member {
            address: Address::repeat_byte(number + 1),
            key,
        };
        Self {
            secret,
            id: key.operator_id(),
            member,
        }
    }

    pub(crate) fn many(count: u8) -> Vec<Self> {
        (0..count).map(Self::new).collect()
    }
}

/// A block of a numbered fork.
pub(crate) fn block(number: u64, fork: u8) -> BlockReference {
    BlockReference {
        number,
        hash: keccak256([number.to_be_bytes().as_slice(), &[fork]].concat()),
    }
}

/// Stakes per quorum: (threshold, stake of each operator or none where it is no member).
pub(crate) fn state(block: BlockReference, operators: &[Operator], quorums: &[(u8, Vec<Option<u128>>)]) -> BlockState {
    let built = quorums.iter().enumerate().map(|(number, (threshold, stakes))| {
        let stakes = operators.iter().zip(stakes);
        let stakes = stakes.filter_map(|(operator, stake)| Some((operator.id, (*stake)?)));
        Quorum::new(number as u8, *threshold, stakes.collect()).expect("a quorum")
    });
    let quorums = Quorums::new(built.collect()).expect("quorums");
    let members: BTreeMap<OperatorId, Member> = operators
        .iter()
        .filter(|operator| quorums.multiplicity(&operator.id) > 0)
        .map(|operator| (operator.id, operator.member.clone()))
        .collect();
    BlockState::new(block, quorums, members)
}

/// An answer in which this provider wins this order.
pub(crate) fn matches(order_id: u64, provider: u32) -> Vec<U256> {
    let rank = RankedSupplier {
        provider,
        fizz: 0,
        rate: 5,
        gpu_entry: 0,
    };
    let order = OrderMatch {
        order_id,
        resources: U256::from(1),
        rest_hash: B256::repeat_byte(3),
        ranks: vec![rank],
    };
    response::encode(&[order]).expect("words")
}

/// What an operator sends for an answer, signed by `signer`.
pub(crate) fn submission(
    operator: &Operator,
    signer: &SecretKey,
    block: BlockReference,
    chunk: u16,
    matches: Vec<U256>,
) -> SignatureSubmission {
    let response = MatchResponse {
        close_block: block.number as u32,
        close_block_hash: block.hash,
        chunk,
        params_version: 1,
        matches_hash: matches_hash(&matches),
    };
    let digest = response.digest(&DOMAIN);
    SignatureSubmission {
        operator_id: operator.id,
        close_block: response.close_block,
        close_block_hash: block.hash,
        chunk,
        params_version: 1,
        digest,
        matches,
        signature: SignaturePoint::from(&signer.sign(digest)),
    }
}
