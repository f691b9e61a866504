//! The whole aggregator over real HTTP and a real store; only the chain is played by the test.

use std::net::SocketAddr;
use std::path::Path;

use alloy::rpc::types::Log;
use alloy::sol_types::SolEvent;
use alloy_primitives::{B256, U256};
use avs::submission::{SignaturePoint, SignatureSubmission, SubmissionRefusal};
use bindings::{IOrderBook, OrderTerms};
use chain::{AppliedBlock, Event};
use daemon::health::Gate;
use daemon::{Health, Metrics};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;
use crate::api::Api;
use crate::collect::StragglerSettings;
use crate::collect::fixture::{self, DOMAIN, Operator};
use crate::follow::Followed;
use crate::sources::{SourceLimits, Sources};

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(60);
const CLOSE_BLOCK: u64 = 10;
const WINDOW: u64 = 20;
const ORDER_BOOK: Address = Address::repeat_byte(0x0b);

/// A chain with three operators of equal stake in two quorums of 66 %.
#[derive(Debug)]
struct PlayedChain {
    operators: Vec<Operator>,
    responses: mpsc::UnboundedSender<Response>,
}

impl ChainAccess for PlayedChain {
    async fn read_state(&self, block: BlockReference) -> StateRead {
        let stakes = vec![Some(1); self.operators.len()];
        let state = fixture::state(block, &self.operators, &[(66, stakes.clone()), (66, stakes)]);
        StateRead::Quorums(Box::new(state))
    }

    async fn read_block(&self, number: u64) -> Option<B256> {
        Some(fixture::block(number, 0).hash)
    }

    async fn abandon(&self, _task: TaskId) {}

    async fn respond(&self, response: &Response) -> ResponseOutcome {
        self.responses.send(response.clone()).expect("the test listens");
        ResponseOutcome::Included
    }
}

#[derive(Debug, Clone, Copy)]
struct Options {
    straggler_wait: Duration,
    receive_kibibytes: usize,
    body_deadline: Duration,
    sources: SourceLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            straggler_wait: Duration::from_millis(20),
            receive_kibibytes: 8 << 10,
            body_deadline: PATIENCE,
            sources: SourceLimits {
                requests: 16,
                requests_per_operator: 8,
                kibibytes: 4 << 10,
            },
        }
    }
}

/// A running aggregator.
struct Rig {
    url: String,
    address: SocketAddr,
    client: reqwest::Client,
    operators: Vec<Operator>,
    store: Store,
    news: mpsc::Sender<ChainNews>,
    responses: mpsc::UnboundedReceiver<Response>,
    shutdown: Shutdown,
}

