//! What goes into the collector and what comes out of it.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, U256};
use avs::bn254::{Aggregate, PublicKey, Signature};
use avs::quorum::OperatorId;
use avs::response::{self, Domain};
use avs::submission::{RefusalCode, SignatureSubmission, SubmissionStatus};
use serde::Serialize;

use super::BlockState;

/// Most orders a chunk may have on chain: an answer with more is no answer.
const LARGEST_CHUNK: usize = 256;
/// Tasks a close block may have on chain.
pub(crate) const CHUNK_LIMIT: u16 = 64;

/// Time since the process started: the collector has no clock of its own.
pub type Moment = Duration;

/// Names a submission whose sender waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where a submission came from, as far as it can be told apart: an IPv4 address or an IPv6 /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// What was stored before a restart.
    pub const STORE: Self = Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        Self(daemon::connections::network_of(address))
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What was read of a close block's operators.
#[derive(Debug, Clone)]
pub enum StateRead {
    Quorums(Box<BlockState>),
    /// The block's tasks are answered by one matchmaker, without a quorum.
    SingleMatchmaker,
    /// Not now; it is tried again.
    Unavailable,
}

/// A task as the chain keys its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub close_block: u32,
    pub chunk: u16,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.close_block, self.chunk)
    }
}

/// A submission whose parts belong together; who sent it, and whether the signature is good, is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub task: TaskId,
    pub close_block_hash: B256,
    pub params_version: u16,
    pub operator: OperatorId,
    /// EIP-712 digest of the task and the matches.
    pub digest: B256,
    /// Packed match words.
    pub matches: Arc<[U256]>,
    pub signature: Signature,
}

/// Why a signature was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl Submission {
    /// Everything that can be said of a submission without the chain. Hashes the matches: up to a few milliseconds.
    ///
    /// # Errors
    /// When the matches are malformed, the digest is another, or the signature is no point.
    pub fn parse(sent: SignatureSubmission, domain: &Domain) -> Result<Self, Refusal> {
        let refuse = |code, message: String| Err(Refusal::new(code, message));
        if sent.chunk >= CHUNK_LIMIT {
            return refuse(
                RefusalCode::Malformed,
                format!(
                    "chunk {} does not exist, a close block has at most {CHUNK_LIMIT}",
                    sent.chunk
                ),
            );
        }
        let signature = match Signature::try_from(&sent.signature) {
            Ok(signature) => signature,
            Err(error) => {
                return refuse(
                    RefusalCode::InvalidSignature,
                    format!("the signature is no point: {error}"),
                );
            }
        };
        match response::decode(&sent.matches) {
            Ok(orders) if orders.is_empty() => return refuse(RefusalCode::Malformed, "the matches are empty".into()),
            Ok(orders) if orders.len() > LARGEST_CHUNK => {
                return refuse(
                    RefusalCode::Malformed,
                    format!("{} orders in one chunk, allowed are {LARGEST_CHUNK}", orders.len()),
                );
            }
            Ok(_) => {}
            Err(error) => return refuse(RefusalCode::Malformed, format!("the matches are malformed: {error}")),
        }
        let expected = sent.response().digest(domain);
        if expected != sent.digest {
            return refuse(
                RefusalCode::WrongDigest,
                format!(
                    "the digest is {}, that of the task and its matches is {expected}",
                    sent.digest
                ),
            );
        }
        Ok(Self {
            task: TaskId {
                close_block: sent.close_block,
                chunk: sent.chunk,
            },
            close_block_hash: sent.close_block_hash,
            params_version: sent.params_version,
            operator: sent.operator_id,
            digest: sent.digest,
            matches: sent.matches.into(),
            signature,
        })
    }
}

/// One signature to check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub operator: OperatorId,
    pub key: PublicKey,
    pub digest: B256,
    pub signature: Signature,
}

