//! The chain, the network between everybody, and what must never happen.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use alloy_primitives::{Address, B256};
use avs::response::matches_hash;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::fixture;
use super::super::{
    Action, AnsweredOnChain, BlockState, Claim, Note, Response, ResponseOutcome, Source, StateRead, StragglerSettings,
    TaskId,
};
use super::aggregator::{Aggregator, WINDOW, closing};
use super::cast::{self, ALL, CHUNKS, CLOSE_BLOCK, Conduct, Message};

/// Time between blocks.
const BLOCK_TIME: u64 = 100;
/// A response that leaves this many blocks before the window ends has time for every failure that is simulated.
const SPARE_BLOCKS: u64 = 10;
/// Blocks after which nothing is left to happen.
const END: u64 = CLOSE_BLOCK + WINDOW + 16;

/// Something that happens later.
#[derive(Debug)]
pub(super) enum Event {
    Mine,
    Hear {
        at: usize,
        life: u32,
    },
    Deliver {
        at: usize,
        message: Message,
    },
    Checked {
        at: usize,
        life: u32,
        job: u64,
        claims: Vec<Claim>,
    },
    StateRead {
        at: usize,
        life: u32,
        fork: u8,
    },
    BlockRead {
        at: usize,
        life: u32,
        number: u64,
    },
    Send {
        at: usize,
        life: u32,
        response: Box<Response>,
    },
    Responded {
        at: usize,
        life: u32,
        task: TaskId,
        outcome: ResponseOutcome,
    },
    Crash(usize),
    Restart(usize),
}

/// A response that waits for a block.
#[derive(Debug)]
pub(super) struct Sent {
    at: usize,
    life: u32,
    response: Box<Response>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    block: u64,
    by: usize,
    matches_hash: B256,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) real: bool,
    pub(super) random: StdRng,
    pub(super) now: Duration,
    pub(super) events: BTreeMap<(Duration, u64), Event>,
    pub(super) state: BlockState,
    pub(super) conduct: Vec<Conduct>,
    pub(super) sources: Vec<Source>,
    pub(super) aggregators: Vec<Aggregator>,
    /// Canonical blocks from 1, by their fork.
    pub(super) chain: Vec<u8>,
    pub(super) pool: Vec<Sent>,
    pub(super) answers: BTreeMap<TaskId, Answer>,
    pub(super) notes: Vec<Note>,
    pub(super) reorganise_at: Option<u64>,
    pub(super) crashes: u64,
    pub(super) lost_races: u64,
    pub(super) skipped: u64,
}

fn address(at: usize) -> Address {
    Address::repeat_byte(0xa0 + at as u8)
}

impl World {
    pub(super) fn new(seed: u64, real: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let count = random.random_range(1..=ALL.len());
        let conduct: Vec<Conduct> = (0..count)
            .map(|_| match random.random_range(0..12) {
                0..7 => Conduct::Honest,
                7 => Conduct::Silent,
                8 | 9 => Conduct::Forger,
                10 => Conduct::Liar,
                _ => Conduct::Equivocator,
            })
            .collect();
        let quorums: Vec<(u8, Vec<Option<u128>>)> = (0..random.random_range(1..=2))
            .map(|_| {
                let threshold = random.random_range(1..=100);
                let stakes = (0..count).map(|_| random.random_bool(0.85).then(|| random.random_range(0..1_000)));
                (threshold, stakes.collect())
            })
            .collect();
        let state = fixture::state(fixture::block(CLOSE_BLOCK, 0), &ALL[..count], &quorums);
        let shared = random.random_bool(0.2);
        let sources = (0..=count)
            .map(|number| Source::from(IpAddr::from([192, 0, 2, if shared { 1 } else { number as u8 }])))
            .collect();
        let stragglers = StragglerSettings {
            longest_wait: Duration::from_millis(50),
            delay_gas_per_millisecond: random.random_range(0..=2_000),
        };
        let aggregators = (0..random.random_range(1..=3))
            .map(|_| Aggregator::new(stragglers))
            .collect();
        let reorganise_at = random.random_bool(0.2).then(|| CLOSE_BLOCK + random.random_range(0..4));
        let mut world = Self {
            seed,
            real,
            random,
            now: Duration::ZERO,
            events: BTreeMap::new(),
            state,
            conduct,
            sources,
            aggregators,
            chain: Vec::new(),
            pool: Vec::new(),
            answers: BTreeMap::new(),
            notes: Vec::new(),
            reorganise_at,
            crashes: 0,
            lost_races: 0,
            skipped: 0,
        };
        for _ in 1..CLOSE_BLOCK - 1 {
            world.mine();
        }
        world.later(BLOCK_TIME, Event::Mine);
        world.write_messages(0);
        for at in 0..world.aggregators.len() {
            if world.random.random_bool(0.4) {
                world.later(8 * BLOCK_TIME, Event::Crash(at));
            }
        }
        world
    }