impl Rig {
    async fn start(directory: &Path, options: Options) -> Self {
        daemon::tls::install_provider();
        let store = store::open(directory).expect("store");
        let settings = CollectorSettings {
            stragglers: StragglerSettings {
                longest_wait: options.straggler_wait,
                delay_gas_per_millisecond: 0,
            },
            response_window: WINDOW,
            block_patience: PATIENCE,
            checks_at_once: 2,
        };
        let clock = Instant::now();
        let (_, collector) = collector_from(&store, settings, clock).await.expect("store");
        let (shutdown, health) = (Shutdown::new(), Health::new());
        let (news_sender, news) = mpsc::channel(1);
        let counts = AggregatorMetrics::default();
        let surroundings = Surroundings {
            own_address: Address::repeat_byte(0xaa),
            store: store.clone(),
            counts: counts.clone(),
            ready: health.component("collector", Gate::Ready),
            responses: health.component("responses", Gate::None),
            shutdown: shutdown.clone(),
            news,
            signals: Signals::default(),
        };
        let (responses_sender, responses) = mpsc::unbounded_channel();
        let operators = Operator::many(3);
        let access = PlayedChain {
            operators: operators.clone(),
            responses: responses_sender,
        };
        let service = Service::new(access, collector, clock, surroundings);
        let (inquiries, inbox) = mpsc::channel(64);
        let stop = shutdown.token();
        shutdown.spawn("collector", service.run(inbox, stop));
        let api = Api {
            domain: DOMAIN,
            inquiries,
            receiving: Arc::new(Semaphore::new(options.receive_kibibytes)),
            sources: Sources::new(options.sources),
            metrics: counts,
            body_deadline: options.body_deadline,
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (listener, address) = daemon::http::bind(any, "the test").await.expect("bind");
        let router = api
            .router()
            .merge(daemon::http::operations_router(health, Metrics::new()));
        shutdown.spawn_critical("http", daemon::http::serve(listener, router, shutdown.token()));
        Self {
            url: format!("http://{address}"),
            address,
            client: reqwest::Client::builder().no_proxy().build().expect("client"),
            operators,
            store,
            news: news_sender,
            responses,
            shutdown,
        }
    }

    async fn stop(self) {
        // Kept connections would be waited for.
        drop(self.client);
        self.shutdown.request();
        self.shutdown.wait(PATIENCE).await.expect("stops");
    }

    /// Mines blocks up to `last`, the orders closing in [`CLOSE_BLOCK`], as the follower would tell of them.
    async fn mine(&self, blocks: std::ops::RangeInclusive<u64>) {
        let last = *blocks.end();
        self.tell(blocks.map(applied).collect(), last).await;
    }

    async fn tell(&self, events: Vec<Event>, head: u64) {
        let head = fixture::block(head, 0);
        let followed = Followed {
            order_book: ORDER_BOOK,
            task_manager: DOMAIN.task_manager,
            response_window: WINDOW,
        };
        let changes = self
            .store
            .write(move |transaction| follow::take_over(transaction, events, followed))
            .await
            .expect("stored");
        let news = ChainNews {
            changes,
            head,
            caught_up: true,
        };
        self.news.send(news).await.expect("the collector runs");
    }

    fn submission(&self, operator: usize) -> SignatureSubmission {
        let operator = &self.operators[operator];
        let block = fixture::block(CLOSE_BLOCK, 0);
        fixture::submission(operator, &operator.secret, block, 0, fixture::matches(1, 1))
    }

    async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let url = format!("{}/v1/signatures", self.url);
        let answer = self.client.post(url).body(body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        if status == 503 || status == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
        }
        (status, answer.json().await.expect("JSON"))
    }

    async fn send(&self, submission: &SignatureSubmission) -> (u16, Value) {
        self.post(serde_json::to_vec(submission).expect("JSON")).await
    }

    async fn tasks(&self) -> Value {
        let url = format!("{}/v1/tasks?close_block={CLOSE_BLOCK}", self.url);
        let answer = self.client.get(url).send().await.expect("an answer");
        answer.json::<Value>().await.expect("JSON")["tasks"].clone()
    }

    async fn response(&mut self) -> Response {
        tokio::time::timeout(PATIENCE, self.responses.recv())
            .await
            .expect("a response in time")
            .expect("the collector runs")
    }
}

fn applied(number: u64) -> Event {
    let logs = match number {
        1 => vec![log(&order_created(1)), log(&bid_placed(1))],
        _ => Vec::new(),
    };
    let block = fixture::block(number, 0);
    Event::Applied(AppliedBlock {
        number,
        hash: block.hash,
        parent: B256::ZERO,
        timestamp: 0,
        logs,
    })
}

fn log(event: &impl SolEvent) -> Log {
    Log {
        inner: alloy_primitives::Log {
            address: ORDER_BOOK,
            data: event.encode_log_data(),
        },
        ..Log::default()
    }
}

fn order_created(id: u64) -> IOrderBook::OrderCreated {
    IOrderBook::OrderCreated {
        orderId: id,
        closeBlock: CLOSE_BLOCK as u32,
        feeSchedule: 1,
        terms: OrderTerms {
            resources: U256::ZERO,
            requirements: U256::ZERO,
            regions: U256::ZERO,
            manifestHash: B256::ZERO,
            maximumRate: Default::default(),
            duration: 1,
            wantedSuppliers: Vec::new(),
            excludedSuppliers: Vec::new(),
        },
    }
}

