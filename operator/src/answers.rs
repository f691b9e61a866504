//! An answer as somebody sent it to the task manager, read from the call's data.
//!
//! Whoever answers writes these bytes, so they are read the way the contracts read them, and not the way an encoder would have
//! written them: anything that the task manager and the quorum verifier take has to be understood here, or a wrong answer
//! could hide in an unusual encoding.

use alloy::primitives::{B256, U256, keccak256};
use alloy::sol_types::SolCall as _;
use avs::dispute;
use avs::response::{Domain, MatchResponse, matches_hash};
use bindings::{IMatchingTaskManager, Task};

/// Words of a call's head: the task's four, then the offsets of matches and proof.
const MATCHES_OFFSET: usize = 4;
const PROOF_OFFSET: usize = 5;
/// Offset of the non-signers' keys in the proof's struct.
const KEYS: u64 = 0x20;
/// The verifier takes no more.
const NON_SIGNERS_MAXIMUM: u64 = 400;

/// What was given to `respond`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAnswer {
    pub task: Task,
    pub matches: Vec<U256>,
    /// Operator ids of the non-signers as a quorum's proof has them; whatever comes out where the proof is another kind.
    pub non_signers: Vec<B256>,
    /// As `TaskResponded` carries it.
    pub digest: B256,
}

/// Why bytes are no answer that the contracts take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableAnswer {
    #[error("the call is not `respond`")]
    AnotherFunction,
    #[error("the call's data breaks off")]
    BreaksOff,
    #[error("a field of the task is too large")]
    TaskOutOfRange,
}

impl GivenAnswer {
    /// Reads the data of a call of the task manager.
    ///
    /// # Errors
    /// When the task manager would not have taken it.
    pub fn read(calldata: &[u8], domain: &Domain) -> Result<Self, UnreadableAnswer> {
        let arguments = calldata
            .strip_prefix(IMatchingTaskManager::respondCall::SELECTOR.as_slice())
            .ok_or(UnreadableAnswer::AnotherFunction)?;
        let head = |index: usize| word(arguments, U256::from(32 * index));
        if arguments.len() < 32 * (PROOF_OFFSET + 1) {
            return Err(UnreadableAnswer::BreaksOff);
        }
        let narrow = |value: U256| u16::try_from(value).map_err(|_| UnreadableAnswer::TaskOutOfRange);
        let task = Task {
            closeBlock: u32::try_from(head(0)).map_err(|_| UnreadableAnswer::TaskOutOfRange)?,
            closeBlockHash: head(1).into(),
            chunk: narrow(head(2))?,
            paramsVersion: narrow(head(3))?,
        };
        let (first, count) = list(arguments, head(MATCHES_OFFSET), 32)?;
        let matches: Vec<U256> = arguments[first..first + 32 * count]
            .chunks_exact(32)
            .map(U256::from_be_slice)
            .collect();
        let (proof, _) = list(arguments, head(PROOF_OFFSET), 1)?;
        let digest = MatchResponse {
            close_block: task.closeBlock,
            close_block_hash: task.closeBlockHash,
            chunk: task.chunk,
            params_version: task.paramsVersion,
            matches_hash: matches_hash(&matches),
        }
        .digest(domain);
        Ok(Self {
            non_signers: non_signers(arguments, proof),
            task,
            matches,
            digest,
        })
    }

    /// What a quorum's proof commits to.
    pub fn quorum_signatories(&self) -> B256 {
        dispute::quorum_signatories(self.task.closeBlock, &self.non_signers)
    }
}

/// Place of the first element and length of a list of the call's arguments, as Solidity's decoder finds them.
fn list(arguments: &[u8], offset: U256, size: usize) -> Result<(usize, usize), UnreadableAnswer> {
    let offset = usize::try_from(offset).map_err(|_| UnreadableAnswer::BreaksOff)?;
    let first = offset.checked_add(32).ok_or(UnreadableAnswer::BreaksOff)?;
    let length = arguments.get(offset..first).ok_or(UnreadableAnswer::BreaksOff)?;
    let length = usize::try_from(U256::from_be_slice(length)).map_err(|_| UnreadableAnswer::BreaksOff)?;
    let end = length.checked_mul(size).and_then(|bytes| bytes.checked_add(first));
    match end {
        Some(end) if end <= arguments.len() => Ok((first, length)),
        _ => Err(UnreadableAnswer::BreaksOff),
    }
}

/// The keys' hashes, found where `BlsQuorumVerifier` finds them: its lists may lie anywhere in the call's data. Empty where there
/// is nothing that it would take.
fn non_signers(arguments: &[u8], proof: usize) -> Vec<B256> {
    let proof = U256::from(proof);
    let base = proof.wrapping_add(word(arguments, proof));
    let keys = base.wrapping_add(word(arguments, base.wrapping_add(U256::from(KEYS))));
    let count = word(arguments, keys);
    if count > U256::from(NON_SIGNERS_MAXIMUM) {
        return Vec::new();
    }
    let first = keys.wrapping_add(U256::from(32));
    (0..count.to::<u64>())
        .map(|index| {
            let x = first.wrapping_add(U256::from(64 * index));
            let y = x.wrapping_add(U256::from(32));
            keccak256([x, y].map(|at| word(arguments, at).to_be_bytes::<32>()).concat())
        })
        .collect()
}

