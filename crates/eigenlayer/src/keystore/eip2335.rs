//! Keystores of EIP-2335 (version 4), as the Rust tools of EigenLayer write them: their secret is the key as decimal text.

use aes::Aes128;
use avs::bn254::SecretKey;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use hmac::Hmac;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// A keystore with a harder key derivation than anybody uses is refused rather than waited for.
const LARGEST_SCRYPT_COST: u64 = 1 << 20;
const LARGEST_SCRYPT_MEMORY: u64 = 2 << 30;
const MOST_ROUNDS: u32 = 20_000_000;
/// Derived key: 16 bytes for the cipher, 16 for the checksum.
const DERIVED_LENGTH: usize = 32;
/// The group order has 77 digits.
const MOST_DIGITS: usize = 77;

/// A version 4 keystore, as far as it takes part in the decryption.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    crypto: Crypto,
}

#[derive(Debug, Deserialize)]
struct Crypto {
    kdf: Module<Derivation>,
    checksum: Module<serde_json::Value>,
    cipher: Module<CipherParameters>,
}

#[derive(Debug, Deserialize)]
struct Module<T> {
    function: String,
    params: T,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Derivation {
    Scrypt {
        dklen: usize,
        n: u64,
        r: u32,
        p: u32,
        salt: String,
    },
    Pbkdf2 {
        dklen: usize,
        c: u32,
        prf: String,
        salt: String,
    },
}

#[derive(Debug, Deserialize)]
struct CipherParameters {
    iv: String,
}

/// Why it does not open.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Malformed(String),
    WrongPassword,
    NotAKey,
}

fn malformed(problem: impl Into<String>) -> Failure {
    Failure::Malformed(problem.into())
}

impl Document {
    /// The key inside.
    pub(super) fn open(&self, password: &str) -> Result<SecretKey, Failure> {
        key_of(&self.decrypt(&normalised(password)?)?)
    }

    fn decrypt(&self, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let Crypto { kdf, checksum, cipher } = &self.crypto;
        if (checksum.function.as_str(), cipher.function.as_str()) != ("sha256", "aes-128-ctr") {
            return Err(malformed("only checksum sha256 with cipher aes-128-ctr is known"));
        }
        let mut secret = Zeroizing::new(bytes("crypto.cipher.message", &cipher.message)?);
        let iv: [u8; 16] = bytes("crypto.cipher.params.iv", &cipher.params.iv)?
            .try_into()
            .map_err(|_| malformed("crypto.cipher.params.iv is not 16 bytes long"))?;
        let derived = derive(kdf, password)?;
        let mut sum = Sha256::new();
        sum.update(&derived[16..]);
        sum.update(secret.as_slice());
        if sum.finalize().as_slice() != bytes("crypto.checksum.message", &checksum.message)? {
            return Err(Failure::WrongPassword);
        }
        Ctr128BE::<Aes128>::new(derived[..16].into(), &iv.into()).apply_keystream(&mut secret);
        Ok(secret)
    }
}

fn derive(kdf: &Module<Derivation>, password: &[u8]) -> Result<Zeroizing<[u8; DERIVED_LENGTH]>, Failure> {
    let mut derived = Zeroizing::new([0; DERIVED_LENGTH]);
    let length = |dklen: usize| match dklen {
        DERIVED_LENGTH => Ok(()),
        other => Err(malformed(format!(
            "crypto.kdf.params.dklen is {other}, not {DERIVED_LENGTH}"
        ))),
    };
    match (&kdf.params, kdf.function.as_str()) {
        (Derivation::Scrypt { dklen, n, r, p, salt }, "scrypt") => {
            length(*dklen)?;
            let memory = n.saturating_mul(u64::from(*r)).saturating_mul(128);
            if !n.is_power_of_two() || *n > LARGEST_SCRYPT_COST || memory > LARGEST_SCRYPT_MEMORY || *p > 16 {
                return Err(malformed(
                    "crypto.kdf.params are not those of a keystore somebody can open",
                ));
            }
            let parameters = scrypt::Params::new(n.trailing_zeros() as u8, *r, *p)
                .map_err(|error| malformed(format!("crypto.kdf.params: {error}")))?;
            let salt = bytes("crypto.kdf.params.salt", salt)?;
            scrypt::scrypt(password, &salt, &parameters, derived.as_mut_slice())
                .map_err(|error| malformed(format!("crypto.kdf.params: {error}")))?;
        }
        (Derivation::Pbkdf2 { dklen, c, prf, salt }, "pbkdf2") => {
            length(*dklen)?;
            if prf != "hmac-sha256" || *c == 0 || *c > MOST_ROUNDS {
                return Err(malformed(
                    "crypto.kdf.params are not those of a keystore somebody can open",
                ));
            }
            let salt = bytes("crypto.kdf.params.salt", salt)?;
            pbkdf2::pbkdf2::<Hmac<Sha256>>(password, &salt, *c, derived.as_mut_slice());
        }
        (_, function) => return Err(malformed(format!("the key derivation {function:?} is not known"))),
    }
    Ok(derived)
}

