//! One task: the answers operators signed, and how far it is from being posted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use avs::bn254::{Aggregate, Signature, SignedBy};
use avs::quorum::OperatorId;

use super::block::{BlockState, Stakes};
use super::message::{Claim, Moment, Response, TallyView, TaskId, TaskView};

/// Different answers to one task that are kept; honest operators give one.
const CANDIDATE_LIMIT: usize = 16;
/// Blocks to wait for the answer's event after a response was included, or was found answered by a pending transaction.
const EVENT_PATIENCE: u64 = 3;

/// An answer that at least one operator signed.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) params_version: u16,
    pub(super) matches: Arc<[U256]>,
    /// Stake of all signatures held for it.
    claimed: Stakes,
    /// Stake of those that were checked.
    verified: Stakes,
}

/// The one signature of an operator that counts for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) digest: B256,
    pub(super) signature: Signature,
    pub(super) verified: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Collecting,
    /// The quorum is there and checked; each further signer saves gas, until then.
    Stragglers {
        digest: B256,
        until: Moment,
        /// What came in the meantime is being checked; nothing more is waited for.
        closing: bool,
    },
    Responding,
    /// Included, or answered by somebody's pending transaction: the event has to come.
    EventAwaited {
        since: u64,
    },
    /// Failed in this block; tried again after it.
    Failed {
        block: u64,
    },
    Answered {
        block: u64,
        /// Not known where its event came before this process followed the chain.
        responder: Option<Address>,
    },
}

#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) state: Arc<BlockState>,
    pub(super) candidates: BTreeMap<B256, Candidate>,
    pub(super) held: BTreeMap<OperatorId, Held>,
    /// Operators proven to have signed two answers.
    pub(super) equivocators: BTreeSet<OperatorId>,
    pub(super) phase: Phase,
    /// A check of the leading answer's signatures is under way.
    pub(super) checking: bool,
    pub(super) failures: u32,
    announced: bool,
}

/// What a task wants done next.
#[derive(Debug)]
pub(super) enum Step {
    Nothing,
    /// Ask again at this moment.
    Wait(Moment),
    Check(Vec<Claim>),
    Respond(Box<Response>),
}

impl Task {
    pub(super) fn new(id: TaskId, state: Arc<BlockState>) -> Self {
        Self {
            id,
            state,
            candidates: BTreeMap::new(),
            held: BTreeMap::new(),
            equivocators: BTreeSet::new(),
            phase: Phase::Collecting,
            checking: false,
            failures: 0,
            announced: false,
        }
    }

    /// Adds an answer, if there is room or something lighter to make way for it. Returns the operators whose signatures
    /// went with what made way.
    pub(super) fn add_candidate(
        &mut self,
        digest: B256,
        params_version: u16,
        matches: Arc<[U256]>,
        introducer: &OperatorId,
    ) -> Result<Vec<OperatorId>, ()> {
        let mut displaced = Vec::new();
        if self.candidates.len() >= CANDIDATE_LIMIT {
            let mut own = self.state.no_stake();
            self.state.add(&mut own, introducer);
            let lightest = self
                .candidates
                .iter()
                .map(|(digest, candidate)| (self.state.weight(&candidate.claimed), *digest))
                .min();
            let Some((weight, lightest)) = lightest else {
                return Err(());
            };
            if weight >= self.state.weight(&own) {
                return Err(());
            }
            displaced = self.signers_of(lightest);
            for operator in &displaced {
                self.held.remove(operator);
            }
            self.candidates.remove(&lightest);
        }
        let candidate = Candidate {
            params_version,
            matches,
            claimed: self.state.no_stake(),
            verified: self.state.no_stake(),
        };
        self.candidates.insert(digest, candidate);
        Ok(displaced)
    }

    /// Counts a signature over a known answer for an operator that has none.
    pub(super) fn hold(&mut self, operator: OperatorId, held: Held) {
        let Some(candidate) = self.candidates.get_mut(&held.digest) else {
            return;
        };
        self.state.add(&mut candidate.claimed, &operator);
        if held.verified {
            self.state.add(&mut candidate.verified, &operator);
        }
        self.held.insert(operator, held);
    }

    /// Stops counting an operator's signature; an answer that nobody signed any more goes with it.
    pub(super) fn release(&mut self, operator: &OperatorId) {
        let Some(held) = self.held.remove(operator) else { return };
        let Some(candidate) = self.candidates.get_mut(&held.digest) else {
            return;
        };
        self.state.subtract(&mut candidate.claimed, operator);
        if held.verified {
            self.state.subtract(&mut candidate.verified, operator);
        }
        if !self.held.values().any(|other| other.digest == held.digest) {
            self.candidates.remove(&held.digest);
        }
    }

    pub(super) fn mark_verified(&mut self, operator: &OperatorId) {
        let Some(held) = self.held.get_mut(operator).filter(|held| !held.verified) else {
            return;
        };
        held.verified = true;
        if let Some(candidate) = self.candidates.get_mut(&held.digest) {
            self.state.add(&mut candidate.verified, operator);
        }
    }

    /// Bytes of match words it keeps.
    pub(super) fn bytes(&self) -> usize {
        self.candidates
            .values()
            .map(|candidate| candidate.matches.len() * 32)
            .sum()
    }

