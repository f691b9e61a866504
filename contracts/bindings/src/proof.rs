//! The quorum proof as `BlsQuorumVerifier` reads it.

use alloy::{primitives::U256, sol_types::SolValue};

use crate::IBlsQuorumVerifier::BlsProof;

/// `abi.encode(proof)` with the roots of the signed message's hash to the curve between the leading offset and the struct.
/// Roots save gas, about 4 300 for each; without any the encoding is the plain one.
pub fn encode_bls_proof(proof: &BlsProof, roots: &[U256]) -> Vec<u8> {
    let plain = proof.abi_encode();
    let (_, structure) = plain.split_at(32);
    let offset = U256::from(32 * (roots.len() + 1));
    let mut encoded = Vec::with_capacity(plain.len() + 32 * roots.len());
    for word in std::iter::once(&offset).chain(roots) {
        encoded.extend_from_slice(&word.to_be_bytes::<32>());
    }
    encoded.extend_from_slice(structure);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IBlsQuorumVerifier::{G1Point, G2Point};

    fn proof() -> BlsProof {
        let point = |value: u64| G1Point {
            X: U256::from(value),
            Y: U256::from(value + 1),
        };
        BlsProof {
            nonSignerQuorumBitmapIndices: vec![1],
            nonSignerPubkeys: vec![point(10)],
            quorumApks: vec![point(20), point(30)],
            apkG2: G2Point {
                X: [U256::from(1), U256::from(2)],
                Y: [U256::from(3), U256::from(4)],
            },
            sigma: point(40),
            quorumApkIndices: vec![5, 6],
            totalStakeIndices: vec![7, 8],
            nonSignerStakeIndices: vec![vec![9], vec![]],
        }
    }

    #[test]
    fn without_roots_it_is_the_plain_encoding() {
        assert_eq!(encode_bls_proof(&proof(), &[]), proof().abi_encode());
    }

    #[test]
    fn a_decoder_passes_over_the_roots() {
        let encoded = encode_bls_proof(&proof(), &[U256::from(11), U256::from(12)]);
        assert_eq!(U256::from_be_slice(&encoded[..32]), U256::from(96));
        assert_eq!(U256::from_be_slice(&encoded[64..96]), U256::from(12));
        assert_eq!(
            BlsProof::abi_decode(&encoded).expect("still the ABI's encoding"),
            proof()
        );
    }
}
