//! Operators and what they sign: the same keys, digests and signatures for both sides.

use std::collections::{BTreeMap, HashMap};

use aggregator::collect::{BlockState, Member};
use alloy_primitives::{Address, B256, U256, keccak256};
use avs::bn254::{SecretKey, Signature};
use avs::quorum::{OperatorId, Quorum, QuorumError, Quorums};
use avs::response::{self, Domain, MatchResponse, OrderMatch, matches_hash};
use avs::submission::{SignaturePoint, SignatureSubmission};
use avs::words::RankedSupplier;
use chain::BlockReference;
use eigen_types::test::TestOperator;
use eyre::WrapErr as _;

pub const DOMAIN: Domain = Domain {
    chain_id: 31_337,
    task_manager: Address::repeat_byte(0x7a),
};
/// Percent of the stake.
pub const THRESHOLD: u8 = 67;
/// Tasks of one close block.
pub const CHUNKS: u16 = 20;
/// Suppliers ranked for the one order of a task.
const RANKS: u32 = 5;

pub struct Operator {
    pub secret: SecretKey,
    pub id: OperatorId,
    pub member: Member,
}

/// The first close block is 1; `number` counts tasks from 0.
#[derive(Clone, Copy)]
pub struct Task {
    pub number: usize,
}

pub fn operators(count: usize) -> eyre::Result<Vec<Operator>> {
    (0..count)
        .map(|number| {
            let half = keccak256(number.to_be_bytes());
            let mut seed = [0; 64];
            seed[..32].copy_from_slice(half.as_slice());
            let secret = SecretKey::from_random_bytes(&seed).wrap_err("a key")?;
            let key = secret.public_key();
            Ok(Operator {
                secret,
                id: key.operator_id(),
                member: Member {
                    address: Address::from_slice(&half[..20]),
                    key,
                },
            })
        })
        .collect()
}

pub fn block(number: u64) -> BlockReference {
    BlockReference {
        number,
        hash: keccak256(number.to_be_bytes()),
    }
}

/// One quorum of all operators, each with the same stake.
pub fn state(block: BlockReference, operators: &[Operator]) -> Result<BlockState, QuorumError> {
    let stakes = operators.iter().map(|operator| (operator.id, 1_000)).collect();
    let quorums = Quorums::new(vec![Quorum::new(0, THRESHOLD, stakes)?])?;
    let members: BTreeMap<OperatorId, Member> = operators
        .iter()
        .map(|operator| (operator.id, operator.member.clone()))
        .collect();
    Ok(BlockState::new(block, quorums, members))
}

impl Task {
    pub fn close_block(self) -> u64 {
        1 + (self.number / usize::from(CHUNKS)) as u64
    }

    pub fn chunk(self) -> u16 {
        (self.number % usize::from(CHUNKS)) as u16
    }

    pub fn matches(self) -> eyre::Result<Vec<U256>> {
        let ranks = (1..=RANKS).map(|provider| RankedSupplier {
            provider,
            fizz: 0,
            rate: 5,
            gpu_entry: 0,
        });
        let order = OrderMatch {
            order_id: self.number as u64 + 1,
            resources: U256::from(1),
            rest_hash: B256::repeat_byte(3),
            ranks: ranks.collect(),
        };
        response::encode(&[order]).wrap_err("an order has its words")
    }

    pub fn response(self) -> eyre::Result<MatchResponse> {
        let block = block(self.close_block());
        Ok(MatchResponse {
            close_block: block.number as u32,
            close_block_hash: block.hash,
            chunk: self.chunk(),
            params_version: 1,
            matches_hash: matches_hash(&self.matches()?),
        })
    }

    pub fn digest(self) -> eyre::Result<B256> {
        Ok(self.response()?.digest(&DOMAIN))
    }

    pub fn submission(self, operator: &Operator, signature: &Signature) -> eyre::Result<SignatureSubmission> {
        let response = self.response()?;
        Ok(SignatureSubmission {
            operator_id: operator.id,
            close_block: response.close_block,
            close_block_hash: response.close_block_hash,
            chunk: response.chunk,
            params_version: response.params_version,
            digest: response.digest(&DOMAIN),
            matches: self.matches()?,
            signature: SignaturePoint::from(signature),
        })
    }
}

/// By task, then by operator. What operators compute is not what is measured.
pub fn signatures(tasks: usize, operators: &[Operator]) -> eyre::Result<Vec<Vec<Signature>>> {
    (0..tasks)
        .map(|number| {
            let digest = Task { number }.digest()?;
            Ok(operators.iter().map(|operator| operator.secret.sign(digest)).collect())
        })
        .collect()
}

/// The same operators as eigensdk's own test registry wants them.
pub fn eigen_operators(operators: &[Operator]) -> eyre::Result<Vec<TestOperator>> {
    operators
        .iter()
        .map(|operator| {
            let secret = U256::from_be_bytes(*operator.secret.to_be_bytes());
            let bls_keypair = eigen_crypto_bls::BlsKeyPair::new(secret.to_string())
                .map_err(|error| eyre::eyre!("eigensdk does not take a key: {error}"))?;
            Ok(TestOperator {
                operator_id: operator.id,
                stake_per_quorum: HashMap::from([(0, U256::from(1_000))]),
                bls_keypair,
            })
        })
        .collect()
}