    fn later(&mut self, longest: u64, event: Event) {
        let delay = Duration::from_millis(self.random.random_range(0..=longest));
        self.at(self.now + delay, event);
    }

    /// Events of one moment come in any order.
    fn at(&mut self, moment: Duration, event: Event) {
        let order = self.random.random();
        self.events.insert((moment, order), event);
    }

    /// What operators and outsiders send once they see this fork's close block.
    fn write_messages(&mut self, fork: u8) {
        let count = self.conduct.len();
        for chunk in 0..CHUNKS {
            for operator in 0..count {
                let other = (operator + 1) % cast::OPERATORS;
                let signed = |signer, answer| Message {
                    operator,
                    signer,
                    chunk,
                    answer,
                    fork,
                };
                let mut messages = match self.conduct[operator] {
                    Conduct::Honest => vec![signed(operator, 1)],
                    Conduct::Silent => Vec::new(),
                    Conduct::Forger => vec![signed(other, 1)],
                    Conduct::Liar => vec![signed(operator, 2)],
                    Conduct::Equivocator => vec![signed(operator, 1), signed(operator, 2)],
                };
                // An outsider sends rubbish in the operator's name, for any answer.
                if self.random.random_bool(0.25) {
                    let answer = self.random.random_range(1..=cast::ANSWERS);
                    messages.push(signed(other, answer));
                }
                for message in messages {
                    for at in 0..self.aggregators.len() {
                        for _ in 0..self.random.random_range(1..=2) {
                            self.later(400, Event::Deliver { at, message });
                        }
                    }
                }
            }
        }
    }

    /// Runs until nothing is left to happen.
    pub(super) fn run(&mut self) {
        loop {
            for at in 0..self.aggregators.len() {
                self.perform(at);
            }
            let deadlines = self
                .aggregators
                .iter()
                .filter_map(|node| node.collector.as_ref()?.next_deadline());
            let event = self.events.first_key_value().map(|((moment, _), _)| *moment);
            let Some(next) = deadlines.chain(event).filter(|moment| *moment < Duration::MAX).min() else {
                return;
            };
            self.now = self.now.max(next);
            for node in &mut self.aggregators {
                if let Some(collector) = &mut node.collector {
                    collector.poll(self.now);
                }
            }
            if event.is_some_and(|moment| moment <= self.now)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Mine => {
                self.mine();
                if (self.chain.len() as u64) < END {
                    self.at(now + Duration::from_millis(BLOCK_TIME), Event::Mine);
                }
            }
            Event::Hear { at, life } if self.lives(at, life) => self.hear(at),
            Event::Deliver { at, message } => self.deliver(at, message),
            Event::Checked { at, life, job, claims } if self.lives(at, life) => {
                let invalid = match self.real {
                    true => super::super::find_invalid(&claims),
                    false => cast::find_invalid(&claims),
                };
                self.collector(at).checked(job, &invalid, now);
            }
            Event::StateRead { at, life, fork } if self.lives(at, life) => {
                let read = match self.random.random_bool(0.7) {
                    true => StateRead::Quorums(Box::new(self.state_of(fork))),
                    false => StateRead::Unavailable,
                };
                let block = fixture::block(CLOSE_BLOCK, fork);
                self.collector(at).state_read(block, read, now);
            }
            Event::BlockRead { at, life, number } if self.lives(at, life) => {
                let fork = self.chain[number as usize - 1];
                let hash = self.random.random_bool(0.7).then(|| fixture::block(number, fork).hash);
                self.collector(at).block_read(number, hash, now);
            }
            Event::Send { at, life, response } => self.send(at, life, response),
            Event::Responded {
                at,
                life,
                task,
                outcome,
            } if self.lives(at, life) => {
                if let ResponseOutcome::AnsweredAlready { .. } = outcome {
                    self.lost_races += 1;
                }
                self.collector(at).responded(task, outcome, now);
            }
            Event::Crash(at) => {
                self.crashes += 1;
                for message in self.aggregators[at].crash() {
                    self.later(150, Event::Deliver { at, message });
                }
                self.later(6 * BLOCK_TIME, Event::Restart(at));
            }
            Event::Restart(at) => {
                self.aggregators[at].start(now);
                self.hear(at);
            }
            // For a process that is gone.
            _ => {}
        }
    }

