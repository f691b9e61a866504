//! One simulated aggregator: the collector, what is on its disk, and how far it has followed the chain.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use avs::quorum::OperatorId;
use avs::submission::SubmissionStatus;

use super::super::{
    Action, BlockState, Collector, CollectorSettings, Record, Refusal, Source, StragglerSettings, TaskId, Ticket,
};
use super::super::{CHECK_LIMIT, WAITING_LIMIT, fixture};
use super::cast::{CHUNKS, CLOSE_BLOCK, Message};

pub(super) const WINDOW: u64 = 20;
const BLOCK_PATIENCE: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(super) struct Aggregator {
    /// Absent while it is down.
    pub(super) collector: Option<Collector>,
    /// Counts restarts: what was under way for an earlier process is lost.
    pub(super) life: u32,
    stragglers: StragglerSettings,
    pub(super) disk: BTreeMap<(TaskId, OperatorId), Record>,
    /// Blocks applied, with their forks, as its checkpoint has them.
    pub(super) applied: Vec<(u64, u8)>,
    pub(super) tickets: BTreeMap<Ticket, Message>,
    next_ticket: u64,
    /// Operators whose signature over the right answer it took in time, by chunk.
    pub(super) took: BTreeMap<(u16, u8), BTreeSet<OperatorId>>,
}

impl Aggregator {
    pub(super) fn new(stragglers: StragglerSettings) -> Self {
        let mut aggregator = Self {
            collector: None,
            life: 0,
            stragglers,
            disk: BTreeMap::new(),
            applied: Vec::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            took: BTreeMap::new(),
        };
        aggregator.start(Duration::ZERO);
        aggregator
    }

    fn settings(&self) -> CollectorSettings {
        CollectorSettings {
            stragglers: self.stragglers,
            response_window: WINDOW,
            block_patience: BLOCK_PATIENCE,
            checks_at_once: 2,
        }
    }

    /// Comes up with what is on its disk.
    pub(super) fn start(&mut self, now: Duration) {
        let mut collector = Collector::new(self.settings());
        for &(number, fork) in &self.applied {
            collector.block_applied(fixture::block(number, fork), closing(number), &[], u64::MAX, now);
        }
        let tip = self.applied.last().map_or(0, |(number, _)| *number);
        if tip >= CLOSE_BLOCK && !self.applied.iter().any(|(number, _)| *number == CLOSE_BLOCK) {
            collector.blocks_skipped(&[(CLOSE_BLOCK, u32::from(CHUNKS))], now);
        }
        for record in self.disk.values() {
            collector.restore(record.clone(), now);
        }
        self.collector = Some(collector);
    }

    /// Dies. Returns what its callers have to send again.
    pub(super) fn crash(&mut self) -> Vec<Message> {
        self.collector = None;
        self.life += 1;
        std::mem::take(&mut self.tickets).into_values().collect()
    }

    pub(super) fn submit(&mut self, message: Message, source: Source, now: Duration) {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, message);
        if let Some(collector) = &mut self.collector {
            collector.submit(ticket, source, message.submission(), now);
        }
    }

    /// What the collector decided; what belongs on the disk is there first, as in the service. With a full disk nothing of
    /// the batch is, and nobody is told that it counts.
    pub(super) fn take_actions(&mut self, disk_full: bool) -> Vec<Action> {
        let Some(collector) = &mut self.collector else {
            return Vec::new();
        };
        let mut actions = collector.take_actions();
        let keeps = |action: &Action| matches!(action, Action::Store(_));
        if disk_full && actions.iter().any(keeps) {
            for action in &mut actions {
                match action {
                    Action::Store(record) => collector.unstored(record.submission.task, record.submission.operator),
                    Action::Answer { answer, .. } if *answer == Ok(SubmissionStatus::Accepted) => {
                        let message = "the signature cannot be stored now";
                        *answer = Err(Refusal::new(avs::submission::RefusalCode::Busy, message));
                    }
                    _ => {}
                }
            }
            return actions;
        }
        for action in &actions {
            match action {
                Action::Store(record) => {
                    let key = (record.submission.task, record.submission.operator);
                    self.disk.insert(key, record.clone());
                }
                Action::Discard { task, operator } => {
                    self.disk.remove(&(*task, *operator));
                }
                Action::Finish(task) => self.disk.retain(|(kept, _), _| kept != task),
                _ => {}
            }
        }
        actions
    }

    /// Nothing outsiders or operators do makes it hold more than this.
    pub(super) fn assert_bounded(&self, seed: u64, state: &BlockState) {
        let Some(collector) = &self.collector else { return };
        let held: usize = collector.tasks.values().map(|task| task.held.len()).sum();
        let tasks = usize::from(CHUNKS);
        assert!(collector.tasks.len() <= tasks, "seed {seed}: more tasks than there are");
        assert!(
            held <= tasks * state.operators.len(),
            "seed {seed}: an operator counts twice"
        );
        assert!(collector.queue.len() <= CHECK_LIMIT && collector.waiting.len() <= WAITING_LIMIT);
        assert!(collector.running <= 2, "seed {seed}: too many checks at once");
        assert!(
            collector.timers.len() <= tasks,
            "seed {seed}: a task has more than one timer"
        );
    }

    /// When everything is over nothing is left.
    pub(super) fn assert_empty(&self, seed: u64) {
        let collector = self.collector.as_ref().expect("all are up in the end");
        assert_eq!(collector.sizes(), (0, 0), "seed {seed}: something stays in memory");
        assert_eq!(collector.held_bytes, 0, "seed {seed}: words stay in memory");
        assert!(collector.in_check.is_empty() && collector.introductions.is_empty() && collector.timers.is_empty());
        assert!(collector.again.is_empty() && collector.running == 0);
        assert!(self.tickets.is_empty(), "seed {seed}: somebody was never answered");
        assert!(self.disk.is_empty(), "seed {seed}: something stays on the disk");
    }
}

/// Orders that close in a block.
pub(super) fn closing(number: u64) -> u32 {
    match number {
        CLOSE_BLOCK => u32::from(CHUNKS),
        _ => 0,
    }
}