/// The password as the standard wants it: without control characters. It also wants NFKD, which is the identity on ASCII;
/// other passwords are refused rather than taken for wrong.
fn normalised(password: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !password.is_ascii() {
        return Err(malformed(
            "its password has characters outside ASCII, which this program does not normalise; change the password",
        ));
    }
    Ok(Zeroizing::new(
        password.bytes().filter(|byte| !byte.is_ascii_control()).collect(),
    ))
}

fn key_of(secret: &[u8]) -> Result<SecretKey, Failure> {
    let mut key = Zeroizing::new([0u8; 32]);
    match secret.len() {
        // The key itself, as keystores of validators have it. Decimal keys are never so short.
        32 => key.copy_from_slice(secret),
        1..=MOST_DIGITS => {
            for digit in secret {
                let digit = digit.is_ascii_digit().then(|| digit - b'0').ok_or(Failure::NotAKey)?;
                let mut carry = u16::from(digit);
                for byte in key.iter_mut().rev() {
                    let value = u16::from(*byte) * 10 + carry;
                    *byte = value as u8;
                    carry = value >> 8;
                }
                if carry != 0 {
                    return Err(Failure::NotAKey);
                }
            }
        }
        _ => return Err(Failure::NotAKey),
    }
    SecretKey::from_be_bytes(&key).map_err(|_| Failure::NotAKey)
}

fn bytes(field: &str, text: &str) -> Result<Vec<u8>, Failure> {
    alloy::primitives::hex::decode(text).map_err(|_| malformed(format!("{field} is not hexadecimal")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SALT: &str = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";
    const IV: &str = "264daa3f303d7259501c93d997d84fe6";

    fn document(kdf: Value, checksum: &str, cipher: &str) -> Document {
        let document = json!({ "version": 4, "crypto": {
            "kdf": kdf,
            "checksum": { "function": "sha256", "params": {}, "message": checksum },
            "cipher": { "function": "aes-128-ctr", "params": { "iv": IV }, "message": cipher },
        }});
        serde_json::from_value(document).expect("a keystore")
    }

    fn pbkdf2(rounds: u32) -> Value {
        let params = json!({ "dklen": 32, "c": rounds, "prf": "hmac-sha256", "salt": SALT });
        json!({ "function": "pbkdf2", "params": params, "message": "" })
    }

    /// The test vectors of the standard; their password is normalised already.
    #[test]
    fn the_standards_own_keystores_open() {
        let password = hex_bytes("7465737470617373776f7264f09f9491");
        let secret = hex_bytes("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f");
        let scrypt = json!({ "function": "scrypt", "message": "",
            "params": { "dklen": 32, "n": 262_144, "p": 1, "r": 8, "salt": SALT } });
        let vectors = [
            document(
                scrypt,
                "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
                "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
            ),
            document(
                pbkdf2(262_144),
                "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
                "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
            ),
        ];
        for vector in vectors {
            assert_eq!(vector.decrypt(&password).expect("opens").as_slice(), secret);
            assert_eq!(vector.open("testpassword").err(), Some(Failure::WrongPassword));
        }
    }

    #[test]
    fn a_secret_is_decimal_text_or_32_bytes_below_the_group_order() {
        let key = |secret: &[u8]| key_of(secret).map(|key| key.to_be_bytes().to_vec());
        let mut seven = vec![0; 32];
        seven[31] = 7;
        assert_eq!(key(b"7"), Ok(seven.clone()));
        assert_eq!(key(&seven), Ok(seven));
        let order = b"21888242871839275222246405745257275088548364400416034343698204186575808495617";
        assert_eq!(key(order), Err(Failure::NotAKey));
        let mut below = order.to_vec();
        *below.last_mut().expect("digits") = b'6';
        assert!(key(&below).is_ok());
        for wrong in [&b""[..], b"0", b"12a", b"-1", &[b'9'; 77], &[b'1'; 78]] {
            assert_eq!(key(wrong), Err(Failure::NotAKey), "{wrong:?}");
        }
    }

    #[test]
    fn a_derivation_nobody_can_wait_for_is_refused() {
        let scrypt = |n: u64, r: u32| {
            json!({ "function": "scrypt", "message": "",
            "params": { "dklen": 32, "n": n, "p": 1, "r": r, "salt": SALT } })
        };
        for kdf in [
            scrypt(1 << 30, 8),
            scrypt(1 << 20, 1 << 20),
            scrypt(3, 8),
            pbkdf2(0),
            pbkdf2(u32::MAX),
        ] {
            let keystore = document(kdf, "00", "00");
            assert!(matches!(keystore.open("x"), Err(Failure::Malformed(_))));
        }
    }

    fn hex_bytes(text: &str) -> Vec<u8> {
        alloy::primitives::hex::decode(text).expect("hexadecimal")
    }
}
