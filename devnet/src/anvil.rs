//! The chain: anvil, with EigenLayer's recorded deployment replayed into it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, Bytes, U256};
use alloy::providers::{DynProvider, Provider as _, ProviderBuilder};
use eyre::{WrapErr as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::children::{Launch, Process, Spawner, tail};

const START_DEADLINE: Duration = Duration::from_secs(60);
/// Between the blocks of [`Anvil::mine_fast`].
const FAST: Duration = Duration::from_millis(50);
/// Between the blocks of [`Anvil::mine_slowly`].
const SLOW: Duration = Duration::from_secs(5);
/// How often a clock is set that a block keeps overtaking.
const CLOCK_ATTEMPTS: usize = 10;

/// EigenLayer's deployment as `script/setup` recorded it (`core.json`).
#[derive(Debug, Deserialize)]
pub struct Recording {
    pub chain_id: u64,
    pub addresses: BTreeMap<String, Address>,
    pub transactions: Vec<RecordedTransaction>,
}

#[derive(Debug, Deserialize)]
pub struct RecordedTransaction {
    pub purpose: String,
    pub raw: Bytes,
}

impl Recording {
    /// Reads the recording from the folder `script/setup` made.
    pub fn load(folder: &Path) -> eyre::Result<Self> {
        let path = folder.join("core.json");
        let text = std::fs::read(&path).wrap_err_with(|| {
            format!(
                "EigenLayer's recorded deployment {} is missing: run script/setup",
                path.display()
            )
        })?;
        serde_json::from_slice(&text).wrap_err_with(|| {
            format!(
                "{} is not a recording: remove its folder and run script/setup",
                path.display()
            )
        })
    }
}

/// A running anvil.
#[derive(Debug)]
pub struct Anvil {
    pub process: Process,
    pub url: String,
    pub provider: DynProvider,
}

impl Anvil {
    /// Starts anvil on `port`, or on any port when that one is in use.
    pub async fn start(
        spawner: &Spawner,
        program: PathBuf,
        chain_id: u64,
        port: u16,
        log: PathBuf,
    ) -> eyre::Result<Self> {
        match Self::try_start(spawner, &program, chain_id, port, &log).await {
            Err(error) if port != 0 && tail(&log, 20).contains("in use") => {
                tracing::info!(port, "port is in use, taking another one");
                std::fs::remove_file(&log).ok();
                drop(error);
                Self::try_start(spawner, &program, chain_id, 0, &log).await
            }
            other => other,
        }
    }

    async fn try_start(spawner: &Spawner, program: &Path, chain_id: u64, port: u16, log: &Path) -> eyre::Result<Self> {
        // Two slots an epoch keep `finalized` near; 300 states bound the memory; the pool must not refuse transactions that
        // earlier ones in the queue will fund.
        let arguments = [
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--chain-id",
            &chain_id.to_string(),
            "--prune-history",
            "300",
            "--slots-in-an-epoch",
            "2",
            "--disable-pool-balance-checks",
        ];
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let launch = Launch {
            name: "anvil".into(),
            program: program.to_owned(),
            arguments,
            environment: Vec::new(),
            log: log.to_owned(),
        };
        let mut process = Process::start(spawner, launch)?;
        let url = Self::announced(&mut process).await?;
        let provider = ProviderBuilder::new()
            .connect_http(url.parse().wrap_err("anvil's URL")?)
            .erased();
        Ok(Self { process, url, provider })
    }

    async fn announced(process: &mut Process) -> eyre::Result<String> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let log = tail(&process.launch.log, 200);
            if let Some(line) = log.lines().rev().find_map(|line| line.strip_prefix("Listening on ")) {
                return Ok(format!("http://{}", line.trim()));
            }
            if process.ended().is_some() {
                bail!("{}", process.last_words());
            }
            ensure!(
                Instant::now() < deadline,
                "anvil did not listen within {} s: {}",
                START_DEADLINE.as_secs(),
                process.last_words()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Any call of anvil's own.
    pub async fn call(&self, method: &'static str, parameters: Value) -> eyre::Result<Value> {
        self.provider
            .raw_request(method.into(), parameters)
            .await
            .wrap_err_with(|| format!("anvil refused {method}"))
    }

    /// Replays the recording, one block a transaction.
    pub async fn replay(&self, recording: &Recording) -> eyre::Result<()> {
        self.call("evm_setAutomine", json!([true])).await?;
        for transaction in &recording.transactions {
            let receipt = self
                .call("eth_sendRawTransactionSync", json!([transaction.raw]))
                .await
                .wrap_err_with(|| format!("EigenLayer's recording does not replay at: {}", transaction.purpose))?;
            ensure!(
                receipt["status"] == "0x1",
                "EigenLayer's recording reverts at: {}",
                transaction.purpose
            );
        }
        Ok(())
    }

    /// Mines a block twenty times a second until the guard is dropped: EigenLayer's delays and the agents' waits for blocks pass
    /// quickly while the network comes up.
    pub fn mine_fast(&self) -> TimedBlocks {
        self.mine_beside(FAST)
    }

    /// Until the guard is dropped a block comes with every transaction, and hardly any without: a window of a few blocks stays open
    /// for whoever has to act in it, however busy the machine is. Goes on with a block per transaction.
    pub async fn mine_slowly(&self) -> eyre::Result<TimedBlocks> {
        self.mine_at_once().await?;
        Ok(self.mine_beside(SLOW))
    }

    fn mine_beside(&self, period: Duration) -> TimedBlocks {
        let provider = self.provider.clone();
        TimedBlocks(tokio::spawn(async move {
            let mut tick = interval_at(tokio::time::Instant::now() + period, period);
            // What a busy machine was late for is not made up for.
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                // A call that fails is no reason to stop: the next comes soon, and whoever holds the guard waits for blocks.
                let _: Result<Value, _> = provider.raw_request("anvil_mine".into(), json!([1])).await;
            }
        }))
    }

    /// From a block per transaction to a block per interval.
    pub async fn mine_every(&self, seconds: u64) -> eyre::Result<()> {
        self.call("evm_setAutomine", json!([false])).await?;
        self.call("evm_setIntervalMining", json!([seconds])).await?;
        Ok(())
    }

    /// From a block per interval to a block per transaction.
    pub async fn mine_at_once(&self) -> eyre::Result<()> {
        self.call("evm_setIntervalMining", json!([0])).await?;
        self.call("evm_setAutomine", json!([true])).await?;
        Ok(())
    }

    /// Moves the chain's clock to a Unix time, if it is not there yet.
    pub async fn reach(&self, time: u64) -> eyre::Result<()> {
        for _ in 0..CLOCK_ATTEMPTS {
            let newest = self.provider.get_block_by_number(BlockNumberOrTag::Latest).await?;
            if newest.is_some_and(|block| block.header.timestamp >= time) {
                return Ok(());
            }
            // Refused if a block of a later time came meanwhile, which is as good.
            if self.call("evm_setNextBlockTimestamp", json!([time])).await.is_ok() {
                self.call("evm_mine", json!([])).await?;
            }
        }
        bail!("the chain's clock did not come to {time} in {CLOCK_ATTEMPTS} attempts")
    }

    /// Gives an address ether.
    pub async fn set_balance(&self, address: Address, ether: u64) -> eyre::Result<()> {
        let wei = U256::from(ether) * U256::from(10).pow(U256::from(18));
        self.call("anvil_setBalance", json!([address, wei])).await?;
        Ok(())
    }
}

/// Keeps blocks coming at its pace for as long as it lives.
#[derive(Debug)]
pub struct TimedBlocks(tokio::task::JoinHandle<()>);

impl Drop for TimedBlocks {
    fn drop(&mut self) {
        self.0.abort();
    }
}
