//! What the chain tells: blocks, answers, reorganisations, and the stakes that are read once for each close block.

use std::sync::Arc;

use alloy_primitives::B256;
use avs::response;
use chain::BlockReference;

use super::block::BlockState;
use super::message::{Action, AnsweredOnChain, Moment, Note, StateRead, TaskId, TaskView};
use super::task::{Phase, Task};
use super::{ANSWER_DEPTH, BLOCKS_AHEAD, Collector, RECENT_LIMIT, STATE_RETRY};

/// A canonical block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) hash: B256,
    /// Orders with a bid that close in it, and so the most chunks it can have.
    pub(super) closing_orders: u32,
    pub(super) state: StateSlot,
}

#[derive(Debug)]
pub(super) enum StateSlot {
    Missing,
    Reading,
    Ready(Arc<BlockState>),
    /// One matchmaker answers its tasks: there is nothing to collect.
    SingleMatchmaker,
    Failed {
        again: Moment,
    },
}

/// A block that the follower left out. Its hash is read when a signature names it.
#[derive(Debug)]
pub(super) struct Skipped {
    pub(super) closing_orders: u32,
    pub(super) read: SkippedRead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SkippedRead {
    Unasked,
    Reading,
    Failed { again: Moment },
}

/// A task that is over, for whoever asks.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    pub(super) block: u64,
    pub(super) view: TaskView,
}

impl Collector {
    /// A block became canonical. `closing_orders` counts the orders with a bid that close in it; `chain_head` is the newest
    /// block known of.
    pub fn block_applied(
        &mut self,
        block: BlockReference,
        closing_orders: u32,
        answers: &[AnsweredOnChain],
        chain_head: u64,
        now: Moment,
    ) {
        self.head = Some(block);
        self.blocks.insert(
            block.number,
            Block {
                hash: block.hash,
                closing_orders,
                state: StateSlot::Missing,
            },
        );
        for answer in answers {
            self.answered_on_chain(*answer, block.number);
        }
        self.retire();
        // Signatures come within milliseconds: the stakes are read while operators still match.
        if closing_orders > 0 && block.number + BLOCKS_AHEAD >= chain_head {
            self.read_state(block.number);
        }
        self.reconsider(block.number, now);
        if block.number >= chain_head {
            let ids: Vec<TaskId> = self.tasks.keys().copied().collect();
            for id in ids {
                self.advance(id, now);
            }
        }
    }

    /// Blocks that were not told of because this process was far behind, each with its orders that close in it (see
    /// [`Collector::block_applied`]): an operator may have waited for us with its signatures.
    pub fn blocks_skipped(&mut self, closing: &[(u64, u32)], now: Moment) {
        let oldest = self.oldest_block();
        for &(number, closing_orders) in closing {
            if number < oldest || self.blocks.contains_key(&number) {
                continue;
            }
            let read = SkippedRead::Unasked;
            self.skipped.insert(number, Skipped { closing_orders, read });
        }
        self.reconsider(u64::MAX, now);
    }

    /// A skipped block's hash was read, or could not be.
    pub fn block_read(&mut self, number: u64, hash: Option<B256>, now: Moment) {
        let Some(skipped) = self.skipped.get_mut(&number) else {
            return;
        };
        let Some(hash) = hash else {
            skipped.read = SkippedRead::Failed {
                again: now + STATE_RETRY,
            };
            return;
        };
        let closing_orders = skipped.closing_orders;
        self.skipped.remove(&number);
        let state = StateSlot::Missing;
        self.blocks.insert(
            number,
            Block {
                hash,
                closing_orders,
                state,
            },
        );
        self.reconsider(number, now);
    }

    /// Asks for a skipped block, if it is one. Returns whether it is.
    pub(super) fn ask_for_skipped(&mut self, number: u64) -> bool {
        let Some(skipped) = self.skipped.get_mut(&number) else {
            return false;
        };
        if skipped.read == SkippedRead::Unasked {
            skipped.read = SkippedRead::Reading;
            self.actions.push(Action::ReadBlock(number));
        }
        true
    }

    /// No block above this height is canonical any more.
    pub fn reverted(&mut self, above: u64) {
        self.blocks.split_off(&(above + 1));
        self.skipped.split_off(&(above + 1));
        self.head = self.blocks.last_key_value().map(|(number, block)| BlockReference {
            number: *number,
            hash: block.hash,
        });
        let gone: Vec<TaskId> = self
            .tasks
            .keys()
            .filter(|task| u64::from(task.close_block) > above)
            .copied()
            .collect();
        for task in gone {
            self.remove(task);
            self.note(Note::Dropped { task });
        }
        for task in self.tasks.values_mut() {
            if matches!(task.phase, Phase::Answered { block, .. } if block > above) {
                task.phase = Phase::Collecting;
            }
        }
        self.recent
            .retain(|task, finished| finished.block <= above && u64::from(task.close_block) <= above);
    }

