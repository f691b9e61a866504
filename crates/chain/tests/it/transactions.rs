//! Calls on their way to a block.

use std::sync::Arc;

use alloy::primitives::{Bytes, U256};
use alloy::providers::Provider;
use chain::{Call, Endpoints, RpcSettings, SubmitError, TransactionSettings, Transactions};
use daemon::{Secret, Store};

use crate::node::{ACCOUNT, KEY, Node};
use crate::sender::{Fixture, Sender, emit, finished, mine_until, pooled, store};

/// The next block's fees are a hundred times what is offered.
async fn make_dear(node: &Node) {
    node.request("anvil_setNextBlockBaseFeePerGas", serde_json::json!(["0x174876e800"]))
        .await;
}

fn attempts(store: &Store) -> i64 {
    store
        .read_now(|connection| {
            connection.query_row("SELECT count(*) FROM chain_transaction_attempts", [], |row| row.get(0))
        })
        .expect("count")
}

#[tokio::test]
async fn many_calls_are_sent_in_order_and_included_together() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    let calls: Vec<_> = (1..=20).map(|topic| sender.submit(emit(emitter, topic))).collect();
    pooled(&node, 20).await;
    node.mine(1).await;
    for call in calls {
        let included = finished(call).await.expect("included");
        assert_eq!(included.block.number, 2);
        assert_eq!(included.logs.len(), 1);
    }
    sender.stop().await;
}

#[tokio::test]
async fn a_call_that_would_revert_is_not_sent() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start_mining().await;
    let call = Call::new("nothing", emitter, Bytes::new());
    let error = sender.transactions.submit(call.clone()).await.expect_err("it reverts");
    assert!(matches!(error, SubmitError::WouldRevert { .. }), "{error}");
    let error = sender
        .transactions
        .submit(call.clone().with_gas_limit(100_000))
        .await
        .expect_err("it reverts");
    assert!(matches!(error, SubmitError::WouldRevert { .. }), "{error}");
    assert_eq!(node.provider.get_transaction_count(ACCOUNT).await.expect("count"), 0);

    let untried = call.with_gas_limit(100_000).without_simulation();
    let error = sender
        .transactions
        .submit(untried)
        .await
        .expect_err("it reverts on chain");
    assert!(matches!(error, SubmitError::Reverted { .. }), "{error}");
    sender.stop().await;
}

#[tokio::test]
async fn a_stuck_transaction_is_raised_until_it_is_included() {
    let Fixture {
        node,
        emitter,
        store,
        sender,
    } = Fixture::start().await;
    let call = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    make_dear(&node).await;
    node.mine(1).await;
    mine_until(&node, "the call is included", async || call.is_finished()).await;
    let included = finished(call).await.expect("included");
    assert!(included.block.number > 3);
    assert!(attempts(&store) > 1);
    assert_eq!(
        node.provider.get_transaction_count(ACCOUNT).await.expect("count"),
        1,
        "the same nonce"
    );
    sender.stop().await;
}

#[tokio::test]
async fn what_is_of_no_use_any_more_is_replaced_by_nothing() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    let call = sender.submit(emit(emitter, 1).valid_until(3));
    pooled(&node, 1).await;
    make_dear(&node).await;
    // Up to its last block at once: a quick actor would raise its offer in between.
    node.mine(2).await;
    mine_until(&node, "the call is cancelled", async || {
        // Again and again: empty blocks make a base fee fall, so that a slow actor would find its call in one of them.
        make_dear(&node).await;
        call.is_finished()
    })
    .await;
    let error = finished(call).await.expect_err("given up");
    assert!(matches!(error, SubmitError::Cancelled { .. }), "{error}");
    let logs = node
        .provider
        .get_logs(&alloy::rpc::types::Filter::new().address(emitter).from_block(0))
        .await;
    assert!(logs.expect("logs").is_empty());
    sender.stop().await;
}

