//! What a million finished tasks leave behind: the collector and the store, without the pairings.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aggregator::collect::{
    Action, AnsweredOnChain, Collector, CollectorSettings, ResponseOutcome, Source, StateRead, StragglerSettings,
    Submission, TaskId, Ticket,
};
use aggregator::store::{self, Change};
use alloy_primitives::Address;
use avs::bn254::Signature;
use eyre::{OptionExt as _, WrapErr as _, ensure};

use crate::cast::{self, CHUNKS, Operator, Task};

/// Enough for a quorum, and one that is missing.
const OPERATORS: usize = 3;

/// Resident memory in MiB after `early` and after `late` finished tasks.
pub async fn resident_after(early: usize, late: usize) -> eyre::Result<(f64, f64)> {
    let directory = tempfile::tempdir().wrap_err("a directory for the store")?;
    let store = store::open(directory.path())?;
    let operators = cast::operators(OPERATORS)?;
    // Checks are not done, so any point will do for a signature.
    let point = operators[0].secret.sign(Default::default());
    let settings = CollectorSettings {
        stragglers: StragglerSettings {
            longest_wait: Duration::from_millis(50),
            delay_gas_per_millisecond: 1_000,
        },
        response_window: 20,
        block_patience: Duration::from_secs(2),
        checks_at_once: 2,
    };
    let mut player = Player {
        collector: Collector::new(settings),
        operators,
        now: Duration::ZERO,
        ticket: 0,
        responded: Vec::new(),
        finished: 0,
    };
    let mut resident_early = None;
    let mut number = 0;
    loop {
        let block = Task { number }.close_block();
        let mut changes = player.block(block)?;
        for _ in 0..CHUNKS {
            changes.extend(player.collect(Task { number }, &point)?);
            number += 1;
        }
        player.now += Duration::from_millis(50);
        player.collector.poll(player.now);
        changes.extend(player.perform()?);
        store
            .write(move |transaction| store::apply(transaction, &changes))
            .await?;
        if player.finished >= early && resident_early.is_none() {
            resident_early = Some(resident()?);
        }
        if player.finished >= late {
            break;
        }
        player.now += Duration::from_secs(1);
    }
    let (tasks, _) = player.collector.sizes();
    ensure!(tasks < 64 * usize::from(CHUNKS), "{tasks} tasks are in memory");
    Ok((resident_early.ok_or_eyre("nothing was finished")?, resident()?))
}

struct Player {
    collector: Collector,
    operators: Vec<Operator>,
    now: Duration,
    ticket: u64,
    /// In the block that comes.
    responded: Vec<AnsweredOnChain>,
    finished: usize,
}

impl Player {
    fn block(&mut self, number: u64) -> eyre::Result<Vec<Change>> {
        let answers = std::mem::take(&mut self.responded);
        let block = cast::block(number);
        self.collector
            .block_applied(block, u32::from(CHUNKS), &answers, number, self.now);
        self.perform()
    }

    /// All but one operator sign.
    fn collect(&mut self, task: Task, point: &Signature) -> eyre::Result<Vec<Change>> {
        let mut changes = Vec::new();
        let response = task.response()?;
        let matches: Arc<[_]> = task.matches()?.into();
        for operator in 0..OPERATORS - usize::from(task.number % 2 == 0) {
            let submission = Submission {
                task: TaskId {
                    close_block: response.close_block,
                    chunk: response.chunk,
                },
                close_block_hash: response.close_block_hash,
                params_version: response.params_version,
                operator: self.operators[operator].id,
                digest: response.digest(&cast::DOMAIN),
                matches: matches.clone(),
                signature: *point,
            };
            self.ticket += 1;
            let source = Source::from(IpAddr::from([192, 0, 2, operator as u8]));
            self.collector.submit(Ticket(self.ticket), source, submission, self.now);
            changes.extend(self.perform()?);
        }
        Ok(changes)
    }

    fn perform(&mut self) -> eyre::Result<Vec<Change>> {
        let mut changes = Vec::new();
        loop {
            let actions = self.collector.take_actions();
            if actions.is_empty() {
                return Ok(changes);
            }
            for action in actions {
                match action {
                    Action::Store(record) => changes.push(Change::Store(record)),
                    Action::Discard { task, operator } => changes.push(Change::Discard { task, operator }),
                    Action::Finish(task) => {
                        self.finished += 1;
                        changes.push(Change::Finish(task));
                    }
                    Action::ReadState(block) => {
                        let state = cast::state(block, &self.operators)?;
                        let read = StateRead::Quorums(Box::new(state));
                        self.collector.state_read(block, read, self.now);
                    }
                    Action::Check { job, .. } => self.collector.checked(job, &[], self.now),
                    Action::Respond(response) => {
                        self.responded.push(AnsweredOnChain {
                            task: response.task,
                            responder: Address::repeat_byte(0xaa),
                            matches_hash: avs::response::matches_hash(&response.matches),
                        });
                        self.collector
                            .responded(response.task, ResponseOutcome::Included, self.now);
                    }
                    Action::Answer { answer, .. } => ensure!(answer.is_ok(), "a signature is refused: {answer:?}"),
                    Action::ReadBlock(_) | Action::Abandon { .. } | Action::Note(_) => {}
                }
            }
        }
    }
}

/// Resident memory of this process in MiB.
fn resident() -> eyre::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kibibytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<f64>()
            .ok()
    });
    Ok(kibibytes.ok_or_eyre("VmRSS in /proc/self/status")? / 1024.0)
}
