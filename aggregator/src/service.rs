//! Joins the collector with the chain, the store and the API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256};
use avs::response::Domain;
use avs::submission::{RefusalCode, SubmissionStatus};
use chain::network::Network;
use chain::{BlockReference, Endpoints, Transactions};
use daemon::health::{Component, Gate};
use daemon::{DirectoryLock, Health, Metrics, Shutdown, Store, StoreError};
use eigenlayer::registration::Addresses;
use eyre::WrapErr;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Budget, Inquiry, TasksAnswer};
use crate::chain::{ChainAccess, NetworkAccess};
use crate::collect::{
    self, Action, BlockState, Collector, CollectorSettings, Moment, Refusal, Response, ResponseOutcome, StateRead,
    TaskId, Ticket,
};
use crate::config::Config;
use crate::expire::Expirer;
use crate::follow::{self, ChainChange, ChainNews};
use crate::metrics::AggregatorMetrics;
use crate::prove_key::KeyProver;
use crate::refresh::Refresher;
use crate::store::{self, Change};
use crate::verifiers::Verifiers;

/// Inquiries taken at once, and so the most signatures in one commit.
const BATCH: usize = 256;
/// Results of work in the background that may wait to be taken in.
const RESULTS: usize = 256;
/// Checks that outsiders can cause and that run at the same time. Those a response waits for run beside them.
const CHECKS_AT_ONCE: usize = 2;
/// How long a submission waits for its close block: operators may see it before we do.
const BLOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Wait before the chain is asked again at the start.
const START_RETRY: Duration = Duration::from_secs(1);
/// The longest sleep: what is due never is later.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Builds everything and starts its tasks; they end with `shutdown`.
///
/// # Errors
/// When the data directory is in use, a file cannot be read or the address is taken.
pub async fn start(config: Config, shutdown: Shutdown) -> eyre::Result<()> {
    let network = Network::load(&config.network)?;
    let lock = DirectoryLock::acquire(&config.data_dir)?;
    let store = store::open(&config.data_dir)?;
    let signer = config.keys.load().await.wrap_err("keys.ecdsa")?;
    let rpc = config.rpc_settings(&network);
    let endpoints = Endpoints::new(&rpc)?;

    let (health, metrics) = (Health::new(), Metrics::new());
    endpoints.report_health(health.component("chain", Gate::None));
    let ready = health.component("collector", Gate::Ready);
    let responses = health.component("responses", Gate::None);
    // Nothing is wrong until a response fails.
    responses.ok();
    shutdown.spawn("store health", {
        let (store, component, stop) = (store.clone(), health.component("store", Gate::None), shutdown.token());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = store.report_health(component) => {}
            }
        }
    });

    let (transactions, actor) = Transactions::new(
        &endpoints,
        signer,
        store.clone(),
        config.transactions.clone(),
        Some(Arc::new(bindings::describe_revert)),
    );
    let actor = actor.with_health(health.component("transactions", Gate::None));
    shutdown.spawn_critical("transactions", actor.run(shutdown.token()));
    let counts = AggregatorMetrics::default();
    metrics.register("aggregator", |registry| counts.register(registry));
    metrics.register("transactions", |registry| transactions.register_metrics(registry));

    let domain = Domain {
        chain_id: network.chain_id,
        task_manager: network.contracts.task_manager,
    };
    let (api, inbox) = Api::new(domain, &config.collect, counts.clone());
    let router = api
        .router()
        .merge(daemon::http::operations_router(health.clone(), metrics.clone()));
    let (listener, bound) = daemon::http::bind(config.http.listen, "signatures, health and metrics").await?;
    shutdown.spawn_critical("http", daemon::http::serve(listener, router, shutdown.token()));
    write_addresses(&config.data_dir, bound).wrap_err("cannot write addresses.json")?;

    tracing::info!(address = %transactions.sender(), network = network.name, "aggregator started");
    let parts = Parts {
        config,
        network,
        rpc,
        endpoints,
        store,
        transactions,
        metrics,
        counts,
        ready,
        responses,
        shutdown: shutdown.clone(),
    };
    shutdown.spawn_critical("collector", async move {
        let _lock = lock;
        let stop = parts.shutdown.token();
        let service = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            service = parts.into_service() => service?,
        };
        service.run(inbox, stop).await;
        health.drain();
        eyre::Ok(())
    });
    Ok(())
}