/// A word of calldata: past its end there are zeros.
fn word(arguments: &[u8], at: U256) -> U256 {
    let mut word = [0; 32];
    if let Ok(at) = usize::try_from(at)
        && let Some(rest) = arguments.get(at..)
    {
        let length = rest.len().min(32);
        word[..length].copy_from_slice(&rest[..length]);
    }
    U256::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use alloy::sol_types::SolValue as _;
    use bindings::IBlsQuorumVerifier::{BlsProof, G1Point, G2Point};
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: Domain = Domain {
        chain_id: 31337,
        task_manager: Address::repeat_byte(7),
    };

    fn proof(non_signers: &[u64]) -> BlsProof {
        let point = |value: u64| G1Point {
            X: U256::from(value),
            Y: U256::from(value + 1),
        };
        BlsProof {
            nonSignerQuorumBitmapIndices: vec![0; non_signers.len()],
            nonSignerPubkeys: non_signers.iter().copied().map(point).collect(),
            quorumApks: vec![point(20)],
            apkG2: G2Point {
                X: [U256::from(1); 2],
                Y: [U256::from(3); 2],
            },
            sigma: point(40),
            quorumApkIndices: vec![5],
            totalStakeIndices: vec![7],
            nonSignerStakeIndices: vec![vec![9; non_signers.len()]],
        }
    }

    fn call(proof: Vec<u8>) -> IMatchingTaskManager::respondCall {
        IMatchingTaskManager::respondCall {
            task: Task {
                closeBlock: 9,
                closeBlockHash: B256::repeat_byte(2),
                chunk: 1,
                paramsVersion: 3,
            },
            matches: vec![U256::from(0x100), U256::from(0x200)],
            proof: proof.into(),
        }
    }

    fn ids(non_signers: &[u64]) -> Vec<B256> {
        non_signers
            .iter()
            .map(|value| keccak256((U256::from(*value), U256::from(value + 1)).abi_encode()))
            .collect()
    }

    #[test]
    fn an_answer_is_read_back_with_and_without_roots() {
        for roots in [&[][..], &[U256::from(11), U256::from(12)]] {
            let sent = call(bindings::encode_bls_proof(&proof(&[30, 50]), roots));
            let given = GivenAnswer::read(&sent.abi_encode(), &DOMAIN).expect("an answer");
            assert_eq!((&given.task, &given.matches), (&sent.task, &sent.matches));
            assert_eq!(given.non_signers, ids(&[30, 50]));
        }
        let sent = call(proof(&[]).abi_encode());
        let given = GivenAnswer::read(&sent.abi_encode(), &DOMAIN).expect("an answer");
        assert_eq!(given.non_signers, Vec::<B256>::new());
    }

    /// The verifier finds the keys wherever the proof's offset points to, also behind the proof itself.
    #[test]
    fn keys_behind_the_proof_are_found_too() {
        let mut encoded = proof(&[]).abi_encode();
        let beyond = encoded.len();
        // The proof's length is a multiple of 32, so what follows it in the call follows it directly.
        encoded[32 + 32..32 + 64].copy_from_slice(&U256::from(beyond - 32).to_be_bytes::<32>());
        let mut data = call(encoded).abi_encode();
        for value in [1u64, 30, 31] {
            data.extend(U256::from(value).to_be_bytes::<32>());
        }
        let given = GivenAnswer::read(&data, &DOMAIN).expect("an answer");
        assert_eq!(given.non_signers, ids(&[30]));
    }

    /// The list of matches may stand behind the proof, or overlap it.
    #[test]
    fn an_unusual_order_of_arguments_is_read() {
        let usual = call(proof(&[30]).abi_encode()).abi_encode();
        let mut unusual = usual.clone();
        let end = unusual.len() - 4;
        unusual[4 + 32 * MATCHES_OFFSET..4 + 32 * (MATCHES_OFFSET + 1)]
            .copy_from_slice(&U256::from(end).to_be_bytes::<32>());
        for value in [2u64, 0x100, 0x200] {
            unusual.extend(U256::from(value).to_be_bytes::<32>());
        }
        let read = |data: &[u8]| GivenAnswer::read(data, &DOMAIN).expect("an answer");
        assert_eq!(read(&unusual), read(&usual));
    }

    #[test]
    fn what_the_task_manager_refuses_is_no_answer() {
        let data = call(proof(&[30]).abi_encode()).abi_encode();
        assert_eq!(
            GivenAnswer::read(&data[1..], &DOMAIN),
            Err(UnreadableAnswer::AnotherFunction)
        );
        assert_eq!(
            GivenAnswer::read(&data[..180], &DOMAIN),
            Err(UnreadableAnswer::BreaksOff)
        );
        let mut wide = data.clone();
        wide[4] = 1;
        assert_eq!(GivenAnswer::read(&wide, &DOMAIN), Err(UnreadableAnswer::TaskOutOfRange));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0usize..700, byte in any::<u8>(), cut in 0usize..1200) {
            let mut data = call(proof(&[30, 50]).abi_encode()).abi_encode();
            let length = data.len();
            data[at % length] = byte;
            data.truncate(cut.max(4));
            let _ = GivenAnswer::read(&data, &DOMAIN);
        }
    }
}
