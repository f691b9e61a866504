//! The canonical chain's logs, block by block.
//!
//! The follower polls; it never trusts an order of events, only hashes. Far behind the head it reads ranges of logs, near
//! the head it reads every block and the logs *of that hash*, so that what it hands out belongs together. When a block is
//! no longer canonical it says so before it hands out what replaced it. It never ends: an RPC that is away is waited for.
//!
//! The caller keeps the checkpoint ([`crate::checkpoint`]) in the transaction that stores what it derived, and starts the
//! next follower from it. (alloy's `watch_canonical_logs_from` starts from a number instead of a hash, and ends at the
//! first RPC error and at reorganisations deeper than its buffer, so it would need all of this around it.)

mod metrics;
mod rhythm;
mod tracker;

use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, Bloom, BloomInput};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::{Filter, Header, Log};
use alloy::transports::TransportError;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::{BlockReference, Endpoints, RpcSettings, checkpoint};
use metrics::FollowerMetrics;
use rhythm::Rhythm;
use tracker::{Link, Tracker, Verdict};

/// Blocks this close to the head are read one by one, because they may still be reorganised away.
const NEAR_HEAD: u64 = 64;
/// Most blocks in one batch near the head.
const LARGEST_BATCH: u64 = 64;
/// Range of blocks asked for in one `eth_getLogs` far from the head: where it starts, and the most it grows to.
const FIRST_RANGE: u64 = 2_000;
const LARGEST_RANGE: u64 = 10_000;
/// Wait after a failed look, doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What to follow.
#[derive(Debug, Clone)]
pub struct Follow {
    /// Our contracts. Never empty: without addresses a follower would read everybody's logs.
    pub addresses: Vec<Address>,
    /// Only logs with one of these first topics (event signatures); empty: all of them.
    pub topics: Vec<B256>,
    /// Where to start without a checkpoint: the block of the first contract's deployment.
    pub start_block: u64,
}

/// A canonical block with our logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedBlock {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: B256,
    /// The hash of the block before it.
    pub parent: B256,
    /// Unix seconds.
    pub timestamp: u64,
    /// Our logs in it, in their order.
    pub logs: Vec<Log>,
}

impl AppliedBlock {
    /// Number and hash.
    pub fn reference(&self) -> BlockReference {
        BlockReference {
            number: self.number,
            hash: self.hash,
        }
    }
}

/// A change of the canonical chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// This block is canonical now. Far behind the head, blocks without our logs are left out.
    Applied(AppliedBlock),
    /// No block above this height is canonical any more: undo what came from them.
    Reverted {
        /// The newest block that remains.
        above: u64,
    },
}

/// Changes that belong into one transaction of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// In order.
    pub events: Vec<Event>,
    /// The newest block the endpoint knows of.
    pub head: BlockReference,
    /// Whether the last event is that newest block: only then act on what is "now".
    pub caught_up: bool,
}

/// Follows the chain. One task owns it and calls [`Follower::next_batch`].
#[derive(Debug)]
pub struct Follower {
    endpoints: Endpoints,
    provider: RootProvider,
    follow: Follow,
    tracker: Tracker,
    rhythm: Rhythm,
    range: u64,
    stale_after: Duration,
    last_advance: Instant,
    head_seen: Option<BlockReference>,
    head: watch::Sender<Option<BlockReference>>,
    metrics: FollowerMetrics,
}

/// Why the chain cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// Without addresses everybody's logs would be read.
    #[error("no contract address to follow; give the addresses of the deployment")]
    NoAddresses,
}

/// Why one look at the chain gave nothing; it is tried again.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("{0}")]
    Rpc(#[from] TransportError),
    #[error("the node has no block {0}, although its head is higher")]
    Hole(BlockNumberOrTag),
    #[error("the logs of blocks {from} to {to} do not belong to the blocks the node names; it may be reorganising")]
    Inconsistent { from: u64, to: u64 },
}

