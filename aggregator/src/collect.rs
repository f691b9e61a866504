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
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use avs::bn254::{self, SignedBy};
use avs::quorum::OperatorId;
use avs::submission::{RefusalCode, SubmissionStatus};
use chain::BlockReference;

pub use block::{BlockState, Member};
pub use message::{
    Action, AnsweredOnChain, Claim, Moment, Note, Record, Refusal, Response, ResponseOutcome, Submission, TallyView,
    TaskId, TaskView, Ticket,
};
use task::{Held, Phase, Step, Task};

/// Blocks that an operator may be ahead of us.
const BLOCKS_AHEAD: u64 = 2;
/// How long a submission waits for its close block or for the operators' stakes to be read.
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Wait before stakes that could not be read are read again.
const STATE_RETRY: Duration = Duration::from_millis(250);
/// Submissions that wait for a block or a check.
const WAITING_LIMIT: usize = 1_024;
/// Match words of all waiting submissions together.
const WAITING_BYTES: usize = 32 << 20;
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
            task: id, responder, ..
        } = answer;
        match self.tasks.get_mut(&id) {
            Some(task) => task.phase = Phase::Answered { block, responder },
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

    // ----------------------------------------------------------- submissions

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
        if !self.in_check.insert((task, operator)) {
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
    fn settle(&mut self, id: TaskId, claim: &Claim, valid: bool) {
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
            Some(_) => now + BLOCK_PATIENCE,
            // Nobody waits for an answer, and what was stored must not be lost to an RPC that is away.
            None => Moment::MAX,
        };
        self.waiting_bytes += bytes;
        self.waiting.push((deadline, pending));
    }

    fn reconsider(&mut self, number: u64, now: Moment) {
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

    fn take_waiting(&mut self, wanted: impl Fn(&Moment, &Pending) -> bool) -> Vec<(Moment, Pending)> {
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
            ResponseOutcome::AnsweredAlready if task.answer_expected => {
                // Its event came before this process followed the chain.
                task.phase = Phase::Answered {
                    block: head,
                    responder: Address::ZERO,
                };
            }
            ResponseOutcome::Included | ResponseOutcome::AnsweredAlready => {
                task.answer_expected = true;
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

fn busy() -> Refusal {
    Refusal::new(RefusalCode::Busy, "too much is waiting to be checked; send it again")
}

fn equivocation(first: B256) -> Refusal {
    Refusal::new(
        RefusalCode::Equivocation,
        format!("the operator signed {first} for this task before; the first counts"),
    )
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