fn bid_placed(id: u64) -> IOrderBook::BidPlaced {
    IOrderBook::BidPlaced {
        orderId: id,
        provider: 1,
        offer: U256::ZERO,
        scoreCard: U256::ZERO,
        capacity: U256::ZERO,
    }
}

#[tokio::test]
async fn signatures_become_a_response_and_everybody_can_see_how() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut rig = Rig::start(directory.path(), Options::default()).await;
    rig.mine(1..=CLOSE_BLOCK).await;
    assert_eq!(
        rig.send(&rig.submission(0)).await,
        (200, json!({ "status": "accepted" }))
    );
    assert_eq!(
        rig.send(&rig.submission(0)).await,
        (200, json!({ "status": "duplicate" }))
    );
    let tasks = rig.tasks().await;
    assert_eq!(tasks[0]["quorum_reached"], false);
    assert_eq!(
        tasks[0]["tally"][1],
        json!({ "quorum": 1, "signed": "1", "total": "3", "threshold": 66 })
    );
    assert_eq!(rig.send(&rig.submission(1)).await.0, 200);
    let response = rig.response().await;
    assert!(response.aggregate.verify(response.digest));
    assert_eq!(response.non_signers, [rig.operators[2].id]);
    let tasks = rig.tasks().await;
    assert_eq!(tasks[0]["quorum_reached"], true);
    assert_eq!(tasks[0]["signatures"], 2);
    assert_eq!(tasks[0]["operators"][0].as_str().map(str::len), Some(42));
    rig.stop().await;
}