impl Follower {
    /// Continues after `history` (from [`checkpoint::load_history`]), or starts at `follow.start_block`.
    pub fn new(
        endpoints: &Endpoints,
        settings: &RpcSettings,
        follow: Follow,
        history: Vec<BlockReference>,
    ) -> Result<Self, FollowError> {
        if follow.addresses.is_empty() {
            return Err(FollowError::NoAddresses);
        }
        Ok(Self {
            endpoints: endpoints.clone(),
            provider: endpoints.provider(),
            follow,
            tracker: Tracker::new(history, checkpoint::HISTORY_LENGTH),
            rhythm: Rhythm::new(settings.poll_interval),
            range: FIRST_RANGE,
            stale_after: settings.stale_after,
            last_advance: Instant::now(),
            head_seen: None,
            head: watch::Sender::new(None),
            metrics: FollowerMetrics::default(),
        })
    }

    /// The newest block handed out, for whoever only needs to know that time passes.
    pub fn head(&self) -> watch::Receiver<Option<BlockReference>> {
        self.head.subscribe()
    }

    /// Registers the follower's metrics: `metrics.register("follower", |registry| follower.register_metrics(registry))`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// Forgets what was handed out since `history`: for a caller whose transaction failed, with what it has stored.
    pub fn rewind(&mut self, history: Vec<BlockReference>) {
        self.tracker = Tracker::new(history, checkpoint::HISTORY_LENGTH);
        self.head_seen = None;
    }

