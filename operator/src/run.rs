//! `operator run`: follows the chain, answers what closes, signs and sends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::B256;
use avs::bn254::SecretKey;
use avs::response::Domain;
use avs::submission::{SignaturePoint, SignatureSubmission};
use avs::task::{self, Chunk};
use chain::{Batch, BlockReference, Endpoints, Event, Follower, RpcSettings, checkpoint};
use daemon::health::{Component, Gate};
use daemon::{DirectoryLock, Health, Metrics, Shutdown, StoreError};
use eyre::WrapErr as _;

use crate::aggregators::{Aggregators, Sending};
use crate::api;
use crate::chain::{Market, ReadError, Windows, fact_of};
use crate::config::Config;
use crate::keys;
use crate::metrics::{OperatorMetrics, Refusal};
use crate::sign_once::{Signed, Verdict};
use crate::stakes::Stakes;
use crate::store::{Forgotten, OperatorStore};
use crate::tasks::{self, Answer, OpenOrder, Tasks};

/// Wait before something that failed is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Starts everything; returns once the operator listens.
pub async fn start(config: Config, shutdown: Shutdown) -> eyre::Result<()> {
    let lock = DirectoryLock::acquire(&config.data_dir)?;
    let network = config.network()?;
    let urls = config.aggregator_urls(&network);
    eyre::ensure!(
        !urls.is_empty(),
        "no aggregator is known; set `aggregators` in the configuration, or have the network file name some"
    );
    let key = keys::bls(&config.keys).await?;
    let store = OperatorStore::open(&config.data_dir)?;
    let rpc = config.rpc_settings(&network);
    let endpoints = Endpoints::new(&rpc)?;
    let (health, metrics) = (Health::new(), Metrics::new());
    endpoints.report_health(health.component("rpc", Gate::None));
    let own = OperatorMetrics::default();
    metrics.register("operator", |registry| own.register(registry));

    let operator = Operator {
        market: Arc::new(Market::new(
            endpoints.provider(),
            network.contracts.order_book,
            network.contracts.task_manager,
        )),
        aggregators: Aggregators::new(&urls, own.clone()).wrap_err("cannot make the HTTP client")?,
        domain: Domain {
            chain_id: network.chain_id,
            task_manager: network.contracts.task_manager,
        },
        operator_id: key.public_key().operator_id(),
        key,
        metrics: own,
        shutdown: shutdown.clone(),
        caught_up: health.component("chain", Gate::Ready),
        store: store.clone(),
        windows: Windows { bid: 0, response: 0 },
        beginning: 0,
        tasks: Tasks::default(),
        recent: BTreeMap::new(),
        finished: BTreeSet::new(),
        sending: BTreeMap::new(),
        unfinished: false,
    };
    tracing::info!(operator_id = %operator.operator_id, aggregators = operator.aggregators.count(), "operator");

    let stakes = Stakes::new(endpoints.provider(), &network, operator.operator_id);
    metrics.register_unprefixed(|registry| stakes.register_metrics(registry));
    let membership = stakes.watch(health.component("membership", Gate::None));
    let router =
        daemon::http::operations_router(health.clone(), metrics.clone()).merge(api::node_router(health.clone()));
    let (listener, bound) = daemon::http::bind(config.http.listen, "health and metrics").await?;
    api::write_addresses(&config.data_dir, bound).wrap_err("cannot write addresses.json into the data directory")?;
    shutdown.spawn_critical("HTTP", daemon::http::serve(listener, router, shutdown.token()));
    let store_health = store
        .database()
        .clone()
        .report_health(health.component("store", Gate::None));
    let token = shutdown.token();
    shutdown.spawn("store health", async move {
        token.run_until_cancelled(store_health).await;
    });
    let token = shutdown.token();
    shutdown.spawn("watching the stakes", async move {
        token.run_until_cancelled(membership).await;
    });
    let draining = (shutdown.token(), health);
    shutdown.spawn("draining", async move {
        draining.0.cancelled().await;
        draining.1.drain();
    });
    let deployed_at = network.deployed_at;
    shutdown.spawn_critical("following the chain", async move {
        let _lock = lock;
        operator.follow(endpoints, rpc, deployed_at, metrics).await
    });
    Ok(())
}

