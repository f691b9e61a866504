//! Fingerprints: what the certificate registry holds.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::B256;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 of a certificate's public key (SubjectPublicKeyInfo, DER), so that renewing a certificate changes nothing on
/// chain. Text and JSON: `0x` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

/// A certificate that is not X.509, or not in a form TLS can use.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is malformed")]
pub struct MalformedCertificate(#[source] rustls::Error);

/// Text that is not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("expected a fingerprint: `0x` and 64 hexadecimal digits")]
pub struct MalformedFingerprint;

impl Fingerprint {
    /// The fingerprint of a DER certificate's public key. Looks at nothing else in it: not at names, nor at dates.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, MalformedCertificate> {
        let parsed = ParsedCertificate::try_from(certificate).map_err(MalformedCertificate)?;
        Ok(Self::of_public_key(&parsed.subject_public_key_info()))
    }

    /// The fingerprint of a public key given as DER SubjectPublicKeyInfo.
    pub fn of_public_key(subject_public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(subject_public_key_info).into())
    }

    /// As the registry stores it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<B256> for Fingerprint {
    fn from(word: B256) -> Self {
        Self(word.0)
    }
}

impl From<Fingerprint> for B256 {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(fingerprint.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Fingerprint {
    type Err = MalformedFingerprint;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let digits = text.strip_prefix("0x").ok_or(MalformedFingerprint)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| MalformedFingerprint)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = MalformedFingerprint;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

/// The fingerprints that the registry lists for one address: the current one, and the one to come while a key is being
/// changed. Both are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedFingerprints {
    current: Fingerprint,
    next: Option<Fingerprint>,
}

impl PinnedFingerprints {
    /// From the registry's two words. `None` when nothing is published (or what was is revoked): zero is nobody's
    /// fingerprint.
    pub fn from_chain(current: B256, next: B256) -> Option<Self> {
        (!current.is_zero()).then(|| Self {
            current: current.into(),
            next: (!next.is_zero()).then(|| next.into()),
        })
    }

    /// One fingerprint and no other.
    pub fn only(current: Fingerprint) -> Self {
        Self { current, next: None }
    }

    /// Whether a peer with this fingerprint is the holder.
    pub fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.current == *fingerprint || self.next.as_ref() == Some(fingerprint)
    }
}

impl fmt::Display for PinnedFingerprints {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next {
            None => write!(formatter, "{}", self.current),
            Some(next) => write!(formatter, "{} or, as the next one, {next}", self.current),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_nobody() {
        let some = B256::repeat_byte(7);
        assert_eq!(PinnedFingerprints::from_chain(B256::ZERO, B256::ZERO), None);
        assert_eq!(PinnedFingerprints::from_chain(B256::ZERO, some), None);
        let pinned = PinnedFingerprints::from_chain(some, B256::ZERO).expect("published");
        assert!(pinned.contains(&some.into()));
        assert!(!pinned.contains(&B256::ZERO.into()));
    }

    #[test]
    fn text_goes_both_ways_and_nothing_else_is_taken() {
        let fingerprint = Fingerprint::of_public_key(b"key");
        assert_eq!(
            fingerprint.to_string().parse::<Fingerprint>().expect("own text"),
            fingerprint
        );
        for text in [
            "",
            "0x",
            "abcd",
            &fingerprint.to_string()[2..],
            &format!("{fingerprint}00"),
        ] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