    fn lives(&self, at: usize, life: u32) -> bool {
        self.aggregators[at].life == life && self.aggregators[at].collector.is_some()
    }

    fn collector(&mut self, at: usize) -> &mut super::super::Collector {
        self.aggregators[at].collector.as_mut().expect("it lives")
    }

    fn state_of(&self, fork: u8) -> BlockState {
        let mut state = self.state.clone();
        state.block = fixture::block(CLOSE_BLOCK, fork);
        state
    }

    // ----------------------------------------------------------------- chain

    fn head(&self) -> u64 {
        self.chain.len() as u64
    }

    pub(super) fn fork_of_close_block(&self) -> u8 {
        self.chain.get(CLOSE_BLOCK as usize - 1).copied().unwrap_or(0)
    }

    fn mine(&mut self) {
        if self.reorganise_at == Some(self.head()) {
            self.reorganise_at = None;
            // The close block goes, and everything after it.
            self.chain.truncate(CLOSE_BLOCK as usize - 1);
            self.answers.clear();
            self.chain.push(1);
            self.write_messages(1);
        } else {
            let fork = self.chain.last().copied().unwrap_or(0);
            self.chain.push(fork);
        }
        let (block, close_hash) = (
            self.head(),
            fixture::block(CLOSE_BLOCK, self.fork_of_close_block()).hash,
        );
        for Sent { at, life, response } in std::mem::take(&mut self.pool) {
            let task = response.task;
            let right_time = block > CLOSE_BLOCK && block <= CLOSE_BLOCK + WINDOW;
            let outcome = if let Some(answer) = self.answers.get(&task) {
                ResponseOutcome::AnsweredAlready {
                    block: Some(answer.block),
                }
            } else if response.close_block_hash != close_hash || !right_time {
                ResponseOutcome::Failed("refused by the contract".into())
            } else {
                let matches_hash = matches_hash(&response.matches);
                let answer = Answer {
                    block,
                    by: at,
                    matches_hash,
                };
                self.answers.insert(task, answer);
                ResponseOutcome::Included
            };
            self.later(
                40,
                Event::Responded {
                    at,
                    life,
                    task,
                    outcome,
                },
            );
        }
        for at in 0..self.aggregators.len() {
            let life = self.aggregators[at].life;
            self.later(60, Event::Hear { at, life });
        }
    }

    /// The aggregator looks at the chain. Far behind, it may be told only of blocks with logs, and of the last.
    fn hear(&mut self, at: usize) {
        let (now, head) = (self.now, self.head());
        let node = &mut self.aggregators[at];
        let Some(collector) = &mut node.collector else { return };
        let canonical = |(number, fork): &(u64, u8)| self.chain.get(*number as usize - 1) == Some(fork);
        if !node.applied.iter().all(canonical) {
            node.applied.retain(canonical);
            collector.reverted(node.applied.last().map_or(0, |(number, _)| *number));
        }
        let next = node.applied.last().map_or(1, |(number, _)| number + 1);
        let behind = head.saturating_sub(next) > 2 && head > CLOSE_BLOCK;
        let skips = behind && self.random.random_bool(0.7);
        for number in next..=head {
            let answers: Vec<AnsweredOnChain> = self
                .answers
                .iter()
                .filter(|(_, answer)| answer.block == number)
                .map(|(task, answer)| AnsweredOnChain {
                    task: *task,
                    responder: address(answer.by),
                    matches_hash: answer.matches_hash,
                })
                .collect();
            if skips && answers.is_empty() && number < head {
                continue;
            }
            let fork = self.chain[number as usize - 1];
            node.applied.push((number, fork));
            if number > CLOSE_BLOCK + WINDOW {
                // As `store::prune` does with every block.
                node.disk.clear();
            }
            collector.block_applied(fixture::block(number, fork), closing(number), &answers, head, now);
        }
        if skips && (next..head).contains(&CLOSE_BLOCK) && node.applied.iter().all(|(number, _)| *number != CLOSE_BLOCK)
        {
            self.skipped += 1;
            collector.blocks_skipped(&[(CLOSE_BLOCK, u32::from(CHUNKS))], now);
        }
    }

