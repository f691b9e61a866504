//! Joins the collector with the chain, the store and the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use avs::submission::{RefusalCode, SubmissionStatus};
use chain::BlockReference;
use daemon::health::Component;
use daemon::{Shutdown, Store, StoreError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::api::{Budget, Inquiry, TasksAnswer};
use crate::chain::ChainAccess;
use crate::collect::{
    self, Action, BlockState, Collector, CollectorSettings, Moment, Refusal, Response, ResponseOutcome, StateRead,
    TaskId, Ticket,
};
use crate::follow::{self, ChainChange, ChainNews};
use crate::metrics::AggregatorMetrics;
use crate::store::{self, Change};

/// Inquiries taken at once, and so the most signatures in one commit.
const BATCH: usize = 256;
/// Results of work in the background that may wait to be taken in.
const RESULTS: usize = 256;
/// The longest sleep: what is due never is later.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The collector as the last process left it, and the blocks that process had applied.
///
/// # Errors
/// When the store cannot be read.
pub async fn collector_from(
    store: &Store,
    settings: CollectorSettings,
    clock: Instant,
) -> Result<(Vec<BlockReference>, Collector), StoreError> {
    let window = settings.response_window;
    let (history, skipped, records) = store
        .read(move |connection| {
            let history = follow::history(connection)?;
            let skipped = follow::skipped_before(connection, &history, window)?;
            Ok((history, skipped, store::load(connection)?))
        })
        .await?;
    let mut collector = Collector::new(settings);
    for (block, closing_orders) in &history {
        // Only what signatures name is read again: no block of the past is "now".
        collector.block_applied(*block, *closing_orders, &[], u64::MAX, clock.elapsed());
    }
    collector.blocks_skipped(&skipped, clock.elapsed());
    if !records.is_empty() {
        tracing::info!(signatures = records.len(), "taking up what was collected before");
    }
    for record in records {
        collector.restore(record, clock.elapsed());
    }
    Ok((history.into_iter().map(|(block, _)| block).collect(), collector))
}

/// What work in the background found.
#[derive(Debug)]
enum Finding {
    Checked { job: u64, invalid: Vec<usize> },
    StateRead { block: BlockReference, read: StateRead },
    BlockRead { number: u64, hash: Option<B256> },
    Responded { task: TaskId, outcome: ResponseOutcome },
}

type Reply = oneshot::Sender<Result<SubmissionStatus, Refusal>>;

/// What the jobs beside collecting are told.
#[derive(Debug, Default)]
pub struct Signals {
    /// The newest block, once everything before it was taken in.
    pub head: watch::Sender<Option<u64>>,
    /// Quorums and operators as they were read last.
    pub state: watch::Sender<Option<Arc<BlockState>>>,
    /// Responses on their way.
    pub responding: watch::Sender<usize>,
}

/// What the service works with beside the chain.
#[derive(Debug)]
pub struct Surroundings {
    /// Responses are sent from it.
    pub own_address: Address,
    pub store: Store,
    pub counts: AggregatorMetrics,
    pub ready: Component,
    pub responses: Component,
    pub shutdown: Shutdown,
    /// What the follower found.
    pub news: mpsc::Receiver<ChainNews>,
    pub signals: Signals,
}

/// The collector, the store and the way to the chain; operators come through the
/// [`crate::api::Api`].
#[derive(Debug)]
pub struct Service<C> {
    access: Arc<C>,
    collector: Collector,
    clock: Instant,
    surroundings: Surroundings,
    results: mpsc::Receiver<Finding>,
    results_sender: mpsc::Sender<Finding>,
    /// Who waits, and the part of the budget for bodies that is taken until the answer: whether or not the sender is still
    /// there.
    tickets: BTreeMap<Ticket, (Reply, Budget)>,
    next_ticket: u64,
}

impl<C: ChainAccess> Service<C> {
    /// `clock` is the one the collector was made with.
    pub fn new(access: C, collector: Collector, clock: Instant, surroundings: Surroundings) -> Self {
        let (results_sender, results) = mpsc::channel(RESULTS);
        Self {
            access: Arc::new(access),
            collector,
            clock,
            surroundings,
            results,
            results_sender,
            tickets: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// Until `stop`, or until nobody can ask any more.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Inquiry>, stop: CancellationToken) {
        let mut inquiries = Vec::with_capacity(BATCH);
        loop {
            self.perform().await;
            let sleep = self.until_next_deadline();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(finding) = self.results.recv() => self.take_in(finding),
                Some(news) = self.surroundings.news.recv() => self.hear(news),
                () = tokio::time::sleep(sleep) => self.collector.poll(self.clock.elapsed()),
                received = inbox.recv_many(&mut inquiries, BATCH) => {
                    if received == 0 {
                        return;
                    }
                    for inquiry in inquiries.drain(..) {
                        self.inquire(inquiry);
                    }
                }
            }
        }
    }

    fn until_next_deadline(&self) -> Duration {
        let deadline = self.collector.next_deadline().unwrap_or(Moment::MAX);
        deadline.saturating_sub(self.clock.elapsed()).min(LONGEST_SLEEP)
    }

    fn inquire(&mut self, inquiry: Inquiry) {
        match inquiry {
            Inquiry::Submit {
                source,
                submission,
                reply,
                budget,
            } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, (reply, budget));
                self.collector.submit(ticket, source, *submission, self.clock.elapsed());
            }
            Inquiry::Tasks {
                close_block,
                limit,
                reply,
            } => {
                // Who asked may be gone.
                let (_, waiting) = self.collector.sizes();
                let tasks = self.collector.tasks(close_block, limit);
                let _ = reply.send(TasksAnswer { tasks, waiting });
            }
        }
    }

    fn hear(&mut self, news: ChainNews) {
        let now = self.clock.elapsed();
        for change in news.changes {
            match change {
                ChainChange::Applied {
                    block,
                    closing_orders,
                    answers,
                } => self
                    .collector
                    .block_applied(block, closing_orders, &answers, news.head.number, now),
                ChainChange::Reverted { above } => self.collector.reverted(above),
                ChainChange::Skipped { closing } => self.collector.blocks_skipped(&closing, now),
            }
        }
        if news.caught_up {
            self.surroundings.ready.ok();
            self.surroundings.signals.head.send_replace(Some(news.head.number));
        }
        let (tasks, waiting) = self.collector.sizes();
        self.surroundings.counts.tasks.set(tasks as i64);
        self.surroundings.counts.waiting.set(waiting as i64);
    }

    fn take_in(&mut self, finding: Finding) {
        let now = self.clock.elapsed();
        match finding {
            Finding::Checked { job, invalid } => self.collector.checked(job, &invalid, now),
            Finding::StateRead { block, read } => {
                if let StateRead::Quorums(state) = &read {
                    let state = Arc::new(BlockState::clone(state));
                    self.surroundings.signals.state.send_replace(Some(state));
                }
                self.collector.state_read(block, read, now);
            }
            Finding::BlockRead { number, hash } => self.collector.block_read(number, hash, now),
            Finding::Responded { task, outcome } => {
                self.surroundings.signals.responding.send_modify(|count| *count -= 1);
                match &outcome {
                    ResponseOutcome::Included => self.surroundings.responses.ok(),
                    ResponseOutcome::AnsweredAlready { .. } => {
                        self.surroundings.counts.lost.inc();
                        self.surroundings.responses.ok();
                    }
                    ResponseOutcome::Failed(reason) => {
                        self.surroundings.responses.degraded(format!("task {task}: {reason}"))
                    }
                }
                self.collector.responded(task, outcome, now);
            }
        }
    }

    /// Does what the collector decided. What is to be kept is on disk before anybody is told that it counts.
    async fn perform(&mut self) {
        let mut changes = Vec::new();
        let mut answers = Vec::new();
        for action in self.collector.take_actions() {
            match action {
                Action::Answer { ticket, answer } => answers.push((ticket, answer)),
                Action::Store(record) => changes.push(Change::Store(record)),
                Action::Discard { task, operator } => changes.push(Change::Discard { task, operator }),
                Action::Finish(task) => changes.push(Change::Finish(task)),
                Action::ReadState(block) => self.read_state(block),
                Action::ReadBlock(number) => self.read_block(number),
                Action::Abandon { task, responder } => self.abandon(task, responder),
                Action::Check { job, claims, .. } => self.check(job, claims),
                Action::Respond(response) => self.respond(*response),
                Action::Note(note) => self.surroundings.counts.note(&note, self.surroundings.own_address),
            }
        }
        let stored = self.keep(changes).await;
        for (ticket, answer) in answers {
            let answer = match answer {
                Ok(SubmissionStatus::Accepted) if !stored => Err(Refusal::new(
                    RefusalCode::Busy,
                    "the signature cannot be stored now; send it again",
                )),
                answer => answer,
            };
            if let Some((reply, _budget)) = self.tickets.remove(&ticket) {
                // Who sent it may be gone; it counts all the same.
                let _ = reply.send(answer);
            }
        }
    }

    async fn keep(&mut self, changes: Vec<Change>) -> bool {
        if changes.is_empty() {
            return true;
        }
        let changes = Arc::new(changes);
        let written = changes.clone();
        let store = &self.surroundings.store;
        let outcome = store
            .write(move |transaction| store::apply(transaction, &written))
            .await;
        let Err(error) = outcome else { return true };
        tracing::error!(%error, "cannot store what was collected");
        for change in changes.iter() {
            if let Change::Store(record) = change {
                self.collector
                    .unstored(record.submission.task, record.submission.operator);
            }
        }
        false
    }

    fn read_state(&self, block: BlockReference) {
        let access = self.access.clone();
        self.in_background("reading stakes", async move {
            let read = access.read_state(block).await;
            Finding::StateRead { block, read }
        });
    }

    fn read_block(&self, number: u64) {
        let access = self.access.clone();
        self.in_background("reading a block", async move {
            let hash = access.read_block(number).await;
            Finding::BlockRead { number, hash }
        });
    }

    /// Ours is not needed any more, if the answer is somebody else's.
    fn abandon(&self, task: TaskId, responder: Address) {
        if responder == self.surroundings.own_address {
            return;
        }
        let access = self.access.clone();
        self.surroundings
            .shutdown
            .spawn("giving up a response", async move { access.abandon(task).await });
    }

    /// The collector says how many may run at the same time.
    fn check(&self, job: u64, claims: Vec<collect::Claim>) {
        self.in_background("checking signatures", async move {
            let all: Vec<usize> = (0..claims.len()).collect();
            let invalid = tokio::task::spawn_blocking(move || collect::find_invalid(&claims)).await;
            // What could not be checked does not count.
            let invalid = invalid.unwrap_or(all);
            Finding::Checked { job, invalid }
        });
    }

    fn respond(&self, response: Response) {
        let access = self.access.clone();
        self.surroundings.signals.responding.send_modify(|count| *count += 1);
        self.in_background("responding", async move {
            let outcome = access.respond(&response).await;
            Finding::Responded {
                task: response.task,
                outcome,
            }
        });
    }

    /// Work that ends with a finding, or with the process.
    fn in_background(&self, name: &str, work: impl Future<Output = Finding> + Send + 'static) {
        let (results, stop) = (self.results_sender.clone(), self.surroundings.shutdown.token());
        self.surroundings.shutdown.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                finding = work => {
                    // Fails only when the collector has ended, and then nobody needs it.
                    let _ = results.send(finding).await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests;
