//! A thousand clients that hold everything they can cost the server less than 64 MiB, and do not keep others out.
//!
//! The server runs in a process of its own (this test binary again, with a variable set), so that what is measured is the
//! server and not its attackers.

use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use axum::routing::get;
use gateway::{Fingerprint, Limits, PinnedFingerprints, ServerMetrics, tls};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Counting, PATIENCE, Running, connect, exchange, identity, server};

const SERVER_VARIABLE: &str = "GATEWAY_TEST_SLOW_CLIENTS_SERVER";
const SLOW_CLIENTS: usize = 1000;
const MOST_GROWTH_KIB: u64 = 64 * 1024;
const LISTENING: &str = "LISTENING ";

/// Both processes hold a thousand sockets.
fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("read the limit of open files");
    assert!(
        hard > 2 * SLOW_CLIENTS as u64,
        "the hard limit of open files is {hard}; raise it (ulimit -Hn 4096)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raise the limit of open files");
}

/// A server that cuts nobody while the test runs: what a thousand clients hold at once is the question.
#[tokio::main]
async fn serve_until_stdin_ends() {
    let (identity, metrics) = (identity(), ServerMetrics::default());
    let long = Duration::from_secs(600);
    let limits = Limits {
        connections: 2 * SLOW_CLIENTS,
        connections_per_address: 2 * SLOW_CLIENTS,
        handshake_timeout: long,
        header_timeout: long,
        body_timeout: long,
        ..Limits::default()
    };
    let gauge = metrics.connections.clone();
    let router = Counting::default()
        .router()
        .route("/connections", get(move || async move { gauge.get().to_string() }));
    let running = Running::start(
        &identity,
        server(&identity, router).with_limits(limits).with_metrics(metrics),
    )
    .await;
    println!("\n{LISTENING}{} {}", running.address, running.fingerprint);
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .expect("join")
        .expect("stdin");
}

struct ServerProcess {
    child: Child,
    /// Kept open: the server's test harness writes there until it ends.
    _output: Lines<BufReader<ChildStdout>>,
    address: SocketAddr,
    pinned: PinnedFingerprints,
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl ServerProcess {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "slow_clients::a_thousand_slow_clients_cost_less_than_64_mib",
                "--nocapture",
            ])
            .env(SERVER_VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the server");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines
            .by_ref()
            .find_map(|line| line.expect("read").strip_prefix(LISTENING).map(str::to_owned))
            .expect("the server says where it listens");
        let (address, fingerprint) = line.split_once(' ').expect("address and fingerprint");
        let fingerprint: Fingerprint = fingerprint.parse().expect("fingerprint");
        Self {
            child,
            _output: lines,
            address: address.parse().expect("address"),
            pinned: PinnedFingerprints::only(fingerprint),
        }
    }

    fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }

    /// What an honest client gets: how many connections are open.
    async fn open_connections(&self) -> usize {
        let config = tls::client_config(&identity(), self.pinned).expect("configuration");
        let asking = async {
            let mut stream = connect(self.address, config).await.expect("an honest client is let in");
            exchange(&mut stream, "GET /connections HTTP/1.1\r\nHost: x\r\n\r\n").await
        };
        let answer = timeout(PATIENCE, asking).await.expect("an honest client is served");
        answer
            .rsplit("\r\n")
            .next()
            .and_then(|body| body.parse().ok())
            .expect("a number")
    }
}

/// Holds whatever keeps its connection open.
type Held = Box<dyn std::any::Any + Send>;

/// 16 KiB of a ClientHello that announces 60 000 bytes.
async fn half_a_handshake(address: SocketAddr) -> Held {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let mut record = vec![0x16, 3, 1, 0x40, 0, 1, 0, 0xea, 0x60];
    record.resize(5 + 0x4000, 0);
    stream.write_all(&record).await.expect("send");
    Box::new(stream)
}

async fn after_a_handshake(address: SocketAddr, pinned: PinnedFingerprints, bytes: Vec<u8>) -> Held {
    let config = tls::client_config(&identity(), pinned).expect("configuration");
    let mut stream = connect(address, config).await.expect("handshake");
    // A server that has refused already may have stopped reading.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.flush().await;
    Box::new(stream)
}

#[test]
fn a_thousand_slow_clients_cost_less_than_64_mib() {
    raise_file_limit();
    if std::env::var_os(SERVER_VARIABLE).is_some() {
        return serve_until_stdin_ends();
    }
    attack();
}

#[tokio::main]
async fn attack() {
    let server = ServerProcess::start();
    assert_eq!(server.open_connections().await, 1);
    let before = server.resident_kib();
    let half_header = [b"GET /peer HTTP/1.1\r\nHost: x\r\nX-Slow: ".to_vec(), vec![b'x'; 7_000]].concat();
    let half_body = [
        b"PUT /v1/leases/1/manifest HTTP/1.1\r\nHost: x\r\nContent-Length: 520000\r\n\r\n".to_vec(),
        vec![b'x'; 500_000],
    ]
    .concat();
    let (address, pinned) = (server.address, server.pinned);
    let mut clients = JoinSet::new();
    for number in 0..SLOW_CLIENTS {
        match number % 4 {
            0 => clients.spawn(half_a_handshake(address)),
            1 => clients.spawn(after_a_handshake(address, pinned, Vec::new())),
            2 => clients.spawn(after_a_handshake(address, pinned, half_header.clone())),
            _ => clients.spawn(after_a_handshake(address, pinned, half_body.clone())),
        };
    }
    let mut held = Vec::new();
    let mut most = before;
    let connecting = async {
        while let Some(client) = clients.join_next().await {
            held.push(client.expect("a slow client"));
            most = most.max(server.resident_kib());
        }
    };
    timeout(2 * PATIENCE, connecting)
        .await
        .expect("all slow clients are connected");
    let open = server.open_connections().await;
    // Honest requests make the server take what the slow ones have sent.
    for _ in 0..50 {
        server.open_connections().await;
        most = most.max(server.resident_kib());
    }
    let grown = most.saturating_sub(before);
    println!("{open} connections, {before} KiB before, {grown} KiB more at most");
    // Of the quarter with half a body, those beyond the limit of bodies are told to come back; all others hold on.
    assert!(
        open > SLOW_CLIENTS * 3 / 4,
        "only {open} of {SLOW_CLIENTS} slow clients hold a connection"
    );
    assert!(grown < MOST_GROWTH_KIB, "{SLOW_CLIENTS} slow clients took {grown} KiB");
}