/// Why a close block is not dealt with yet.
#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The follower's task, with all it knows.
struct Operator {
    market: Arc<Market>,
    store: OperatorStore,
    aggregators: Aggregators,
    domain: Domain,
    operator_id: B256,
    key: SecretKey,
    metrics: OperatorMetrics,
    shutdown: Shutdown,
    caught_up: Component,
    windows: Windows,
    /// Only close blocks after this one are signed.
    beginning: u64,
    tasks: Tasks,
    /// Newest applied blocks.
    recent: BTreeMap<u64, B256>,
    /// Close blocks all of whose tasks were dealt with.
    finished: BTreeSet<(u32, B256)>,
    sending: BTreeMap<(u32, u16), (B256, Sending)>,
    /// Whether something waits to be tried again.
    unfinished: bool,
}

impl Operator {
    async fn follow(
        mut self,
        endpoints: Endpoints,
        rpc: RpcSettings,
        deployed_at: u64,
        metrics: Metrics,
    ) -> eyre::Result<()> {
        let token = self.shutdown.token();
        let head = tokio::select! {
            () = token.cancelled() => return Ok(()),
            head = self.first_reads() => head,
        };
        self.beginning = self.store.begin(head).await?;
        let start_block = deployed_at.max(head.saturating_sub(self.windows.lookback()));
        let history = self.reload().await?;
        if history.last().is_some_and(|tip| tip.number == head) {
            self.caught_up.ok();
        }
        let mut follower = Follower::new(&endpoints, &rpc, self.market.follow(start_block), history)?;
        metrics.register("follower", |registry| follower.register_metrics(registry));
        loop {
            tokio::select! {
                () = token.cancelled() => return Ok(()),
                batch = follower.next_batch() => {
                    let seen = Instant::now();
                    if let Err(error) = self.apply(&batch).await {
                        tracing::error!(%error, "what the chain says cannot be stored; nothing is signed until it can");
                        tokio::time::sleep(RETRY).await;
                        follower.rewind(self.reload().await.unwrap_or_default());
                        continue;
                    }
                    if batch.caught_up {
                        self.caught_up.ok();
                        self.sign_due(batch.head.number, seen).await;
                    }
                }
                () = tokio::time::sleep(RETRY), if self.unfinished => {
                    if let Some(head) = self.recent.keys().next_back().copied() {
                        self.sign_due(head, Instant::now()).await;
                    }
                }
            }
        }
    }

    /// Waits for the chain, which may be away, and reads what does not change. Returns the head.
    async fn first_reads(&mut self) -> u64 {
        loop {
            let market = self.market.clone();
            match tokio::try_join!(market.head(), market.windows(), market.read_all_parameters()) {
                Ok((head, windows, versions)) => {
                    self.windows = windows;
                    tracing::info!(head, ?windows, versions, "the network's parameters");
                    return head;
                }
                Err(error) => {
                    let reason = with_sources(&error);
                    self.caught_up.degraded(reason.clone());
                    tracing::warn!("the network's parameters cannot be read: {reason}");
                    tokio::time::sleep(RETRY * 5).await;
                }
            }
        }
    }

    /// Takes everything from the store.
    async fn reload(&mut self) -> Result<Vec<BlockReference>, StoreError> {
        let kept = self.store.load().await?;
        self.tasks = kept.tasks;
        self.beginning = kept.beginning.unwrap_or(self.beginning);
        self.recent = kept.history.iter().map(|block| (block.number, block.hash)).collect();
        Ok(kept.history)
    }

