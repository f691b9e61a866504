//! Keys, addresses and signatures of everybody.

use accounting::Who;
use alloy_primitives::{Address, B256, keccak256};
use k256::ecdsa::SigningKey;

/// The key of somebody; nobody's and the escrow's are never used.
fn key_of(who: Who) -> SigningKey {
    let secret = keccak256(format!("key of {who:?}"));
    SigningKey::from_slice(secret.as_slice()).expect("a hash is a key, but for one in 2^128")
}

/// The address of somebody who has a key.
pub(crate) fn address_of_key(who: Who) -> Address {
    Address::from_public_key(key_of(who).verifying_key())
}

/// r, s and v over a digest.
pub(crate) fn sign(who: Who, digest: B256) -> (B256, B256, u8) {
    let (signature, recovery) = key_of(who)
        .sign_prehash_recoverable(digest.as_slice())
        .expect("a digest of 32 bytes is signed");
    let (r, s) = signature.split_bytes();
    (B256::from_slice(&r), B256::from_slice(&s), 27 + recovery.to_byte())
}
