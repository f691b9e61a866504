//! Checking signatures one by one: those that bring a new answer, those that contradict what is held, and those of
//! sources that are not believed. Done in turns, a few at a time; what a response waits for goes beside them.

use std::sync::Arc;

use alloy_primitives::B256;
use avs::quorum::OperatorId;
use avs::submission::RefusalCode;

use super::block::BlockState;
use super::message::{Action, Claim, Moment, Refusal, Source, Submission, TaskId};
use super::submissions::busy;
use super::task::Held;
use super::{Collector, Pending};

/// A check under way.
#[derive(Debug)]
pub(super) struct Job {
    claims: Vec<Claim>,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Quorum(TaskId),
    /// The first claim is this submission's, a second one what is held in the same name.
    Submission(Box<Pending>),
}

/// A check that waits for its turn.
#[derive(Debug)]
pub(super) struct QueuedCheck {
    claims: Vec<Claim>,
    pending: Box<Pending>,
    /// Others wait for its result.
    introduces: bool,
}

/// An answer that is being checked for the first time.
#[derive(Debug)]
pub(super) struct Introduction {
    source: Source,
    operator: OperatorId,
    /// Of the same answer; they wait for the result.
    behind: Vec<Pending>,
}

impl Introduction {
    pub(super) fn behind(&self) -> usize {
        self.behind.len()
    }
}

impl Collector {
    /// The first of an answer is checked; those of the same answer wait for the result. Whose turn comes sooner is checked
    /// in place of one that waits in a long line.
    pub(super) fn introduce(&mut self, pending: Pending, state: &Arc<BlockState>) {
        let Submission {
            task, digest, operator, ..
        } = pending.submission;
        let key = (task, digest);
        let source = pending.source;
        if self.in_check.contains(&(task, operator, source)) {
            return self.answer(pending.ticket, Err(busy()));
        }
        let mut behind = Vec::new();
        if let Some(known) = self.introductions.get_mut(&key) {
            let same = |other: &&Pending| other.submission.operator == operator && other.source == source;
            if known.behind.iter().find(same).is_some() {
                return self.answer(pending.ticket, Err(busy()));
            }
            let shorter = self.queue.len_of(source) + 1 < self.queue.len_of(known.source);
            let queued = |entry: &QueuedCheck| entry.introduces && entry.key() == key;
            let removed = match shorter {
                true => self.queue.remove(known.source, known.operator, queued),
                false => None,
            };
            let Some(removed) = removed else {
                known.behind.push(pending);
                return;
            };
            behind = std::mem::take(&mut known.behind);
            self.in_check
                .remove(&(task, removed.pending.submission.operator, removed.pending.source));
            behind.push(*removed.pending);
        }
        let introduction = Introduction {
            source,
            operator,
            behind,
        };
        self.introductions.insert(key, introduction);
        self.enqueue(pending, None, state, true);
    }

    /// A submission of an answer that is known is checked by itself.
    pub(super) fn check(&mut self, pending: Pending, held: Option<Held>, state: &Arc<BlockState>) {
        let Submission { task, operator, .. } = pending.submission;
        if self.in_check.contains(&(task, operator, pending.source)) {
            return self.answer(pending.ticket, Err(busy()));
        }
        self.enqueue(pending, held, state, false);
    }

    fn enqueue(&mut self, pending: Pending, held: Option<Held>, state: &Arc<BlockState>, introduces: bool) {
        let Submission {
            task,
            operator,
            digest,
            signature,
            ..
        } = pending.submission;
        let Some(member) = state.operators.get(&operator) else {
            return;
        };
        let claim = |digest, signature| Claim {
            operator,
            key: member.key,
            digest,
            signature,
        };
        let mut claims = vec![claim(digest, signature)];
        claims.extend(
            held.filter(|held| !held.verified)
                .map(|held| claim(held.digest, held.signature)),
        );
        let source = pending.source;
        self.in_check.insert((task, operator, source));
        let entry = QueuedCheck {
            claims,
            pending: Box::new(pending),
            introduces,
        };
        if let Some(displaced) = self.queue.push(source, operator, entry) {
            self.displaced(displaced);
        }
        self.start_checks();
    }

