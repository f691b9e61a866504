//! How a submission becomes a signature that counts, or a refusal.

use std::sync::Arc;

use avs::quorum::OperatorId;
use avs::submission::{RefusalCode, SubmissionStatus};

use super::block::BlockState;
use super::following::StateSlot;
use super::message::{Action, Moment, Note, Record, Refusal, Source, Submission, TaskId, Ticket};
use super::task::{Held, NoRoom, Phase, Task};
use super::{BLOCKS_AHEAD, Collector, HELD_BYTES, Pending};
use alloy_primitives::B256;

impl Collector {
    /// A signature came. It is answered by an [`Action::Answer`], now or later.
    pub fn submit(&mut self, ticket: Ticket, source: Source, submission: Submission, now: Moment) {
        let pending = Pending {
            ticket: Some(ticket),
            source,
            submission,
            checked: false,
        };
        self.consider(pending, now);
        self.consider_again(now);
    }

    /// A signature that was stored before a restart.
    pub fn restore(&mut self, record: Record, now: Moment) {
        let pending = Pending {
            ticket: None,
            source: Source::STORE,
            submission: record.submission,
            checked: false,
        };
        self.consider(pending, now);
        self.consider_again(now);
    }

    /// Those whose reason to wait is gone. Each look answers one or finds it a place, so this ends.
    pub(super) fn consider_again(&mut self, now: Moment) {
        while let Some(pending) = self.again.pop_front() {
            self.consider(pending, now);
        }
    }

    /// What could not be stored does not count: its sender was told to come again.
    pub fn unstored(&mut self, task: TaskId, operator: OperatorId) {
        if let Some(known) = self.tasks.get_mut(&task) {
            let before = known.bytes();
            known.release(&operator);
            self.held_bytes -= before - known.bytes();
        }
    }

    pub(super) fn consider(&mut self, pending: Pending, now: Moment) {
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
        if self.ask_for_skipped(close_block) {
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
        let state = match &block.state {
            StateSlot::Ready(state) => state.clone(),
            StateSlot::SingleMatchmaker => {
                let message =
                    format!("one matchmaker answers the tasks of close block {close_block}, without a quorum");
                return self.answer(pending.ticket, refuse(RefusalCode::NoQuorum, message));
            }
            StateSlot::Missing => {
                self.read_state(close_block);
                return self.wait(pending, now);
            }
            StateSlot::Reading | StateSlot::Failed { .. } => return self.wait(pending, now),
        };
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
        let known = task.is_some_and(|task| task.candidates.contains_key(&digest));
        let refuse = |code, message: &str| Err(Refusal::new(code, message));
        match held {
            Some(held) if held.digest == digest && held.signature == signature && known => {
                self.answer(pending.ticket, Ok(SubmissionStatus::Duplicate));
            }
            // Its answer had to make way, or found no room, and here are its words again.
            Some(held) if held.digest == digest && held.signature == signature && held.verified => {
                let checked = true;
                self.accept(Pending { checked, ..pending }, state, now);
            }
            // One key makes one signature of one message.
            Some(held) if held.digest == digest && held.verified => {
                self.note_invalid(id, state.address(&operator), digest, pending.source);
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
            Some(held) if known || held.digest != digest => self.check(pending, Some(held), state),
            _ if pending.checked => self.accept(pending, state, now),
            _ if known && self.suspects.contains_key(&pending.source) => self.check(pending, None, state),
            _ if known => self.accept(pending, state, now),
            _ => self.introduce(pending, state),
        }
    }

    fn accept(&mut self, pending: Pending, state: &Arc<BlockState>, now: Moment) {
        let Pending {
            ticket,
            source,
            submission,
            checked,
        } = pending;
        let (id, operator) = (submission.task, submission.operator);
        let held = Held {
            digest: submission.digest,
            signature: submission.signature,
            verified: checked,
            source,
        };
        let task = self.tasks.entry(id).or_insert_with(|| Task::new(id, state.clone()));
        let before = task.bytes();
        if checked && task.held.get(&operator).is_some_and(|old| !old.verified) {
            task.release(&operator);
        }
        self.held_bytes = self.held_bytes + task.bytes() - before;
        if !task.candidates.contains_key(&submission.digest) {
            let before = task.bytes();
            let full = self.held_bytes + submission.matches.len() * 32 > HELD_BYTES;
            let words = submission.matches.clone();
            let added = match full {
                true => Err(NoRoom),
                false => task.add_candidate(submission.digest, submission.params_version, words, &operator),
            };
            self.held_bytes = self.held_bytes + task.bytes() - before;
            if added == Err(NoRoom) {
                // The signature is kept: together those who signed an answer may outweigh one that is.
                if checked && !task.held.contains_key(&operator) {
                    task.hold(operator, held);
                }
                if task.held.is_empty() {
                    self.tasks.remove(&id);
                }
                return self.answer(ticket, Err(busy()));
            }
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        // The words are kept once, however many operators sent them.
        let matches = task.candidates[&submission.digest].matches.clone();
        if !task.held.contains_key(&operator) {
            task.hold(operator, held);
        }
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
}

impl Pending {
    pub(super) fn bytes(&self) -> usize {
        self.submission.matches.len() * 32
    }
}

pub(super) fn busy() -> Refusal {
    Refusal::new(RefusalCode::Busy, "too much is waiting; send it again")
}

fn equivocation(first: B256) -> Refusal {
    Refusal::new(
        RefusalCode::Equivocation,
        format!("the operator signed {first} for this task before; the first counts"),
    )
}