#[tokio::test]
async fn bad_input_is_refused_with_its_reason_and_leaves_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let rig = Rig::start(directory.path(), Options::default()).await;
    rig.mine(1..=CLOSE_BLOCK).await;
    let good = rig.submission(0);
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut body = serde_json::to_value(&good).expect("JSON");
        change(&mut body);
        serde_json::to_vec(&body).expect("JSON")
    };
    let signed = |number: u64, fork: u8, chunk: u16, matches: Vec<U256>| {
        let block = fixture::block(number, fork);
        let operator = &rig.operators[0];
        serde_json::to_vec(&fixture::submission(operator, &operator.secret, block, chunk, matches)).expect("JSON")
    };
    let point = |x: U256, y: U256| {
        let signature = SignaturePoint { x, y };
        serde_json::to_vec(&SignatureSubmission {
            signature,
            ..good.clone()
        })
        .expect("JSON")
    };
    let stranger = Operator::new(77);
    let by_stranger = fixture::submission(
        &stranger,
        &stranger.secret,
        fixture::block(CLOSE_BLOCK, 0),
        0,
        fixture::matches(1, 1),
    );
    let forged = fixture::submission(
        &rig.operators[0],
        &stranger.secret,
        fixture::block(CLOSE_BLOCK, 0),
        0,
        fixture::matches(1, 1),
    );
    let modulus = U256::from_str_radix(
        "21888242871839275222246405745257275088696311157297823662689037894645226208583",
        10,
    )
    .expect("a number");
    let long = || {
        let mut words = Vec::new();
        for order_id in 1..=300u64 {
            words.push(U256::from(order_id) << 8);
        }
        words
    };
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("nothing", Vec::new(), 400, "malformed"),
        ("no JSON", b"{\"operator_id\":".to_vec(), 400, "malformed"),
        ("another shape", b"[1,2,3]".to_vec(), 400, "malformed"),
        ("no UTF-8", vec![0xff; 100], 400, "malformed"),
        ("deep nesting", vec![b'['; 100_000], 400, "malformed"),
        (
            "an unknown key",
            changed(&|body| body["extra"] = json!(1)),
            400,
            "malformed",
        ),
        (
            "a short digest",
            changed(&|body| body["digest"] = json!("0x12")),
            400,
            "malformed",
        ),
        (
            "a short word",
            changed(&|body| body["matches"][0] = json!("0x100")),
            400,
            "malformed",
        ),
        (
            "a close block beyond 32 bits",
            changed(&|body| body["close_block"] = json!(1u64 << 32)),
            400,
            "malformed",
        ),
        (
            "a chunk that cannot be",
            signed(CLOSE_BLOCK, 0, 64, fixture::matches(1, 1)),
            400,
            "malformed",
        ),
        ("no matches", signed(CLOSE_BLOCK, 0, 0, Vec::new()), 400, "malformed"),
        (
            "matches that break off",
            signed(CLOSE_BLOCK, 0, 0, fixture::matches(1, 1)[..2].to_vec()),
            400,
            "malformed",
        ),
        ("too many orders", signed(CLOSE_BLOCK, 0, 0, long()), 400, "malformed"),
        (
            "another digest",
            changed(&|body| body["digest"] = json!(B256::repeat_byte(1))),
            400,
            "wrong_digest",
        ),
        (
            "another version",
            changed(&|body| body["params_version"] = json!(2)),
            400,
            "wrong_digest",
        ),
        ("infinity", point(U256::ZERO, U256::ZERO), 400, "invalid_signature"),
        (
            "a point off the curve",
            point(U256::from(1), U256::from(3)),
            400,
            "invalid_signature",
        ),
        (
            "a coordinate above the modulus",
            point(modulus + U256::from(1), U256::from(2)),
            400,
            "invalid_signature",
        ),
        (
            "the wrong key",
            serde_json::to_vec(&forged).expect("JSON"),
            400,
            "invalid_signature",
        ),
        (
            "a stranger",
            serde_json::to_vec(&by_stranger).expect("JSON"),
            403,
            "unknown_operator",
        ),
        (
            "a future block",
            signed(CLOSE_BLOCK + 50, 0, 0, fixture::matches(1, 1)),
            404,
            "unknown_block",
        ),
        (
            "another fork",
            signed(CLOSE_BLOCK, 1, 0, fixture::matches(1, 1)),
            404,
            "unknown_block",
        ),
        (
            "a chunk that is not there",
            signed(CLOSE_BLOCK, 0, 1, fixture::matches(1, 1)),
            404,
            "unknown_block",
        ),
        (
            "a block that closes nothing",
            signed(CLOSE_BLOCK - 1, 0, 0, fixture::matches(1, 1)),
            404,
            "unknown_block",
        ),
        ("too long", vec![b' '; (1 << 20) + 1], 413, "too_large"),
    ];
    for (name, body, status, code) in cases {
        let (found, answer) = rig.post(body).await;
        assert_eq!(
            (found, answer["error"].as_str()),
            (status, Some(code)),
            "{name}: {answer}"
        );
        let refusal: SubmissionRefusal = serde_json::from_value(answer).expect("the refusal's shape");
        assert!(!refusal.message.is_empty(), "{name}");
    }
    assert_eq!(rig.tasks().await, json!([]), "something is kept");
    let count = |store: &Store| {
        store.read_now(|connection| {
            connection.query_row("SELECT count(*) FROM candidates", [], |row| row.get::<_, i64>(0))
        })
    };
    assert_eq!(count(&rig.store).expect("count"), 0);
    // After all that the good one is taken.
    assert_eq!(rig.send(&good).await.0, 200);
    assert_eq!(count(&rig.store).expect("count"), 1);
    rig.mine(CLOSE_BLOCK + 1..=CLOSE_BLOCK + WINDOW).await;
    let (status, answer) = rig.send(&rig.submission(1)).await;
    assert_eq!((status, answer["error"].as_str()), (410, Some("window_over")));
    assert_eq!(count(&rig.store).expect("count"), 0, "what is over is forgotten");
    rig.stop().await;
}

