//! The deciding part: signatures, blocks and operators' stakes in; answers, checks and responses out. No socket, no clock,
//! no store; the shell does what [`Action`] says.
//!
//! Signatures over an answer that is known are counted unchecked, and checked together once they would reach the quorum.
//! What an outsider could use is checked first, alone: a signature that brings a new answer (so that only operators make
//! the collector keep anything), and one that contradicts what is held in the same operator's name (so that nobody can
//! keep an operator from being counted by sending rubbish before it). An operator counts once per task, for what it
//! validly signed first; a second answer signed by it is equivocation and changes nothing.
//!
//! Everything an outsider can make wait is bounded, and done in turns: source by source, and behind one source operator by
//! operator ([`turns`]). A source that sent a signature that does not verify is not believed unchecked for a while.

mod block;
mod checks;
mod following;
mod message;
mod stragglers;
mod submissions;
mod task;
mod turns;
mod waiting;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod cluster;
#[cfg(test)]
pub(crate) mod fixture;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use avs::bn254::{self, SignedBy};
use avs::quorum::OperatorId;
use avs::submission::SubmissionStatus;
use chain::BlockReference;

pub use block::{BlockState, Member};
pub use message::{
    Action, AnsweredOnChain, Claim, Moment, Note, Record, Refusal, Response, ResponseOutcome, Source, StateRead,
    Submission, TallyView, TaskId, TaskView, Ticket,
};
pub use stragglers::StragglerSettings;

use checks::{Introduction, Job, QueuedCheck};
use following::{Block, Finished, Skipped, StateSlot};
use stragglers::Attendance;
use task::{Phase, Step, Task};
use turns::Turns;

/// Blocks that an operator may be ahead of us.
const BLOCKS_AHEAD: u64 = 2;
/// Wait before stakes that could not be read are read again.
const STATE_RETRY: Duration = Duration::from_millis(250);
/// Submissions that wait for a block.
const WAITING_LIMIT: usize = 1_024;
/// Match words of all waiting submissions together.
const WAITING_BYTES: usize = 8 << 20;
/// Checks that wait for their turn and that no response waits for: about 200 ms of work, and a task needs one of them.
const CHECK_LIMIT: usize = 256;
/// Sources that are not believed unchecked.
const SUSPECT_LIMIT: usize = 4_096;
/// Blocks for which a source is not believed unchecked.
const SUSPICION: u64 = 64;
/// Match words of all tasks together.
const HELD_BYTES: usize = 256 << 20;
/// Finished tasks that are remembered, to say so.
const RECENT_LIMIT: usize = 512;
/// Blocks on top of an answer before its task is forgotten: no deeper reorganisation is expected.
const ANSWER_DEPTH: u64 = 12;

/// What the deciding depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectorSettings {
    /// How long further signers are waited for once the quorum is there.
    pub stragglers: StragglerSettings,
    /// Blocks after the close block in which a response is taken.
    pub response_window: u64,
    /// How long a submission waits for its close block or for the operators' stakes to be read.
    pub block_patience: Duration,
    /// Checks that outsiders can cause and that run at the same time. Those a response waits for run beside them.
    pub checks_at_once: usize,
}

#[derive(Debug, Clone)]
struct Pending {
    /// Who waits for an answer; nobody for what was stored before a restart.
    ticket: Option<Ticket>,
    source: Source,
    submission: Submission,
    /// The signature was checked and is the operator's.
    checked: bool,
}

/// Collects signatures of all tasks.
#[derive(Debug)]
pub struct Collector {
    settings: CollectorSettings,
    head: Option<BlockReference>,
    blocks: BTreeMap<u64, Block>,
    /// Blocks below the head that close orders, and that the follower left out because it was far behind.
    skipped: BTreeMap<u64, Skipped>,
    tasks: BTreeMap<TaskId, Task>,
    recent: BTreeMap<TaskId, Finished>,
    attendance: Attendance,
    waiting: Vec<(Moment, Pending)>,
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    queue: Turns<QueuedCheck>,
    /// Checks of single submissions under way.
    running: usize,
    /// Submissions that are being checked or wait for it: one of a source and operator for each task.
    in_check: BTreeSet<(TaskId, OperatorId, Source)>,
    /// Answers that are being checked for the first time.
    introductions: BTreeMap<(TaskId, B256), Introduction>,
    /// To be considered again.
    again: VecDeque<Pending>,
    /// Sources that sent a signature that does not verify, and the block until which they are not believed.
    suspects: BTreeMap<Source, u64>,
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
            skipped: BTreeMap::new(),
            tasks: BTreeMap::new(),
            recent: BTreeMap::new(),
            attendance: Attendance::default(),
            waiting: Vec::new(),
            jobs: BTreeMap::new(),
            next_job: 0,
            queue: Turns::new(CHECK_LIMIT),
            running: 0,
            in_check: BTreeSet::new(),
            introductions: BTreeMap::new(),
            again: VecDeque::new(),
            suspects: BTreeMap::new(),
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
        [timer, waiting, self.next_read()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn poll(&mut self, now: Moment) {
        while let Some(&(moment, task)) = self.timers.first()
            && moment <= now
        {
            self.timers.pop_first();
            if let Some(task) = self.tasks.get_mut(&task) {
                task.timer = None;
            }
            self.advance(task, now);
        }
        self.read_again(now);
        self.end_waits(now);
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
        let step = task.step(now, head, &self.settings.stragglers, &self.attendance);
        if let Step::Check(_) = step {
            task.checking = true;
        }
        if let Some((digest, signatures)) = task.newly_reached() {
            self.actions.push(Action::Note(Note::QuorumReached {
                task: id,
                digest,
                signatures,
            }));
        }
        match step {
            Step::Nothing => {}
            Step::Wait(until) => {
                if let Some(earlier) = task.timer.replace(until) {
                    self.timers.remove(&(earlier, id));
                }
                self.timers.insert((until, id));
            }
            Step::Check(claims) => self.check_quorum(id, claims),
            Step::Respond(response) => {
                if task.failures == 0 {
                    let absent: BTreeSet<&OperatorId> = response.non_signers.iter().collect();
                    let members = response.state.operators.keys();
                    let signers = members.filter(|operator| !absent.contains(operator));
                    self.attendance.record(signers, response.non_signers.iter());
                }
                self.actions.push(Action::Respond(response));
            }
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
        let behind: usize = self.introductions.values().map(Introduction::behind).sum();
        (
            self.tasks.len(),
            self.waiting.len() + self.jobs.len() + self.queue.len() + behind,
        )
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

    /// A signature in the operator's name that is not its key's: whoever sent it is not believed unchecked for a while.
    fn note_invalid(&mut self, task: TaskId, operator: Address, digest: B256, source: Source) {
        if source != Source::STORE {
            let until = self.head.map_or(0, |head| head.number) + SUSPICION;
            if self.suspects.len() >= SUSPECT_LIMIT && !self.suspects.contains_key(&source) {
                self.suspects.pop_first();
            }
            self.suspects.insert(source, until);
        }
        self.note(Note::InvalidSignature {
            task,
            operator,
            digest,
            source,
        });
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