#[tokio::test]
async fn a_restart_sends_what_was_stored_even_if_the_node_forgot_it() {
    let Fixture {
        node,
        emitter,
        store,
        sender,
    } = Fixture::start().await;
    let lost = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    sender.kill();
    assert!(matches!(finished(lost).await, Err(SubmitError::Stopped { .. })));
    node.request("anvil_dropAllTransactions", serde_json::json!([])).await;
    pooled(&node, 0).await;

    let sender = Sender::start(&node, &store);
    let joined = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    node.mine(1).await;
    finished(joined).await.expect("the stored one is included");
    assert_eq!(attempts(&store), 1, "sent again, not signed again");
    assert_eq!(node.provider.get_transaction_count(ACCOUNT).await.expect("count"), 1);
    sender.stop().await;
}

#[tokio::test]
async fn a_reorganisation_that_drops_a_transaction_has_it_sent_again() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    let call = sender.submit(emit(emitter, 1));
    pooled(&node, 1).await;
    node.mine(1).await;
    finished(call).await.expect("included");
    node.reorganise(1).await;
    assert_eq!(
        node.provider
            .get_transaction_count(ACCOUNT)
            .latest()
            .await
            .expect("count"),
        0
    );
    pooled(&node, 1).await;
    node.mine(1).await;
    assert_eq!(
        node.provider
            .get_transaction_count(ACCOUNT)
            .latest()
            .await
            .expect("count"),
        1
    );
    sender.stop().await;
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_sent() {
    let Fixture {
        node,
        emitter,
        store,
        sender,
    } = Fixture::start().await;
    store
        .write_now(|transaction| transaction.pragma_update(None, "max_page_count", 1))
        .expect("limit");
    let large = Call::new("large", emitter, vec![1u8; 50_000]).with_gas_limit(3_000_000);
    let error = sender.transactions.submit(large).await.expect_err("the disk is full");
    assert!(
        matches!(&error, SubmitError::Store { source, .. } if source.is_failed_write()),
        "{error}"
    );
    assert!(store.failure().borrow().is_some());
    let pool = node.request("txpool_status", serde_json::json!([])).await;
    assert_eq!(pool["pending"], "0x0");
    sender.stop().await;
}

#[tokio::test]
async fn a_transaction_nobody_takes_gives_its_nonce_back() {
    let Fixture {
        node, emitter, sender, ..
    } = Fixture::start().await;
    let unaffordable = emit(emitter, 1)
        .with_value(U256::MAX >> 1)
        .with_gas_limit(100_000)
        .without_simulation();
    let error = sender
        .transactions
        .submit(unaffordable)
        .await
        .expect_err("not that rich");
    assert!(matches!(error, SubmitError::Refused { .. }), "{error}");
    let call = sender.submit(emit(emitter, 2));
    pooled(&node, 1).await;
    node.mine(1).await;
    finished(call).await.expect("the nonce was free again");
    sender.stop().await;
}

#[tokio::test]
async fn a_decoder_makes_sentences_of_reverts() {
    let node = Node::start();
    let emitter = node.deploy_emitter().await;
    let endpoints = Endpoints::new(&RpcSettings::new(vec![node.url()])).expect("endpoints");
    let signer = chain::keys::from_raw(&Secret::new(KEY)).expect("key");
    let decoder: chain::reverts::RevertDecoder = Arc::new(|data| Some(format!("{} bytes of reason", data.len())));
    // Code that reverts with what it is called with.
    let echo = serde_json::json!([emitter, "0x365f5f37365ffd"]);
    node.request("anvil_setCode", echo).await;
    let (transactions, _actor) = Transactions::new(
        &endpoints,
        signer,
        store(&node),
        TransactionSettings::default(),
        Some(decoder),
    );
    let error = transactions
        .estimate(&emit(emitter, 1))
        .await
        .expect_err("it reverts")
        .to_string();
    assert!(error.contains("32 bytes of reason"), "{error}");
}
