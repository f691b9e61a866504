//! Measurements that need a whole network. Each prints what was measured beside a named limit, in the same run.

mod burst;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use alloy::eips::eip2718::Encodable2718 as _;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder as _, TransactionBuilder as _};
use alloy::primitives::B256;
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, TransactionRequest};
use alloy::sol_types::{SolCall, SolEvent};
use bindings::IOrderBook;
use eyre::{OptionExt as _, bail, ensure};
use serde::Serialize;

use crate::demo::Spheron;
use crate::network::{Devnet, Options};
use crate::{plan, traffic};

/// One line of `script/bench NAME --json`. A ratio above 1 means ours is better than the peer.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub name: String,
    pub ours: f64,
    pub peer: f64,
    pub ratio: f64,
    pub unit: &'static str,
    pub peer_name: &'static str,
}

impl Measurement {
    fn lower_is_better(
        name: impl Into<String>,
        ours: f64,
        peer: f64,
        unit: &'static str,
        peer_name: &'static str,
    ) -> Self {
        let ratio = if ours > 0.0 { peer / ours } else { f64::MAX };
        Self {
            name: name.into(),
            ours,
            peer,
            ratio,
            unit,
            peer_name,
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            ours,
            peer,
            ratio,
            unit,
            peer_name,
        } = self;
        write!(
            formatter,
            "{name:<28} {ours:>9.2} {unit} (limit {peer} {unit}: {peer_name}; ratio {ratio:.2})"
        )
    }
}

const NAMES: &str = "latency, idle and burst";

/// What can be measured on a devnet.
#[derive(Clone, Copy, Debug)]
pub enum Bench {
    /// Blocks from the close block to the lease, for orders in a row.
    Latency,
    /// CPU and memory of agents that have nothing to do.
    Idle,
    /// Blocks until a thousand orders that close in one block are leases.
    Burst,
}

impl Bench {
    pub const ALL: [Self; 3] = [Self::Latency, Self::Idle, Self::Burst];

    pub fn named(name: &str) -> eyre::Result<Self> {
        match name {
            "latency" => Ok(Self::Latency),
            "idle" => Ok(Self::Idle),
            "burst" => Ok(Self::Burst),
            other => bail!("there is no benchmark {other:?} on the devnet: {NAMES} are"),
        }
    }

    /// What it needs of the devnet.
    pub fn prepare(self, options: &mut Options) {
        // The burst brings suppliers of its own, with room for all orders.
        options.with_providers = !matches!(self, Self::Burst);
    }

    pub async fn run(self, devnet: &Devnet) -> eyre::Result<Vec<Measurement>> {
        match self {
            Self::Latency => latency(devnet).await,
            Self::Idle => idle(devnet).await,
            Self::Burst => burst::burst(devnet).await,
        }
    }
}

const ORDERS: u64 = 50;
const LATENCY_DEADLINE: Duration = Duration::from_secs(180);

/// Fifty small orders, one a block, each matched by the operators as it closes.
async fn latency(devnet: &Devnet) -> eyre::Result<Vec<Measurement>> {
    let provider = &devnet.anvil.provider;
    let key = devnet.options.directory.join("user-1/ecdsa.key");
    let opened = Spheron::user(devnet, "user-1")
        .json(&[
            "init",
            "--key",
            &key.display().to_string(),
            "--token",
            "uSPON",
            "--deposit",
            "1000",
        ])
        .await?;
    let account: u32 = opened["account"]
        .as_str()
        .ok_or_eyre("`spheron init` names the account")?
        .parse()?;
    let token = devnet.network.token("uSPON").ok_or_eyre("the devnet lists uSPON")?;
    let wallet = EthereumWallet::from(plan::key("user-1"));
    let from = plan::address("user-1");
    let book = devnet.network.contracts.order_book;
    let first = provider.get_block_number().await?;
    let mut nonce = provider.get_transaction_count(from).await?;
    let fees = provider.estimate_eip1559_fees().await?;
    let mut block = first;
    for number in 0..ORDERS {
        let call = IOrderBook::createOrderCall {
            account,
            token: token.id,
            bidWindow: 0,
            terms: traffic::terms(number),
        };
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(book)
            .with_input(call.abi_encode())
            .with_nonce(nonce)
            .with_chain_id(devnet.network.chain_id)
            .with_gas_limit(300_000)
            .with_max_fee_per_gas(fees.max_fee_per_gas * 2)
            .with_max_priority_fee_per_gas(fees.max_priority_fee_per_gas);
        let signed = request.build(&wallet).await?;
        let _ = provider.send_raw_transaction(&signed.encoded_2718()).await?;
        nonce += 1;
        block = next_block(devnet, block).await?;
    }

    let close_blocks = wait_for_leases(devnet, first).await?;
    let mut blocks: Vec<u64> = close_blocks.values().map(|(close, lease)| lease - close).collect();
    blocks.sort_unstable();
    let worst = blocks.last().copied().unwrap_or_default() as f64;
    let median = blocks[blocks.len() / 2] as f64;
    Ok(vec![
        Measurement::lower_is_better("latency.median", median, 1.0, "blocks", "1 block"),
        Measurement::lower_is_better("latency.worst", worst, 1.0, "blocks", "1 block"),
    ])
}

