//! Escrow accounts: whose they are, what they hold and entitle to, who may spend of them.

use std::collections::BTreeSet;

use ::chain::network::Token;
use alloy::primitives::{Address, U256};
use alloy::signers::local::PrivateKeySigner;
use avs::words::OrderId;
use bindings::standard::{IERC20, IERC721};
use bindings::{IEscrow, IPaymentTokens, SpendingRight};
use eyre::{OptionExt as _, bail, ensure};
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::arguments::Permission;
use crate::chain::{Call, read};
use crate::dates::Date;
use crate::failure::Failure;
use crate::market::{filter, logs_since, topic};
use crate::session::Session;
use crate::{amounts, brackets};

/// Accounts that are read at the same time.
const READS_AT_ONCE: usize = 16;
/// Blocks whose logs are read again: the last ones may have been replaced since.
const BLOCKS_READ_AGAIN: u64 = 100;

/// Accounts that an address ever received, as of a block: read once, since logs do not change.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Received {
    block: u64,
    accounts: BTreeSet<u32>,
}

/// What an account holds of a token, in units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Balance {
    pub(crate) unlocked: U256,
    pub(crate) locked: U256,
    /// Nonce of its last order.
    pub(crate) nonce: u32,
}

/// Who may spend of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) spender: Address,
    pub(crate) token: u8,
    pub(crate) right: SpendingRight,
}

impl Right {
    /// Unix seconds from which it is worth nothing.
    pub(crate) fn expiry(&self) -> u64 {
        self.right.expiry.to::<u64>()
    }

    pub(crate) fn json(&self, token: &Token, now: u64) -> Value {
        let left = U256::from(self.right.limit);
        json!({
            "spender": self.spender,
            "symbol": token.symbol,
            "left": amounts::whole(left, token.decimals),
            "left_units": left.to_string(),
            "expiry": self.expiry(),
            "expires": Date(self.expiry()).to_string(),
            "expired": self.expiry() <= now,
            "may_close": self.right.mayClose,
        })
    }
}

/// A key and an account whose money it may lock, or not.
#[derive(Debug, Clone)]
pub(crate) struct Spender {
    pub(crate) key: Address,
    account: u32,
    owner: Address,
    /// Units that are left of its spending right, and until when (Unix seconds); nothing for the owner, who needs none.
    pub(crate) right: Option<(U256, u64)>,
    /// Unix seconds, as the chain has them.
    now: u64,
}

impl Spender {
    /// Fails unless it may lock `amount` units of the token.
    pub(crate) fn require(&self, token: &Token, amount: U256) -> eyre::Result<()> {
        let Self {
            key, account, owner, ..
        } = self;
        let Some((limit, expiry)) = self.right else {
            return Ok(());
        };
        let grant = format!(
            "its owner {owner} can grant it: spheron account operator add {key} --account {account} --token {} --limit {}",
            token.symbol,
            amounts::whole(amount, token.decimals)
        );
        ensure!(
            !limit.is_zero(),
            "{key} neither owns account {account} nor has a spending right in {}; {grant}",
            token.symbol
        );
        ensure!(
            expiry > self.now,
            "the spending right of {key} in account {account} ended at {}; {grant}",
            Date(expiry)
        );
        ensure!(
            limit >= amount,
            "{key} may lock {} more of account {account}, {} are needed; {grant}",
            amounts::shown(limit, token),
            amounts::shown(amount, token)
        );
        Ok(())
    }
}