/// An answer with its quorum, ready to be posted. Every signature in it was checked.
#[derive(Debug, Clone)]
pub struct Response {
    pub task: TaskId,
    pub close_block_hash: B256,
    pub params_version: u16,
    pub digest: B256,
    pub matches: Arc<[U256]>,
    /// Operators of any quorum who did not sign, ascending by id.
    pub non_signers: Vec<OperatorId>,
    /// Sum of signatures and keys, each as often as quorums count the operator.
    pub aggregate: Aggregate,
    pub state: Arc<BlockState>,
}

/// What became of posting a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseOutcome {
    /// In a block.
    Included,
    /// Somebody else was faster: in this block, or with a transaction that is not in a block yet.
    AnsweredAlready { block: Option<u64> },
    /// Not now; it is tried again after the next block.
    Failed(String),
}

/// A signature that counts, as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub submission: Submission,
}

/// What the shell must do. Records are stored before answers are given.
#[derive(Debug)]
pub enum Action {
    Answer {
        ticket: Ticket,
        answer: Result<SubmissionStatus, Refusal>,
    },
    Store(Record),
    /// Forget one operator's signature for a task.
    Discard {
        task: TaskId,
        operator: OperatorId,
    },
    /// Forget the whole task.
    Finish(TaskId),
    /// Read quorums and operators as of a block; answered with `Collector::state_read`.
    ReadState(chain::BlockReference),
    /// Read the canonical hash of a block far below the head; answered with `Collector::block_read`.
    ReadBlock(u64),
    /// Check signatures; answered with `Collector::checked`.
    Check {
        job: u64,
        claims: Vec<Claim>,
        /// A response waits for it: goes before what outsiders can cause.
        urgent: bool,
    },
    Respond(Box<Response>),
    /// The task was answered while our response is on its way: if it is another's answer, ours would spend gas for nothing.
    Abandon {
        task: TaskId,
        responder: Address,
    },
    Note(Note),
}

/// Something worth a line in the log and a count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    Accepted {
        task: TaskId,
        operator: Address,
    },
    /// A signature in the operator's name that is not its key's.
    InvalidSignature {
        task: TaskId,
        operator: Address,
        digest: B256,
        source: Source,
    },
    /// Two valid signatures over different answers to one task.
    Equivocation {
        task: TaskId,
        operator: Address,
        first: B256,
        second: B256,
    },
    /// Signed an answer that is not the one with the quorum.
    Minority {
        task: TaskId,
        operator: Address,
        digest: B256,
    },
    QuorumReached {
        task: TaskId,
        digest: B256,
        signatures: usize,
    },
    Answered {
        task: TaskId,
        responder: Address,
    },
    /// The chain has another answer than the one that reached the quorum here: one of the two quorums lied.
    AnsweredDifferently {
        task: TaskId,
        responder: Address,
    },
    /// The response window closed without an answer.
    WindowOver {
        task: TaskId,
        signatures: usize,
    },
    ResponseFailed {
        task: TaskId,
        reason: String,
        /// Consecutive failures of this task, this one included.
        attempt: u32,
    },
    /// The close block was reorganised away.
    Dropped {
        task: TaskId,
    },
}

/// An answer seen on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnsweredOnChain {
    pub task: TaskId,
    pub responder: Address,
    pub matches_hash: B256,
}

/// What is known of a task, for people and for tests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskView {
    pub close_block: u32,
    pub chunk: u16,
    /// Of the answer with the most stake; absent where none is known.
    pub params_version: Option<u16>,
    pub digest: Option<B256>,
    /// Signatures over that answer.
    pub signatures: usize,
    /// Addresses of those who signed it.
    pub operators: Vec<Address>,
    pub quorum_reached: bool,
    pub answered: bool,
    pub responded_by: Option<Address>,
    pub tally: Vec<TallyView>,
}

/// How much of one quorum's stake signed. Amounts as decimal text: they have up to 96 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TallyView {
    pub quorum: u8,
    pub signed: String,
    pub total: String,
    /// Percent.
    pub threshold: u8,
}
