//! How a submission becomes a signature that counts, or a refusal.

use std::sync::Arc;

use avs::quorum::OperatorId;
use avs::submission::{RefusalCode, SubmissionStatus};

use super::block::BlockState;
use super::message::{Action, Claim, Moment, Note, Record, Refusal, Submission, TaskId, Ticket};
use super::task::{Held, Phase, Task};
use super::{
    BLOCKS_AHEAD, CHECK_LIMIT, Collector, HELD_BYTES, Job, Pending, Purpose, StateSlot, WAITING_BYTES, WAITING_LIMIT,
};
use alloy_primitives::B256;

impl Collector {
    /// A signature came. It is answered by an [`Action::Answer`], now or later.
    pub fn submit(&mut self, ticket: Ticket, submission: Submission, now: Moment) {
        let pending = Pending {
            ticket: Some(ticket),
            submission,
            checked: false,
        };
        self.consider(pending, now);
    }

    /// A signature that was stored before a restart.
    pub fn restore(&mut self, record: Record, now: Moment) {
        let pending = Pending {
            ticket: None,
            submission: record.submission,
            checked: false,
        };
        self.consider(pending, now);
    }

    /// What could not be stored does not count: its sender was told to come again.
    pub fn unstored(&mut self, task: TaskId, operator: OperatorId) {
        if let Some(known) = self.tasks.get_mut(&task) {
            let before = known.bytes();
            known.release(&operator);
            self.held_bytes -= before - known.bytes();
        }
    }

    fn consider(&mut self, pending: Pending, now: Moment) {
        let id = pending.submission.task;
        let close_block = u64::from(id.close_block);
        let refuse = |code, message: String| Err(Refusal::new(code, message));
        let Some(head) = self.head.map(|head| head.number) else {
            return self.wait(pending, now);
        };
        if self.is_answered(id, pending.submission.close_block_hash) {
            return self.answer(pending.ticket, Ok(SubmissionStatus::Answered));
        }
        if head >= close_block + self.settings.response_window {
            let message = format!(
                "the response window of close block {close_block} is over: it was {} blocks, the head is {head}",
                self.settings.response_window
            );
            return self.answer(pending.ticket, refuse(RefusalCode::WindowOver, message));
        }
        if close_block > head + BLOCKS_AHEAD {
            let message = format!("close block {close_block} is in the future: the newest block here is {head}");
            return self.answer(pending.ticket, refuse(RefusalCode::UnknownBlock, message));
        }
        if close_block > head {
            return self.wait(pending, now);
        }
        let Some(block) = self.blocks.get(&close_block) else {
            let message = format!("close block {close_block} is not known here");
            return self.answer(pending.ticket, refuse(RefusalCode::UnknownBlock, message));
        };
        if block.hash != pending.submission.close_block_hash {
            let message = format!(
                "block {close_block} has the hash {} here, the signature is for {}",
                block.hash, pending.submission.close_block_hash
            );
            return self.answer(pending.ticket, refuse(RefusalCode::UnknownBlock, message));
        }
        if u32::from(id.chunk) >= block.closing_orders {
            let message = format!(
                "close block {close_block} has no chunk {}: {} orders with a bid close in it",
                id.chunk, block.closing_orders
            );
            return self.answer(pending.ticket, refuse(RefusalCode::UnknownBlock, message));
        }
        let StateSlot::Ready(state) = &block.state else {
            if matches!(block.state, StateSlot::Missing) {
                self.read_state(close_block);
            }
            return self.wait(pending, now);
        };
        let state = state.clone();
        if !state.operators.contains_key(&pending.submission.operator) {
            let message = format!(
                "operator {} is in no quorum at block {close_block}",
                pending.submission.operator
            );
            return self.answer(pending.ticket, refuse(RefusalCode::UnknownOperator, message));
        }
        self.place(pending, &state, now);
    }

    fn is_answered(&self, id: TaskId, hash: B256) -> bool {
        let in_task = self
            .tasks
            .get(&id)
            .is_some_and(|task| matches!(task.phase, Phase::Answered { .. }) && task.state.block.hash == hash);
        in_task || self.recent.get(&id).is_some_and(|finished| finished.view.answered)
    }