    fn send(&mut self, at: usize, life: u32, response: Box<Response>) {
        let task = response.task;
        let outcome = if self.random.random_bool(0.1) {
            Some(ResponseOutcome::Failed("the node is away".into()))
        } else if let Some(answer) = self.answers.get(&task) {
            let block = Some(answer.block);
            Some(ResponseOutcome::AnsweredAlready { block })
        } else if self.pool.iter().any(|sent| sent.response.task == task) && self.random.random_bool(0.5) {
            // Its node knows of the other's transaction.
            Some(ResponseOutcome::AnsweredAlready { block: None })
        } else {
            None
        };
        match outcome {
            Some(outcome) => self.later(
                20,
                Event::Responded {
                    at,
                    life,
                    task,
                    outcome,
                },
            ),
            None => self.pool.push(Sent { at, life, response }),
        }
    }

    // --------------------------------------------------------------- network

    fn deliver(&mut self, at: usize, message: Message) {
        let over = self.head() >= END - 4;
        if self.aggregators[at].collector.is_none() || (!over && self.random.random_bool(0.1)) {
            // Lost: an operator tries again; an outsider does not care.
            if !message.is_forged() && !over {
                self.later(150, Event::Deliver { at, message });
            }
            return;
        }
        let source = match message.is_forged() {
            true => self.sources[self.conduct.len()],
            false => self.sources[message.operator],
        };
        let now = self.now;
        self.aggregators[at].submit(message, source, now);
    }

    fn perform(&mut self, at: usize) {
        loop {
            let disk_full = self.random.random_bool(0.02);
            let actions = self.aggregators[at].take_actions(disk_full);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.act(at, action);
            }
        }
        self.aggregators[at].assert_bounded(self.seed, &self.state);
    }

    fn act(&mut self, at: usize, action: Action) {
        let life = self.aggregators[at].life;
        match action {
            Action::Answer { ticket, answer } => {
                let message = self.aggregators[at].tickets.remove(&ticket).expect("answered once");
                self.answered(at, message, answer);
            }
            Action::ReadState(block) => {
                let fork = u8::from(block != fixture::block(CLOSE_BLOCK, 0));
                self.later(40, Event::StateRead { at, life, fork });
            }
            Action::ReadBlock(number) => self.later(40, Event::BlockRead { at, life, number }),
            Action::Check { job, claims, .. } => self.later(30, Event::Checked { at, life, job, claims }),
            Action::Respond(response) => {
                self.check_response(&response);
                self.later(30, Event::Send { at, life, response });
            }
            Action::Abandon { task, responder } => {
                assert_ne!(self.answers.get(&task).map(|answer| address(answer.by)), None);
                if responder != address(at) {
                    self.pool.retain(|sent| sent.at != at || sent.response.task != task);
                }
            }
            Action::Note(note) => self.notes.push(note),
            Action::Store(_) | Action::Discard { .. } | Action::Finish(_) => {}
        }
    }

    fn answered(
        &mut self,
        at: usize,
        message: Message,
        answer: Result<avs::submission::SubmissionStatus, super::super::Refusal>,
    ) {
        use avs::submission::RefusalCode;
        let operator = ALL[message.operator].id;
        let right = !message.is_forged() && message.answer == 1;
        let honest = right && self.conduct[message.operator] == Conduct::Honest;
        match answer {
            Ok(_) => {
                let in_time = self.head() + SPARE_BLOCKS <= CLOSE_BLOCK + WINDOW;
                if honest && in_time {
                    let key = (message.chunk, message.fork);
                    self.aggregators[at].took.entry(key).or_default().insert(operator);
                }
            }
            Err(refusal) if refusal.code.is_passing() => {
                let gone = message.fork != self.fork_of_close_block() && self.head() > CLOSE_BLOCK;
                if !gone && !message.is_forged() {
                    self.later(100, Event::Deliver { at, message });
                }
            }
            Err(refusal) => {
                let member = self.state.operators.contains_key(&operator);
                let expected = match refusal.code {
                    RefusalCode::UnknownOperator => !member,
                    RefusalCode::WindowOver => self.head() >= CLOSE_BLOCK + WINDOW,
                    _ => !honest,
                };
                assert!(
                    expected,
                    "seed {}: honest operator {} is refused for good: {refusal:?}",
                    self.seed, message.operator
                );
            }
        }
    }
}
