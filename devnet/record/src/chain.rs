//! An anvil of our own, and the few JSON-RPC calls a recording needs.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U64};
use eyre::{ContextCompat, WrapErr, ensure, eyre};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// No single call takes longer than this, however busy the machine is.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A running anvil that ends with this value.
#[derive(Debug)]
pub struct Anvil {
    process: Child,
    url: String,
    agent: ureq::Agent,
}

/// What a transaction did.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    pub transaction_hash: B256,
    pub status: U64,
    pub contract_address: Option<Address>,
}

impl Anvil {
    /// Starts anvil on a free port and returns once it listens.
    pub fn start(program: &Path, arguments: &[&str]) -> eyre::Result<Self> {
        let mut process = Command::new(program)
            .args(["--port", "0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .wrap_err_with(|| format!("cannot start {}", program.display()))?;
        let mut output = BufReader::new(process.stdout.take().wrap_err("anvil has no standard output")?);
        let address = output
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned))
            .wrap_err("anvil ended before it listened")?;
        // anvil would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .build()
            .into();
        Ok(Self {
            process,
            url: format!("http://{address}"),
            agent,
        })
    }

    /// One JSON-RPC call.
    pub fn request<T: DeserializeOwned>(&self, method: &str, parameters: Value) -> eyre::Result<T> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}).to_string();
        let text = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .send(&body)
            .and_then(|mut response| response.body_mut().with_config().limit(256 << 20).read_to_string())
            .wrap_err_with(|| format!("{method} failed"))?;
        let mut answer: Value = serde_json::from_str(&text).wrap_err_with(|| format!("{method} answered no JSON"))?;
        match answer.get("error") {
            Some(error) => Err(eyre!("{method} was refused: {error}")),
            None => serde_json::from_value(answer["result"].take()).wrap_err_with(|| format!("answer to {method}")),
        }
    }

    /// Sends from an account that anvil signs for, and insists on success. Blocks are mined per transaction.
    pub fn send(&self, from: Address, to: Option<Address>, data: &Bytes, maximum_fee: u64) -> eyre::Result<Receipt> {
        let mut transaction = json!({
            "from": from,
            "data": data,
            "maxFeePerGas": U64::from(maximum_fee),
            "maxPriorityFeePerGas": U64::from(1_000_000_000),
        });
        if let Some(to) = to {
            transaction["to"] = json!(to);
        }
        let estimate: U64 = self.request("eth_estimateGas", json!([transaction]))?;
        // Storage may be warmer or colder by a little when it is replayed in other blocks.
        transaction["gas"] = json!(estimate + estimate / U64::from(5));
        // Answers once it is mined, with the receipt.
        let receipt: Receipt = self.request("eth_sendTransactionSync", json!([transaction]))?;
        ensure!(
            receipt.status == U64::from(1),
            "transaction {} reverted",
            receipt.transaction_hash
        );
        Ok(receipt)
    }

    /// Code at an address.
    pub fn code(&self, address: Address) -> eyre::Result<Bytes> {
        self.request("eth_getCode", json!([address, "latest"]))
    }

    /// A call without a transaction.
    pub fn view(&self, to: Address, data: &Bytes) -> eyre::Result<Bytes> {
        self.request("eth_call", json!([{"to": to, "data": data}, "latest"]))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        // It holds nothing that outlives it; both calls fail only if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
