//! Transactions that somebody else sends with the actor's key.

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, TransactionRequest};
use chain::SubmitError;
use chain::transactions::ActorError;
use daemon::Store;

use crate::lagging::Lagging;
use crate::node::{ACCOUNT, Node};
use crate::sender::{Fixture, Sender, emit, finished, mine_until, pooled, store};

/// What more than this many foreign nonces in a short time come to is the actor's end.
const MOST_FOREIGN: u64 = 16;

fn foreign() -> TransactionRequest {
    TransactionRequest::default().with_from(ACCOUNT).with_to(ACCOUNT)
}

/// Takes the place of whatever waits at this nonce.
fn foreign_at(nonce: u64) -> TransactionRequest {
    foreign()
        .with_nonce(nonce)
        .with_max_fee_per_gas(400_000_000_000)
        .with_max_priority_fee_per_gas(100_000_000_000)
}

async fn used(node: &Node) -> u64 {
    let count = node.provider.get_transaction_count(ACCOUNT).latest();
    count.await.expect("count")
}

/// How often the call had its effect.
async fn effects(node: &Node, emitter: Address, topic: u64) -> usize {
    let filter = Filter::new()
        .address(emitter)
        .event_signature(B256::from(U256::from(topic)))
        .from_block(0);
    node.provider.get_logs(&filter).await.expect("logs").len()
}

fn rows(store: &Store, state: &'static str) -> i64 {
    store
        .read_now(|connection| {
            connection.query_row(
                "SELECT count(*) FROM chain_transactions WHERE state = ?1",
                [state],
                |row| row.get(0),
            )
        })
        .expect("count")
}

#[tokio::test]
async fn what_is_sent_meanwhile_while_nothing_of_ours_waits_is_no_trouble() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start_mining().await;
    for topic in 1..=3 {
        let included = sender.transactions.submit(emit(emitter, topic)).await;
        included.unwrap_or_else(|error| panic!("{topic}: {error}"));
        node.send(foreign()).await;
    }
    pooled(&node, 0).await;
    assert_eq!(used(&node).await, 6);
    sender.stop().await;
}

#[tokio::test]
async fn what_waits_in_the_pool_is_not_replaced() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    let first = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    let theirs = node.send(foreign()).await;
    let second = sender.submit(emit(emitter, 2));
    pooled(&node, 3).await;
    node.mine(1).await;
    for call in [first, second] {
        finished(call).await.expect("included");
    }
    let theirs = node.provider.get_transaction_receipt(theirs).await.expect("receipt");
    assert!(theirs.is_some(), "theirs is included too");
    sender.stop().await;
}

#[tokio::test]
async fn a_call_whose_nonce_somebody_took_is_sent_under_another_one() {
    let Fixture {
        node,
        emitter,
        store,
        sender,
    } = Fixture::start().await;
    let first = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    let second = sender.submit(emit(emitter, 2));
    pooled(&node, 2).await;
    node.send(foreign_at(0)).await;
    node.mine(1).await;
    let second = finished(second).await.expect("what follows stays as it was");
    assert_eq!(second.block.number, 2);
    mine_until(&node, "the call is included", async || first.is_finished()).await;
    let first = finished(first).await.expect("included");
    assert!(
        first.block.number >= 4,
        "in block {}, before two went by without a receipt",
        first.block.number
    );
    node.mine(10).await;
    assert_eq!(effects(&node, emitter, 1).await, 1);
    assert_eq!(effects(&node, emitter, 2).await, 1);
    assert_eq!(used(&node).await, 3);
    assert_eq!(rows(&store, "superseded"), 1);
    sender.stop().await;
}

#[tokio::test]
async fn a_restart_before_and_after_neither_loses_nor_doubles_the_call() {
    let Fixture {
        node,
        emitter,
        store,
        sender,
    } = Fixture::start().await;
    let call = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    sender.kill();
    assert!(matches!(finished(call).await, Err(SubmitError::Stopped { .. })));
    node.send(foreign_at(0)).await;
    node.mine(1).await;
    assert_eq!((used(&node).await, rows(&store, "pending")), (1, 1));

    let sender = Sender::start(&node, &store);
    mine_until(&node, "the call is stored under another nonce", async || {
        rows(&store, "superseded") == 1
    })
    .await;
    sender.kill();
    // Whether it was sent or only stored: the node knows nothing of it, unless a block took it already.
    node.request("anvil_dropAllTransactions", serde_json::json!([])).await;

    let sender = Sender::start(&node, &store);
    mine_until(&node, "the call has its effect", async || {
        effects(&node, emitter, 1).await > 0
    })
    .await;
    let next = sender.submit(emit(emitter, 2));
    mine_until(&node, "the next call is included", async || next.is_finished()).await;
    finished(next).await.expect("included");
    node.mine(10).await;
    assert_eq!(effects(&node, emitter, 1).await, 1);
    assert_eq!(used(&node).await, 3, "theirs, the call and the next one");
    sender.stop().await;
}

