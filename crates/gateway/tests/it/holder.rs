//! Whose key a client says it has, from the client to the admission and the handler.

use std::sync::{Arc, Mutex};

use alloy_primitives::Address;
use async_trait::async_trait;
use axum::{Extension, Router};
use gateway::wire::{ErrorBody, LogEnd, LogItem, LogQuery, path};
use gateway::{Admission, Peer};
use http::request::Parts;

use crate::support::{Counting, LEASE, Running, exchange, identity, server};

/// Lets everybody in, and remembers who said to be whom.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Option<Address>>>>);

#[async_trait]
impl Admission for Noting {
    async fn admit(&self, peer: Peer, _request: &mut Parts) -> Result<(), ErrorBody> {
        self.0.lock().expect("lock").push(peer.claimed_holder);
        Ok(())
    }
}

#[tokio::test]
async fn what_a_client_says_reaches_admission_and_handler_with_every_request() {
    let noting = Noting::default();
    let router = Router::new()
        .route(
            path::MANIFEST,
            axum::routing::get(|Extension(peer): Extension<Peer>| async move { format!("{:?}", peer.claimed_holder) }),
        )
        .route(
            path::LOGS,
            axum::routing::get(|| async {
                let end = LogItem::End {
                    reason: LogEnd::Complete,
                };
                serde_json::to_string(&end).expect("JSON") + "\n"
            }),
        );
    let me = identity();
    let running = Running::start(&me, server(&me, router).with_admission(Arc::new(noting.clone()))).await;
    let spender = Address::repeat_byte(0xab);
    let (silent, client) = (running.client(&me), running.client(&me).with_holder(spender));
    for (client, expected) in [(&silent, None), (&client, Some(spender))] {
        let answer = client.manifest(LEASE).await.expect("answered");
        assert_eq!(String::from_utf8_lossy(&answer), format!("{expected:?}"));
    }
    let mut logs = client.logs(LEASE, LogQuery::default());
    let end = logs.next().await.expect("a stream");
    assert!(matches!(end, Some(LogItem::End { .. })), "{end:?}");
    assert_eq!(*noting.0.lock().expect("lock"), [None, Some(spender), Some(spender)]);
}

#[tokio::test]
async fn a_header_that_names_no_address_is_a_bad_request_that_nobody_is_asked_about() {
    let (noting, counting, me) = (Noting::default(), Counting::default(), identity());
    let running = Running::start(
        &me,
        server(&me, counting.router()).with_admission(Arc::new(noting.clone())),
    )
    .await;
    let address = format!("{:#x}", Address::repeat_byte(0xab));
    let twice = format!("{address}\r\nspheron-holder: {address}");
    for value in [
        "",
        "me",
        &address[2..],
        &address[..40],
        &twice,
        &format!("{address};x"),
        "\u{fe}\u{ff}",
    ] {
        let request = format!("GET /peer HTTP/1.1\r\nHost: localhost\r\nspheron-holder: {value}\r\n\r\n");
        let answer = exchange(&mut running.raw(&me).await, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{value:?}: {answer}");
        assert!(
            answer.contains("bad_request") && answer.contains("0x and 40 hex digits"),
            "{value:?}: {answer}"
        );
    }
    assert!(noting.0.lock().expect("lock").is_empty());
    assert_eq!(counting.handled(), 0);
    let request = format!("GET /peer HTTP/1.1\r\nHost: localhost\r\nSpheron-Holder:   {address}\r\n\r\n");
    let answer = exchange(&mut running.raw(&me).await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
