//! Orders and bids without agents: suppliers and users whose accounts anvil has unlocked, for benchmarks and tests that
//! decide themselves who bids what and when.

use alloy::primitives::{Address, U256, keccak256};
use alloy::sol_types::SolCall;
use avs::terms::Terms;
use avs::words::{Capacity, GpuEntry};
use bindings::standard::IERC20;
use bindings::{IEscrow, IOrderBook, IProviderRegistry, IStakeManager, OrderTerms};
use chain::network::{Network, Token};
use eyre::OptionExt as _;
use serde_json::json;

use crate::anvil::Anvil;
use crate::bootstrap;
use crate::network::Devnet;
use crate::plan;

/// Whole SPON that a supplier stakes.
const STAKE: u64 = 20_000;
/// Maximum rate of every order: token units per 36 000 seconds.
pub const MAXIMUM_RATE: u64 = 50_000_000;
/// Seconds of every order.
pub const DURATION: u32 = 600;

/// Makes orders and bids, paid in uSPON.
#[derive(Debug, Clone, Copy)]
pub struct Traffic<'a> {
    anvil: &'a Anvil,
    network: &'a Network,
    pub token: &'a Token,
}

impl<'a> Traffic<'a> {
    pub fn new(devnet: &'a Devnet) -> eyre::Result<Self> {
        Self::of(&devnet.anvil, &devnet.network)
    }

    /// On a chain with our contracts and nothing else.
    pub fn of(anvil: &'a Anvil, network: &'a Network) -> eyre::Result<Self> {
        let token = network.token("uSPON").ok_or_eyre("the devnet lists uSPON")?;
        Ok(Self { anvil, network, token })
    }

    /// The account of a name: unlocked, with ether.
    pub async fn unlock(&self, name: &str) -> eyre::Result<Address> {
        let address = plan::address(name);
        self.anvil.set_balance(address, 1_000).await?;
        self.anvil.call("anvil_impersonateAccount", json!([address])).await?;
        Ok(address)
    }

    /// Sends from an unlocked account and waits for the receipt.
    pub async fn send(&self, from: Address, to: Address, call: &impl SolCall) -> eyre::Result<()> {
        bootstrap::send_as(self.anvil, from, to, call.abi_encode()).await
    }

    /// Registers a supplier of the best tier, with room for so many of the orders made here. Returns its id.
    pub async fn supplier(&self, name: &str, room: u32) -> eyre::Result<u32> {
        let contracts = &self.network.contracts;
        let owner = self.unlock(name).await?;
        let stake = U256::from(STAKE) * U256::from(10).pow(U256::from(18));
        let given = IERC20::transferCall {
            to: owner,
            value: stake,
        };
        bootstrap::as_deployer(self.anvil, contracts.spon, given.abi_encode()).await?;
        let register = IProviderRegistry::registerCall {
            name: name.to_owned(),
            gateway: "https://127.0.0.1:1".to_owned(),
            region: 1,
            zone: 0,
            tokens: 1 << self.token.id,
        };
        self.send(owner, contracts.provider_registry, &register).await?;
        let registry = IProviderRegistry::new(contracts.provider_registry, &self.anvil.provider);
        let id = registry.providerOf(owner).call().await?;
        let approve = IERC20::approveCall {
            spender: contracts.stake_manager,
            value: stake,
        };
        self.send(owner, contracts.spon, &approve).await?;
        let staked = IStakeManager::stakeCall {
            provider: id,
            amount: stake,
        };
        self.send(owner, contracts.stake_manager, &staked).await?;
        let verified = IProviderRegistry::setVerifiedCall {
            id,
            trustTier: 1,
            compliance: 0,
            attributes: alloy::primitives::Uint::ZERO,
        };
        bootstrap::govern(self.anvil, self.network, contracts.provider_registry, &verified).await?;
        let capacity = Capacity {
            storage_free: 0,
            storage_total: room,
            memory_free: 0,
            memory_total: room,
            cpu_free: 0,
            cpu_total: room,
            gpus: [GpuEntry::default(); 4],
            active: true,
        };
        let offered = IOrderBook::setCapacityCall {
            capacity: capacity.pack()?,
        };
        self.send(owner, contracts.order_book, &offered).await?;
        Ok(id)
    }

    /// Opens escrow accounts of one user, each with so many whole tokens.
    pub async fn accounts(&self, user: &str, count: usize, whole: u64) -> eyre::Result<Vec<u32>> {
        let escrow = self.network.contracts.escrow;
        let owner = self.unlock(user).await?;
        let each = U256::from(whole) * U256::from(10).pow(U256::from(self.token.decimals));
        let all = each * U256::from(count);
        let given = IERC20::transferCall { to: owner, value: all };
        bootstrap::as_deployer(self.anvil, self.token.address, given.abi_encode()).await?;
        let approve = IERC20::approveCall {
            spender: escrow,
            value: all,
        };
        self.send(owner, self.token.address, &approve).await?;
        let reader = IEscrow::new(escrow, &self.anvil.provider);
        let mut accounts = Vec::with_capacity(count);
        for _ in 0..count {
            self.send(owner, escrow, &IEscrow::openCall { owner }).await?;
            let account = reader.accountCount().call().await?;
            let deposit = IEscrow::depositCall {
                account,
                token: self.token.id,
                amount: each,
            };
            self.send(owner, escrow, &deposit).await?;
            accounts.push(account);
        }
        Ok(accounts)
    }

    /// The call that creates an order of one of these accounts.
    pub fn order(&self, account: u32, bid_window: u16, number: u64) -> IOrderBook::createOrderCall {
        IOrderBook::createOrderCall {
            account,
            token: self.token.id,
            bidWindow: bid_window,
            terms: terms(number),
        }
    }
}

/// The smallest order there is: 10 milli-CPU, 16 MiB, no storage; any tier and region, provider mode, version 1 of the rule.
pub fn terms(number: u64) -> OrderTerms {
    OrderTerms {
        resources: U256::from(1u64) << 42 | U256::from(1u64) << 22,
        requirements: U256::from(0b1111_1110u64) << 8 | U256::from(1u64) << 88,
        regions: U256::MAX,
        manifestHash: keccak256(number.to_be_bytes()),
        maximumRate: alloy::primitives::Uint::from(MAXIMUM_RATE),
        duration: DURATION,
        wantedSuppliers: Vec::new(),
        excludedSuppliers: Vec::new(),
    }
}

/// [`terms`] as the rule reads them.
pub fn unpacked_terms(number: u64) -> Terms {
    terms(number).into()
}