/// Tells devnet and tests where this process listens: readiness is this file and `/readyz`.
fn write_addresses(directory: &Path, http: SocketAddr) -> std::io::Result<()> {
    let text = serde_json::json!({ "http": http.to_string(), "pid": std::process::id() }).to_string();
    let draft = directory.join("addresses.json.draft");
    std::fs::write(&draft, text)?;
    std::fs::rename(draft, directory.join("addresses.json"))
}

struct Parts {
    config: Config,
    network: Network,
    rpc: chain::RpcSettings,
    endpoints: Endpoints,
    store: Store,
    transactions: Transactions,
    metrics: Metrics,
    counts: AggregatorMetrics,
    ready: Component,
    responses: Component,
    shutdown: Shutdown,
}

impl Parts {
    /// Waits for the chain, takes up what the last process left, and starts to follow.
    async fn into_service(self) -> eyre::Result<Service<NetworkAccess>> {
        let (window, match_window) = self.windows().await;
        let settings = CollectorSettings {
            stragglers: self.config.collect.stragglers(),
            response_window: window,
            block_patience: BLOCK_PATIENCE,
            checks_at_once: CHECKS_AT_ONCE,
        };
        let clock = Instant::now();
        let (history, collector) = collector_from(&self.store, settings, clock).await?;

        let (news_sender, news) = mpsc::channel(1);
        let following = follow::Following::new(
            &self.endpoints,
            &self.rpc,
            &self.network,
            self.store.clone(),
            history,
            window,
        )?;
        self.metrics
            .register("follower", |registry| following.follower.register_metrics(registry));
        let stop = self.shutdown.token();
        self.shutdown.spawn_critical("follower", async move {
            following.run(news_sender, stop).await;
            Ok::<(), String>(())
        });

        let provider = self.endpoints.provider();
        let signals = Signals::default();
        self.spawn_jobs(&signals, window + match_window);
        let access = NetworkAccess::new(provider, self.transactions.clone(), &self.network, window);
        let surroundings = Surroundings {
            own_address: self.transactions.sender(),
            store: self.store,
            counts: self.counts,
            ready: self.ready,
            responses: self.responses,
            shutdown: self.shutdown,
            news,
            signals,
        };
        Ok(Service::new(access, collector, clock, surroundings))
    }

    /// What is done beside collecting; nothing waits for any of it. `expire_after` is in blocks after a close block.
    fn spawn_jobs(&self, signals: &Signals, expire_after: u64) {
        let provider = self.endpoints.provider();
        if self.config.expire.enabled {
            let expirer = Expirer {
                provider: provider.clone(),
                transactions: self.transactions.clone(),
                store: self.store.clone(),
                order_book: self.network.contracts.order_book,
                // After the operators' window anyone may still run the rule on chain.
                response_window: expire_after,
                settings: self.config.expire.clone(),
                metrics: self.counts.clone(),
            };
            let job = expirer.run(signals.head.subscribe(), self.shutdown.token());
            self.shutdown.spawn("expiring orders", job);
        }
        let verifiers = Verifiers::new(provider.clone(), self.network.contracts.task_manager);
        if self.config.refresh.enabled {
            let refresher = Refresher {
                provider,
                transactions: self.transactions.clone(),
                verifiers: verifiers.clone(),
                addresses: Addresses::from(&self.network),
                settings: self.config.refresh.clone(),
                metrics: self.counts.clone(),
            };
            let job = refresher.run(signals.head.subscribe(), self.shutdown.token());
            self.shutdown.spawn("refreshing stakes", job);
        }
        if self.config.prove_key.enabled {
            let prover = KeyProver::new(
                verifiers,
                self.transactions.clone(),
                &self.config.prove_key,
                self.counts.clone(),
            );
            let job = prover.run(
                signals.head.subscribe(),
                signals.state.subscribe(),
                signals.responding.subscribe(),
                self.shutdown.token(),
            );
            self.shutdown.spawn("proving the aggregate key", job);
        }
    }

    /// The response window and the match window after it, in blocks.
    async fn windows(&self) -> (u64, u64) {
        let manager =
            bindings::IMatchingTaskManager::new(self.network.contracts.task_manager, self.endpoints.provider());
        loop {
            let (response, matching) = (manager.responseWindow(), manager.matchWindow());
            match tokio::try_join!(response.call(), matching.call()) {
                Ok((response, matching)) => return (response.into(), matching.into()),
                Err(error) => tracing::warn!(%error, "cannot read the windows; trying again"),
            }
            tokio::time::sleep(START_RETRY).await;
        }
    }
}

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

/// The collector, the store and the way to the chain; operators come through the [`Api`].
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
