//! A node for one test, on a free port, gone with the test.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address, B256, Bytes, U256, address, hex};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::types::TransactionRequest;
use url::Url;

/// Emits a log whose only topic is the first word of the calldata; reverts without calldata.
const EMITTER: [u8; 19] = hex!("366009576000 6000fd5b600035600060 00a100");
/// Copies what follows it and returns it as the code.
const DEPLOYER: [u8; 9] = hex!("60138060093d393df3");

/// anvil's first account and its key, funded in every fresh chain.
pub(crate) const ACCOUNT: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
pub(crate) const KEY: &str = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
/// anvil's second account, which the tests' own traffic comes from.
pub(crate) const OTHER: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    process: Child,
    /// Gone with the node: where anvil puts the states of old blocks (half a gigabyte in the longest test, left behind by a node
    /// that is killed), and where a test puts what it stores.
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) provider: RootProvider,
}

impl Node {
    /// Starts anvil without mining by itself.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--no-mining"])
    }

    pub(crate) fn start_with(arguments: &[&str]) -> Self {
        daemon::tls::install_provider();
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut process = Command::new(anvil())
            .args(["--host", "127.0.0.1", "--port", "0", "--cache-path"])
            .arg(folder.path().join("states"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("anvil starts");
        let output = process.stdout.take().expect("piped");
        let (sender, receiver) = mpsc::channel();
        // Reads to the end, so that anvil never waits for a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(port) = line
                    .strip_prefix("Listening on 127.0.0.1:")
                    .and_then(|port| port.trim().parse().ok())
                {
                    let _ = sender.send(port);
                }
            }
        });
        let port: u16 = receiver.recv_timeout(PATIENCE).expect("anvil says where it listens");
        let provider = RootProvider::new_http(url(port));
        Self {
            process,
            folder,
            port,
            provider,
        }
    }

    pub(crate) fn url(&self) -> Url {
        url(self.port)
    }

    pub(crate) async fn request(&self, method: &'static str, parameters: serde_json::Value) -> serde_json::Value {
        self.provider
            .raw_request(method.into(), parameters.clone())
            .await
            .unwrap_or_else(|error| panic!("{method} {parameters}: {error}"))
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.request("anvil_mine", serde_json::json!([format!("{blocks:#x}")]))
            .await;
    }

    /// Deploys the emitter in a block of its own.
    pub(crate) async fn deploy_emitter(&self) -> Address {
        let code = [DEPLOYER.as_slice(), EMITTER.as_slice()].concat();
        let hash = self
            .send(TransactionRequest::default().with_from(OTHER).with_deploy_code(code))
            .await;
        self.mine(1).await;
        let receipt = self
            .provider
            .get_transaction_receipt(hash)
            .await
            .expect("receipt")
            .expect("mined");
        receipt.contract_address.expect("deployed")
    }

    /// Emits `topics` in the pool's next block, and mines it.
    pub(crate) async fn emit(&self, emitter: Address, topics: &[u64]) {
        for topic in topics {
            let data = Bytes::from(B256::from(U256::from(*topic)));
            self.send(
                TransactionRequest::default()
                    .with_from(OTHER)
                    .with_to(emitter)
                    .with_input(data),
            )
            .await;
        }
        self.mine(1).await;
    }

    pub(crate) async fn send(&self, request: TransactionRequest) -> B256 {
        let request = request.with_gas_limit(200_000);
        let hash = self.request("eth_sendTransaction", serde_json::json!([request])).await;
        serde_json::from_value(hash).expect("hash")
    }

    /// Replaces the newest `depth` blocks by empty ones.
    pub(crate) async fn reorganise(&self, depth: u64) {
        self.request("anvil_reorg", serde_json::json!([depth, []])).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn url(port: u16) -> Url {
    format!("http://127.0.0.1:{port}").parse().expect("URL")
}

fn anvil() -> PathBuf {
    if let Some(path) = std::env::var_os("ANVIL") {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.local/bin/anvil");
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(installed)
        .chain(std::env::split_paths(&in_path).map(|directory| directory.join("anvil")))
        .find(|candidate| candidate.is_file())
        .expect("anvil is not installed: run script/setup (or set ANVIL to its path)")
}
