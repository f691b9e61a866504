use alloy::providers::Provider;
use chain::endpoints::EndpointsError;
use chain::{Endpoints, RpcSettings};
use daemon::Health;
use daemon::health::Gate;

use crate::node::{Node, PATIENCE};
use crate::proxy::Proxy;
use crate::quota::Hosted;

#[tokio::test]
async fn calls_fall_over_and_an_outage_shows_in_the_health() {
    let node = Node::start();
    let (first, second) = (Proxy::in_front_of(node.port).await, Proxy::in_front_of(node.port).await);
    let endpoints = Endpoints::new(&RpcSettings::new(vec![first.url(), second.url()])).expect("endpoints");
    let health = Health::new();
    endpoints.report_health(health.component("rpc", Gate::None));
    assert_eq!(endpoints.verify().await.expect("reachable"), 31337);
    let provider = endpoints.provider();
    let used_first = endpoints.current().to_owned();

    first.cut();
    provider.get_block_number().await.expect("the second answers");
    assert_ne!(endpoints.current(), used_first);
    assert!(endpoints.reachability().borrow().is_reachable());

    second.cut();
    let error = provider
        .get_block_number()
        .await
        .expect_err("nobody answers")
        .to_string();
    assert!(error.contains(&used_first), "each endpoint is named: {error}");
    assert!(!endpoints.reachability().borrow().is_reachable());
    assert_eq!(health.report().status, "degraded");

    first.restore();
    provider.get_block_number().await.expect("the first is back");
    assert_eq!(health.report().status, "ok");
}

#[tokio::test]
async fn an_error_response_is_an_answer() {
    let node = Node::start();
    let settings = RpcSettings::new(vec![node.url(), node.url()]);
    let endpoints = Endpoints::new(&settings).expect("endpoints");
    let error = endpoints
        .provider()
        .raw_request::<_, serde_json::Value>("no_suchMethod".into(), ())
        .await
        .expect_err("no such method");
    assert!(error.as_error_resp().is_some(), "{error}");
    assert!(endpoints.reachability().borrow().is_reachable());
}

#[tokio::test]
async fn what_an_endpoint_says_of_itself_is_asked_of_the_next_and_what_the_chain_says_is_not() {
    let (first, second) = (Hosted::start().await, Hosted::start().await);
    let endpoints = Endpoints::new(&RpcSettings::new(vec![first.url(), second.url()])).expect("endpoints");
    endpoints.verify().await.expect("reachable");
    let provider = endpoints.provider();

    first.fail(3, "execution reverted: rate limit exceeded");
    let before = second.calls();
    let error = provider.get_block_number().await.expect_err("a revert");
    assert!(
        error.as_error_resp().is_some_and(|payload| payload.code == 3),
        "{error}"
    );
    assert_eq!(second.calls(), before, "a revert was asked for twice");
    first.fail(-32000, "nonce too low");
    provider.get_block_number().await.expect_err("refused");
    assert_eq!(second.calls(), before, "what a transaction came to was asked for twice");

    first.fail(-32005, "daily request count exceeded for key 0123456789abcdef");
    provider.get_block_number().await.expect("the second answers");
    assert_eq!(second.calls(), before + 1);
    assert!(endpoints.reachability().borrow().is_reachable());

    second.fail(-32029, "rate limited");
    let error = provider
        .get_block_number()
        .await
        .expect_err("nobody serves")
        .to_string();
    assert!(error.contains("-32005") && error.contains("-32029"), "{error}");
    assert!(!error.contains("0123456789abcdef"), "keys are secrets: {error}");
    assert!(!endpoints.reachability().borrow().is_reachable());
}

#[tokio::test]
async fn an_endpoint_that_refuses_the_key_is_left_whatever_the_body_says() {
    for status in [
        "401 Unauthorized",
        "402 Payment Required",
        "403 Forbidden",
        "429 Too Many Requests",
    ] {
        let (first, second) = (Hosted::start().await, Hosted::start().await);
        let endpoints = Endpoints::new(&RpcSettings::new(vec![first.url(), second.url()])).expect("endpoints");
        endpoints.verify().await.expect("reachable");
        let before = second.calls();
        first.refuse(status);
        let number = endpoints.provider().get_block_number().await;
        assert_eq!(number.expect("the second answers"), 5, "{status}");
        assert_eq!(second.calls(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_never_used() {
    let (ours, theirs) = (Node::start(), Node::start_with(&["--chain-id", "5"]));
    let mut settings = RpcSettings::new(vec![ours.url(), theirs.url()]);
    let error = Endpoints::new(&settings)
        .expect("endpoints")
        .verify()
        .await
        .expect_err("two chains");
    assert!(
        matches!(
            error,
            EndpointsError::WrongChain {
                found: 5,
                expected: 31337,
                ..
            }
        ),
        "{error}"
    );

    settings.urls.reverse();
    settings.chain_id = Some(31337);
    let endpoints = Endpoints::new(&settings).expect("endpoints");
    let chain_id = endpoints
        .provider()
        .get_chain_id()
        .await
        .expect("the right one answers");
    assert_eq!(chain_id, 31337);
}

#[tokio::test]
async fn a_node_that_never_answers_is_not_waited_for() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free port");
    let address = silent.local_addr().expect("address");
    let node = Node::start();
    let mut settings = RpcSettings::new(vec![format!("http://{address}").parse().expect("URL"), node.url()]);
    // Also of the node that answers, which is a process on a busy machine.
    settings.timeout = std::time::Duration::from_secs(3);
    let endpoints = Endpoints::new(&settings).expect("endpoints");
    let number = tokio::time::timeout(PATIENCE, endpoints.provider().get_block_number())
        .await
        .expect("the time limit of a call holds");
    assert_eq!(number.expect("the second answers"), 0);
}
