use std::fmt;

use alloy_primitives::{B256, U256, keccak256};
use ark_bn254::{Fr, G1Affine, G2Affine};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInt, BigInteger, PrimeField, Zero};
use zeroize::{Zeroize, Zeroizing};

use super::{
    G1Point, G2Point, PointError,
    aggregate::{pairing_holds, pairs_match},
    point::hash_to_curve,
};

/// An operator's signing key. Wiped when dropped; never shown by `Debug`.
#[derive(Clone)]
pub struct SecretKey(Fr);

/// Both halves of an operator's public key, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    pub(super) g1: G1Affine,
    pub(super) g2: G2Affine,
}

/// One operator's signature: a point of G1, on the curve and not infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub(super) G1Affine);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Says nothing of the value on purpose.
    #[error("the secret key is zero or not below the group's order")]
    SecretRange,
    #[error("the public key is not a pair of points")]
    Point(#[from] PointError),
    #[error("the two halves of the public key belong to different secrets")]
    HalvesDiffer,
}

impl SecretKey {
    /// A key from 32 big-endian bytes, as keystores hold it.
    ///
    /// # Errors
    /// When it is zero or not below the group's order.
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let mut limbs = [0u64; 4];
        for (limb, chunk) in limbs.iter_mut().rev().zip(bytes.chunks_exact(8)) {
            *limb = chunk.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        }
        let secret = Fr::from_bigint(BigInt::new(limbs));
        limbs.zeroize();
        secret
            .filter(|secret| !secret.is_zero())
            .map(Self)
            .ok_or(KeyError::SecretRange)
    }

    /// A new key from 64 bytes of the caller's randomness: so many that the reduction leaves no bias.
    ///
    /// # Errors
    /// When the bytes reduce to zero.
    pub fn from_random_bytes(bytes: &[u8; 64]) -> Result<Self, KeyError> {
        let secret = Fr::from_be_bytes_mod_order(bytes);
        if secret.is_zero() {
            Err(KeyError::SecretRange)
        } else {
            Ok(Self(secret))
        }
    }

    /// 32 big-endian bytes for a keystore.
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut number = self.0.into_bigint();
        let encoded = Zeroizing::new(number.to_bytes_be());
        number.zeroize();
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(&encoded);
        bytes
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey {
            g1: (G1Affine::generator() * self.0).into_affine(),
            g2: (G2Affine::generator() * self.0).into_affine(),
        }
    }

    /// Signs a digest.
    pub fn sign(&self, message: B256) -> Signature {
        Signature((hash_to_curve(message) * self.0).into_affine())
    }

    /// Signs a message that already is a point: the registry coordinator gives its proof-of-possession message
    /// (`pubkeyRegistrationMessageHash`) as one.
    ///
    /// # Errors
    /// When the point is not on the curve, or infinity.
    pub fn sign_point(&self, message: &G1Point) -> Result<Signature, PointError> {
        Ok(Signature((message.parse()? * self.0).into_affine()))
    }
}

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey(redacted)")
    }
}

impl PublicKey {
    /// A key from anywhere: both points checked, and that one secret makes both.
    ///
    /// # Errors
    /// When a point is unusable or the halves differ.
    pub fn parse(g1: &G1Point, g2: &G2Point) -> Result<Self, KeyError> {
        let key = Self::parse_registered(g1, g2)?;
        if pairs_match(&key) {
            Ok(key)
        } else {
            Err(KeyError::HalvesDiffer)
        }
    }

    /// A key read from the registry, which checked that the halves belong together: both points checked, without the
    /// pairing.
    ///
    /// # Errors
    /// When a point is unusable.
    pub fn parse_registered(g1: &G1Point, g2: &G2Point) -> Result<Self, KeyError> {
        Ok(Self {
            g1: g1.parse()?,
            g2: g2.parse()?,
        })
    }

    pub fn g1(&self) -> G1Point {
        G1Point::from_affine(self.g1)
    }

    pub fn g2(&self) -> G2Point {
        G2Point::from_affine(self.g2)
    }

    /// The operator's id in EigenLayer's registries: keccak256 of the G1 coordinates.
    pub fn operator_id(&self) -> B256 {
        let G1Point { x, y } = self.g1();
        let encoded: [[u8; 32]; 2] = [x.to_be_bytes(), y.to_be_bytes()];
        keccak256(encoded.concat())
    }

    /// Whether the signature is this key's over the digest. One call is two pairings: sum first where many sign the same.
    pub fn verify(&self, message: B256, signature: &Signature) -> bool {
        pairing_holds(hash_to_curve(message), signature.0, self.g2)
    }
}

impl Signature {
    /// # Errors
    /// When the point is not on the curve, or infinity, which no key signs with.
    pub fn parse(point: &G1Point) -> Result<Self, PointError> {
        point.parse().map(Self)
    }

    /// From 64 bytes: x and y, big-endian.
    ///
    /// # Errors
    /// As [`Signature::parse`].
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, PointError> {
        let coordinate = |at: usize| U256::from_be_slice(&bytes[at..at + 32]);
        Self::parse(&G1Point {
            x: coordinate(0),
            y: coordinate(32),
        })
    }

    /// 64 bytes: x and y, big-endian.
    pub fn to_bytes(&self) -> [u8; 64] {
        let G1Point { x, y } = self.point();
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&x.to_be_bytes::<32>());
        bytes[32..].copy_from_slice(&y.to_be_bytes::<32>());
        bytes
    }

    pub fn point(&self) -> G1Point {
        G1Point::from_affine(self.0)
    }
}
