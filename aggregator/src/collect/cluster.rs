//! A simulated cluster: operators, liars and outsiders around one collector, every message lost, late, twice or out of
//! order as a seed has it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alloy_primitives::B256;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::fixture::{self, DOMAIN, Operator};
use super::*;

const WINDOW: u64 = 20;
const CLOSE_BLOCK: u64 = 10;
const STRAGGLER_WAIT: Duration = Duration::from_millis(50);
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Honest,
    Silent,
    /// Signs with a key that is not its own.
    Forger,
    /// Signs another answer.
    Liar,
    /// Signs both.
    Equivocator,
}

/// Something that happens later.
#[derive(Debug, Clone)]
enum Event {
    Deliver(Submission),
    Checked { job: u64, invalid: Vec<usize> },
    StateRead,
    Responded(TaskId),
}

struct Cluster {
    random: StdRng,
    collector: Collector,
    state: BlockState,
    operators: Vec<Operator>,
    conduct: Vec<Conduct>,
    tasks: u16,
    clock: Duration,
    events: Vec<(Duration, Event)>,
    tickets: BTreeMap<Ticket, Submission>,
    responses: BTreeMap<TaskId, Vec<Response>>,
    notes: Vec<Note>,
    /// Fails this many responses before one is included.
    failing_responses: u32,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let operators = Operator::many(random.random_range(1..=9));
        let conduct = operators
            .iter()
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
                let stakes = operators
                    .iter()
                    .map(|_| random.random_bool(0.85).then(|| random.random_range(0..1_000)));
                (threshold, stakes.collect())
            })
            .collect();
        let block = fixture::block(CLOSE_BLOCK, 0);
        let state = fixture::state(block, &operators, &quorums);
        let tasks = random.random_range(1..=3);
        let failing_responses = if random.random_bool(0.3) { 2 } else { 0 };
        let mut cluster = Self {
            collector: Collector::new(CollectorSettings {
                straggler_wait: STRAGGLER_WAIT,
                response_window: WINDOW,
                block_patience: BLOCK_PATIENCE,
            }),
            random,
            state,
            operators,
            conduct,
            tasks,
            clock: Duration::ZERO,
            events: Vec::new(),
            tickets: BTreeMap::new(),
            responses: BTreeMap::new(),
            notes: Vec::new(),
            failing_responses,
        };
        cluster.write_messages();
        cluster
    }

    fn later(&mut self, longest: u64, event: Event) {
        let delay = Duration::from_millis(self.random.random_range(0..=longest));
        self.events.push((self.clock + delay, event));
    }

    fn signed(&self, index: usize, signer: usize, chunk: u16, provider: u32) -> Submission {
        let matches = fixture::matches(u64::from(chunk) + 1, provider);
        let sent = fixture::submission(
            &self.operators[index],
            &self.operators[signer].secret,
            self.state.block,
            chunk,
            matches,
        );
        Submission::parse(sent, &DOMAIN).expect("well formed")
    }

    fn write_messages(&mut self) {
        for chunk in 0..self.tasks {
            for index in 0..self.operators.len() {
                let forged_by = (index + 1) % self.operators.len();
                let mut messages = match self.conduct[index] {
                    Conduct::Honest => vec![self.signed(index, index, chunk, 1)],
                    Conduct::Silent => Vec::new(),
                    // Its own key does not make a forgery when it is the only operator.
                    Conduct::Forger if forged_by == index => Vec::new(),
                    Conduct::Forger => vec![self.signed(index, forged_by, chunk, 1)],
                    Conduct::Liar => vec![self.signed(index, index, chunk, 2)],
                    Conduct::Equivocator => {
                        vec![self.signed(index, index, chunk, 1), self.signed(index, index, chunk, 2)]
                    }
                };
                // An outsider sends rubbish in the operator's name, for either answer.
                if forged_by != index && self.random.random_bool(0.25) {
                    let provider = self.random.random_range(1..=3);
                    messages.push(self.signed(index, forged_by, chunk, provider));
                }
                messages.shuffle(&mut self.random);
                for message in messages {
                    let copies = self.random.random_range(1..=2);
                    for _ in 0..copies {
                        self.later(300, Event::Deliver(message.clone()));
                    }
                }
            }
        }
    }

    /// Runs until nothing is left to happen.
    fn run(&mut self) {
        let mut tickets = 0;
        for number in 1..CLOSE_BLOCK {
            self.apply(number, 0);
        }
        let mut mined = false;
        loop {
            self.perform();
            // Operators may be faster than our follower.
            if !mined && self.clock >= Duration::from_millis(60) {
                mined = true;
                self.apply(CLOSE_BLOCK, u32::from(self.tasks));
                continue;
            }
            let deadline = self.collector.next_deadline();
            let Some(next) = self.events.iter().map(|(at, _)| *at).chain(deadline).min() else {
                break;
            };
            let next = if mined {
                next
            } else {
                next.min(Duration::from_millis(60))
            };
            self.clock = self.clock.max(next);
            self.collector.poll(self.clock);
            let due: Vec<Event> = {
                let (due, kept) = std::mem::take(&mut self.events)
                    .into_iter()
                    .partition(|(at, _)| *at <= self.clock);
                self.events = kept;
                let mut due: Vec<(Duration, Event)> = due;
                due.shuffle(&mut self.random);
                due.into_iter().map(|(_, event)| event).collect()
            };
            for event in due {
                match event {
                    Event::Deliver(submission) => {
                        let ticket = Ticket(tickets);
                        tickets += 1;
                        self.tickets.insert(ticket, submission.clone());
                        self.collector.submit(ticket, submission, self.clock);
                    }
                    Event::Checked { job, invalid } => self.collector.checked(job, &invalid, self.clock),
                    Event::StateRead => {
                        let state = self.random.random_bool(0.7).then(|| self.state.clone());
                        self.collector.state_read(self.state.block, state, self.clock);
                    }
                    Event::Responded(task) => self.responded(task),
                }
                self.perform();
            }
        }
    }

    fn responded(&mut self, task: TaskId) {
        if self.failing_responses > 0 {
            self.failing_responses -= 1;
            let outcome = ResponseOutcome::Failed("the node is away".into());
            self.collector.responded(task, outcome, self.clock);
            let head = self.collector.head.expect("blocks came").number;
            return self.apply(head + 1, 0);
        }
        self.collector.responded(task, ResponseOutcome::Included, self.clock);
    }

    fn apply(&mut self, number: u64, closing: u32) {
        self.collector
            .block_applied(fixture::block(number, 0), closing, &[], number, self.clock);
    }

    fn perform(&mut self) {
        for action in self.collector.take_actions() {
            match action {
                Action::Answer { ticket, answer } => {
                    let submission = self.tickets.remove(&ticket).expect("answered once");
                    let again = answer.is_err_and(|refusal| refusal.code.is_passing());
                    if again {
                        self.later(100, Event::Deliver(submission));
                    }
                }
                Action::ReadState(_) => self.later(40, Event::StateRead),
                Action::Check { job, claims, .. } => {
                    let invalid = find_invalid(&claims);
                    self.later(30, Event::Checked { job, invalid });
                }
                Action::Respond(response) => {
                    self.later(30, Event::Responded(response.task));
                    self.responses.entry(response.task).or_default().push(*response);
                }
                Action::Note(note) => self.notes.push(note),
                Action::Store(_) | Action::Discard { .. } | Action::Finish(_) => {}
            }
        }
    }

    fn digest(&self, chunk: u16, provider: u32) -> B256 {
        self.signed(0, 0, chunk, provider).digest
    }

    fn signers(&self, conducts: &[Conduct]) -> BTreeSet<OperatorId> {
        let found = self.operators.iter().zip(&self.conduct);
        found
            .filter(|(_, conduct)| conducts.contains(conduct))
            .map(|(operator, _)| operator.id)
            .collect()
    }

    fn check_responses(&self, seed: u64) {
        let honest = self.signers(&[Conduct::Honest]);
        let may_sign_first = self.signers(&[Conduct::Honest, Conduct::Equivocator]);
        let may_sign_second = self.signers(&[Conduct::Liar, Conduct::Equivocator]);
        for chunk in 0..self.tasks {
            let id = TaskId {
                close_block: CLOSE_BLOCK as u32,
                chunk,
            };
            let responses = self.responses.get(&id).map_or(&[][..], Vec::as_slice);
            for response in responses {
                assert!(
                    response.aggregate.verify(response.digest),
                    "seed {seed}: response {id} has an invalid proof"
                );
                let absent: BTreeSet<OperatorId> = response.non_signers.iter().copied().collect();
                let signers: BTreeSet<OperatorId> = self
                    .state
                    .operators
                    .keys()
                    .filter(|operator| !absent.contains(*operator))
                    .copied()
                    .collect();
                assert!(
                    self.state.quorums.reached_by(&signers),
                    "seed {seed}: response {id} lacks stake"
                );
                let allowed = if response.digest == self.digest(chunk, 1) {
                    &may_sign_first
                } else {
                    &may_sign_second
                };
                assert!(
                    signers.is_subset(allowed),
                    "seed {seed}: response {id} names a signer who did not sign it"
                );
            }
            if self.state.quorums.reached_by(&honest) {
                assert!(
                    !responses.is_empty(),
                    "seed {seed}: the honest reach the quorum of {id}, nobody responded; {:?}",
                    self.collector.tasks(None, 10)
                );
            }
        }
        assert!(self.tickets.is_empty(), "seed {seed}: somebody was never answered");
    }

    /// All that the chain saw is over, twenty blocks later.
    fn end(&mut self, seed: u64) {
        for number in CLOSE_BLOCK + 1..=CLOSE_BLOCK + WINDOW {
            if self.collector.head.is_some_and(|head| head.number >= number) {
                continue;
            }
            self.apply(number, 0);
            self.perform();
        }
        self.run();
        assert_eq!(self.collector.sizes(), (0, 0), "seed {seed}: something stays in memory");
        assert_eq!(self.collector.held_bytes, 0, "seed {seed}: words stay in memory");
        assert!(self.collector.in_check.is_empty() && self.collector.introductions.is_empty());
    }
}

#[test]
fn never_an_invalid_response_and_always_one_when_the_honest_suffice() {
    let seeds = match std::env::var("SPHERON_TEST_SEEDS") {
        Ok(count) => count.parse().expect("SPHERON_TEST_SEEDS is a number"),
        Err(_) => 150,
    };
    let mut responded = 0;
    for seed in 0..seeds {
        let mut cluster = Cluster::new(seed);
        cluster.run();
        cluster.check_responses(seed);
        responded += cluster.responses.len();
        cluster.events.clear();
        cluster.end(seed);
    }
    assert!(responded > 0, "no seed of {seeds} reached a quorum");
}
