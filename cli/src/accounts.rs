//! Escrow accounts of a key.

use alloy::primitives::{Address, U256};
use bindings::IEscrow;
use bindings::standard::{IERC20, IERC721};
use eyre::{OptionExt as _, bail, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::amounts;
use crate::chain::{Call, read};
use crate::market::logs;
use crate::session::Session;

/// What an account holds of a token, in units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) unlocked: U256,
    pub(crate) locked: U256,
    /// Nonce of its last order.
    pub(crate) nonce: u32,
}

impl Session<'_> {
    /// The account a command is about: the one that was named, or the key's own.
    pub(crate) async fn account(&self, named: Option<u32>) -> eyre::Result<u32> {
        if let Some(account) = named {
            return Ok(account);
        }
        let owner = self.home.address()?;
        self.own_account(owner).await?.ok_or_eyre(format!(
            "{owner} has no account on {}; run `spheron init`",
            self.chain.network.name
        ))
    }

    /// The first account that an address owns now: the one found last time, or what the logs say.
    pub(crate) async fn own_account(&self, owner: Address) -> eyre::Result<Option<u32>> {
        let deployment = self.chain.deployment().await?;
        let name = format!("account-{owner}");
        let known = self.home.cached(&deployment, &name).and_then(|value| value.as_u64());
        if let Some(account) = known.and_then(|account| u32::try_from(account).ok())
            && self.owner_of(account).await? == owner
        {
            return Ok(Some(account));
        }
        let escrow = self.chain.network.contracts.escrow;
        // Where an account came from does not matter, only who holds it now.
        let received = logs::<IERC721::Transfer>(&self.chain, escrow, None, Some(owner.into_word())).await?;
        for (_, transfer) in received {
            let account = u32::try_from(transfer.tokenId)?;
            if self.owner_of(account).await? == owner {
                self.remember_account(&deployment, owner, account);
                return Ok(Some(account));
            }
        }
        Ok(None)
    }

    fn remember_account(&self, deployment: &str, owner: Address, account: u32) {
        self.home
            .cache(deployment, &format!("account-{owner}"), &Value::from(account));
    }

    pub(crate) async fn owner_of(&self, account: u32) -> eyre::Result<Address> {
        let escrow = IEscrow::new(self.chain.network.contracts.escrow, &self.chain.provider);
        read(escrow.ownerOf(U256::from(account))).await
    }

    pub(crate) async fn balance(&self, account: u32, token: u8) -> eyre::Result<Balance> {
        let escrow = IEscrow::new(self.chain.network.contracts.escrow, &self.chain.provider);
        let held = read(escrow.balances(account, token)).await?;
        Ok(Balance {
            unlocked: held.unlocked,
            locked: held.locked,
            nonce: held.nonce,
        })
    }

    /// An account with what it holds of every token.
    pub(crate) async fn account_json(&self, account: u32) -> eyre::Result<Value> {
        let owner = self.owner_of(account).await?;
        let tokens = try_join_all(self.chain.network.tokens.iter().map(async |token| {
            let wallet = IERC20::new(token.address, &self.chain.provider);
            let (held, wallet) = tokio::try_join!(self.balance(account, token.id), read(wallet.balanceOf(owner)))?;
            eyre::Ok(json!({
                "symbol": token.symbol,
                "unlocked": amounts::whole(held.unlocked, token.decimals),
                "unlocked_units": held.unlocked.to_string(),
                "locked": amounts::whole(held.locked, token.decimals),
                "locked_units": held.locked.to_string(),
                "wallet": amounts::whole(wallet, token.decimals),
                "wallet_units": wallet.to_string(),
                "orders": held.nonce,
            }))
        }))
        .await?;
        Ok(json!({"account": account.to_string(), "owner": owner, "tokens": tokens}))
    }

    /// The calls that move `amount` units of the key's tokens into an account, after checking that they are there.
    pub(crate) async fn deposit_calls(
        &self,
        from: Address,
        account: u32,
        symbol: &str,
        amount: U256,
    ) -> eyre::Result<Vec<Call>> {
        let token = self.token(symbol)?;
        let escrow = self.chain.network.contracts.escrow;
        let mut calls = self
            .approval(from, token.address, escrow, amount, symbol, token.decimals)
            .await?;
        let deposit = IEscrow::depositCall {
            account,
            token: token.id,
            amount,
        };
        calls.push(Call::new("to deposit", escrow, &deposit));
        Ok(calls)
    }

    /// The call that lets a contract take tokens, unless it may already; fails if the tokens are not there.
    pub(crate) async fn approval(
        &self,
        owner: Address,
        token: Address,
        spender: Address,
        amount: U256,
        symbol: &str,
        decimals: u8,
    ) -> eyre::Result<Vec<Call>> {
        let contract = IERC20::new(token, &self.chain.provider);
        let (held, allowed) = tokio::try_join!(
            read(contract.balanceOf(owner)),
            read(contract.allowance(owner, spender))
        )?;
        ensure!(
            held >= amount,
            "{owner} holds {} {symbol}, {} are needed; send it some",
            amounts::whole(held, decimals),
            amounts::whole(amount, decimals)
        );
        if allowed >= amount {
            return Ok(Vec::new());
        }
        let approve = IERC20::approveCall { spender, value: amount };
        Ok(vec![Call::new("to approve the transfer", token, &approve)])
    }

    /// Fails unless the key owns the account, so that nothing is sent in vain.
    pub(crate) async fn require_owner(&self, account: u32, key: Address) -> eyre::Result<()> {
        let owner = self.owner_of(account).await?;
        if owner != key {
            bail!("account {account} belongs to {owner}, the key is that of {key}; use its owner's home");
        }
        Ok(())
    }
}
