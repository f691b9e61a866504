//! A burst: a thousand orders that close in one block.
//!
//! Orders and bids are put on chain with blocks held, so that the number of them is what is measured and not how fast this
//! machine signs; from a few blocks before the close block on, the chain runs at its own pace and the shipped operators and
//! aggregators do the rest.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, Bytes};
use alloy::providers::Provider as _;
use alloy::rpc::types::Filter;
use alloy::sol_types::{SolCall, SolEvent};
use bindings::{BidRequest, IMatchingTaskManager, IOrderBook};
use eyre::{OptionExt as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::{Measurement, next_block};
use crate::anvil::Anvil;
use crate::network::Devnet;
use crate::plan;
use crate::traffic::Traffic;

const ORDERS: usize = 1_000;
/// What "settled" may take.
const LIMIT: f64 = 3.0;
/// Escrow accounts the orders are spread over: an answer touches all of them.
const ACCOUNTS: usize = 8;
/// Two suppliers bid on every order, the second one higher.
const SUPPLIERS: [(&str, u64); 2] = [("burst-supplier-1", 1_000_000), ("burst-supplier-2", 1_100_000)];
const USER: &str = "burst-user";
/// Whole uSPON in each account: more than its orders lock.
const DEPOSIT: u64 = 1_000;

/// Gas that an order may take, and so how many fit a block of the devnet.
const ORDER_GAS: u64 = 120_000;
const ORDERS_A_BLOCK: usize = 240;
/// Gas that a bid may take: the first one on an order writes a new slot.
const BID_GAS: u64 = 60_000;
const BIDS_A_TRANSACTION: usize = 100;
const BATCHES_A_BLOCK: usize = 4;
/// From the first order to the close block: room for all orders and bids, and less than the longest bid window.
const BLOCKS_TO_CLOSE: u64 = 30;
/// Blocks at the chain's own pace before the close block: the agents have caught up by then.
const BLOCKS_AT_PACE: u64 = 5;
/// Requests that are sent at the same time.
const REQUESTS_AT_ONCE: usize = 32;
const SETTLED_DEADLINE: Duration = Duration::from_secs(120);

pub(super) async fn burst(devnet: &Devnet) -> eyre::Result<Vec<Measurement>> {
    let block_time = devnet.options.plan.chain.block_time;
    let anvil = &devnet.anvil;
    anvil.mine_at_once().await?;
    let setting = Setting::prepare(devnet).await?;
    anvil.call("evm_setAutomine", json!([false])).await?;

    let first = anvil.provider.get_block_number().await?;
    let close = first + BLOCKS_TO_CLOSE;
    setting.order_all(close).await?;
    let orders = setting.orders(first, close).await?;
    setting.bid_all(&orders).await?;
    let head = anvil.provider.get_block_number().await?;
    ensure!(
        head + BLOCKS_AT_PACE < close,
        "orders and bids took until block {head}, too near to the close block {close}"
    );
    anvil.call("anvil_mine", json!([close - BLOCKS_AT_PACE - head])).await?;
    anvil.mine_every(block_time).await?;

    let settled = setting.settled(close).await?;
    anvil.mine_every(block_time).await?;
    let last = settled.keys().last().ok_or_eyre("something was settled")?;
    for (block, count) in &settled {
        tracing::info!(after_close = block - close, leases = count, "leases opened");
    }
    Ok(vec![Measurement::lower_is_better(
        "burst.1000",
        (last - close) as f64,
        LIMIT,
        "blocks",
        "3 blocks",
    )])
}

/// Who takes part, funded and registered.
struct Setting<'a> {
    devnet: &'a Devnet,
    traffic: Traffic<'a>,
    user: Address,
    accounts: Vec<u32>,
}

impl<'a> Setting<'a> {
    async fn prepare(devnet: &'a Devnet) -> eyre::Result<Self> {
        let traffic = Traffic::new(devnet)?;
        for (name, _) in SUPPLIERS {
            traffic.supplier(name, 4 * ORDERS as u32).await?;
        }
        Ok(Self {
            devnet,
            traffic,
            user: plan::address(USER),
            accounts: traffic.accounts(USER, ACCOUNTS, DEPOSIT).await?,
        })
    }

    fn anvil(&self) -> &Anvil {
        &self.devnet.anvil
    }

    /// Creates the orders, as many a block as fit, all with the same close block.
    async fn order_all(&self, close: u64) -> eyre::Result<()> {
        let numbers: Vec<usize> = (0..ORDERS).collect();
        let mut nonce = self.nonce(self.user).await?;
        for chunk in numbers.chunks(ORDERS_A_BLOCK) {
            let mined_in = self.anvil().provider.get_block_number().await? + 1;
            let calls = chunk.iter().map(|number| {
                let account = self.accounts[number % ACCOUNTS];
                self.traffic.order(account, (close - mined_in) as u16, *number as u64)
            });
            nonce = self
                .queue(
                    self.user,
                    nonce,
                    ORDER_GAS,
                    calls.map(|call| call.abi_encode()).collect(),
                )
                .await?;
            self.anvil().call("anvil_mine", json!([1])).await?;
        }
        Ok(())
    }

