//! BLS over BN254 as EigenLayer's middleware checks it: signatures in G1, a key's halves in G1 (registry) and G2 (pairing).
//!
//! Points from outside are checked for range, curve, subgroup and infinity before anything is computed with them. Rogue keys
//! are kept out by the registry's proof of possession, so same-message signatures and keys are simply summed and checked
//! once; only when that fails does [`find_invalid`] look for who is to blame.

mod aggregate;
mod key;
mod point;

pub use aggregate::{Aggregate, SignedBy, find_invalid, sum_keys};
pub use key::{KeyError, PublicKey, SecretKey, Signature};
pub use point::{G1Point, G2Point, PointError, hash_to_g1, hash_to_g1_roots, sum_g1};