    /// A member's submission for a task that can still be answered.
    fn place(&mut self, pending: Pending, state: &Arc<BlockState>, now: Moment) {
        let Submission {
            task: id,
            operator,
            digest,
            signature,
            ..
        } = pending.submission;
        let task = self.tasks.get(&id);
        let held = task.and_then(|task| task.held.get(&operator)).copied();
        let refuse = |code, message: &str| Err(Refusal::new(code, message));
        match held {
            Some(held) if held.digest == digest && held.signature == signature => {
                self.answer(pending.ticket, Ok(SubmissionStatus::Duplicate));
            }
            // One key makes one signature of one message.
            Some(held) if held.digest == digest && held.verified => {
                self.note_invalid(id, state.address(&operator), digest);
                let refusal = refuse(
                    RefusalCode::InvalidSignature,
                    "the signature does not verify; a valid one is held",
                );
                self.answer(pending.ticket, refusal);
            }
            Some(held) if held.digest != digest && task.is_some_and(|task| task.equivocators.contains(&operator)) => {
                self.answer(pending.ticket, Err(equivocation(held.digest)));
            }
            Some(held) if held.verified && pending.checked => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.equivocators.insert(operator);
                }
                self.note(Note::Equivocation {
                    task: id,
                    operator: state.address(&operator),
                    first: held.digest,
                    second: digest,
                });
                self.answer(pending.ticket, Err(equivocation(held.digest)));
            }
            Some(held) => self.check(pending, Some(held), state),
            None if pending.checked || task.is_some_and(|task| task.candidates.contains_key(&digest)) => {
                self.accept(pending, state, now);
            }
            None => self.introduce(pending, state),
        }
    }

    /// The first of an answer is checked; those of the same answer wait for the result.
    fn introduce(&mut self, pending: Pending, state: &Arc<BlockState>) {
        let key = (pending.submission.task, pending.submission.digest);
        let Some(behind) = self.introductions.get_mut(&key) else {
            self.introductions.insert(key, Vec::new());
            return self.check(pending, None, state);
        };
        let operator = pending.submission.operator;
        if behind.iter().any(|other| other.submission.operator == operator) {
            return self.answer(pending.ticket, Err(busy()));
        }
        behind.push(pending);
    }

    fn check(&mut self, pending: Pending, held: Option<Held>, state: &Arc<BlockState>) {
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
        if self.in_check.len() >= CHECK_LIMIT || !self.in_check.insert((task, operator)) {
            if held.is_none() {
                self.release_introduction(&pending.submission);
            }
            return self.answer(pending.ticket, Err(busy()));
        }
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
        self.start_job(claims, Purpose::Submission(Box::new(pending)), false);
    }

    pub(super) fn start_job(&mut self, claims: Vec<Claim>, purpose: Purpose, urgent: bool) {
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
            Purpose::Submission(mut pending) => {
                let id = pending.submission.task;
                self.in_check.remove(&(id, pending.submission.operator));
                if let Some(claim) = claims.get(1) {
                    self.settle(id, claim, !invalid.contains(&1));
                }
                let behind = self
                    .introductions
                    .remove(&(id, pending.submission.digest))
                    .unwrap_or_default();
                if invalid.contains(&0) {
                    let address = self.address_of(&pending.submission);
                    self.note_invalid(id, address, pending.submission.digest);
                    let refusal = Refusal::new(RefusalCode::InvalidSignature, "the signature does not verify");
                    self.answer(pending.ticket, Err(refusal));
                } else {
                    pending.checked = true;
                    self.consider(*pending, now);
                }
                for pending in behind {
                    self.consider(pending, now);
                }
            }
        }
    }

    /// Takes over the verdict on a signature, if that is still the one held.
    pub(super) fn settle(&mut self, id: TaskId, claim: &Claim, valid: bool) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let same = |held: &&Held| held.digest == claim.digest && held.signature == claim.signature;
        if task.held.get(&claim.operator).filter(same).is_none() {
            return;
        }
        if valid {
            return task.mark_verified(&claim.operator);
        }
        let address = task.state.address(&claim.operator);
        self.unstored(id, claim.operator);
        self.actions.push(Action::Discard {
            task: id,
            operator: claim.operator,
        });
        self.note_invalid(id, address, claim.digest);
    }

    fn accept(&mut self, pending: Pending, state: &Arc<BlockState>, now: Moment) {
        let Pending {
            ticket,
            submission,
            checked,
        } = pending;
        let (id, operator) = (submission.task, submission.operator);
        let task = self.tasks.entry(id).or_insert_with(|| Task::new(id, state.clone()));
        if !task.candidates.contains_key(&submission.digest) {
            let before = task.bytes();
            let full = self.held_bytes + submission.matches.len() * 32 > HELD_BYTES;
            let added = if full {
                Err(())
            } else {
                task.add_candidate(
                    submission.digest,
                    submission.params_version,
                    submission.matches.clone(),
                    &operator,
                )
            };
            self.held_bytes = self.held_bytes + task.bytes() - before;
            let empty = task.candidates.is_empty();
            match added {
                Ok(displaced) => {
                    let discards = displaced
                        .into_iter()
                        .map(|operator| Action::Discard { task: id, operator });
                    self.actions.extend(discards);
                }
                Err(()) => {
                    if empty {
                        self.tasks.remove(&id);
                    }
                    return self.answer(ticket, Err(busy()));
                }
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // The words are kept once, however many operators sent them.
        let matches = task.candidates[&submission.digest].matches.clone();
        let held = Held {
            digest: submission.digest,
            signature: submission.signature,
            verified: checked,
        };
        task.hold(operator, held);
        let address = state.address(&operator);
        if ticket.is_some() {
            let submission = Submission { matches, ..submission };
            self.actions.push(Action::Store(Record { submission }));
        }
        self.note(Note::Accepted {
            task: id,
            operator: address,
        });
        self.answer(ticket, Ok(SubmissionStatus::Accepted));
        self.advance(id, now);
    }

    // --------------------------------------------------------------- waiting

    fn wait(&mut self, pending: Pending, now: Moment) {
        let bytes = pending.submission.matches.len() * 32;
        let deadline = match pending.ticket {
            Some(_) if self.waiting.len() >= WAITING_LIMIT || self.waiting_bytes + bytes > WAITING_BYTES => {
                return self.answer(pending.ticket, Err(busy()));
            }
            Some(_) => now + self.settings.block_patience,
            // Nobody waits for an answer, and what was stored must not be lost to an RPC that is away.
            None => Moment::MAX,
        };
        self.waiting_bytes += bytes;
        self.waiting.push((deadline, pending));
    }

    pub(super) fn reconsider(&mut self, number: u64, now: Moment) {
        let known = |_: &Moment, pending: &Pending| u64::from(pending.submission.task.close_block) <= number;
        for (deadline, pending) in self.take_waiting(known) {
            let before = self.waiting.len();
            self.consider(pending, now);
            // Waiting on does not begin a new wait.
            if self.waiting.len() > before
                && let Some(last) = self.waiting.last_mut()
            {
                last.0 = deadline;
            }
        }
    }

    pub(super) fn take_waiting(&mut self, wanted: impl Fn(&Moment, &Pending) -> bool) -> Vec<(Moment, Pending)> {
        let (taken, kept) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(deadline, pending)| wanted(deadline, pending));
        self.waiting = kept;
        let bytes: usize = self
            .waiting
            .iter()
            .map(|(_, pending)| pending.submission.matches.len() * 32)
            .sum();
        self.waiting_bytes = bytes;
        taken
    }

    fn release_introduction(&mut self, submission: &Submission) {
        let key = (submission.task, submission.digest);
        for pending in self.introductions.remove(&key).unwrap_or_default() {
            self.answer(pending.ticket, Err(busy()));
        }
    }
}

fn busy() -> Refusal {
    Refusal::new(RefusalCode::Busy, "too much is waiting to be checked; send it again")
}

fn equivocation(first: B256) -> Refusal {
    Refusal::new(
        RefusalCode::Equivocation,
        format!("the operator signed {first} for this task before; the first counts"),
    )
}
