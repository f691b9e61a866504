//! Clients that send too much, too slowly, or take too little.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures::stream;
use gateway::wire::{ErrorBody, ErrorCode};
use gateway::{Admission, ClientError, Limits, Peer, Server, ServerMetrics};
use http::request::Parts;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::support::{Counting, LEASE, PATIENCE, Running, exchange, identity, read_to_end, server};

/// Of the limit that a test is about, and of no other: a busy machine may take as long for anything.
const SOON: Duration = Duration::from_millis(200);

async fn running(counting: &Counting, configure: impl FnOnce(Server) -> Server) -> Running {
    let identity = identity();
    Running::start(&identity, configure(server(&identity, counting.router()))).await
}

fn put(headers: &str, body: &str) -> String {
    format!("PUT /v1/leases/1/manifest HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
}

#[tokio::test]
async fn an_announced_oversize_is_refused_with_the_limit() {
    let counting = Counting::default();
    let running = running(&counting, |server| {
        server.with_limits(Limits {
            body_bytes: 1000,
            ..Limits::default()
        })
    })
    .await;
    let error = running
        .client(&identity())
        .put_manifest(LEASE, "x".repeat(500_000))
        .await
        .expect_err("too large");
    let ClientError::Refused { status, body, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((status.as_u16(), body.error), (413, ErrorCode::BodyTooLarge));
    assert!(body.message.contains("1000"), "{}", body.message);
    assert_eq!(counting.handled(), 0);
}

#[tokio::test]
async fn an_oversize_that_is_not_announced_is_refused_too() {
    let counting = Counting::default();
    let running = running(&counting, |server| {
        server.with_limits(Limits {
            body_bytes: 1000,
            ..Limits::default()
        })
    })
    .await;
    let chunk = format!("258\r\n{}\r\n", "x".repeat(0x258));
    let body = format!("{chunk}{chunk}0\r\n\r\n");
    let answer = exchange(
        &mut running.raw(&identity()).await,
        &put("Transfer-Encoding: chunked\r\n", &body),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"),
        "{answer}"
    );
    assert_eq!(counting.handled(), 0);
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut() {
    let counting = Counting::default();
    let limits = Limits {
        body_timeout: SOON,
        ..Limits::default()
    };
    let running = running(&counting, |server| server.with_limits(limits)).await;
    let answer = exchange(
        &mut running.raw(&identity()).await,
        &put("Content-Length: 500\r\n", "{"),
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("body_too_slow"),
        "{answer}"
    );
    assert_eq!(counting.handled(), 0);
}

#[tokio::test]
async fn a_header_that_never_ends_is_cut() {
    let metrics = ServerMetrics::default();
    let limits = Limits {
        header_timeout: SOON,
        ..Limits::default()
    };
    let running = running(&Counting::default(), |server| {
        server.with_limits(limits).with_metrics(metrics.clone())
    })
    .await;
    let mut stream = running.raw(&identity()).await;
    // A slow test may find itself cut already.
    let _ = stream.write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    let answer = read_to_end(&mut stream).await;
    assert!(!answer.contains("200"), "{answer}");
    assert_eq!((metrics.requests.get(), metrics.connections_cut.get()), (0, 1));
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut() {
    let limits = Limits {
        handshake_timeout: SOON,
        ..Limits::default()
    };
    let running = running(&Counting::default(), |server| server.with_limits(limits)).await;
    let mut stream = tokio::net::TcpStream::connect(running.address).await.expect("connect");
    // A slow test may find itself cut already.
    let _ = stream.write_all(&[0x16, 3, 1]).await;
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn a_huge_header_is_refused() {
    let counting = Counting::default();
    let running = running(&counting, |server| server).await;
    let request = format!(
        "GET /peer HTTP/1.1\r\nHost: x\r\nX-Huge: {}\r\n\r\n",
        "x".repeat(20_000)
    );
    let answer = exchange(&mut running.raw(&identity()).await, &request).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    assert_eq!(counting.handled(), 0);
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_an_endless_answer_is_cut() {
    let metrics = ServerMetrics::default();
    let identity_of_server = identity();
    let router = Router::new().route(
        "/endless",
        get(|| async {
            Body::from_stream(stream::repeat_with(|| {
                Ok::<_, std::convert::Infallible>(vec![b'x'; 65536])
            }))
        }),
    );
    let server = server(&identity_of_server, router)
        .with_limits(Limits {
            write_stall: SOON,
            ..Limits::default()
        })
        .with_metrics(metrics.clone());
    let running = Running::start(&identity_of_server, server).await;
    let mut stream = running.raw(&identity()).await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .expect("send");
    let cut = async {
        while metrics.connections_cut.get() == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, cut)
        .await
        .expect("the server gives up on a client that does not read");
    drop(stream);
}

#[tokio::test]
async fn bodies_share_their_memory_and_what_does_not_fit_is_told_to_come_back() {
    let counting = Counting::default();
    let limits = Limits {
        body_memory: 64 * 1024,
        ..Limits::default()
    };
    let running = running(&counting, |server| server.with_limits(limits)).await;
    let mut holder = running.raw(&identity()).await;
    let half = put("Content-Length: 80000\r\n", &"x".repeat(50_000));
    holder.write_all(half.as_bytes()).await.expect("send");
    holder.flush().await.expect("flush");
    let client = running.client(&identity());
    let refused = async {
        loop {
            // Until the first body has arrived, there is still room.
            if let Err(error) = client.put_manifest(LEASE, "x".repeat(40_000)).await {
                return error;
            }
        }
    };
    let error = timeout(PATIENCE, refused).await.expect("memory for bodies runs out");
    let ClientError::Refused { status, ref body, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((status.as_u16(), body.error), (503, ErrorCode::Overloaded));
    assert!(error.is_transient());
    drop(holder);
    let freed = async { while client.put_manifest(LEASE, "x".repeat(40_000)).await.is_err() {} };
    timeout(PATIENCE, freed)
        .await
        .expect("memory comes back when the holder is gone");
}

#[tokio::test]
async fn connections_are_limited_per_address() {
    let metrics = ServerMetrics::default();
    let limits = Limits {
        connections_per_address: 2,
        ..Limits::default()
    };
    let running = running(&Counting::default(), |server| {
        server.with_limits(limits).with_metrics(metrics.clone())
    })
    .await;
    let me = identity();
    let (first, _second) = (running.raw(&me).await, running.raw(&me).await);
    let error = running.client(&me).provider().await.expect_err("the third");
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(metrics.refused_full.get(), 1);
    drop(first);
    let freed = async {
        while running
            .client(&me)
            .provider()
            .await
            .is_err_and(|error| error.is_transient())
        {}
    };
    timeout(PATIENCE, freed).await.expect("the place comes back");
}

/// Lets only one fingerprint in.
struct Only(gateway::Fingerprint);

#[async_trait]
impl Admission for Only {
    async fn admit(&self, peer: Peer, _request: &mut Parts) -> Result<(), ErrorBody> {
        if peer.fingerprint == self.0 {
            return Ok(());
        }
        Err(ErrorBody::new(ErrorCode::NotYours, "this is not your lease"))
    }
}

#[tokio::test]
async fn who_is_not_admitted_reads_why_whatever_it_sends_and_reaches_no_handler() {
    let counting = Counting::default();
    let owner = identity();
    let running = running(&counting, |server| {
        server.with_admission(Arc::new(Only(owner.fingerprint())))
    })
    .await;
    let large = bytes::Bytes::from(vec![b'x'; 500_000]);
    for _ in 0..8 {
        let error = running
            .client(&identity())
            .put_manifest(LEASE, large.clone())
            .await
            .expect_err("a stranger");
        let ClientError::Refused { status, body, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!((status.as_u16(), body.error), (403, ErrorCode::NotYours));
    }
    assert_eq!(counting.handled(), 0);
    running
        .client(&owner)
        .put_manifest(LEASE, large.clone())
        .await
        .expect("the owner");
    assert_eq!(counting.handled(), 1);
}