    /// Applies a batch, in memory and on disk.
    async fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let mut events = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            match event {
                Event::Applied(block) => {
                    self.tasks
                        .apply(block.number, block.logs.iter().filter_map(|log| fact_of(log.data())));
                    self.recent.insert(block.number, block.hash);
                    events.push(event.clone());
                }
                Event::Reverted { above } => {
                    // Without a common block the chain is another one, of which nothing is known at any height.
                    let above = if self.recent.contains_key(above) { *above } else { 0 };
                    self.tasks.revert(above);
                    self.recent.split_off(&(above + 1));
                    self.beginning = self.beginning.min(above);
                    // Their answers may be undone too: sign and send them again, which says nothing new.
                    self.finished.clear();
                    events.push(Event::Reverted { above });
                }
            }
        }
        while self.recent.len() > checkpoint::HISTORY_LENGTH {
            self.recent.pop_first();
        }
        let tip = self.recent.keys().next_back().copied().unwrap_or_default();
        let oldest = tip.saturating_sub(self.windows.lookback() + checkpoint::HISTORY_LENGTH as u64);
        let forgotten = Forgotten {
            orders: self.tasks.forget_closed_before(oldest),
            // An order that is kept was created at most this long before it closes.
            logs_before: oldest.saturating_sub(self.windows.lookback()),
        };
        self.metrics.orders.set(self.tasks.len() as i64);
        self.stop_sending(tip);
        self.store.save(events, forgotten).await
    }

    /// Ends deliveries that are of no use any more.
    fn stop_sending(&mut self, head: u64) {
        let (tasks, recent, window) = (&self.tasks, &self.recent, self.windows.response);
        self.sending.retain(|(close_block, chunk), (hash, sending)| {
            let number = u64::from(*close_block);
            let gone = number > head || recent.get(&number).is_some_and(|canonical| canonical != hash);
            let useless = gone || tasks.is_answered(*close_block, *chunk) || head >= number + window;
            if useless {
                sending.stop();
            }
            !useless
        });
    }

    /// Signs everything that can still be answered in the next block and was not dealt with.
    async fn sign_due(&mut self, head: u64, seen: Instant) {
        self.unfinished = false;
        let first = (self.beginning + 1).max((head + 1).saturating_sub(self.windows.response));
        self.finished
            .retain(|(close_block, _)| u64::from(*close_block) >= first);
        for close_block in self.tasks.close_blocks(first, head) {
            if let Err(error) = self.sign_close_block(close_block, seen).await {
                self.unfinished = true;
                tracing::warn!(close_block, "not signed yet: {}", with_sources(&error));
            }
        }
    }

    async fn sign_close_block(&mut self, close_block: u32, seen: Instant) -> Result<(), SignError> {
        let hash = match self.recent.get(&u64::from(close_block)) {
            Some(hash) => *hash,
            None => self.market.hash_of(close_block.into()).await?,
        };
        if self.finished.contains(&(close_block, hash)) {
            return Ok(());
        }
        let checked = self.checked_orders(close_block, hash).await?;
        let answers = self.answers(close_block, hash, checked).await?;
        let signed = answers.iter().map(|answer| Signed {
            close_block,
            close_block_hash: hash,
            chunk: answer.response.chunk,
            order_ids: answer.order_ids.clone(),
            digest: answer.digest,
        });
        let verdicts = match answers.is_empty() {
            true => Vec::new(),
            // On disk before any signature exists.
            false => self.store.record(signed.collect()).await?,
        };
        for (answer, verdict) in answers.into_iter().zip(verdicts) {
            self.sign(answer, verdict, seen);
        }
        self.finished.insert((close_block, hash));
        Ok(())
    }

    /// The orders of a task with their bids checked against the chain, and those whose bids cannot be trusted.
    async fn checked_orders(&self, close_block: u32, hash: B256) -> Result<Checked, ReadError> {
        let mut orders = self.tasks.open_in(close_block);
        let ids: Vec<u64> = orders.iter().map(|order| order.order_id).collect();
        let stored = self.market.digests(hash, &ids).await?;
        let mut untrusted = BTreeSet::new();
        for (order, stored) in orders.iter_mut().zip(&stored) {
            let Err(error) = stored.check(order.order_id, close_block, &order.bids) else {
                continue;
            };
            tracing::warn!(%error, "followed bids are not those on chain");
            order.bids = self.market.bids_of(order).await?;
            if let Err(error) = stored.check(order.order_id, close_block, &order.bids) {
                tracing::error!(%error, "the node's logs are wrong: the order's task is not signed");
                untrusted.insert(order.order_id);
            }
        }
        // The contract's count says whether an order has bids.
        let mut counts = stored.iter().map(|stored| stored.count);
        orders.retain(|_| counts.next().is_some_and(|count| count > 0));
        Ok(Checked { orders, untrusted })
    }

    /// Runs the rule over every chunk that is not answered, off the async workers.
    async fn answers(&self, close_block: u32, hash: B256, checked: Checked) -> Result<Vec<Answer>, SignError> {
        let Checked { orders, untrusted } = checked;
        let mut parameters = BTreeMap::new();
        for version in orders.iter().map(|order| order.terms.params_version()) {
            if let Some(known) = self.market.parameters(version).await? {
                parameters.insert(version, known);
            }
        }
        let keys = orders
            .iter()
            .map(|order| (order.terms.params_version(), order.order_id));
        let sizes = |version| parameters.get(&version).map(avs::matching::Parameters::chunk_size);
        let chunks = match task::chunks(keys, sizes) {
            Ok(chunks) => chunks,
            Err(error) => {
                self.metrics.refuse(Refusal::Malformed);
                tracing::error!(close_block, %error, "the close block's orders make no tasks; nothing is signed");
                return Ok(Vec::new());
            }
        };
        let may_be_signed = |chunk: &Chunk| {
            let trusted = chunk.order_ids.iter().all(|order_id| !untrusted.contains(order_id));
            if !trusted {
                self.metrics.refuse(Refusal::Digest);
            }
            trusted && !self.tasks.is_answered(close_block, chunk.index)
        };
        let chunks: Vec<Chunk> = chunks.into_iter().filter(may_be_signed).collect();
        if chunks.is_empty() {
            return Ok(Vec::new());
        }
        let domain = self.domain;
        let answered = tokio::task::spawn_blocking(move || {
            let of_chunk = |chunk: &Chunk| {
                let parameters = &parameters[&chunk.params_version];
                tasks::answer(&domain, parameters, chunk, close_block, hash, &orders)
            };
            chunks.iter().map(of_chunk).collect::<Result<Vec<_>, _>>()
        });
        match answered.await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => {
                self.metrics.refuse(Refusal::Malformed);
                tracing::error!(close_block, %error, "the answer cannot be encoded; nothing is signed");
                Ok(Vec::new())
            }
            Err(ended) if ended.is_panic() => std::panic::resume_unwind(ended.into_panic()),
            // The runtime is stopping.
            Err(_) => Ok(Vec::new()),
        }
    }

    fn sign(&mut self, answer: Answer, verdict: Verdict, seen: Instant) {
        let response = answer.response;
        let (close_block, chunk) = (response.close_block, response.chunk);
        if let Verdict::Refused { signed } = verdict {
            self.metrics.refuse(Refusal::SignOnce);
            tracing::error!(
                close_block,
                chunk,
                "another answer ({signed}) was signed for this task before; {} is not signed",
                answer.digest
            );
            return;
        }
        let signature = self.key.sign(answer.digest);
        self.metrics.signed.inc();
        self.metrics.signed_orders.inc_by(answer.order_ids.len() as u64);
        let elapsed = seen.elapsed();
        self.metrics.seconds_to_signature.observe(elapsed.as_secs_f64());
        tracing::info!(close_block, chunk, orders = answer.order_ids.len(), digest = %answer.digest, ?elapsed, "signed");
        let submission = SignatureSubmission {
            operator_id: self.operator_id,
            close_block,
            close_block_hash: response.close_block_hash,
            chunk,
            params_version: response.params_version,
            digest: answer.digest,
            matches: answer.matches,
            signature: SignaturePoint::from(&signature),
        };
        match self.aggregators.send(&self.shutdown, &submission, seen) {
            Ok(sending) => {
                let sent = (response.close_block_hash, sending);
                if let Some((_, earlier)) = self.sending.insert((close_block, chunk), sent) {
                    earlier.stop();
                }
            }
            Err(error) => tracing::error!(%error, "the signature cannot be put into JSON"),
        }
    }
}

struct Checked {
    orders: Vec<OpenOrder>,
    untrusted: BTreeSet<u64>,
}

/// An error with the errors below it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
