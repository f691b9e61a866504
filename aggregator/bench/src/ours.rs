//! Our aggregator as it runs: real sockets, HTTP, JSON, the collector, the store on a disk. Only the chain is played.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aggregator::api::Api;
use aggregator::chain::ChainAccess;
use aggregator::collect::{CollectorSettings, Response, ResponseOutcome, StateRead, StragglerSettings, TaskId};
use aggregator::config::CollectSettings;
use aggregator::follow::{ChainChange, ChainNews};
use aggregator::metrics::AggregatorMetrics;
use aggregator::service::{self, Service, Signals, Surroundings};
use aggregator::store;
use alloy_primitives::{Address, B256};
use avs::bn254::Signature;
use chain::BlockReference;
use daemon::health::Gate;
use daemon::{Health, Shutdown};
use eyre::{OptionExt as _, WrapErr as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::cast::{self, CHUNKS, DOMAIN, Operator, Task};

const RESPONSE_WINDOW: u64 = 250;
const PATIENCE: Duration = Duration::from_secs(60);

/// A chain on which every response is included at once.
#[derive(Debug)]
struct PlayedChain {
    states: StateRead,
    responses: mpsc::UnboundedSender<Response>,
}

impl ChainAccess for PlayedChain {
    async fn read_state(&self, block: BlockReference) -> StateRead {
        let mut read = self.states.clone();
        if let StateRead::Quorums(state) = &mut read {
            state.block = block;
        }
        read
    }

    async fn read_block(&self, number: u64) -> Option<B256> {
        Some(cast::block(number).hash)
    }

    async fn abandon(&self, _task: TaskId) {}

    async fn respond(&self, response: &Response) -> ResponseOutcome {
        // Nobody listens once enough was measured.
        let _ = self.responses.send(response.clone());
        ResponseOutcome::Included
    }
}

/// Signatures per second, from the first request to the last response, and how many operators the responses lack.
pub async fn signatures_per_second(
    operators: Arc<Vec<Operator>>,
    signed: &[Vec<Signature>],
) -> eyre::Result<(f64, usize)> {
    let directory = tempfile::tempdir().wrap_err("a directory for the store")?;
    let store = store::open(directory.path())?;
    let (shutdown, health, clock) = (Shutdown::new(), Health::new(), Instant::now());
    // What the example configuration says.
    let collect = CollectSettings {
        straggler_wait_ms: 50,
        delay_gas_per_ms: 1_000,
        queue_length: 4_096,
        receive_megabytes: 32,
        source_in_flight: 256,
        operator_in_flight: 64,
    };
    let settings = CollectorSettings {
        stragglers: StragglerSettings {
            longest_wait: Duration::from_millis(collect.straggler_wait_ms),
            delay_gas_per_millisecond: collect.delay_gas_per_ms,
        },
        response_window: RESPONSE_WINDOW,
        block_patience: PATIENCE,
        checks_at_once: 2,
    };
    let (_, collector) = service::collector_from(&store, settings, clock).await?;
    let counts = AggregatorMetrics::default();
    let (news_sender, news) = mpsc::channel(1);
    let surroundings = Surroundings {
        own_address: Address::repeat_byte(0xaa),
        store,
        counts: counts.clone(),
        ready: health.component("collector", Gate::Ready),
        responses: health.component("responses", Gate::None),
        shutdown: shutdown.clone(),
        news,
        signals: Signals::default(),
    };
    let (responses_sender, mut responses) = mpsc::unbounded_channel();
    let access = PlayedChain {
        states: StateRead::Quorums(Box::new(cast::state(cast::block(1), &operators)?)),
        responses: responses_sender,
    };
    let (api, inbox) = Api::new(DOMAIN, &collect, counts);
    let service = Service::new(access, collector, clock, surroundings);
    shutdown.spawn("collector", service.run(inbox, shutdown.token()));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (listener, address) = daemon::http::bind(any, "signatures").await?;
    shutdown.spawn_critical("http", daemon::http::serve(listener, api.router(), shutdown.token()));

    let last = Task {
        number: signed.len() - 1,
    }
    .close_block();
    let changes = (1..=last).map(|number| ChainChange::Applied {
        block: cast::block(number),
        closing_orders: u32::from(CHUNKS),
        answers: Vec::new(),
    });
    let news = ChainNews {
        changes: changes.collect(),
        head: cast::block(last),
        caught_up: true,
    };
    news_sender.send(news).await.wrap_err("the collector runs")?;

    // Written before the clock runs: what operators compute is not what is measured.
    let mut requests: Vec<Vec<Vec<u8>>> = operators.iter().map(|_| Vec::new()).collect();
    for (number, signatures) in signed.iter().enumerate() {
        for ((operator, signature), own) in operators.iter().zip(signatures).zip(&mut requests) {
            own.push(request(address, Task { number }, operator, signature)?);
        }
    }
    let mut connections = Vec::new();
    for number in 0..operators.len() {
        connections.push(connect(number, address).await?);
    }

    let started = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for (connection, own) in connections.into_iter().zip(requests) {
        senders.spawn(send_all(connection, own));
    }
    while let Some(sent) = senders.join_next().await {
        sent.wrap_err("a sender ended early")??;
    }
    let mut missing = 0;
    for _ in signed {
        let response = tokio::time::timeout(PATIENCE, responses.recv()).await;
        let response = response.wrap_err("no response")?.ok_or_eyre("the collector ended")?;
        missing += response.non_signers.len();
    }
    let elapsed = started.elapsed().as_secs_f64();
    shutdown.request();
    shutdown.wait(PATIENCE).await.map_err(|error| eyre::eyre!(error))?;
    let count = signed.iter().map(Vec::len).sum::<usize>();
    Ok((count as f64 / elapsed, missing))
}

fn request(address: SocketAddr, task: Task, operator: &Operator, signature: &Signature) -> eyre::Result<Vec<u8>> {
    let body = serde_json::to_vec(&task.submission(operator, signature)?)?;
    let mut request = format!(
        "POST {} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        avs::submission::PATH,
        body.len()
    )
    .into_bytes();
    request.extend(body);
    Ok(request)
}

/// Every operator comes from an address of its own, as operators do.
async fn connect(number: usize, server: SocketAddr) -> eyre::Result<TcpStream> {
    let [high, low] = (number as u16 + 1).to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(IpAddr::from([127, 1, high, low]), 0))?;
    let connection = socket
        .connect(server)
        .await
        .wrap_err("a connection to the aggregator")?;
    connection.set_nodelay(true)?;
    Ok(connection)
}

/// One after the other, each until it is taken.
async fn send_all(mut connection: TcpStream, requests: Vec<Vec<u8>>) -> eyre::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    for request in requests {
        let mut attempts = 0;
        loop {
            connection.write_all(&request).await?;
            match answer(&mut connection, &mut buffer).await? {
                200 => break,
                429 | 503 if attempts < 100 => attempts += 1,
                status => bail!("status {status}: {}", String::from_utf8_lossy(&buffer)),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Reads one answer into `buffer` and returns its status.
async fn answer(connection: &mut TcpStream, buffer: &mut Vec<u8>) -> eyre::Result<u16> {
    buffer.clear();
    loop {
        ensure!(
            connection.read_buf(buffer).await? > 0,
            "the aggregator closed the connection"
        );
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head])?;
        let length = text
            .lines()
            .find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length:")?
                    .trim()
                    .parse::<usize>()
                    .ok()
            })
            .ok_or_eyre("an answer without a length")?;
        if buffer.len() >= head + 4 + length {
            let status = text.split(' ').nth(1).ok_or_eyre("an answer without a status")?;
            return Ok(status.parse()?);
        }
    }
}
