//! An actor that sends transactions to a node, for one test.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::providers::Provider;
use chain::transactions::{ActorError, MIGRATION};
use chain::{Call, Endpoints, Included, RpcSettings, SubmitError, TransactionSettings, Transactions};
use daemon::{Secret, Store};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::node::{ACCOUNT, KEY, Node, PATIENCE};

/// What most tests of transactions begin with.
pub(crate) struct Fixture {
    pub(crate) node: Node,
    pub(crate) emitter: Address,
    pub(crate) store: Store,
    pub(crate) sender: Sender,
}

impl Fixture {
    /// With a node that mines when the test says so.
    pub(crate) async fn start() -> Self {
        Self::on(Node::start()).await
    }

    /// With a node that mines every transaction as it comes.
    pub(crate) async fn start_mining() -> Self {
        let node = Node::start_with(&[]);
        node.request("evm_setAutomine", serde_json::json!([true])).await;
        Self::on(node).await
    }

    async fn on(node: Node) -> Self {
        let emitter = node.deploy_emitter().await;
        let store = store(&node);
        let sender = Sender::start(&node, &store);
        Self {
            node,
            emitter,
            store,
            sender,
        }
    }
}

pub(crate) struct Sender {
    pub(crate) transactions: Transactions,
    pub(crate) actor: JoinHandle<Result<(), ActorError>>,
    stop: CancellationToken,
}

impl Sender {
    pub(crate) fn start(node: &Node, store: &Store) -> Self {
        Self::start_at(node.url(), store)
    }

    pub(crate) fn start_at(endpoint: Url, store: &Store) -> Self {
        let mut rpc = RpcSettings::new(vec![endpoint]);
        rpc.chain_id = Some(31337);
        rpc.timeout = PATIENCE;
        let endpoints = Endpoints::new(&rpc).expect("endpoints");
        let signer = chain::keys::from_raw(&Secret::new(KEY)).expect("key");
        let settings = TransactionSettings {
            poll_interval: Duration::from_millis(20),
            wait: PATIENCE,
            confirmations: 5,
            ..TransactionSettings::default()
        };
        let (transactions, actor) = Transactions::new(&endpoints, signer, store.clone(), settings, None);
        let stop = CancellationToken::new();
        let actor = tokio::spawn(actor.run(stop.clone()));
        Self {
            transactions,
            actor,
            stop,
        }
    }

    pub(crate) fn submit(&self, call: Call) -> JoinHandle<Result<Included, SubmitError>> {
        let transactions = self.transactions.clone();
        tokio::spawn(async move { transactions.submit(call).await })
    }

    /// As `kill -9` would, except that the store's connections are shared.
    pub(crate) fn kill(self) {
        self.actor.abort();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        finished(self.actor).await.expect("a clean end");
    }
}

pub(crate) async fn finished<T>(task: JoinHandle<T>) -> T {
    tokio::time::timeout(PATIENCE, task)
        .await
        .expect("it ends in time")
        .expect("it does not panic")
}

/// A store that is gone with the node.
pub(crate) fn store(node: &Node) -> Store {
    Store::open(&node.folder.path().join("agent.sqlite"), &[MIGRATION]).expect("store")
}

pub(crate) fn emit(emitter: Address, topic: u64) -> Call {
    Call::new(
        format!("emit/{topic}"),
        emitter,
        Bytes::from(B256::from(U256::from(topic))),
    )
}

/// Waits until the node's pool holds `count` transactions of ours.
pub(crate) async fn pooled(node: &Node, count: u64) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pending = node
            .provider
            .get_transaction_count(ACCOUNT)
            .pending()
            .await
            .expect("count");
        let used = node
            .provider
            .get_transaction_count(ACCOUNT)
            .latest()
            .await
            .expect("count");
        if pending - used == count {
            return;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "{} of {count} transactions in the pool after {PATIENCE:?}",
            pending - used
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Mines until `done` says so.
pub(crate) async fn mine_until(node: &Node, awaited: &str, mut done: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while !done().await {
        assert!(tokio::time::Instant::now() < until, "{awaited}: not after {PATIENCE:?}");
        node.mine(1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