    /// Had to give way: its sender comes again; those who waited for its result do not suffer for it.
    fn displaced(&mut self, entry: QueuedCheck) {
        let key = entry.key();
        let pending = *entry.pending;
        self.in_check
            .remove(&(key.0, pending.submission.operator, pending.source));
        if entry.introduces
            && let Some(introduction) = self.introductions.remove(&key)
        {
            self.again.extend(introduction.behind);
        }
        self.answer(pending.ticket, Err(busy()));
    }

    fn start_checks(&mut self) {
        while self.running < self.settings.checks_at_once
            && let Some(QueuedCheck { claims, pending, .. }) = self.queue.pop()
        {
            self.running += 1;
            self.start_job(claims, Purpose::Submission(pending), false);
        }
    }

    pub(super) fn check_quorum(&mut self, task: TaskId, claims: Vec<Claim>) {
        self.start_job(claims, Purpose::Quorum(task), true);
    }

    fn start_job(&mut self, claims: Vec<Claim>, purpose: Purpose, urgent: bool) {
        let job = self.next_job;
        self.next_job += 1;
        let stored = claims.clone();
        self.jobs.insert(
            job,
            Job {
                claims: stored,
                purpose,
            },
        );
        self.actions.push(Action::Check { job, claims, urgent });
    }

    /// A check ended; `invalid` are indices of its claims.
    pub fn checked(&mut self, job: u64, invalid: &[usize], now: Moment) {
        let Some(Job { claims, purpose }) = self.jobs.remove(&job) else {
            return;
        };
        match purpose {
            Purpose::Quorum(id) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.checking = false;
                }
                for (index, claim) in claims.iter().enumerate() {
                    self.settle(id, claim, !invalid.contains(&index));
                }
                self.advance(id, now);
            }
            Purpose::Submission(pending) => {
                self.running -= 1;
                if let Some(claim) = claims.get(1) {
                    self.settle(pending.submission.task, claim, !invalid.contains(&1));
                }
                self.submission_checked(*pending, !invalid.contains(&0), now);
                self.start_checks();
            }
        }
        self.consider_again(now);
    }

    fn submission_checked(&mut self, mut pending: Pending, valid: bool, now: Moment) {
        let Submission {
            task, digest, operator, ..
        } = pending.submission;
        self.in_check.remove(&(task, operator, pending.source));
        let introduced = self
            .introductions
            .get(&(task, digest))
            .is_some_and(|known| known.operator == operator && known.source == pending.source);
        let behind = match introduced {
            true => self.introductions.remove(&(task, digest)),
            false => None,
        };
        if valid {
            pending.checked = true;
            self.consider(pending, now);
        } else {
            let address = self.address_of(&pending.submission);
            self.note_invalid(task, address, digest, pending.source);
            let refusal = Refusal::new(RefusalCode::InvalidSignature, "the signature does not verify");
            self.answer(pending.ticket, Err(refusal));
        }
        self.again.extend(behind.into_iter().flat_map(|known| known.behind));
    }

    /// Takes over the verdict on a signature, if that is still the one held.
    fn settle(&mut self, id: TaskId, claim: &Claim, valid: bool) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let same = |held: &&Held| held.digest == claim.digest && held.signature == claim.signature;
        let Some(&held) = task.held.get(&claim.operator).filter(same) else {
            return;
        };
        if valid {
            return task.mark_verified(&claim.operator);
        }
        let address = task.state.address(&claim.operator);
        self.unstored(id, claim.operator);
        self.actions.push(Action::Discard {
            task: id,
            operator: claim.operator,
        });
        self.note_invalid(id, address, claim.digest, held.source);
    }
}

impl QueuedCheck {
    fn key(&self) -> (TaskId, B256) {
        (self.pending.submission.task, self.pending.submission.digest)
    }
}
