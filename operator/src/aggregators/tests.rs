use std::collections::VecDeque;
use std::sync::Mutex;

use alloy::primitives::{B256, U256};
use avs::submission::{RefusalCode, SignaturePoint};
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::routing::post;
use tokio::sync::mpsc;

use super::*;

/// Longer than any of these tests needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// An aggregator that answers as told, then accepts; it says what it was sent.
struct Scripted {
    url: Url,
    received: mpsc::UnboundedReceiver<SignatureSubmission>,
}

type Script = Arc<Mutex<VecDeque<(u16, String)>>>;

async fn scripted(answers: &[(u16, String)]) -> Scripted {
    async fn answer(
        State((script, received)): State<(Script, mpsc::UnboundedSender<SignatureSubmission>)>,
        body: Bytes,
    ) -> axum::response::Response {
        received
            .send(serde_json::from_slice(&body).expect("a submission"))
            .expect("the test listens");
        let next = script.lock().expect("not poisoned").pop_front();
        let (status, text) = next.unwrap_or_else(|| (200, r#"{"status":"accepted"}"#.to_owned()));
        (StatusCode::from_u16(status).expect("a status"), text).into_response()
    }
    let (sender, received) = mpsc::unbounded_channel();
    let script: Script = Arc::new(Mutex::new(answers.iter().cloned().collect()));
    let router = Router::new()
        .route(submission::PATH, post(answer))
        .with_state((script, sender));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Scripted {
        url: url.parse().expect("a URL"),
        received,
    }
}

fn refusal(error: RefusalCode) -> String {
    let message = "because".to_owned();
    serde_json::to_string(&SubmissionRefusal { error, message }).expect("JSON")
}

fn submission() -> SignatureSubmission {
    SignatureSubmission {
        operator_id: B256::repeat_byte(1),
        close_block: 7,
        close_block_hash: B256::repeat_byte(2),
        chunk: 0,
        params_version: 1,
        digest: B256::repeat_byte(3),
        matches: vec![U256::from(5)],
        signature: SignaturePoint {
            x: U256::from(1),
            y: U256::from(2),
        },
    }
}

impl Scripted {
    async fn next(&mut self) -> SignatureSubmission {
        tokio::time::timeout(DEADLINE, self.received.recv())
            .await
            .expect("a submission arrives in time")
            .expect("the server runs")
    }
}

/// Waits until every delivery has ended, one way or another.
async fn all_ended(shutdown: &Shutdown) {
    shutdown.request();
    shutdown.wait(DEADLINE).await.expect("every delivery ends");
}

fn count(metrics: &OperatorMetrics, url: &Url, outcome: Delivery) -> u64 {
    let aggregator = format!("127.0.0.1:{}", url.port().expect("a port"));
    metrics
        .deliveries
        .get_or_create(&crate::metrics::DeliveryLabels { aggregator, outcome })
        .get()
}

#[tokio::test]
async fn every_aggregator_gets_it_and_a_busy_one_is_asked_again() {
    let busy = (503, refusal(RefusalCode::Busy));
    let behind = (404, refusal(RefusalCode::UnknownBlock));
    let (mut first, mut second) = (scripted(&[]).await, scripted(&[busy, behind]).await);
    let shutdown = Shutdown::new();
    let aggregators =
        Aggregators::new(&[first.url.clone(), second.url.clone()], OperatorMetrics::default()).expect("a client");
    let sending = aggregators
        .send(&shutdown, &submission(), Instant::now())
        .expect("JSON");
    assert_eq!(first.next().await, submission());
    for _ in 0..3 {
        assert_eq!(second.next().await, submission());
    }
    drop(sending);
    all_ended(&shutdown).await;
    assert_eq!(count(&aggregators.metrics, &second.url, Delivery::Failed), 2);
}

#[tokio::test]
async fn a_refusal_for_good_ends_the_delivery() {
    let mut aggregator = scripted(&[(400, refusal(RefusalCode::WrongDigest))]).await;
    let shutdown = Shutdown::new();
    let aggregators =
        Aggregators::new(std::slice::from_ref(&aggregator.url), OperatorMetrics::default()).expect("a client");
    let _sending = aggregators
        .send(&shutdown, &submission(), Instant::now())
        .expect("JSON");
    aggregator.next().await;
    let refused = || count(&aggregators.metrics, &aggregator.url, Delivery::Refused) == 1;
    tokio::time::timeout(DEADLINE, async {
        while !refused() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the refusal is counted");
    assert!(aggregator.received.try_recv().is_err());
    all_ended(&shutdown).await;
}

#[tokio::test]
async fn a_delivery_that_is_of_no_use_any_more_ends_although_nobody_answers() {
    // Bound, so that nobody else gets it, and not listening.
    let silent = tokio::net::TcpSocket::new_v4().expect("a socket");
    silent
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let url: Url = format!("http://{}", silent.local_addr().expect("bound"))
        .parse()
        .expect("a URL");
    let shutdown = Shutdown::new();
    let aggregators = Aggregators::new(std::slice::from_ref(&url), OperatorMetrics::default()).expect("a client");
    let sending = aggregators
        .send(&shutdown, &submission(), Instant::now())
        .expect("JSON");
    sending.stop();
    all_ended(&shutdown).await;
}

#[test]
fn answers_from_in_between_are_passing() {
    for (status, text) in [(502, ""), (404, "<html>"), (200, "{}"), (429, "slow down")] {
        let status = StatusCode::from_u16(status).expect("a status");
        assert!(matches!(judge(status, text.as_bytes()), Err(Failure::Passing(_))));
    }
    let answered = judge(StatusCode::OK, br#"{"status":"answered"}"#);
    assert!(matches!(answered, Ok(SubmissionStatus::Answered)));
}