#[tokio::test]
async fn a_call_whose_nonce_somebody_took_is_given_up_when_it_is_too_late() {
    let Fixture {
        node,
        emitter,
        store,
        sender,
    } = Fixture::start().await;
    let call = sender.submit(emit(emitter, 1).valid_until(3));
    pooled(&node, 1).await;
    node.send(foreign_at(0)).await;
    node.mine(1).await;
    mine_until(&node, "the call is given up", async || call.is_finished()).await;
    let error = finished(call).await.expect_err("too late");
    assert!(matches!(error, SubmitError::Cancelled { .. }), "{error}");
    let next = sender.submit(emit(emitter, 2));
    mine_until(&node, "the next call is included", async || next.is_finished()).await;
    finished(next).await.expect("included");
    assert_eq!(effects(&node, emitter, 1).await, 0);
    assert_eq!(used(&node).await, 2);
    assert_eq!(rows(&store, "superseded"), 1);
    sender.stop().await;
}

#[tokio::test]
async fn a_nonce_that_the_node_says_is_taken_is_left_at_once() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let store = store(&node);
    let endpoint = Lagging::in_front_of(&node.provider).await;
    let sender = Sender::start_at(endpoint.url(), &store);
    let first = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    node.mine(1).await;
    finished(first).await.expect("included");

    // Nonces 1 and 2 are used, 3 waits in the pool with a fee that is not to be outbid.
    node.send(foreign()).await;
    node.send(foreign()).await;
    node.mine(1).await;
    node.send(foreign_at(3)).await;
    let second = sender.submit(emit(emitter, 2));
    pooled(&node, 2).await;
    node.mine(1).await;
    let second = finished(second).await.expect("included");
    assert_eq!(second.block.number, 4, "in the next block");
    assert_eq!(used(&node).await, 5);
    assert_eq!(effects(&node, emitter, 2).await, 1);
    sender.stop().await;
}

#[tokio::test]
async fn a_nonce_that_nobody_uses_any_more_is_filled() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    let theirs = node.send(foreign()).await;
    pooled(&node, 1).await;
    let call = sender.submit(emit(emitter, 1));
    pooled(&node, 2).await;
    // The node forgets theirs, and ours cannot be included without it.
    node.request("anvil_dropTransaction", serde_json::json!([theirs])).await;
    mine_until(&node, "the call is included", async || call.is_finished()).await;
    finished(call).await.expect("included");
    assert_eq!(used(&node).await, 2);
    assert_eq!(effects(&node, emitter, 1).await, 1);
    sender.stop().await;
}

#[tokio::test]
async fn a_reorganisation_that_drops_theirs_does_not_strand_ours() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    node.send(foreign()).await;
    node.mine(1).await;
    let call = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    node.reorganise(1).await;
    assert_eq!(used(&node).await, 0, "theirs is gone");
    mine_until(&node, "the call is included", async || call.is_finished()).await;
    finished(call).await.expect("included");
    assert_eq!(used(&node).await, 2);
    assert_eq!(effects(&node, emitter, 1).await, 1);
    sender.stop().await;
}

#[tokio::test]
async fn a_second_process_that_stays_stops_the_actor() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start_mining().await;
    for topic in 0..MOST_FOREIGN {
        let included = sender.transactions.submit(emit(emitter, topic)).await;
        included.unwrap_or_else(|error| panic!("{topic}: {error}"));
        node.send(foreign()).await;
    }
    let error = sender.transactions.submit(emit(emitter, MOST_FOREIGN)).await;
    error.expect("not more than a person sends");
    node.send(foreign()).await;
    // It notices at its next look, or at this submission.
    let error = sender.transactions.submit(emit(emitter, 99)).await;
    let error = error.expect_err("nothing is sent any more");
    assert!(
        matches!(error, SubmitError::Stopped { .. } | SubmitError::ForeignNonce { .. }),
        "{error}"
    );
    let newest = 2 * MOST_FOREIGN + 1;
    let ended = finished(sender.actor).await.expect_err("it stops");
    assert!(
        matches!(&ended, ActorError::ForeignNonce { nonce, .. } if *nonce == newest),
        "{ended}"
    );
    assert!(ended.to_string().contains(&ACCOUNT.to_string()), "{ended}");
    assert_eq!(effects(&node, emitter, 99).await, 0);
}