    /// Waits for the next change. Never empty. Safe to drop and call again: a batch counts as handed out only when this
    /// returns it.
    pub async fn next_batch(&mut self) -> Batch {
        let mut retry = FIRST_RETRY;
        loop {
            match self.look().await {
                Ok(Some(batch)) => return self.hand_out(batch),
                Ok(None) => {
                    retry = FIRST_RETRY;
                    self.rotate_when_stale();
                    tokio::time::sleep(self.rhythm.next_look(self.last_advance.elapsed())).await;
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    tracing::warn!(%error, "cannot read the chain; trying again in {retry:?}");
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LONGEST_RETRY);
                }
            }
        }
    }

    /// The newest block that was applied, and its time in Unix seconds, if the chain has no newer one now: whoever starts from a
    /// checkpoint that is up to date need not wait for another block. Nothing where there is a newer one, or no answer.
    pub async fn newest_of_all(&self) -> Option<(BlockReference, u64)> {
        let tip = self.tracker.tip()?;
        let newest = self.header(BlockNumberOrTag::Latest).await.ok()?;
        (reference(&newest) == tip).then_some((tip, newest.timestamp))
    }

    fn hand_out(&mut self, batch: Batch) -> Batch {
        for event in &batch.events {
            match event {
                Event::Applied(block) => {
                    self.tracker.apply(block.reference());
                    self.metrics.logs.inc_by(block.logs.len() as u64);
                }
                Event::Reverted { above } => {
                    self.tracker.revert(*above);
                    self.metrics.reorganisations.inc();
                }
            }
        }
        let now = Instant::now();
        match batch.events.as_slice() {
            [Event::Applied(_)] if batch.caught_up => self.rhythm.observe(now - self.last_advance),
            _ => self.rhythm.forget(),
        }
        self.last_advance = now;
        if let Some(tip) = self.tracker.tip() {
            self.head.send_replace(Some(tip));
            self.metrics.block.set(tip.number as i64);
        }
        batch
    }

    fn rotate_when_stale(&mut self) {
        if self.endpoints.count() > 1 && self.last_advance.elapsed() > self.stale_after {
            tracing::warn!(
                endpoint = self.endpoints.current(),
                "no new block for {:?}; trying another",
                self.stale_after
            );
            self.endpoints.prefer_next();
            self.last_advance = Instant::now();
        }
    }

    /// One look at the chain; changes nothing that a caller could notice.
    async fn look(&mut self) -> Result<Option<Batch>, LookError> {
        let head = self.header(BlockNumberOrTag::Latest).await?;
        let head_reference = reference(&head);
        if self.head_seen == Some(head_reference) && self.tracker.tip() == Some(head_reference) {
            return Ok(None);
        }
        self.head_seen = Some(head_reference);
        self.metrics.head.set(head_reference.number as i64);
        let batch = match self.tracker.judge(link(&head)) {
            Verdict::Known => None,
            Verdict::Extends => {
                let block = self.block(head).await?;
                Some(vec![Event::Applied(block)])
            }
            Verdict::Ahead => self.catch_up(head_reference).await?,
            Verdict::Diverged => self.reorganise(head_reference).await?,
            Verdict::Unclear { check } => {
                let canonical = self.header(BlockNumberOrTag::Number(check.number)).await?;
                if canonical.hash == check.hash {
                    None
                } else {
                    self.reorganise(head_reference).await?
                }
            }
        };
        Ok(batch.filter(|events| !events.is_empty()).map(|events| {
            let caught_up = matches!(events.last(), Some(Event::Applied(block)) if block.hash == head_reference.hash);
            Batch {
                events,
                head: head_reference,
                caught_up,
            }
        }))
    }

    /// The blocks after the newest applied one.
    async fn catch_up(&mut self, head: BlockReference) -> Result<Option<Vec<Event>>, LookError> {
        let next = self.tracker.tip().map_or(self.follow.start_block, |tip| tip.number + 1);
        if next > head.number {
            return Ok(None);
        }
        if next + NEAR_HEAD < head.number {
            // The newest applied block may be long gone: nothing that far below is compared by the range itself.
            if let Some(tip) = self.tracker.tip()
                && self.header(BlockNumberOrTag::Number(tip.number)).await?.hash != tip.hash
            {
                return self.reorganise(head).await;
            }
            return self.range_of_blocks(next, head.number - NEAR_HEAD).await.map(Some);
        }
        let parent = self.tracker.tip().map(|tip| tip.hash);
        match self.blocks(next, head.number, parent).await? {
            events if events.is_empty() => self.reorganise(head).await,
            events => Ok(Some(events)),
        }
    }

    /// What is no longer canonical, and what took its place.
    async fn reorganise(&mut self, head: BlockReference) -> Result<Option<Vec<Event>>, LookError> {
        let mut ancestor = None;
        for candidate in self.tracker.candidates(head.number) {
            if self.header(BlockNumberOrTag::Number(candidate.number)).await?.hash == candidate.hash {
                ancestor = Some(candidate);
                break;
            }
        }
        if ancestor.is_some() && ancestor == self.tracker.tip() {
            // It was back before we had looked everywhere.
            return Ok(None);
        }
        let above = ancestor.map_or(self.follow.start_block.saturating_sub(1), |block| block.number);
        tracing::warn!(
            above,
            tip = self.tracker.tip().map(|tip| tip.number),
            "the chain was reorganised"
        );
        let mut events = vec![Event::Reverted { above }];
        if above + LARGEST_BATCH >= head.number {
            events.extend(
                self.blocks(above + 1, head.number, ancestor.map(|block| block.hash))
                    .await?,
            );
        }
        Ok(Some(events))
    }

    /// Blocks one by one, as far as each follows the one before.
    async fn blocks(&self, from: u64, to: u64, mut parent: Option<B256>) -> Result<Vec<Event>, LookError> {
        let mut events = Vec::new();
        for number in from..=to.min(from + LARGEST_BATCH - 1) {
            let header = self.header(BlockNumberOrTag::Number(number)).await?;
            if parent.is_some_and(|parent| header.parent_hash != parent) {
                break;
            }
            parent = Some(header.hash);
            events.push(Event::Applied(self.block(header).await?));
        }
        Ok(events)
    }

    /// A block with its logs, asked for by hash.
    async fn block(&self, header: Header) -> Result<AppliedBlock, LookError> {
        let mut logs = self
            .provider
            .get_logs(&self.filter().at_block_hash(header.hash))
            .await?;
        if logs.is_empty() && self.may_have_logs(&header.logs_bloom) {
            // Some nodes answer "none" instead of "unknown block" for a hash they do not have: the header's bloom filter
            // says there may be some, so ask in another way, and believe it only if it is about this block.
            logs = self.provider.get_logs(&self.filter().select(header.number)).await?;
        }
        if logs.iter().any(|log| log.block_hash != Some(header.hash)) {
            return Err(LookError::Inconsistent {
                from: header.number,
                to: header.number,
            });
        }
        Ok(applied(&header, logs))
    }

    /// Far from the head: the logs of a range, then the headers of the blocks that have any.
    async fn range_of_blocks(&mut self, from: u64, limit: u64) -> Result<Vec<Event>, LookError> {
        let (to, logs) = self.range_of_logs(from, limit).await?;
        let mut events = Vec::new();
        let mut logs = logs.into_iter().peekable();
        while let Some(number) = logs.peek().and_then(|log| log.block_number) {
            let header = self.header(BlockNumberOrTag::Number(number)).await?;
            let mut ours = Vec::new();
            while let Some(log) = logs.next_if(|log| log.block_number == Some(number)) {
                if log.block_hash != Some(header.hash) {
                    return Err(LookError::Inconsistent { from, to });
                }
                ours.push(log);
            }
            events.push(Event::Applied(applied(&header, ours)));
        }
        let last = events.last().map(|event| match event {
            Event::Applied(block) => block.number,
            Event::Reverted { above } => *above,
        });
        if last != Some(to) {
            let header = self.header(BlockNumberOrTag::Number(to)).await?;
            events.push(Event::Applied(applied(&header, Vec::new())));
        }
        Ok(events)
    }

    /// Asks for less at a time while the node refuses, for more while it does not.
    async fn range_of_logs(&mut self, from: u64, limit: u64) -> Result<(u64, Vec<Log>), LookError> {
        loop {
            let to = limit.min(from + self.range - 1);
            match self
                .provider
                .get_logs(&self.filter().from_block(from).to_block(to))
                .await
            {
                Ok(mut logs) => {
                    self.range = (self.range + self.range / 2 + 1).min(LARGEST_RANGE);
                    logs.retain(|log| !log.removed);
                    logs.sort_by_key(|log| (log.block_number, log.log_index));
                    if logs
                        .iter()
                        .any(|log| !log.block_number.is_some_and(|number| (from..=to).contains(&number)))
                    {
                        return Err(LookError::Inconsistent { from, to });
                    }
                    return Ok((to, logs));
                }
                Err(error) if self.range > 1 => {
                    tracing::debug!(%error, from, to, "asking for a smaller range of logs");
                    self.range = (self.range / 2).max(1);
                    if error.as_error_resp().is_none() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn header(&self, block: BlockNumberOrTag) -> Result<Header, LookError> {
        match self.provider.get_block_by_number(block).await? {
            Some(found) => Ok(found.header),
            None => Err(LookError::Hole(block)),
        }
    }

    fn filter(&self) -> Filter {
        let filter = Filter::new().address(self.follow.addresses.clone());
        if self.follow.topics.is_empty() {
            filter
        } else {
            filter.event_signature(self.follow.topics.clone())
        }
    }

    fn may_have_logs(&self, bloom: &Bloom) -> bool {
        let topics = &self.follow.topics;
        self.follow
            .addresses
            .iter()
            .any(|address| bloom.contains_input(BloomInput::Raw(address.as_slice())))
            && (topics.is_empty()
                || topics
                    .iter()
                    .any(|topic| bloom.contains_input(BloomInput::Raw(topic.as_slice()))))
    }
}

fn applied(header: &Header, mut logs: Vec<Log>) -> AppliedBlock {
    logs.sort_by_key(|log| log.log_index);
    AppliedBlock {
        number: header.number,
        hash: header.hash,
        parent: header.parent_hash,
        timestamp: header.timestamp,
        logs,
    }
}

fn reference(header: &Header) -> BlockReference {
    BlockReference {
        number: header.number,
        hash: header.hash,
    }
}

fn link(header: &Header) -> Link {
    Link {
        block: reference(header),
        parent: header.parent_hash,
    }
}
