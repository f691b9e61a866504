//! What the guardian stops, and what nobody can.

use alloy::primitives::{Address, U256};
use alloy::providers::Provider as _;
use avs::response::{OrderMatch, encode};
use avs::words::RankedSupplier;
use bindings::standard::IERC20;
use bindings::{IEscrow, ILeases, IMatchingTaskManager, IOrderBook, IPaymentTokens, LeaseResources, OrderState};
use devnet::{plan, traffic};
use eyre::ensure;
use serde_json::json;

use crate::{Deployed, STRANGER};

const USER: &str = "user";
const SUPPLIER: &str = "supplier";
/// Whole uSPON.
const DEPOSIT: u64 = 1_000;
const RATE: u64 = 40_000_000;
/// Seconds that a lease runs while everything is paused.
const RUNS: u64 = 60;

/// A market in which a lease runs, one order takes bids and one waits for an answer.
struct Market<'a> {
    deployed: &'a Deployed,
    account: u32,
    token: u8,
    supplier: u32,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_market_pays_closes_and_returns() -> eyre::Result<()> {
    let mut deployed = Box::pin(Deployed::start()).await?;
    let traffic = deployed.traffic()?;
    let (supplier, token) = (traffic.supplier(SUPPLIER, 100).await?, traffic.token.id);
    let account = traffic.accounts(USER, 1, DEPOSIT).await?[0];
    let market = Market {
        deployed: &deployed,
        account,
        token,
        supplier,
    };
    let (leased, _) = market.order(1, 4).await?;
    market.match_order(1).await?;
    let (open, _) = market.order(2, 50).await?;
    let (waiting, close) = market.order(3, 4).await?;
    market.mine_until(close + 1).await?;

    let contracts = &deployed.network.contracts;
    deployed.govern(contracts.order_book, &IOrderBook::pauseCall {}).await?;
    deployed
        .govern(contracts.task_manager, &IMatchingTaskManager::pauseCall {})
        .await?;
    market.nothing_begins(leased, open).await?;
    market.the_supplier_is_paid(leased).await?;
    market.the_user_leaves(leased, open, waiting, close).await?;

    deployed
        .govern(contracts.order_book, &IOrderBook::unpauseCall {})
        .await?;
    deployed
        .govern(contracts.task_manager, &IMatchingTaskManager::resumeCall {})
        .await?;
    market.order(4, 4).await?;
    market.match_order(4).await?;
    market.a_paused_token_is_taken_out(5).await?;
    deployed.anvil.process.stop().await
}