#[tokio::test]
async fn a_sender_that_disconnects_changes_nothing() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        straggler_wait: PATIENCE,
        ..Options::default()
    };
    let mut rig = Rig::start(directory.path(), options).await;
    // The close block is not there yet: the submission waits inside when its sender goes.
    rig.mine(1..=CLOSE_BLOCK - 1).await;
    let body = serde_json::to_vec(&rig.submission(0)).expect("JSON");
    let head = format!(
        "POST /v1/signatures HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
        rig.address,
        body.len()
    );
    let mut connection = TcpStream::connect(rig.address).await.expect("connect");
    connection.write_all(head.as_bytes()).await.expect("head");
    connection.write_all(&body).await.expect("body");
    let deadline = Instant::now() + PATIENCE;
    while !received(&rig).await {
        assert!(Instant::now() < deadline, "the submission was not received in time");
        tokio::task::yield_now().await;
    }
    drop(connection);
    rig.mine(CLOSE_BLOCK..=CLOSE_BLOCK).await;
    assert_eq!(rig.send(&rig.submission(1)).await.0, 200);
    assert_eq!(rig.send(&rig.submission(2)).await.0, 200);
    assert!(
        rig.response().await.non_signers.is_empty(),
        "the first operator does not count"
    );
    rig.stop().await;
}

/// Whether a submission waits inside.
async fn received(rig: &Rig) -> bool {
    waiting_inside(rig).await == 1
}

async fn waiting_inside(rig: &Rig) -> u64 {
    let url = format!("{}/v1/tasks", rig.url);
    let answer = rig.client.get(url).send().await.expect("an answer");
    answer.json::<Value>().await.expect("JSON")["waiting"]
        .as_u64()
        .expect("a count")
}

#[tokio::test]
async fn slow_and_large_senders_are_bounded() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        receive_kibibytes: 4,
        body_deadline: Duration::from_secs(1),
        ..Options::default()
    };
    let rig = Rig::start(directory.path(), options).await;
    rig.mine(1..=CLOSE_BLOCK).await;
    let (status, answer) = rig.post(vec![b' '; 64 << 10]).await;
    assert_eq!((status, answer["error"].as_str()), (503, Some("busy")));
    let slow = endless_body();
    let (status, answer) = rig.post(slow).await;
    assert_eq!((status, answer["error"].as_str()), (400, Some("malformed")));
    assert!(
        answer["message"].as_str().is_some_and(|message| message.contains("1s")),
        "{answer}"
    );
    // The budget is free again.
    assert_eq!(rig.send(&rig.submission(0)).await.0, 200);
    rig.stop().await;
}

/// A body that begins and never ends.
fn endless_body() -> reqwest::Body {
    use futures::StreamExt;
    let beginning = futures::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"{"))]);
    reqwest::Body::wrap_stream(beginning.chain(futures::stream::pending()))
}

#[tokio::test]
async fn what_was_collected_before_a_restart_is_responded_after_it() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let patient = Options {
        straggler_wait: PATIENCE,
        ..Options::default()
    };
    let rig = Rig::start(directory.path(), patient).await;
    rig.mine(1..=CLOSE_BLOCK).await;
    assert_eq!(rig.send(&rig.submission(0)).await.0, 200);
    assert_eq!(rig.send(&rig.submission(1)).await.0, 200);
    rig.stop().await;

    let mut rig = Rig::start(directory.path(), Options::default()).await;
    let response = rig.response().await;
    assert!(response.aggregate.verify(response.digest));
    assert_eq!(response.non_signers, [rig.operators[2].id]);
    assert_eq!(
        rig.send(&rig.submission(0)).await,
        (200, json!({ "status": "duplicate" }))
    );
    rig.stop().await;
}

