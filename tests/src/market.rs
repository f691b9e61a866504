//! Orders, leases and money as the chain has them.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use alloy::providers::{DynProvider, Provider as _};
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use bindings::{IEscrow, IOrderBook, Order, OrderState};
use devnet::anvil::TimedBlocks;
use eyre::{OptionExt as _, ensure};
use serde_json::{Value, json};

use crate::network::Network;
use crate::waiting::{eventually, within};

/// What a test's user deposits, in whole uSPON.
pub const DEPOSIT: u64 = 1_000;
/// uSPON has six decimals.
const UNITS: u64 = 1_000_000;
/// Blocks an order may take from its creation to its lease when blocks are mined one by one.
const BLOCKS_TO_LEASE: usize = 20;
/// How long such a block waits for transactions.
const PATIENCE_PER_BLOCK: Duration = Duration::from_secs(3);

impl Network {
    pub fn book(&self) -> IOrderBook::IOrderBookInstance<&DynProvider> {
        IOrderBook::new(self.devnet.network.contracts.order_book, &self.devnet.anvil.provider)
    }

    pub fn escrow(&self) -> IEscrow::IEscrowInstance<&DynProvider> {
        IEscrow::new(self.devnet.network.contracts.escrow, &self.devnet.anvil.provider)
    }

    /// Events of the order book, of one order where one is named, with their blocks.
    pub async fn events<E: SolEvent>(&self, order: Option<u64>) -> eyre::Result<Vec<(u64, E)>> {
        self.events_of(self.devnet.network.contracts.order_book, order).await
    }

    /// Events of a contract whose first topic is an order or a close block.
    pub async fn events_of<E: SolEvent>(&self, address: Address, topic: Option<u64>) -> eyre::Result<Vec<(u64, E)>> {
        let mut filter = Filter::new()
            .address(address)
            .event_signature(E::SIGNATURE_HASH)
            .from_block(0);
        if let Some(topic) = topic {
            filter = filter.topic1(B256::from(U256::from(topic)));
        }
        let logs = self.devnet.anvil.provider.get_logs(&filter).await?;
        logs.iter()
            .map(|log| Ok((log.block_number.unwrap_or_default(), E::decode_log(&log.inner)?.data)))
            .collect()
    }

    /// The same as soon as there are any: the logs of a block may be there a moment after the state that they explain.
    pub async fn awaited_events_of<E: SolEvent>(
        &self,
        address: Address,
        topic: Option<u64>,
    ) -> eyre::Result<Vec<(u64, E)>> {
        eventually(&format!("an event {}", E::SIGNATURE), async || {
            let events = self.events_of(address, topic).await?;
            Ok((!events.is_empty()).then_some(events))
        })
        .await
    }

    /// Waits for the first order: its id and close block.
    pub async fn order(&self) -> eyre::Result<(u64, u64)> {
        eventually("an order", async || {
            let created = self.events::<IOrderBook::OrderCreated>(None).await?;
            Ok(created
                .first()
                .map(|(_, event)| (event.orderId, u64::from(event.closeBlock))))
        })
        .await
    }

    /// Waits until an order is in a state.
    pub async fn in_state(&self, order: u64, state: OrderState) -> eyre::Result<Order> {
        eventually(&format!("order {order} to be {state:?}"), async || {
            let now = self.book().order(order).call().await?;
            Ok((now.state == state).then_some(now))
        })
        .await
    }

    /// The provider agent that serves a lease.
    pub async fn provider_of(&self, order: u64) -> eyre::Result<String> {
        let supplier = self.book().order(order).call().await?.supplier;
        let owner = self.book().supplierOwner(supplier).call().await?;
        let plan = &self.devnet.options.plan;
        let found = plan
            .providers
            .iter()
            .find(|provider| devnet::plan::address(&provider.name) == owner);
        Ok(found
            .ok_or_eyre("the lease's supplier is a provider of the plan")?
            .name
            .clone())
    }

    /// The account of an order has its whole deposit back, to the unit, and nothing locked.
    pub async fn expect_money_back(&self, order: u64) -> eyre::Result<()> {
        let (account, token) = (u32::try_from(order >> 32)?, u8::try_from((order >> 24) & 0xff)?);
        let balances = self.escrow().balances(account, token).call().await?;
        let (unlocked, locked) = (U256::from(balances.unlocked), U256::from(balances.locked));
        ensure!(
            unlocked == U256::from(DEPOSIT * UNITS) && locked.is_zero(),
            "account {account} holds {unlocked} unlocked and {locked} locked units, {} were deposited",
            DEPOSIT * UNITS
        );
        Ok(())
    }

    pub async fn block(&self) -> eyre::Result<u64> {
        Ok(self.devnet.anvil.provider.get_block_number().await?)
    }

    /// Waits until the chain has a block, and returns its hash.
    pub async fn block_hash(&self, number: u64) -> eyre::Result<B256> {
        eventually(&format!("block {number}"), async || {
            let block = self.devnet.anvil.provider.get_block_by_number(number.into()).await?;
            Ok(block.map(|block| block.header.hash))
        })
        .await
    }

    /// Stops the clock of the chain: blocks come by [`Network::mine`] alone.
    pub async fn hold_blocks(&self) -> eyre::Result<()> {
        self.devnet
            .anvil
            .call("evm_setIntervalMining", json!([0]))
            .await
            .map(drop)
    }

    pub async fn mine(&self, blocks: u64) -> eyre::Result<()> {
        self.devnet.anvil.call("anvil_mine", json!([blocks])).await.map(drop)
    }

    /// Blocks come with transactions and hardly ever without, until the guard is dropped: for what has to be done within a few
    /// blocks. [`Network::resume_blocks`] goes on as before.
    pub async fn slow_blocks(&self) -> eyre::Result<TimedBlocks> {
        self.devnet.anvil.mine_slowly().await
    }

    pub async fn resume_blocks(&self) -> eyre::Result<()> {
        self.devnet
            .anvil
            .mine_every(self.devnet.options.plan.chain.block_time)
            .await
    }

    /// Mines block by block until an order is leased; no block comes after that one.
    pub async fn hold_at_lease(&self, order: u64) -> eyre::Result<()> {
        self.hold_blocks().await?;
        for _ in 0..BLOCKS_TO_LEASE {
            if self.book().order(order).call().await?.state == OrderState::Leased {
                return Ok(());
            }
            // Bids and the response are waited for; in blocks between them nobody has to send anything.
            let sent = async || Ok((self.pending().await? > 0).then_some(()));
            within(PATIENCE_PER_BLOCK, "a transaction", sent).await.ok();
            self.mine(1).await?;
        }
        eyre::bail!("order {order} was not leased within {BLOCKS_TO_LEASE} blocks")
    }

    /// Transactions that wait for a block.
    async fn pending(&self) -> eyre::Result<u64> {
        let status: Value = self.devnet.anvil.call("txpool_status", json!([])).await?;
        let pending = status["pending"]
            .as_str()
            .ok_or_eyre("anvil says how many transactions are pending")?;
        Ok(u64::from_str_radix(pending.trim_start_matches("0x"), 16)?)
    }
}
