//! A hosted endpoint, which answers as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

pub(crate) struct Hosted {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    calls: AtomicUsize,
    error: Mutex<Option<Value>>,
    status: Mutex<Option<&'static str>>,
}

impl Hosted {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("address");
        let state = Arc::<State>::default();
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                tokio::spawn(async move { state.serve(visitor).await.ok() });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}", self.address).parse().expect("URL")
    }

    /// Answers every call with this error from now on.
    pub(crate) fn fail(&self, code: i64, message: &str) {
        *self.state.error.lock().expect("no panic") = Some(json!({"code": code, "message": message}));
    }

    /// Answers every call with this HTTP status from now on, whatever its body says.
    pub(crate) fn refuse(&self, status: &'static str) {
        *self.state.status.lock().expect("no panic") = Some(status);
    }

    /// Calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.state.calls.load(Ordering::Relaxed)
    }
}

impl State {
    /// One call; the connection ends with it.
    async fn serve(&self, visitor: TcpStream) -> std::io::Result<()> {
        let mut visitor = BufReader::new(visitor);
        let call = read_call(&mut visitor).await?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let error = self.error.lock().expect("no panic").clone();
        let answer = match (error, call["method"].as_str()) {
            (Some(error), _) => json!({"jsonrpc": "2.0", "id": call["id"], "error": error}),
            (None, Some("eth_chainId")) => json!({"jsonrpc": "2.0", "id": call["id"], "result": "0x7a69"}),
            (None, _) => json!({"jsonrpc": "2.0", "id": call["id"], "result": "0x5"}),
        }
        .to_string();
        let status = self.status.lock().expect("no panic").unwrap_or("200 OK");
        write_answer(visitor, status, &answer).await
    }
}

/// The body of one HTTP request.
pub(crate) async fn read_call(visitor: &mut BufReader<TcpStream>) -> std::io::Result<Value> {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        visitor.read_line(&mut line).await?;
        let header = line.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    visitor.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body)?)
}

/// Answers, and ends the connection.
pub(crate) async fn write_answer(mut visitor: BufReader<TcpStream>, status: &str, answer: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    visitor.write_all((head + answer).as_bytes()).await?;
    visitor.shutdown().await
}
