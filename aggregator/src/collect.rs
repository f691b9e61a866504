//! The deciding part: signatures, blocks and operators' stakes in; answers, checks and responses out. No socket, no clock,
//! no store; the shell does what [`Action`] says.
//!
//! Signatures over an answer that is known are counted unchecked, and checked together once they would reach the quorum.
//! What an outsider could use is checked first, alone: a signature that brings a new answer (so that only operators make
//! the collector keep anything), and one that contradicts what is held in the same operator's name (so that nobody can
//! keep an operator from being counted by sending rubbish before it). An operator counts once per task, for what it
//! validly signed first; a second answer signed by it is equivocation and changes nothing.

mod block;
mod message;
mod submissions;
mod task;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod cluster;
#[cfg(test)]
pub(crate) mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use avs::bn254::{self, SignedBy};
use avs::quorum::OperatorId;
use avs::response;
use avs::submission::{RefusalCode, SubmissionStatus};
use chain::BlockReference;

pub use block::{BlockState, Member};
pub use message::{
    Action, AnsweredOnChain, Claim, Moment, Note, Record, Refusal, Response, ResponseOutcome, Submission, TallyView,
    TaskId, TaskView, Ticket,
};
use task::{Phase, Step, Task};

/// Blocks that an operator may be ahead of us.
const BLOCKS_AHEAD: u64 = 2;
/// Wait before stakes that could not be read are read again.
const STATE_RETRY: Duration = Duration::from_millis(250);
/// Submissions that wait for a block.
const WAITING_LIMIT: usize = 1_024;
/// Match words of all waiting submissions together.
const WAITING_BYTES: usize = 8 << 20;
/// Checks under way that no response waits for: about 50 ms of work, and a task needs one of them.
const CHECK_LIMIT: usize = 64;
/// Match words of all tasks together.
const HELD_BYTES: usize = 256 << 20;
/// Finished tasks that are remembered, to say so.
const RECENT_LIMIT: usize = 512;
/// Blocks on top of an answer before its task is forgotten: no deeper reorganisation is expected.
const ANSWER_DEPTH: u64 = 12;

/// What the deciding depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectorSettings {
    /// Wait for further signers once the quorum is there.
    pub straggler_wait: Duration,
    /// Blocks after the close block in which a response is taken.
    pub response_window: u64,
    /// How long a submission waits for its close block or for the operators' stakes to be read.
    pub block_patience: Duration,
}

#[derive(Debug)]
struct Block {
    hash: B256,
    /// Orders with a bid that close in it, and so the most chunks it can have.
    closing_orders: u32,
    state: StateSlot,
}

#[derive(Debug)]
enum StateSlot {
    Missing,
    Reading,
    Ready(Arc<BlockState>),
    Failed { again: Moment },
}

#[derive(Debug, Clone)]
struct Pending {
    /// Who waits for an answer; nobody for what was stored before a restart.
    ticket: Option<Ticket>,
    submission: Submission,
    /// The signature was checked and is the operator's.
    checked: bool,
}

#[derive(Debug)]
struct Job {
    claims: Vec<Claim>,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Quorum(TaskId),
    /// The first claim is this submission's, a second one what is held in the same name.
    Submission(Box<Pending>),
}

#[derive(Debug, Clone)]
struct Finished {
    block: u64,
    view: TaskView,
}

/// Collects signatures of all tasks.
#[derive(Debug)]
pub struct Collector {
    settings: CollectorSettings,
    head: Option<BlockReference>,
    blocks: BTreeMap<u64, Block>,
    tasks: BTreeMap<TaskId, Task>,
    recent: BTreeMap<TaskId, Finished>,
    waiting: Vec<(Moment, Pending)>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    /// Operators one of whose submissions is being checked: one at a time.
    in_check: BTreeSet<(TaskId, OperatorId)>,
    /// Submissions of an answer that is being checked for the first time.
    introductions: BTreeMap<(TaskId, B256), Vec<Pending>>,
    timers: BTreeSet<(Moment, TaskId)>,
    held_bytes: usize,
    waiting_bytes: usize,
    actions: Vec<Action>,
}

impl Collector {
    pub fn new(settings: CollectorSettings) -> Self {
        Self {
            settings,
            head: None,
            blocks: BTreeMap::new(),
            tasks: BTreeMap::new(),
            recent: BTreeMap::new(),
            waiting: Vec::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            in_check: BTreeSet::new(),
            introductions: BTreeMap::new(),
            timers: BTreeSet::new(),
            held_bytes: 0,
            waiting_bytes: 0,
            actions: Vec::new(),
        }
    }