impl Session<'_> {
    /// The account a command is about: the one that was named, or the key's first. One that does not exist is bad input.
    pub(crate) async fn account(&self, named: Option<u32>) -> eyre::Result<u32> {
        if let Some(account) = named {
            self.owner_of(account).await?;
            return Ok(account);
        }
        let owner = self.home.address()?;
        self.own_account(owner).await?.ok_or_eyre(format!(
            "{owner} has no account on {}; run `spheron init`, or name the account whose spender it is with --account",
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
        let account = self.own_accounts(owner).await?.first().copied();
        if let Some(account) = account {
            self.home.cache(&deployment, &name, &Value::from(account));
        }
        Ok(account)
    }

    /// All accounts that an address owns now, ascending.
    pub(crate) async fn own_accounts(&self, owner: Address) -> eyre::Result<BTreeSet<u32>> {
        let (escrow, deployment) = (self.chain.network.contracts.escrow, self.chain.deployment().await?);
        let name = format!("accounts-{owner}");
        let known = self.home.cached(&deployment, &name);
        let Received {
            block,
            accounts: mut candidates,
        } = known
            .and_then(|known| serde_json::from_value(known).ok())
            .unwrap_or_default();
        let (head, _) = self.chain.head().await?;
        let since = block
            .saturating_sub(BLOCKS_READ_AGAIN)
            .max(self.chain.network.deployed_at);
        // Where an account came from does not matter, only who holds it now.
        let received = logs_since::<IERC721::Transfer>(&self.chain, escrow, None, Some(owner.into_word()), since);
        for (_, transfer) in received.await? {
            candidates.insert(u32::try_from(transfer.tokenId)?);
        }
        let contract = self.escrow();
        let received = Received {
            block: head,
            accounts: candidates.clone(),
        };
        self.home.cache(&deployment, &name, &serde_json::to_value(received)?);
        stream::iter(candidates)
            .map(async |account| eyre::Ok((account, read(contract.ownerOf(U256::from(account))).await?)))
            .buffered(READS_AT_ONCE)
            .try_filter_map(async |(account, now)| Ok((now == owner).then_some(account)))
            .try_collect()
            .await
    }

    /// Who owns an account. One that does not exist is bad input.
    pub(crate) async fn owner_of(&self, account: u32) -> eyre::Result<Address> {
        let count = read(self.escrow().accountCount()).await?;
        if account == 0 || account > count {
            bail!(Failure::bad_input(format!(
                "there is no account {account} on {}",
                self.chain.network.name
            )));
        }
        read(self.escrow().ownerOf(U256::from(account))).await
    }

    pub(crate) async fn balance(&self, account: u32, token: u8) -> eyre::Result<Balance> {
        let held = read(self.escrow().balances(account, token)).await?;
        Ok(Balance {
            unlocked: held.unlocked,
            locked: held.locked,
            nonce: held.nonce,
        })
    }

    /// An account with what it holds of every token, and what that entitles to.
    pub(crate) async fn account_json(&self, account: u32) -> eyre::Result<Value> {
        let owner = self.owner_of(account).await?;
        let escrow = self.escrow();
        let tokens = try_join_all(self.chain.network.tokens.iter().map(async |token| {
            let wallet = IERC20::new(token.address, &self.chain.provider);
            let (held, wallet, bracket) = tokio::try_join!(
                self.balance(account, token.id),
                read(wallet.balanceOf(owner)),
                read(escrow.bracketOf(account, token.id))
            )?;
            // Prices decide brackets and nothing else: without one the rest is as it was.
            let today = self.assessed(token, held.unlocked + held.locked).await.ok().flatten();
            let mut entitlement = brackets::entitlement_json(bracket);
            entitlement["advice"] = brackets::advice(account, &token.symbol, bracket, today).into();
            eyre::Ok(json!({
                "symbol": token.symbol,
                "unlocked": amounts::whole(held.unlocked, token.decimals),
                "unlocked_units": held.unlocked.to_string(),
                "locked": amounts::whole(held.locked, token.decimals),
                "locked_units": held.locked.to_string(),
                "wallet": amounts::whole(wallet, token.decimals),
                "wallet_units": wallet.to_string(),
                "orders": held.nonce,
                "bracket": entitlement,
            }))
        }))
        .await?;
        Ok(json!({"account": account.to_string(), "owner": owner.to_string(), "tokens": tokens}))
    }

    /// The bracket that so many units of a token entitle to at today's price; nothing while that cannot be used.
    pub(crate) async fn assessed(&self, token: &Token, held: U256) -> eyre::Result<Option<u8>> {
        /// What the list answers then.
        const UNKNOWN: u8 = 255;
        if held.is_zero() {
            return Ok(Some(0));
        }
        let list = IPaymentTokens::new(self.chain.network.contracts.payment_tokens, &self.chain.provider);
        let assessed = read(list.assess(token.id, held)).await?.bracket;
        Ok((assessed != UNKNOWN).then_some(assessed))
    }

    /// The block in which an account was opened.
    pub(crate) async fn opened_at(&self, account: u32) -> eyre::Result<u64> {
        let deployment = self.chain.deployment().await?;
        let name = format!("opened-{account}");
        if let Some(block) = self.home.cached(&deployment, &name).and_then(|value| value.as_u64()) {
            return Ok(block);
        }
        let escrow = self.chain.network.contracts.escrow;
        let opened = filter::<IEscrow::AccountOpened>(escrow, topic(account.into()), None);
        let (head, _) = self.chain.head().await?;
        let log = self
            .chain
            .last_log(&opened, self.chain.network.deployed_at..=head)
            .await?;
        let block = log.and_then(|log| log.block_number).ok_or_eyre(format!(
            "the log that opened account {account} cannot be found; does this RPC endpoint keep old logs?"
        ))?;
        self.home.cache(&deployment, &name, &Value::from(block));
        Ok(block)
    }

    /// Spending rights of an account that are worth something: a limit is left, and the account has not changed hands.
    pub(crate) async fn rights(&self, account: u32) -> eyre::Result<Vec<Right>> {
        let (escrow, opened) = (self.escrow(), self.opened_at(account).await?);
        let set = logs_since::<IEscrow::SpendingRightSet>(
            &self.chain,
            *escrow.address(),
            topic(account.into()),
            None,
            opened,
        );
        let pairs: BTreeSet<(Address, u8)> = set.await?.iter().map(|(_, set)| (set.spender, set.token)).collect();
        stream::iter(pairs)
            .map(async |(spender, token)| {
                let right = read(escrow.spendingRight(account, spender, token)).await?;
                eyre::Ok(Right { spender, token, right })
            })
            .buffered(READS_AT_ONCE)
            .try_filter_map(async |found| Ok((!found.right.limit.is_zero() || found.right.mayClose).then_some(found)))
            .try_collect()
            .await
    }

    /// The calls that move `amount` units of the key's tokens into an account, after checking that they are there and that the
    /// token's cap leaves room.
    pub(crate) async fn deposit_calls(
        &self,
        signer: &PrivateKeySigner,
        account: u32,
        token: &Token,
        amount: U256,
        permission: Permission,
    ) -> eyre::Result<Vec<Call>> {
        self.require_room(token, amount).await?;
        if permission.permit {
            return self.permit_deposit(signer, account, token, amount).await;
        }
        if permission.permit2 {
            return self.permit2_deposit(signer, account, token, amount).await;
        }
        let escrow = self.chain.network.contracts.escrow;
        let (address, decimals) = (token.address, token.decimals);
        let mut calls = self
            .approval(signer.address(), address, escrow, amount, &token.symbol, decimals)
            .await?;
        let deposit = IEscrow::depositCall {
            account,
            token: token.id,
            amount,
        };
        calls.push(Call::new("to deposit", escrow, &deposit));
        Ok(calls)
    }

    /// Fails if the escrow would hold more of a token than governance allows.
    async fn require_room(&self, token: &Token, amount: U256) -> eyre::Result<()> {
        let tokens = IPaymentTokens::new(self.chain.network.contracts.payment_tokens, &self.chain.provider);
        let contract = IERC20::new(token.address, &self.chain.provider);
        let (listed, held) = tokio::try_join!(
            read(tokens.token(token.id)),
            read(contract.balanceOf(self.chain.network.contracts.escrow))
        )?;
        let room = U256::from(listed.cap).saturating_sub(held);
        ensure!(
            amount <= room,
            "{} lets the escrow hold at most {} in all, and {} are there: deposit at most {}",
            self.chain.network.name,
            amounts::shown(U256::from(listed.cap), token),
            amounts::shown(held, token),
            amounts::shown(room, token)
        );
        Ok(())
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

    /// Fails unless the key owns the account or may lock `amount` of its token, so that nothing is sent in vain.
    pub(crate) async fn require_spender(
        &self,
        account: u32,
        token: &Token,
        key: Address,
        amount: U256,
    ) -> eyre::Result<()> {
        self.spender(account, token, key).await?.require(token, amount)
    }

    /// What a key may do with an account's money in a token.
    pub(crate) async fn spender(&self, account: u32, token: &Token, key: Address) -> eyre::Result<Spender> {
        let (owner, (_, now)) = tokio::try_join!(self.owner_of(account), self.chain.head())?;
        let right = match owner == key {
            true => None,
            false => {
                let right = read(self.escrow().spendingRight(account, key, token.id)).await?;
                Some((U256::from(right.limit), right.expiry.to::<u64>()))
            }
        };
        Ok(Spender {
            key,
            account,
            owner,
            right,
            now,
        })
    }

    /// Fails unless the key may cancel an account's orders and close its leases in a token.
    pub(crate) async fn require_closer(&self, order: u64, key: Address) -> eyre::Result<()> {
        let OrderId { account, token, .. } = OrderId::unpack(order);
        if !read(self.escrow().mayClose(account, token, key)).await? {
            let owner = self.owner_of(account).await?;
            bail!(
                "order {order} belongs to account {account} of {owner}; {key} is neither its owner nor a spender who may close \
                 (`spheron account operator add --may-close`)"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_not_lock_an_amount_is_told_why_and_who_can_grant_it() {
        let token = Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals: 6,
        };
        let three = U256::from(3_000_000);
        let spender = |right| Spender {
            key: Address::repeat_byte(1),
            account: 7,
            owner: Address::repeat_byte(2),
            right,
            now: 100,
        };
        spender(None)
            .require(&token, U256::MAX)
            .expect("the owner needs no right");
        spender(Some((three, 101))).require(&token, three).expect("just enough");
        for (right, why) in [
            ((U256::ZERO, 101), "nor has a spending right in uSPON"),
            ((three, 100), "ended at 1970-01-01 00:01:40"),
            (
                (three - U256::from(1), 101),
                "may lock 2.999999 uSPON more of account 7, 3 uSPON are needed",
            ),
        ] {
            let error = spender(Some(right)).require(&token, three).expect_err(why).to_string();
            let grant = format!(
                "operator add {} --account 7 --token uSPON --limit 3",
                Address::repeat_byte(1)
            );
            assert!(error.contains(why) && error.contains(&grant), "{error}");
        }
    }
}
