use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use chain::{Batch, Endpoints, Event, Follow, Follower, RpcSettings, checkpoint};
use daemon::Store;
use url::Url;

use crate::node::{Node, PATIENCE};
use crate::proxy::Proxy;

/// What an agent does: keeps what it derived (here the topics, by block) and the checkpoint in one database.
struct Mirror {
    _directory: tempfile::TempDir,
    store: Store,
    endpoints: Endpoints,
    settings: RpcSettings,
    follow: Follow,
    follower: Follower,
    batches: usize,
}

const DERIVED: &str = "CREATE TABLE derived (block INTEGER NOT NULL, position INTEGER NOT NULL, topic INTEGER NOT NULL,
     PRIMARY KEY (block, position)) STRICT";

impl Mirror {
    fn new(url: Url, emitter: Address) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(
            &directory.path().join("mirror.sqlite"),
            &[checkpoint::MIGRATION, DERIVED],
        )
        .expect("store");
        let mut settings = RpcSettings::new(vec![url]);
        settings.timeout = PATIENCE / 2;
        let endpoints = Endpoints::new(&settings).expect("endpoints");
        let follow = Follow {
            addresses: vec![emitter],
            topics: Vec::new(),
            start_block: 1,
        };
        let follower = Follower::new(&endpoints, &settings, follow.clone(), Vec::new()).expect("addresses");
        Self {
            _directory: directory,
            store,
            endpoints,
            settings,
            follow,
            follower,
            batches: 0,
        }
    }

    /// As after a crash: everything in memory is lost.
    fn restart(&mut self) {
        let history = self.store.read_now(checkpoint::load_history).expect("history");
        self.follower =
            Follower::new(&self.endpoints, &self.settings, self.follow.clone(), history).expect("addresses");
    }

    fn apply(&mut self, batch: &Batch) {
        assert!(!batch.events.is_empty());
        self.batches += 1;
        self.store
            .write_now(|transaction| {
                for event in &batch.events {
                    checkpoint::save(transaction, event)?;
                    match event {
                        Event::Applied(block) => {
                            for log in &block.logs {
                                assert_eq!(log.block_hash, Some(block.hash));
                                transaction.execute(
                                    "INSERT INTO derived VALUES (?1, ?2, ?3)",
                                    (
                                        block.number as i64,
                                        log.log_index.expect("mined") as i64,
                                        U256::from_be_bytes(log.topics()[0].0).to::<u64>() as i64,
                                    ),
                                )?;
                            }
                        }
                        Event::Reverted { above } => {
                            transaction.execute("DELETE FROM derived WHERE block > ?1", [*above as i64])?;
                        }
                    }
                }
                Ok(())
            })
            .expect("every log is handed out once");
    }

    /// Follows until the newest block of `node` is applied, then compares what was derived with what the chain has.
    async fn catch_up_and_compare(&mut self, node: &Node) {
        let head = head(node).await;
        while self.tip() != Some(head) {
            let batch = tokio::time::timeout(PATIENCE, self.follower.next_batch())
                .await
                .unwrap_or_else(|_| panic!("no batch within {PATIENCE:?} although the head is {head:?}"));
            self.apply(&batch);
        }
        assert_eq!(self.derived(), topics_on_chain(node, self.follow.addresses[0]).await);
    }

    fn tip(&self) -> Option<(u64, B256)> {
        let history = self.store.read_now(checkpoint::load_history).expect("history");
        history.last().map(|block| (block.number, block.hash))
    }

    fn derived(&self) -> Vec<u64> {
        self.store
            .read_now(|connection| {
                connection
                    .prepare("SELECT topic FROM derived ORDER BY block, position")?
                    .query_map([], |row| row.get::<_, i64>(0).map(|topic| topic as u64))?
                    .collect()
            })
            .expect("derived")
    }
}

async fn head(node: &Node) -> (u64, B256) {
    let block = node
        .provider
        .get_block_by_number(BlockNumberOrTag::Latest)
        .await
        .expect("head")
        .expect("head");
    (block.header.number, block.header.hash)
}

async fn topics_on_chain(node: &Node, emitter: Address) -> Vec<u64> {
    let logs = node
        .provider
        .get_logs(&Filter::new().address(emitter).from_block(0))
        .await
        .expect("logs");
    logs.iter()
        .map(|log| U256::from_be_bytes(log.topics()[0].0).to())
        .collect()
}

#[tokio::test]
async fn a_reorganisation_is_undone_and_what_replaced_it_applied() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let mut mirror = Mirror::new(node.url(), emitter);
    node.emit(emitter, &[1, 2]).await;
    node.emit(emitter, &[3]).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2, 3]);

    node.reorganise(1).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2]);

    node.emit(emitter, &[4]).await;
    node.mine(5).await;
    mirror.catch_up_and_compare(&node).await;
    node.reorganise(6).await;
    node.emit(emitter, &[5, 6]).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2, 5, 6]);
}