    /// What is to be done now, in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When to call [`Collector::poll`] at the latest.
    pub fn next_deadline(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(moment, _)| *moment);
        let waiting = self.waiting.iter().map(|(deadline, _)| *deadline).min();
        let reads = self.blocks.values().filter_map(|block| match block.state {
            StateSlot::Failed { again } => Some(again),
            _ => None,
        });
        [timer, waiting, reads.min()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn poll(&mut self, now: Moment) {
        while let Some(&(moment, task)) = self.timers.first()
            && moment <= now
        {
            self.timers.pop_first();
            self.advance(task, now);
        }
        let again: Vec<u64> = self
            .blocks
            .iter()
            .filter(|(_, block)| matches!(block.state, StateSlot::Failed { again } if again <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in again {
            self.read_state(number);
        }
        for (deadline, pending) in self.take_waiting(|deadline, _| *deadline <= now) {
            debug_assert!(deadline <= now, "only what is due was taken");
            let close_block = pending.submission.task.close_block;
            let refusal = if self.blocks.contains_key(&u64::from(close_block)) {
                Refusal::new(RefusalCode::Busy, "the operators' stakes cannot be read now")
            } else {
                Refusal::new(
                    RefusalCode::UnknownBlock,
                    format!("close block {close_block} is not known here yet"),
                )
            };
            self.answer(pending.ticket, Err(refusal));
        }
    }

    // ---------------------------------------------------------------- chain

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

    /// No block above this height is canonical any more.
    pub fn reverted(&mut self, above: u64) {
        self.blocks.split_off(&(above + 1));
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
    pub fn state_read(&mut self, block: BlockReference, state: Option<BlockState>, now: Moment) {
        let Some(known) = self
            .blocks
            .get_mut(&block.number)
            .filter(|known| known.hash == block.hash)
        else {
            return;
        };
        known.state = match state {
            Some(state) => StateSlot::Ready(Arc::new(state)),
            None => StateSlot::Failed {
                again: now + STATE_RETRY,
            },
        };
        self.reconsider(block.number, now);
    }

    fn read_state(&mut self, number: u64) {
        let Some(block) = self.blocks.get_mut(&number) else {
            return;
        };
        if matches!(block.state, StateSlot::Reading | StateSlot::Ready(_)) {
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
        let oldest = head.saturating_sub(self.settings.response_window + 1);
        self.blocks = self.blocks.split_off(&oldest);
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
        self.timers.retain(|(_, timed)| *timed != id);
        self.actions.push(Action::Finish(id));
        Some(task)
    }

    // -------------------------------------------------------------- response

    /// What became of posting a response.
    pub fn responded(&mut self, id: TaskId, outcome: ResponseOutcome, now: Moment) {
        let Some(head) = self.head.map(|head| head.number) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.phase == Phase::Responding) else {
            return;
        };
        match outcome {
            // Its event was passed before this process followed the chain.
            ResponseOutcome::AnsweredAlready { block: Some(block) } if block <= head => {
                task.phase = Phase::Answered { block, responder: None };
            }
            ResponseOutcome::Included | ResponseOutcome::AnsweredAlready { .. } => {
                task.phase = Phase::EventAwaited { since: head };
            }
            ResponseOutcome::Failed(reason) => {
                task.phase = Phase::Failed { block: head };
                task.failures += 1;
                let attempt = task.failures;
                self.note(Note::ResponseFailed {
                    task: id,
                    reason,
                    attempt,
                });
            }
        }
        self.advance(id, now);
    }

    fn advance(&mut self, id: TaskId, now: Moment) {
        let Some(head) = self.head.map(|head| head.number) else {
            return;
        };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let step = task.step(now, head, self.settings.straggler_wait);
        if let Step::Check(_) = step {
            task.checking = true;
        }
        if let Some((digest, signatures)) = task.newly_reached() {
            self.note(Note::QuorumReached {
                task: id,
                digest,
                signatures,
            });
        }
        match step {
            Step::Nothing => {}
            Step::Wait(until) => {
                self.timers.insert((until, id));
            }
            Step::Check(claims) => self.start_job(claims, Purpose::Quorum(id), true),
            Step::Respond(response) => self.actions.push(Action::Respond(response)),
        }
    }

    // ----------------------------------------------------------------- views

    /// What is known of the tasks of one close block, or of the newest ones; at most this many.
    pub fn tasks(&self, close_block: Option<u32>, limit: usize) -> Vec<TaskView> {
        let wanted = |id: &TaskId| close_block.is_none_or(|number| number == id.close_block);
        let mut views: Vec<(TaskId, TaskView)> = Vec::new();
        let running = self.tasks.iter().rev().filter(|(id, _)| wanted(id));
        views.extend(running.take(limit).map(|(id, task)| (*id, task.view())));
        let finished = self.recent.iter().rev().filter(|(id, _)| wanted(id));
        views.extend(finished.take(limit).map(|(id, finished)| (*id, finished.view.clone())));
        views.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
        views.truncate(limit);
        views.into_iter().map(|(_, view)| view).collect()
    }

    /// Tasks in memory, and submissions that wait.
    pub fn sizes(&self) -> (usize, usize) {
        let behind: usize = self.introductions.values().map(Vec::len).sum();
        (self.tasks.len(), self.waiting.len() + self.jobs.len() + behind)
    }

    // --------------------------------------------------------------- private

    fn answer(&mut self, ticket: Option<Ticket>, answer: Result<SubmissionStatus, Refusal>) {
        if let Some(ticket) = ticket {
            self.actions.push(Action::Answer { ticket, answer });
        }
    }

    fn note(&mut self, note: Note) {
        self.actions.push(Action::Note(note));
    }

    fn note_invalid(&mut self, task: TaskId, operator: Address, digest: B256) {
        self.note(Note::InvalidSignature { task, operator, digest });
    }

    fn address_of(&self, submission: &Submission) -> Address {
        match self.blocks.get(&u64::from(submission.task.close_block)) {
            Some(Block {
                state: StateSlot::Ready(state),
                ..
            }) => state.address(&submission.operator),
            _ => Address::ZERO,
        }
    }
}

/// Indices of the claims that are not their key's: one check per answer when all are good. Computes; call it where that
/// holds up nobody.
pub fn find_invalid(claims: &[Claim]) -> Vec<usize> {
    let mut by_digest: BTreeMap<B256, Vec<usize>> = BTreeMap::new();
    for (index, claim) in claims.iter().enumerate() {
        by_digest.entry(claim.digest).or_default().push(index);
    }
    let mut invalid = Vec::new();
    for (digest, indices) in by_digest {
        let signed: Vec<SignedBy<'_>> = indices
            .iter()
            .map(|&index| SignedBy {
                key: &claims[index].key,
                signature: &claims[index].signature,
            })
            .collect();
        invalid.extend(bn254::find_invalid(digest, &signed).into_iter().map(|at| indices[at]));
    }
    invalid.sort_unstable();
    invalid
}
