//! One task: the answers operators signed, and how far it is from being posted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy_primitives::{Address, B256, U256};
use avs::bn254::{Aggregate, Signature, SignedBy};
use avs::quorum::OperatorId;

use super::block::{BlockState, Stakes};
use super::message::{Claim, Moment, Response, Source, TallyView, TaskId, TaskView};
use super::stragglers::{Attendance, StragglerSettings};

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
    pub(super) source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Collecting,
    /// The quorum is there and checked; each further signer saves gas, until then.
    Stragglers {
        digest: B256,
        since: Moment,
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
    /// When it wants to be asked again.
    pub(super) timer: Option<Moment>,
    announced: bool,
}

/// There are as many answers as are kept, and none of them is lighter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

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
            timer: None,
            announced: false,
        }
    }

    /// Adds an answer, if there is room, or something lighter to make way for it. What its signers signed is kept when an
    /// answer makes way: it counts again when somebody brings the words.
    pub(super) fn add_candidate(
        &mut self,
        digest: B256,
        params_version: u16,
        matches: Arc<[U256]>,
        introducer: &OperatorId,
    ) -> Result<(), NoRoom> {
        let (mut claimed, mut verified) = (self.state.no_stake(), self.state.no_stake());
        for (operator, held) in self.held.iter().filter(|(_, held)| held.digest == digest) {
            self.state.add(&mut claimed, operator);
            if held.verified {
                self.state.add(&mut verified, operator);
            }
        }
        if self.candidates.len() >= CANDIDATE_LIMIT {
            let mut own = claimed.clone();
            if !self.held.contains_key(introducer) {
                self.state.add(&mut own, introducer);
            }
            let lightest = self
                .candidates
                .iter()
                .map(|(digest, candidate)| (self.state.weight(&candidate.claimed), *digest))
                .min();
            match lightest {
                Some((weight, lightest)) if weight < self.state.weight(&own) => self.candidates.remove(&lightest),
                _ => return Err(NoRoom),
            };
        }
        let candidate = Candidate {
            params_version,
            matches,
            claimed,
            verified,
        };
        self.candidates.insert(digest, candidate);
        Ok(())
    }

    /// Counts a signature for an operator that has none; if its answer is known, for that.
    pub(super) fn hold(&mut self, operator: OperatorId, held: Held) {
        if let Some(candidate) = self.candidates.get_mut(&held.digest) {
            self.state.add(&mut candidate.claimed, &operator);
            if held.verified {
                self.state.add(&mut candidate.verified, &operator);
            }
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
    pub(super) fn step(
        &mut self,
        now: Moment,
        head: u64,
        stragglers: &StragglerSettings,
        attendance: &Attendance,
    ) -> Step {
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
        let (since, closing) = match self.phase {
            Phase::Stragglers {
                digest: waiting_for,
                since,
                closing,
            } if waiting_for == digest => (since, closing),
            _ => (now, false),
        };
        // A second try waits for nobody.
        let again = matches!(self.phase, Phase::Failed { .. } | Phase::EventAwaited { .. });
        let until = since + stragglers.worth(self.still_expected(attendance));
        let unchecked = self.unchecked(digest);
        if now < until && !again && !closing {
            self.phase = Phase::Stragglers { digest, since, closing };
            return Step::Wait(until);
        }
        if !unchecked.is_empty() && !closing {
            // Once: whoever keeps sending bad signatures must not delay the response for ever.
            self.phase = Phase::Stragglers {
                digest,
                since,
                closing: true,
            };
            return Step::Check(unchecked);
        }
        self.phase = Phase::Responding;
        self.response(digest)
            .map_or(Step::Nothing, |response| Step::Respond(Box::new(response)))
    }

    /// Operators of whom nothing came yet, and who usually sign.
    fn still_expected(&self, attendance: &Attendance) -> usize {
        let members = self.state.operators.keys();
        let missing = members.filter(|operator| !self.held.contains_key(*operator));
        missing.filter(|operator| attendance.is_expected(operator)).count()
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