#[tokio::test]
async fn a_chain_that_was_set_back_is_followed_from_where_it_parted() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let mut mirror = Mirror::new(node.url(), emitter);
    node.emit(emitter, &[1]).await;
    let snapshot = node.request("evm_snapshot", serde_json::json!([])).await;
    node.emit(emitter, &[2]).await;
    node.mine(3).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2]);

    assert_eq!(node.request("evm_revert", serde_json::json!([snapshot])).await, true);
    node.emit(emitter, &[3]).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 3]);
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_reorganisation_loses_and_repeats_nothing() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let mut mirror = Mirror::new(node.url(), emitter);
    for topic in 1..=6 {
        node.emit(emitter, &[topic]).await;
    }
    mirror.catch_up_and_compare(&node).await;
    node.reorganise(4).await;
    node.emit(emitter, &[7]).await;
    mirror.restart();
    // The process dies after it was handed the first batch and before it stored it.
    let lost = tokio::time::timeout(PATIENCE, mirror.follower.next_batch())
        .await
        .expect("a batch");
    assert!(
        matches!(lost.events[0], Event::Reverted { above: 3 }),
        "{:?}",
        lost.events[0]
    );
    mirror.restart();
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2, 7]);
}

#[tokio::test]
async fn a_checkpoint_that_is_up_to_date_needs_no_other_block() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let mut mirror = Mirror::new(node.url(), emitter);
    assert_eq!(mirror.follower.newest_of_all().await, None, "nothing was applied");
    node.emit(emitter, &[1]).await;
    mirror.catch_up_and_compare(&node).await;
    mirror.restart();
    let (block, time) = mirror.follower.newest_of_all().await.expect("nothing is newer");
    assert_eq!((block.number, block.hash), head(&node).await);
    assert!(time > 0);

    node.mine(1).await;
    assert_eq!(mirror.follower.newest_of_all().await, None, "there is a newer block");
    mirror.catch_up_and_compare(&node).await;
    // Another block at the height of the checkpoint.
    node.reorganise(1).await;
    assert_eq!(mirror.follower.newest_of_all().await, None, "it is gone");
    mirror.catch_up_and_compare(&node).await;
    assert!(mirror.follower.newest_of_all().await.is_some());
}

#[tokio::test]
async fn a_caller_whose_transaction_failed_rewinds() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let mut mirror = Mirror::new(node.url(), emitter);
    node.emit(emitter, &[1]).await;
    let _ = tokio::time::timeout(PATIENCE, mirror.follower.next_batch())
        .await
        .expect("a batch that is not stored");
    let history = mirror.store.read_now(checkpoint::load_history).expect("history");
    mirror.follower.rewind(history);
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1]);
}

#[tokio::test]
async fn a_long_way_is_caught_up_in_few_batches() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let mut mirror = Mirror::new(node.url(), emitter);
    node.emit(emitter, &[1]).await;
    node.mine(2_500).await;
    node.emit(emitter, &[2]).await;
    node.mine(100).await;
    node.emit(emitter, &[3]).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2, 3]);
    assert!(mirror.batches <= 5, "{} batches", mirror.batches);
    mirror.restart();
    node.emit(emitter, &[4]).await;
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.batches, mirror.batches.min(6));
}

#[tokio::test]
async fn an_outage_is_waited_for() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let proxy = Proxy::in_front_of(node.port).await;
    let mut mirror = Mirror::new(proxy.url(), emitter);
    node.emit(emitter, &[1]).await;
    mirror.catch_up_and_compare(&node).await;

    proxy.cut();
    node.emit(emitter, &[2]).await;
    let mut reachability = mirror.endpoints.reachability();
    {
        let next = mirror.follower.next_batch();
        tokio::pin!(next);
        tokio::select! {
            batch = &mut next => panic!("a batch from a dead endpoint: {batch:?}"),
            seen = tokio::time::timeout(PATIENCE, reachability.wait_for(|state| !state.is_reachable())) => {
                seen.expect("the outage is noticed").expect("the endpoints live");
            }
        }
    }
    proxy.restore();
    mirror.catch_up_and_compare(&node).await;
    assert_eq!(mirror.derived(), [1, 2]);
    assert!(mirror.endpoints.reachability().borrow().is_reachable());
}

#[tokio::test]
async fn with_a_topic_only_those_logs_come() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let settings = RpcSettings::new(vec![node.url()]);
    let endpoints = Endpoints::new(&settings).expect("endpoints");
    let follow = Follow {
        addresses: vec![emitter],
        topics: vec![B256::from(U256::from(2))],
        start_block: 0,
    };
    let mut follower = Follower::new(&endpoints, &settings, follow, Vec::new()).expect("addresses");
    node.emit(emitter, &[1, 2, 3]).await;
    let batch = tokio::time::timeout(PATIENCE, follower.next_batch())
        .await
        .expect("a batch");
    assert!(batch.caught_up);
    let count: usize = batch
        .events
        .iter()
        .map(|event| match event {
            Event::Applied(block) => block.logs.len(),
            Event::Reverted { .. } => 0,
        })
        .sum();
    assert_eq!(count, 1);
}