async fn next_block(devnet: &Devnet, after: u64) -> eyre::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let head = devnet.anvil.provider.get_block_number().await?;
        if head > after {
            return Ok(head);
        }
        ensure!(Instant::now() < deadline, "no block after {after} within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Close block and lease block of every order since a block.
async fn wait_for_leases(devnet: &Devnet, first: u64) -> eyre::Result<BTreeMap<u64, (u64, u64)>> {
    let provider = &devnet.anvil.provider;
    let filter = |signature: B256| {
        Filter::new()
            .address(devnet.network.contracts.order_book)
            .event_signature(signature)
            .from_block(first)
    };
    let deadline = Instant::now() + LATENCY_DEADLINE;
    loop {
        let mut closes = BTreeMap::new();
        for log in provider
            .get_logs(&filter(IOrderBook::OrderCreated::SIGNATURE_HASH))
            .await?
        {
            let created = IOrderBook::OrderCreated::decode_log(&log.inner)?;
            closes.insert(created.orderId, u64::from(created.closeBlock));
        }
        let mut leases = BTreeMap::new();
        for log in provider
            .get_logs(&filter(IOrderBook::LeaseCreated::SIGNATURE_HASH))
            .await?
        {
            let created = IOrderBook::LeaseCreated::decode_log(&log.inner)?;
            leases.insert(created.orderId, log.block_number.unwrap_or_default());
        }
        if leases.len() as u64 == ORDERS {
            return closes
                .into_iter()
                .map(|(order, close)| {
                    Ok((
                        order,
                        (close, *leases.get(&order).ok_or_eyre("every lease was an order")?),
                    ))
                })
                .collect();
        }
        ensure!(
            Instant::now() < deadline,
            "{} of {ORDERS} orders became leases within {} s",
            leases.len(),
            LATENCY_DEADLINE.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

const IDLE_FOR: Duration = Duration::from_secs(20);
const SETTLING_BLOCKS: u32 = 8;

async fn idle(devnet: &Devnet) -> eyre::Result<Vec<Measurement>> {
    let processes: Vec<(&str, u32)> = devnet
        .agents
        .values()
        .filter_map(|agent| Some((agent.name.as_str(), agent.process.as_ref()?.id())))
        .collect();
    let ticks = |id: u32| -> eyre::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .ok_or_eyre("/proc/PID/stat")?
            .1
            .split_whitespace()
            .collect();
        Ok(fields.get(11).ok_or_eyre("utime")?.parse::<u64>()? + fields.get(12).ok_or_eyre("stime")?.parse::<u64>()?)
    };
    // Agents learn the chain's pace over some blocks; what the start costs is not idling.
    let mut block = devnet.anvil.provider.get_block_number().await?;
    for _ in 0..SETTLING_BLOCKS {
        block = next_block(devnet, block).await?;
    }
    let before: Vec<u64> = processes
        .iter()
        .map(|(_, id)| ticks(*id))
        .collect::<eyre::Result<_>>()?;
    let started = Instant::now();
    tokio::time::sleep(IDLE_FOR).await;
    let seconds = started.elapsed().as_secs_f64();
    let mut results = Vec::new();
    for ((name, id), before) in processes.into_iter().zip(before) {
        // The kernel counts in hundredths of a second on every architecture we run on.
        let percent = (ticks(id)? - before) as f64 / seconds;
        results.push(Measurement::lower_is_better(
            format!("idle.cpu.{name}"),
            percent,
            1.0,
            "%",
            "1 % of a core",
        ));
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse::<f64>()
                .ok()
        });
        let resident = kibibytes.ok_or_eyre("VmRSS in /proc/PID/status")? / 1024.0;
        results.push(Measurement::lower_is_better(
            format!("idle.memory.{name}"),
            resident,
            60.0,
            "MiB",
            "60 MiB resident",
        ));
    }
    Ok(results)
}
