//! What an operator sends to an aggregator (`POST /v1/signatures`), and what it hears back. JSON; words, hashes and
//! coordinates are `0x` and 64 hexadecimal digits.

use alloy_primitives::{B256, U256};
use serde::{Deserialize, Serialize};

use crate::{
    bn254::{G1Point, PointError, Signature},
    response::{Domain, MatchResponse, matches_hash},
};

/// Path of the endpoint under an aggregator's base URL.
pub const PATH: &str = "/v1/signatures";
/// Longest body an aggregator takes, in bytes. A chunk of 64 orders with 8 ranks each is about 50 KiB.
pub const BODY_LIMIT: usize = 1 << 20;

/// One operator's signature over the answer to one task, with the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureSubmission {
    /// Keccak of the operator's G1 key.
    pub operator_id: B256,
    pub close_block: u32,
    pub close_block_hash: B256,
    pub chunk: u16,
    pub params_version: u16,
    /// The EIP-712 digest that is signed.
    pub digest: B256,
    /// The packed match words.
    #[serde(with = "words")]
    pub matches: Vec<U256>,
    pub signature: SignaturePoint,
}

/// A signature's coordinates, not checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignaturePoint {
    #[serde(with = "word")]
    pub x: U256,
    #[serde(with = "word")]
    pub y: U256,
}

/// The body of a 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmissionAnswer {
    pub status: SubmissionStatus,
}

/// What became of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionStatus {
    /// Taken.
    Accepted,
    /// Taken before: sending again changes nothing.
    Duplicate,
    /// The task is answered on chain; nothing more is needed.
    Answered,
}

/// The body of any other status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmissionRefusal {
    pub error: RefusalCode,
    /// For people.
    pub message: String,
}

/// Why a signature was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// 400: not JSON of this shape, or words that are no matches.
    Malformed,
    /// 400: the digest is not that of the task and the matches.
    WrongDigest,
    /// 400: the point is not on the curve, or the signature does not verify.
    InvalidSignature,
    /// 403: not a member of any quorum at the close block.
    UnknownOperator,
    /// 404: the aggregator does not know this close block under this hash; it may be behind, so send again.
    UnknownBlock,
    /// 409: one matchmaker answers the tasks of this close block, without a quorum.
    NoQuorum,
    /// 409: the operator signed another answer to this task before.
    Equivocation,
    /// 410: the response window is over.
    WindowOver,
    /// 413: longer than [`BODY_LIMIT`].
    TooLarge,
    /// 429 or 503: not now; send again.
    Busy,
    /// A code of a later generation.
    #[serde(other)]
    Other,
}

impl RefusalCode {
    /// Whether sending the same again may succeed.
    pub fn is_passing(self) -> bool {
        matches!(self, Self::UnknownBlock | Self::Busy | Self::Other)
    }
}

impl SignatureSubmission {
    /// What was signed, as the submission tells it.
    pub fn response(&self) -> MatchResponse {
        MatchResponse {
            close_block: self.close_block,
            close_block_hash: self.close_block_hash,
            chunk: self.chunk,
            params_version: self.params_version,
            matches_hash: matches_hash(&self.matches),
        }
    }

    /// Whether the digest is that of the task and the matches it came with.
    pub fn has_its_digest(&self, domain: &Domain) -> bool {
        self.response().digest(domain) == self.digest
    }
}

impl From<&Signature> for SignaturePoint {
    fn from(signature: &Signature) -> Self {
        let G1Point { x, y } = signature.point();
        Self { x, y }
    }
}

impl TryFrom<&SignaturePoint> for Signature {
    type Error = PointError;

    fn try_from(point: &SignaturePoint) -> Result<Self, PointError> {
        Self::parse(&G1Point { x: point.x, y: point.y })
    }
}

/// A number as 32 bytes: always the same length, unlike the quantities of JSON-RPC.
mod word {
    use alloy_primitives::{B256, U256};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(word: &U256, serializer: S) -> Result<S::Ok, S::Error> {
        B256::from(*word).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
        Ok(B256::deserialize(deserializer)?.into())
    }
}

mod words {
    use alloy_primitives::{B256, U256};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(words: &[U256], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(words.iter().map(|word| B256::from(*word)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<U256>, D::Error> {
        let words = Vec::<B256>::deserialize(deserializer)?;
        Ok(words.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;
    use crate::bn254::SecretKey;

    fn submission(domain: &Domain) -> SignatureSubmission {
        let key = SecretKey::from_random_bytes(&[7; 64]).expect("a key");
        let response = MatchResponse {
            close_block: 9,
            close_block_hash: B256::repeat_byte(2),
            chunk: 1,
            params_version: 3,
            matches_hash: matches_hash(&[U256::from(0x100)]),
        };
        let digest = response.digest(domain);
        SignatureSubmission {
            operator_id: key.public_key().operator_id(),
            close_block: 9,
            close_block_hash: B256::repeat_byte(2),
            chunk: 1,
            params_version: 3,
            digest,
            matches: vec![U256::from(0x100)],
            signature: SignaturePoint::from(&key.sign(digest)),
        }
    }

    #[test]
    fn a_submission_survives_the_wire_and_knows_its_digest() {
        let domain = Domain {
            chain_id: 31337,
            task_manager: Address::repeat_byte(1),
        };
        let sent = submission(&domain);
        let text = serde_json::to_string(&sent).expect("JSON");
        assert!(
            text.contains(&format!("\"matches\":[\"0x{}100\"]", "0".repeat(61))),
            "{text}"
        );
        let received: SignatureSubmission = serde_json::from_str(&text).expect("the same shape");
        assert_eq!(received, sent);
        assert!(received.has_its_digest(&domain));
        assert!(Signature::try_from(&received.signature).is_ok());
        let other = SignatureSubmission { chunk: 2, ..received };
        assert!(!other.has_its_digest(&domain));
    }

    #[test]
    fn a_later_refusal_code_is_understood_as_passing() {
        let refusal: SubmissionRefusal =
            serde_json::from_str(r#"{"error":"moon_phase","message":"not tonight"}"#).expect("understood");
        assert!(refusal.error.is_passing());
        let refusal: SubmissionRefusal =
            serde_json::from_str(r#"{"error":"equivocation","message":""}"#).expect("understood");
        assert!(!refusal.error.is_passing());
    }
}