    /// The stakes as of a block were read, or could not be.
    pub fn state_read(&mut self, block: BlockReference, read: StateRead, now: Moment) {
        let Some(known) = self
            .blocks
            .get_mut(&block.number)
            .filter(|known| known.hash == block.hash)
        else {
            return;
        };
        known.state = match read {
            StateRead::Quorums(state) => StateSlot::Ready(Arc::new(*state)),
            StateRead::SingleMatchmaker => StateSlot::SingleMatchmaker,
            StateRead::Unavailable => StateSlot::Failed {
                again: now + STATE_RETRY,
            },
        };
        self.reconsider(block.number, now);
    }

    /// When something that could not be read is read again.
    pub(super) fn next_read(&self) -> Option<Moment> {
        let states = self.blocks.values().filter_map(|block| match block.state {
            StateSlot::Failed { again } => Some(again),
            _ => None,
        });
        let skipped = self.skipped.values().filter_map(|skipped| match skipped.read {
            SkippedRead::Failed { again } => Some(again),
            _ => None,
        });
        states.chain(skipped).min()
    }

    pub(super) fn read_again(&mut self, now: Moment) {
        let states = self.blocks.iter();
        let due: Vec<u64> = states
            .filter(|(_, block)| matches!(block.state, StateSlot::Failed { again } if again <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.read_state(number);
        }
        for (number, skipped) in &mut self.skipped {
            if matches!(skipped.read, SkippedRead::Failed { again } if again <= now) {
                skipped.read = SkippedRead::Reading;
                self.actions.push(Action::ReadBlock(*number));
            }
        }
    }

    pub(super) fn read_state(&mut self, number: u64) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        if !matches!(block.state, StateSlot::Missing | StateSlot::Failed { .. }) {
            return;
        }
        block.state = StateSlot::Reading;
        let hash = block.hash;
        self.actions.push(Action::ReadState(BlockReference { number, hash }));
    }

    fn answered_on_chain(&mut self, answer: AnsweredOnChain, block: u64) {
        let AnsweredOnChain {
            task: id,
            responder,
            matches_hash,
        } = answer;
        let mut differs = false;
        match self.tasks.get_mut(&id) {
            Some(task) => {
                if task.phase == Phase::Responding {
                    // Ours would only revert; somebody else's, or ours itself, is there.
                    self.actions.push(Action::Abandon { task: id, responder });
                }
                task.phase = Phase::Answered {
                    block,
                    responder: Some(responder),
                };
                let ours = task.verified_quorum().and_then(|digest| task.candidates.get(&digest));
                differs = ours.is_some_and(|candidate| response::matches_hash(&candidate.matches) != matches_hash);
            }
            None => {
                let view = TaskView {
                    close_block: id.close_block,
                    chunk: id.chunk,
                    params_version: None,
                    digest: None,
                    signatures: 0,
                    operators: Vec::new(),
                    quorum_reached: false,
                    answered: true,
                    responded_by: Some(responder),
                    tally: Vec::new(),
                };
                self.remember(id, Finished { block, view });
            }
        }
        self.note(Note::Answered { task: id, responder });
        if differs {
            self.note(Note::AnsweredDifferently { task: id, responder });
        }
        self.note_minority(id);
    }

    /// Names those who signed something else than what the quorum signed.
    fn note_minority(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        let Some(winner) = task.verified_quorum() else { return };
        let notes: Vec<Note> = task
            .held
            .iter()
            .filter(|(_, held)| held.verified && held.digest != winner)
            .map(|(operator, held)| Note::Minority {
                task: id,
                operator: task.state.address(operator),
                digest: held.digest,
            })
            .collect();
        self.actions.extend(notes.into_iter().map(Action::Note));
    }

    /// Lets go of tasks that are over, and of blocks that no task can name any more.
    fn retire(&mut self) {
        let Some(head) = self.head.map(|head| head.number) else {
            return;
        };
        let over = |close_block: u64| head >= close_block + self.settings.response_window;
        let finished: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(id, task)| {
                let deep = matches!(task.phase, Phase::Answered { block, .. } if head >= block + ANSWER_DEPTH);
                deep || over(u64::from(id.close_block))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in finished {
            let Some(task) = self.remove(id) else { continue };
            let block = match task.phase {
                Phase::Answered { block, .. } => block,
                _ => {
                    let signatures = task.held.len();
                    self.note(Note::WindowOver { task: id, signatures });
                    head
                }
            };
            let view = task.view();
            self.remember(id, Finished { block, view });
        }
        let oldest = self.oldest_block();
        self.blocks = self.blocks.split_off(&oldest);
        self.skipped = self.skipped.split_off(&oldest);
        self.suspects.retain(|_, until| *until > head);
    }

    /// No task can name a block below.
    fn oldest_block(&self) -> u64 {
        let head = self.head.map_or(0, |head| head.number);
        head.saturating_sub(self.settings.response_window + 1)
    }

    fn remember(&mut self, id: TaskId, finished: Finished) {
        self.recent.insert(id, finished);
        while self.recent.len() > RECENT_LIMIT {
            self.recent.pop_first();
        }
    }

    fn remove(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(&id)?;
        self.held_bytes -= task.bytes();
        if let Some(moment) = task.timer {
            self.timers.remove(&(moment, id));
        }
        self.actions.push(Action::Finish(id));
        Some(task)
    }
}