    /// What follows from what is known now.
    pub(super) fn step(&mut self, now: Moment, head: u64, straggler_wait: Moment) -> Step {
        match self.phase {
            Phase::Responding | Phase::Answered { .. } => return Step::Nothing,
            Phase::EventAwaited { since } if head < since + EVENT_PATIENCE => return Step::Nothing,
            Phase::Failed { block } if head <= block => return Step::Nothing,
            _ if self.checking => return Step::Nothing,
            _ => {}
        }
        let reached = |candidate: &&Candidate| self.state.is_reached(&candidate.claimed);
        let leading = self.candidates.iter().find(|(_, candidate)| reached(candidate));
        let Some((&digest, candidate)) = leading else {
            self.phase = Phase::Collecting;
            return Step::Nothing;
        };
        if !self.state.is_reached(&candidate.verified) {
            return Step::Check(self.unchecked(digest));
        }
        let (until, closing) = match self.phase {
            Phase::Stragglers {
                digest: waiting_for,
                until,
                closing,
            } if waiting_for == digest => (until, closing),
            // A second try waits for nobody.
            Phase::Failed { .. } | Phase::EventAwaited { .. } => (now, false),
            _ => (now + straggler_wait, false),
        };
        let unchecked = self.unchecked(digest);
        if now < until && self.signers_of(digest).len() < self.state.operators.len() {
            self.phase = Phase::Stragglers { digest, until, closing };
            return Step::Wait(until);
        }
        if !unchecked.is_empty() && !closing {
            // Once: whoever keeps sending bad signatures must not delay the response for ever.
            self.phase = Phase::Stragglers {
                digest,
                until,
                closing: true,
            };
            return Step::Check(unchecked);
        }
        self.phase = Phase::Responding;
        self.response(digest)
            .map_or(Step::Nothing, |response| Step::Respond(Box::new(response)))
    }

    /// The answer that just got its quorum, once.
    pub(super) fn newly_reached(&mut self) -> Option<(B256, usize)> {
        if self.announced {
            return None;
        }
        let digest = self.verified_quorum()?;
        self.announced = true;
        Some((digest, self.signers_of(digest).len()))
    }

    /// The answer whose checked signatures reach every quorum.
    pub(super) fn verified_quorum(&self) -> Option<B256> {
        self.candidates
            .iter()
            .find(|(_, candidate)| self.state.is_reached(&candidate.verified))
            .map(|(digest, _)| *digest)
    }

    pub(super) fn signers_of(&self, digest: B256) -> Vec<OperatorId> {
        let signed = self.held.iter().filter(|(_, held)| held.digest == digest);
        signed.map(|(operator, _)| *operator).collect()
    }

    fn unchecked(&self, digest: B256) -> Vec<Claim> {
        let held = self
            .held
            .iter()
            .filter(|(_, held)| held.digest == digest && !held.verified);
        held.filter_map(|(operator, held)| {
            let member = self.state.operators.get(operator)?;
            Some(Claim {
                operator: *operator,
                key: member.key,
                digest,
                signature: held.signature,
            })
        })
        .collect()
    }

    fn response(&self, digest: B256) -> Option<Response> {
        let candidate = self.candidates.get(&digest)?;
        let mut aggregate = Aggregate::empty();
        let mut signers = BTreeSet::new();
        for (operator, held) in self.held.iter().filter(|(_, held)| held.verified) {
            if held.digest != digest {
                continue;
            }
            let member = self.state.operators.get(operator)?;
            let signed = SignedBy {
                key: &member.key,
                signature: &held.signature,
            };
            aggregate.add(signed, self.state.quorums.multiplicity(operator));
            signers.insert(*operator);
        }
        Some(Response {
            task: self.id,
            close_block_hash: self.state.block.hash,
            params_version: candidate.params_version,
            digest,
            matches: candidate.matches.clone(),
            non_signers: self.state.quorums.non_signers(&signers),
            aggregate,
            state: self.state.clone(),
        })
    }

    pub(super) fn view(&self) -> TaskView {
        let leading = self
            .candidates
            .iter()
            .max_by_key(|(_, candidate)| self.state.weight(&candidate.claimed));
        let signers = leading.map_or_else(Vec::new, |(digest, _)| self.signers_of(*digest));
        let claimed = leading.map_or_else(|| self.state.no_stake(), |(_, candidate)| candidate.claimed.clone());
        let responded_by = match self.phase {
            Phase::Answered { responder, .. } => responder,
            _ => None,
        };
        TaskView {
            close_block: self.id.close_block,
            chunk: self.id.chunk,
            params_version: leading.map(|(_, candidate)| candidate.params_version),
            digest: leading.map(|(digest, _)| *digest),
            signatures: signers.len(),
            operators: signers.iter().map(|operator| self.state.address(operator)).collect(),
            quorum_reached: self.verified_quorum().is_some(),
            answered: matches!(self.phase, Phase::Answered { .. }),
            responded_by,
            tally: self
                .state
                .tally(&claimed)
                .into_iter()
                .map(|tally| TallyView {
                    quorum: tally.quorum,
                    signed: tally.signed.to_string(),
                    total: tally.total.to_string(),
                    threshold: tally.threshold,
                })
                .collect(),
        }
    }
}
