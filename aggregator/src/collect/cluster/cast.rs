//! Who takes part, and what each of them signs.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use alloy_primitives::B256;
use avs::bn254::Signature;

use super::super::fixture::{self, DOMAIN, Operator};
use super::super::{Claim, Submission};

pub(super) const CLOSE_BLOCK: u64 = 10;
pub(super) const OPERATORS: usize = 9;
pub(super) const CHUNKS: u16 = 3;
/// The right answer, the liars' answer, and one that only outsiders claim.
pub(super) const ANSWERS: u32 = 3;
pub(super) const FORKS: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conduct {
    Honest,
    Silent,
    /// Signs with a key that is not its own.
    Forger,
    /// Signs another answer.
    Liar,
    /// Signs both.
    Equivocator,
}

/// A submission in one operator's name, signed with another's key or its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Message {
    pub(super) operator: usize,
    pub(super) signer: usize,
    pub(super) chunk: u16,
    pub(super) answer: u32,
    pub(super) fork: u8,
}

pub(super) static ALL: LazyLock<Vec<Operator>> = LazyLock::new(|| Operator::many(OPERATORS as u8));

/// Every submission that any seed can send, signed once.
static SUBMISSIONS: LazyLock<BTreeMap<Message, Submission>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    for (operator, chunk, answer, fork) in combinations() {
        for signer in [operator, (operator + 1) % OPERATORS] {
            let message = Message {
                operator,
                signer,
                chunk,
                answer,
                fork,
            };
            let matches = fixture::matches(u64::from(chunk) + 1, answer);
            let block = fixture::block(CLOSE_BLOCK, fork);
            let sent = fixture::submission(&ALL[operator], &ALL[signer].secret, block, chunk, matches);
            all.insert(message, Submission::parse(sent, &DOMAIN).expect("well formed"));
        }
    }
    all
});

/// The one valid signature of each operator over each digest.
static VALID: LazyLock<BTreeMap<(B256, B256), Signature>> = LazyLock::new(|| {
    let own = SUBMISSIONS
        .iter()
        .filter(|(message, _)| message.operator == message.signer);
    own.map(|(_, submission)| ((submission.operator, submission.digest), submission.signature))
        .collect()
});

fn combinations() -> impl Iterator<Item = (usize, u16, u32, u8)> {
    (0..OPERATORS).flat_map(|operator| {
        (0..CHUNKS).flat_map(move |chunk| {
            (1..=ANSWERS).flat_map(move |answer| (0..FORKS).map(move |fork| (operator, chunk, answer, fork)))
        })
    })
}

impl Message {
    pub(super) fn submission(&self) -> Submission {
        SUBMISSIONS[self].clone()
    }

    pub(super) fn is_forged(&self) -> bool {
        self.operator != self.signer
    }
}

/// What [`super::super::find_invalid`] finds, without its pairings.
pub(super) fn find_invalid(claims: &[Claim]) -> Vec<usize> {
    let valid = |claim: &Claim| VALID.get(&(claim.operator, claim.digest)) == Some(&claim.signature);
    let invalid = claims.iter().enumerate().filter(|(_, claim)| !valid(claim));
    invalid.map(|(index, _)| index).collect()
}

pub(super) fn valid_signature(operator: B256, digest: B256) -> Option<&'static Signature> {
    VALID.get(&(operator, digest))
}

/// What an answer to a chunk hashes to.
pub(super) fn digest(chunk: u16, answer: u32, fork: u8) -> B256 {
    let message = Message {
        operator: 0,
        signer: 0,
        chunk,
        answer,
        fork,
    };
    SUBMISSIONS[&message].digest
}
