use std::sync::LazyLock;

use alloy_primitives::B256;
use ark_bn254::{Bn254, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{
    AffineRepr, CurveGroup,
    pairing::{Pairing, PairingOutput},
};
use ark_ff::{AdditiveGroup, Zero};

use super::{G1Point, G2Point, PublicKey, Signature, point::hash_to_curve};

/// The G2 generator with its line coefficients: every check pairs with it.
static GENERATOR: LazyLock<<Bn254 as Pairing>::G2Prepared> = LazyLock::new(|| G2Affine::generator().into());

/// A signature with the key it claims to be from.
#[derive(Debug, Clone, Copy)]
pub struct SignedBy<'a> {
    pub key: &'a PublicKey,
    pub signature: &'a Signature,
}

/// The sum of same-message signatures and of their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aggregate {
    signature: G1Projective,
    key_g2: G2Projective,
}

impl Aggregate {
    /// Nobody's signature; it does not verify.
    pub fn empty() -> Self {
        Self {
            signature: G1Projective::ZERO,
            key_g2: G2Projective::ZERO,
        }
    }

    /// Adds an operator `multiplicity` times: once for each of the answered quorums it is in, because the contract sums the
    /// quorums' aggregate keys.
    pub fn add(&mut self, signed: SignedBy<'_>, multiplicity: u8) {
        for _ in 0..multiplicity {
            self.signature += signed.signature.0;
            self.key_g2 += signed.key.g2;
        }
    }

    /// Whether all that was added signed the digest: one check of two pairings, however many were added.
    pub fn verify(&self, message: B256) -> bool {
        self.verify_point(hash_to_curve(message))
    }

    fn verify_point(&self, message: G1Affine) -> bool {
        !self.key_g2.is_zero() && pairing_holds(message, self.signature.into_affine(), self.key_g2.into_affine())
    }

    /// Aggregate signature, for the proof.
    pub fn signature(&self) -> G1Point {
        G1Point::from_affine(self.signature.into_affine())
    }

    /// Aggregate G2 key of the signers, for the proof.
    pub fn key_g2(&self) -> G2Point {
        G2Point::from_affine(self.key_g2.into_affine())
    }
}

/// Sum of keys, each as often as it counts; nothing for no key at all. With all operators' keys this is the key that every
/// answer signed by all of them carries.
pub fn sum_keys<'a>(keys: impl IntoIterator<Item = (&'a PublicKey, u8)>) -> Option<PublicKey> {
    let (mut g1, mut g2) = (G1Projective::ZERO, G2Projective::ZERO);
    for (key, multiplicity) in keys {
        for _ in 0..multiplicity {
            g1 += key.g1;
            g2 += key.g2;
        }
    }
    (!g2.is_zero()).then(|| PublicKey {
        g1: g1.into_affine(),
        g2: g2.into_affine(),
    })
}

/// Indices of the signatures over one digest that are not their key's: one check when all are good, and about
/// `2 * k * log2(n)` checks to name k culprits among n.
///
/// Signatures that are wrong one by one but cancel out in a sum pass together; so does their sum on chain.
pub fn find_invalid(message: B256, signed: &[SignedBy<'_>]) -> Vec<usize> {
    let message = hash_to_curve(message);
    let mut invalid = Vec::new();
    let mut pending = Vec::from([(0, signed.len())]);
    while let Some((start, end)) = pending.pop() {
        let mut sum = Aggregate::empty();
        signed[start..end].iter().for_each(|one| sum.add(*one, 1));
        if start == end || sum.verify_point(message) {
            continue;
        }
        if end - start == 1 {
            invalid.push(start);
            continue;
        }
        let middle = start + (end - start) / 2;
        // The lower half is popped first, so that indices come out ascending.
        pending.push((middle, end));
        pending.push((start, middle));
    }
    invalid
}

/// e(signature, generator) == e(message, key).
pub(super) fn pairing_holds(message: G1Affine, signature: G1Affine, key: G2Affine) -> bool {
    pairing_product_is_one([-signature, message], [GENERATOR.clone(), key.into()])
}

/// Whether one secret makes both halves: e(g1, generator of G2) == e(generator of G1, g2).
pub(super) fn pairs_match(key: &PublicKey) -> bool {
    pairing_product_is_one([-key.g1, G1Affine::generator()], [GENERATOR.clone(), key.g2.into()])
}

fn pairing_product_is_one(g1: [G1Affine; 2], g2: [<Bn254 as Pairing>::G2Prepared; 2]) -> bool {
    Bn254::multi_pairing(g1, g2) == PairingOutput::ZERO
}