#[tokio::test]
async fn what_cannot_be_stored_is_not_accepted() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let rig = Rig::start(directory.path(), Options::default()).await;
    rig.mine(1..=CLOSE_BLOCK).await;
    // SQLite reports a database at its page limit exactly as it does a full disk.
    rig.store
        .write_now(|transaction| transaction.pragma_update(None, "max_page_count", 1))
        .expect("limit");
    let operator = &rig.operators[0];
    let mut large = Vec::new();
    for order_id in 1..=250u64 {
        large.extend(fixture::matches(order_id, 1));
    }
    let submission = fixture::submission(operator, &operator.secret, fixture::block(CLOSE_BLOCK, 0), 0, large);
    let (status, answer) = rig.send(&submission).await;
    assert_eq!((status, answer["error"].as_str()), (503, Some("busy")), "{answer}");
    rig.store
        .write_now(|transaction| transaction.pragma_update(None, "max_page_count", 1_000_000))
        .expect("limit");
    assert_eq!(
        rig.send(&submission).await,
        (200, json!({ "status": "accepted" })),
        "it was not counted before"
    );
    rig.stop().await;
}

#[tokio::test]
async fn one_sender_cannot_take_every_place() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let options = Options {
        sources: SourceLimits {
            requests: 2,
            requests_per_operator: 1,
            kibibytes: 4 << 10,
        },
        ..Options::default()
    };
    let rig = Rig::start(directory.path(), options).await;
    share_places(&rig).await;
    rig.stop().await;
}

async fn share_places(rig: &Rig) {
    // The close block is not there yet: what is sent now stays unanswered.
    rig.mine(1..=CLOSE_BLOCK - 1).await;
    let first = rig.submission(0);
    let waiting = rig.send(&first);
    tokio::pin!(waiting);
    let deadline = Instant::now() + PATIENCE;
    loop {
        tokio::select! {
            answer = &mut waiting => panic!("answered before its block: {answer:?}"),
            received = received(rig) => if received { break },
        }
        assert!(Instant::now() < deadline, "the submission was not received in time");
    }
    // A second in the same operator's name, and a second body, are one too many; another address has places of its own.
    let (status, answer) = rig.send(&first).await;
    assert_eq!((status, answer["error"].as_str()), (429, Some("busy")), "{answer}");
    let elsewhere = reqwest::Client::builder()
        .no_proxy()
        .local_address(std::net::IpAddr::from([127, 0, 0, 2]))
        .build()
        .expect("client");
    let slow = rig
        .client
        .post(format!("{}/v1/signatures", rig.url))
        .body(endless_body())
        .send();
    tokio::pin!(slow);
    let other = elsewhere
        .post(format!("{}/v1/signatures", rig.url))
        .body(serde_json::to_vec(&rig.submission(1)).expect("JSON"))
        .send();
    tokio::pin!(other);
    loop {
        tokio::select! {
            answer = &mut other => panic!("answered before its block: {answer:?}"),
            answer = &mut slow => panic!("answered before its body: {answer:?}"),
            waiting = waiting_inside(rig) => if waiting == 2 { break },
        }
        assert!(Instant::now() < deadline, "the other sender was not received in time");
    }
    rig.mine(CLOSE_BLOCK..=CLOSE_BLOCK).await;
    assert_eq!(waiting.await.0, 200);
    assert_eq!(other.await.expect("an answer").status(), 200);
}

/// Everything a process missed while it was away for longer than the follower tells block by block.
#[tokio::test]
async fn a_close_block_skipped_in_an_outage_is_still_answered() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut rig = Rig::start(directory.path(), Options::default()).await;
    rig.mine(1..=1).await;
    // Far behind, only blocks with logs and the last of a range are told.
    rig.tell(vec![applied(CLOSE_BLOCK + 2)], CLOSE_BLOCK + 2).await;
    for operator in 0..3 {
        assert_eq!(rig.send(&rig.submission(operator)).await.0, 200);
    }
    assert_eq!(rig.response().await.task.close_block, CLOSE_BLOCK as u32);
    rig.stop().await;

    // And it is found again after a restart.
    let rig = Rig::start(directory.path(), Options::default()).await;
    assert_eq!(
        rig.send(&rig.submission(0)).await,
        (200, json!({ "status": "duplicate" }))
    );
    rig.stop().await;
}