impl Market<'_> {
    fn book(&self) -> Address {
        self.deployed.network.contracts.order_book
    }

    fn escrow(&self) -> IEscrow::IEscrowInstance<&alloy::providers::DynProvider> {
        IEscrow::new(self.deployed.network.contracts.escrow, &self.deployed.anvil.provider)
    }

    fn id(&self, number: u64) -> u64 {
        u64::from(self.account) << 32 | u64::from(self.token) << 24 | number
    }

    /// The account's order of this number, with the supplier's bid: its id and close block.
    async fn order(&self, number: u64, window: u16) -> eyre::Result<(u64, u64)> {
        let call = self.deployed.traffic()?.order(self.account, window, number);
        self.deployed.send(USER, self.book(), &call).await?;
        self.deployed.send(SUPPLIER, self.book(), &self.bid(number)).await?;
        let book = IOrderBook::new(self.book(), &self.deployed.anvil.provider);
        let order = book.order(self.id(number)).call().await?;
        Ok((self.id(number), order.closeBlock.into()))
    }

    fn bid(&self, number: u64) -> IOrderBook::placeBidCall {
        IOrderBook::placeBidCall {
            orderId: self.id(number),
            fizz: 0,
            rate: alloy::primitives::Uint::from(RATE),
        }
    }

    /// The answer that the task manager would bring in: what decides about it is another test's.
    async fn match_order(&self, number: u64) -> eyre::Result<()> {
        let book = IOrderBook::new(self.book(), &self.deployed.anvil.provider);
        let close = book.order(self.id(number)).call().await?.closeBlock;
        self.mine_until(u64::from(close) + 1).await?;
        let task_manager = self.deployed.network.contracts.task_manager;
        let anvil = &self.deployed.anvil;
        anvil.set_balance(task_manager, 1).await?;
        anvil.call("anvil_impersonateAccount", json!([task_manager])).await?;
        let opened = self.opened(number, close)?;
        self.deployed
            .traffic()?
            .send(task_manager, self.book(), &opened)
            .await?;
        let state = book.order(self.id(number)).call().await?.state;
        ensure!(state == OrderState::Leased, "order {number} is {state:?}");
        Ok(())
    }

    fn opened(&self, number: u64, close: u32) -> eyre::Result<IOrderBook::openLeasesCall> {
        let terms = traffic::unpacked_terms(number);
        let outcome = OrderMatch {
            order_id: self.id(number),
            resources: terms.resources,
            rest_hash: terms.rest_hash(),
            ranks: vec![RankedSupplier {
                provider: self.supplier,
                fizz: 0,
                rate: RATE.into(),
                gpu_entry: 0,
            }],
        };
        Ok(IOrderBook::openLeasesCall {
            closeBlock: close,
            matches: encode(&[outcome])?,
            responder: plan::address(STRANGER),
        })
    }

    fn resources(&self, number: u64) -> LeaseResources {
        let terms = traffic::unpacked_terms(number);
        LeaseResources {
            resources: terms.resources,
            restHash: terms.rest_hash(),
        }
    }

    async fn mine_until(&self, block: u64) -> eyre::Result<()> {
        let head = self.deployed.anvil.provider.get_block_number().await?;
        if block > head {
            self.deployed.anvil.call("anvil_mine", json!([block - head])).await?;
        }
        Ok(())
    }

    /// Orders, bids, matches and updates are refused.
    async fn nothing_begins(&self, leased: u64, open: u64) -> eyre::Result<()> {
        type Paused = IOrderBook::MarketPaused;
        let (deployed, book) = (self.deployed, self.book());
        let (user, supplier) = (plan::address(USER), plan::address(SUPPLIER));
        let order = deployed.traffic()?.order(self.account, 4, 9);
        deployed.refused::<Paused>(user, book, &order).await?;
        let bid = self.bid(open & 0xff_ffff);
        deployed.refused::<Paused>(supplier, book, &bid).await?;
        let reader = IOrderBook::new(book, &deployed.anvil.provider);
        let close = reader.order(self.id(3)).call().await?.closeBlock;
        let opened = self.opened(3, close)?;
        let task_manager = deployed.network.contracts.task_manager;
        deployed.refused::<Paused>(task_manager, book, &opened).await?;
        let proposed = ILeases::proposeUpdateCall {
            orderId: leased,
            terms: traffic::terms(7),
            expiry: alloy::primitives::Uint::MAX,
        };
        deployed.refused::<Paused>(user, book, &proposed).await
    }

    async fn the_supplier_is_paid(&self, leased: u64) -> eyre::Result<()> {
        let deployed = self.deployed;
        let started = IOrderBook::new(self.book(), &deployed.anvil.provider);
        let started = u64::from(started.order(leased).call().await?.start);
        deployed.anvil.reach(started + RUNS).await?;
        let settle = IOrderBook::settleCall { orderIds: vec![leased] };
        deployed.send(STRANGER, self.book(), &settle).await?;
        let payee = plan::address(SUPPLIER);
        ensure!(!self.escrow().creditOf(payee, self.token).call().await?.is_zero());
        let withdraw = IEscrow::withdrawCreditCall {
            token: self.token,
            to: payee,
        };
        deployed.send(SUPPLIER, *self.escrow().address(), &withdraw).await?;
        let token = IERC20::new(deployed.traffic()?.token.address, &deployed.anvil.provider);
        // Sixty seconds of the rate, less a fifth for the rebated commission and the provider's fee, and less one second's slack.
        let least = U256::from(RATE * (RUNS - 1) / 36_000 * 80 / 100);
        let paid = token.balanceOf(payee).call().await?;
        ensure!(paid >= least, "the supplier got {paid} units, at least {least} are due");
        Ok(())
    }

    /// Extends, closes, cancels, lets expire, deposits and withdraws.
    async fn the_user_leaves(&self, leased: u64, open: u64, waiting: u64, close: u64) -> eyre::Result<()> {
        let (deployed, book, escrow) = (self.deployed, self.book(), self.escrow());
        let extend = ILeases::extendLeaseCall {
            orderId: leased,
            added: 60,
        };
        deployed.send(USER, book, &extend).await?;
        let closed = ILeases::closeLeaseCall {
            orderId: leased,
            reason: OrderState::ClosedByUser,
            resources: self.resources(1),
        };
        deployed.send(USER, book, &closed).await?;
        deployed
            .send(USER, book, &IOrderBook::cancelOrderCall { orderId: open })
            .await?;
        let windows = IOrderBook::new(book, &deployed.anvil.provider)
            .parameters()
            .call()
            .await?;
        let unanswered = close + u64::from(windows.responseWindow) + u64::from(windows.matchWindow);
        self.mine_until(unanswered + 1).await?;
        let expire = IOrderBook::expireOrdersCall {
            orderIds: vec![waiting],
        };
        deployed.send(STRANGER, book, &expire).await?;

        let before = escrow.balances(self.account, self.token).call().await?;
        ensure!(before.locked.is_zero(), "{} units stay locked", before.locked);
        let user = plan::address(USER);
        let half = before.unlocked / U256::from(2);
        let withdraw = IEscrow::withdrawCall {
            account: self.account,
            token: self.token,
            amount: half,
            to: user,
        };
        deployed.send(USER, *escrow.address(), &withdraw).await?;
        let token = deployed.traffic()?.token.address;
        let approve = IERC20::approveCall {
            spender: *escrow.address(),
            value: half,
        };
        deployed.send(USER, token, &approve).await?;
        let deposit = IEscrow::depositCall {
            account: self.account,
            token: self.token,
            amount: half,
        };
        deployed.send(USER, *escrow.address(), &deposit).await?;
        let after = escrow.balances(self.account, self.token).call().await?;
        ensure!(after.unlocked == before.unlocked, "what went out came back");
        Ok(())
    }

    /// The guardian stops new orders in a token; what is there leaves, and the token lister starts it again.
    async fn a_paused_token_is_taken_out(&self, next: u64) -> eyre::Result<()> {
        let (deployed, escrow) = (self.deployed, self.escrow());
        let tokens = deployed.network.contracts.payment_tokens;
        let user = plan::address(USER);
        deployed
            .govern(tokens, &IPaymentTokens::pauseTokenCall { id: self.token })
            .await?;
        let order = deployed.traffic()?.order(self.account, 4, next);
        deployed
            .refused::<IEscrow::TokenNotEnabled>(user, self.book(), &order)
            .await?;
        let withdraw = IEscrow::withdrawCall {
            account: self.account,
            token: self.token,
            amount: U256::from(1),
            to: user,
        };
        deployed.send(USER, *escrow.address(), &withdraw).await?;
        let closed = ILeases::closeLeaseCall {
            orderId: self.id(4),
            reason: OrderState::ClosedByUser,
            resources: self.resources(4),
        };
        deployed.send(USER, self.book(), &closed).await?;
        let enabled = IPaymentTokens::setStatusCall {
            id: self.token,
            status: IPaymentTokens::Status::Enabled,
        };
        deployed.govern(tokens, &enabled).await?;
        self.order(next, 4).await.map(drop)
    }
}