    /// Places both suppliers' bids on all orders.
    async fn bid_all(&self, orders: &[u64]) -> eyre::Result<()> {
        for (name, rate) in SUPPLIERS {
            let supplier = plan::address(name);
            let mut nonce = self.nonce(supplier).await?;
            let batches: Vec<Vec<u8>> = orders
                .chunks(BIDS_A_TRANSACTION)
                .map(|orders| {
                    let bids = orders.iter().map(|order| BidRequest {
                        orderId: *order,
                        fizz: 0,
                        rate: alloy::primitives::Uint::from(rate),
                    });
                    IOrderBook::placeBidsCall { bids: bids.collect() }.abi_encode()
                })
                .collect();
            for batches in batches.chunks(BATCHES_A_BLOCK) {
                let gas = BID_GAS * BIDS_A_TRANSACTION as u64;
                nonce = self.queue(supplier, nonce, gas, batches.to_vec()).await?;
                self.anvil().call("anvil_mine", json!([1])).await?;
            }
        }
        Ok(())
    }

    async fn nonce(&self, of: Address) -> eyre::Result<u64> {
        Ok(self.anvil().provider.get_transaction_count(of).await?)
    }

    /// Puts transactions to the order book into the pool; returns the next nonce.
    async fn queue(&self, from: Address, nonce: u64, gas: u64, inputs: Vec<Vec<u8>>) -> eyre::Result<u64> {
        let next = nonce + inputs.len() as u64;
        let book = self.devnet.network.contracts.order_book;
        let sends = (nonce..).zip(inputs).map(|(nonce, input)| {
            let transaction = json!([{
                "from": from, "to": book, "input": Bytes::from(input),
                "nonce": format!("{nonce:#x}"), "gas": format!("{gas:#x}"),
            }]);
            self.anvil().call("eth_sendTransaction", transaction)
        });
        let _: Vec<Value> = stream::iter(sends)
            .buffer_unordered(REQUESTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(next)
    }

    /// The orders' ids, ascending; all of them, with the close block that was meant.
    async fn orders(&self, after: u64, close: u64) -> eyre::Result<Vec<u64>> {
        let mut orders = Vec::with_capacity(ORDERS);
        for (_, created) in self.events::<IOrderBook::OrderCreated>(after).await? {
            ensure!(
                u64::from(created.closeBlock) == close,
                "order {} closes in block {} instead of {close}",
                created.orderId,
                created.closeBlock
            );
            orders.push(created.orderId);
        }
        ensure!(
            orders.len() == ORDERS,
            "{} of {ORDERS} orders were created",
            orders.len()
        );
        orders.sort_unstable();
        Ok(orders)
    }

    /// Waits until every order is a lease: how many in which block.
    async fn settled(&self, close: u64) -> eyre::Result<BTreeMap<u64, usize>> {
        // Anvil refuses to look for logs above its head.
        let mut head = self.anvil().provider.get_block_number().await?;
        while head <= close {
            head = next_block(self.devnet, head).await?;
        }
        let deadline = Instant::now() + SETTLED_DEADLINE;
        loop {
            let mut blocks = BTreeMap::new();
            for (block, _) in self.events::<IOrderBook::LeaseCreated>(close).await? {
                *blocks.entry(block).or_insert(0) += 1;
            }
            let settled: usize = blocks.values().sum();
            if settled == ORDERS {
                return Ok(blocks);
            }
            ensure!(
                Instant::now() < deadline,
                "{settled} of {ORDERS} orders became leases within {} s, by block: {blocks:?}; {} tasks were answered",
                SETTLED_DEADLINE.as_secs(),
                self.answers(close).await?
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn answers(&self, close: u64) -> eyre::Result<usize> {
        let filter = self.filter::<IMatchingTaskManager::TaskResponded>(close);
        let filter = filter.address(self.devnet.network.contracts.task_manager);
        Ok(self.anvil().provider.get_logs(&filter).await?.len())
    }

    fn filter<E: SolEvent>(&self, after: u64) -> Filter {
        let signature: B256 = E::SIGNATURE_HASH;
        Filter::new().event_signature(signature).from_block(after + 1)
    }

    /// Events of the order book, with their blocks.
    async fn events<E: SolEvent>(&self, after: u64) -> eyre::Result<Vec<(u64, E)>> {
        let filter = self
            .filter::<E>(after)
            .address(self.devnet.network.contracts.order_book);
        let logs = self.anvil().provider.get_logs(&filter).await?;
        logs.iter()
            .map(|log| Ok((log.block_number.unwrap_or_default(), E::decode_log(&log.inner)?.data)))
            .collect()
    }
}
