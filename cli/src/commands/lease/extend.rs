//! `spheron lease extend` and `top-up`: a later end, with the money that is there or with money that is brought along.

use ::chain::network::Token;
use alloy::primitives::U256;
use avs::words::OrderId;
use bindings::standard::IERC20;
use bindings::{ILeases, OrderState};
use eyre::{OptionExt as _, bail, ensure};
use serde_json::{Value, json};

use super::on_chain;
use crate::amounts::{self, affordable_extension, lease_lock};
use crate::arguments::{Extend, TopUp};
use crate::chain::{Call, read};
use crate::commands::deploy::Standing;
use crate::dates::Date;
use crate::failure::Failure;
use crate::market::{Time, state_phrase};
use crate::output::facts;
use crate::session::Session;

/// The longest lease there can be, in seconds.
const LONGEST: u32 = (1 << 29) - 1;

/// What an extension costs.
#[derive(Debug)]
struct Price {
    lease: u64,
    account: u32,
    token: Token,
    added: u32,
    /// Seconds of the longest extension that there can be.
    longest: u32,
    /// Locked on top of what is locked.
    cost: U256,
    unlocked: U256,
    /// Unix seconds: the end as it is, and as it will be.
    end: u64,
}

pub(super) async fn run(session: &Session<'_>, arguments: &Extend) -> eyre::Result<()> {
    let price = price(session, arguments.lease, |_, _| Ok(arguments.added)).await?;
    if arguments.dry_run {
        let standing = price.standing(session).await?;
        let mut value = price.json(false);
        let mut lines = price.facts();
        if !price.is_enough() {
            lines.push(("missing", "`spheron lease top-up` deposits the rest".to_owned()));
        }
        standing.show(&price.token, &mut value, &mut lines);
        session.output.result(&value, &facts(&lines));
        return Ok(());
    }
    ensure!(
        price.unlocked >= price.cost,
        "account {} has {} unlocked, the extension locks {}; run `spheron lease top-up {} --for {}s`, which deposits the rest",
        price.account,
        amounts::shown(price.unlocked, &price.token),
        amounts::shown(price.cost, &price.token),
        price.lease,
        price.added
    );
    let key = session.home.address()?;
    session
        .require_spender(price.account, &price.token, key, price.cost)
        .await?;
    session.output.step(price.sentence());
    session
        .chain
        .execute(&session.home.signer()?, vec![price.call(session)])
        .await?;
    extended(session, &price, U256::ZERO).await
}

pub(super) async fn top_up(session: &Session<'_>, arguments: &TopUp) -> eyre::Result<()> {
    let token = session.token_of(arguments.lease)?.clone();
    let given = match &arguments.amount {
        Some(amount) => Some(session.units(amount, &token).await?),
        None => None,
    };
    let price = price(session, arguments.lease, |duration, cost| {
        match (arguments.added, given) {
            (Some(added), _) => Ok(added),
            (None, Some(given)) => match cost.seconds_for(duration, given) {
                0 => Err(Failure::bad_input(format!(
                    "{} does not pay for a second of the lease",
                    amounts::shown(given, &token)
                ))),
                added => Ok(added),
            },
            (None, None) => Err(Failure::bad_input(
                "say how much longer with --for, or give an --amount",
            )),
        }
    })
    .await?;
    let deposit = deposit(given, &price);
    let rest = given.map_or(U256::ZERO, |given| given.saturating_sub(deposit));
    let limited = format!(
        "{} of it is not: no lease lasts longer than {LONGEST} s, and that locks no more",
        amounts::shown(rest, &token)
    );
    if arguments.dry_run {
        let mut value = price.json(false);
        value["deposit"] = amounts::whole(deposit, token.decimals).into();
        value["deposit_units"] = deposit.to_string().into();
        let mut lines = price.facts();
        let mut shown = amounts::shown(deposit, &token);
        if !rest.is_zero() {
            shown.push_str(&format!("; {limited}"));
        }
        lines.push(("deposit", shown));
        if let Ok(key) = session.home.address() {
            let wallet = read(IERC20::new(token.address, &session.chain.provider).balanceOf(key)).await?;
            value["wallet"] = amounts::whole(wallet, token.decimals).into();
            value["wallet_units"] = wallet.to_string().into();
            value["wallet_enough"] = (wallet >= deposit).into();
            let enough = if wallet >= deposit { "" } else { ", which is not enough" };
            lines.push((
                "wallet",
                format!("{key} holds {}{enough}", amounts::shown(wallet, &token)),
            ));
        }
        price.standing(session).await?.show(&token, &mut value, &mut lines);
        session.output.result(&value, &facts(&lines));
        return Ok(());
    }
    let signer = session.home.signer()?;
    session
        .require_spender(price.account, &token, signer.address(), price.cost)
        .await?;
    let mut calls = Vec::new();
    if !rest.is_zero() {
        session.output.note(format!(
            "only {} is deposited, {limited}",
            amounts::shown(deposit, &token)
        ));
    }
    if !deposit.is_zero() {
        session.output.note(format!(
            "depositing {} into account {}",
            amounts::shown(deposit, &token),
            price.account
        ));
        calls = session
            .deposit_calls(&signer, price.account, &token, deposit, arguments.permission)
            .await?;
    }
    calls.push(price.call(session));
    session.output.step(price.sentence());
    session.chain.execute(&signer, calls).await?;
    extended(session, &price, deposit).await
}

/// What is deposited: what was given, as far as the extension can lock it, or what the account lacks.
fn deposit(given: Option<U256>, price: &Price) -> U256 {
    match given {
        // The rest of a second's price stays in the account.
        Some(given) if price.added < price.longest => given,
        Some(given) => given.min(price.cost),
        None => price.cost.saturating_sub(price.unlocked),
    }
}

/// Whether this home's key may pay for an extension, where it has a key.
struct MaybeStanding(Option<Standing>);

impl MaybeStanding {
    fn show(&self, token: &Token, value: &mut Value, lines: &mut Vec<(&str, String)>) {
        if let Some(standing) = &self.0 {
            value["spender"] = standing.json(token);
            lines.push(("this key", standing.text(token)));
        }
    }
}

/// The terms by which an extension is paid for.
struct Cost<'a> {
    rate: U256,
    schedule: &'a bindings::FeeSchedule,
}

impl Cost<'_> {
    fn seconds_for(&self, duration: u32, amount: U256) -> u32 {
        affordable_extension(duration, self.rate, self.schedule, amount)
    }
}

/// What it costs to move a lease's end by as much as `added` says, given its duration and the terms of its price.
async fn price(
    session: &Session<'_>,
    lease: u64,
    added: impl Fn(u32, &Cost<'_>) -> Result<u32, Failure>,
) -> eyre::Result<Price> {
    let (found, token) = (on_chain(session, lease).await?, session.token_of(lease)?.clone());
    if found.word.state != OrderState::Leased {
        bail!(
            "lease {lease} is {}: only a live one can be extended",
            state_phrase(found.word.state)
        );
    }
    let time = found.account.as_ref().ok_or_eyre("a lease has a start")?;
    ensure!(
        time.time != Some(Time::Over),
        "the end of lease {lease} and the grace after it are over since {} UTC; order anew with `spheron deploy`",
        Date(time.grace_end)
    );
    let (rate, duration) = (U256::from(found.word.rate), found.word.duration);
    let longest = LONGEST - duration;
    if longest == 0 {
        bail!(Failure::bad_input(format!(
            "lease {lease} lasts {LONGEST} s already, and none lasts longer"
        )));
    }
    let cost = Cost {
        rate,
        schedule: &found.schedule,
    };
    let added = added(duration, &cost)?;
    if added > longest {
        bail!(Failure::bad_input(format!(
            "a lease lasts at most {LONGEST}s; this one can be extended by {longest}s"
        )));
    }
    let account = OrderId::unpack(lease).account;
    let held = session.balance(account, token.id).await?;
    let lock = |duration| lease_lock(duration, rate, &found.schedule);
    Ok(Price {
        lease,
        account,
        token,
        added,
        longest,
        cost: lock(duration + added) - lock(duration),
        unlocked: held.unlocked,
        end: time.end,
    })
}

impl Price {
    fn call(&self, session: &Session<'_>) -> Call {
        let call = ILeases::extendLeaseCall {
            orderId: self.lease,
            added: self.added,
        };
        Call::new("to extend the lease", session.chain.network.contracts.order_book, &call)
    }

    async fn standing(&self, session: &Session<'_>) -> eyre::Result<MaybeStanding> {
        let standing = Standing::of(session, self.account, &self.token, self.cost).await?;
        Ok(MaybeStanding(standing))
    }

    fn is_enough(&self) -> bool {
        self.unlocked >= self.cost
    }

    fn sentence(&self) -> String {
        format!(
            "extending lease {} by {} for {}",
            self.lease,
            amounts::time(self.added.into()),
            amounts::shown(self.cost, &self.token)
        )
    }

    fn json(&self, sent: bool) -> Value {
        json!({
            "lease": self.lease.to_string(),
            "account": self.account.to_string(),
            "added_seconds": self.added,
            "symbol": self.token.symbol,
            "cost": amounts::whole(self.cost, self.token.decimals),
            "cost_units": self.cost.to_string(),
            "unlocked": amounts::whole(self.unlocked, self.token.decimals),
            "enough": self.is_enough(),
            "end": self.end + u64::from(self.added),
            "sent": sent,
        })
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let enough = if self.is_enough() { "" } else { ", which is not enough" };
        vec![
            ("lease", self.lease.to_string()),
            ("longer by", amounts::time(self.added.into())),
            ("ends", format!("{} UTC", Date(self.end + u64::from(self.added)))),
            ("locks at most", amounts::shown(self.cost, &self.token)),
            (
                "account",
                format!(
                    "{} has {} unlocked{enough}",
                    self.account,
                    amounts::shown(self.unlocked, &self.token)
                ),
            ),
        ]
    }
}

async fn extended(session: &Session<'_>, price: &Price, deposit: U256) -> eyre::Result<()> {
    let after = on_chain(session, price.lease).await?;
    let end = after.account.map_or(price.end, |account| account.end);
    let mut value = price.json(true);
    value["end"] = end.into();
    value["deposit_units"] = deposit.to_string().into();
    let text = format!(
        "lease {} now ends {} UTC; {} more is locked, what it does not use comes back",
        price.lease,
        Date(end),
        amounts::shown(price.cost, &price.token)
    );
    session.output.result(&value, &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;

    #[test]
    fn no_more_is_deposited_than_the_longest_lease_can_lock() {
        let price = |added, cost: u64, unlocked: u64| Price {
            lease: 7,
            account: 1,
            token: Token {
                id: 1,
                symbol: "uSPON".to_owned(),
                address: Address::ZERO,
                decimals: 6,
            },
            added,
            longest: 1_000,
            cost: U256::from(cost),
            unlocked: U256::from(unlocked),
            end: 0,
        };
        let given = |amount: u64| Some(U256::from(amount));
        // All of it extends the lease, but for less than a second's price.
        assert_eq!(deposit(given(50), &price(10, 49, 0)), U256::from(50));
        assert_eq!(deposit(given(500_000), &price(1_000, 12, 0)), U256::from(12));
        assert_eq!(deposit(given(12), &price(1_000, 12, 5)), U256::from(12));
        assert_eq!(deposit(None, &price(10, 49, 9)), U256::from(40));
        assert_eq!(deposit(None, &price(10, 49, 99)), U256::ZERO);
    }
}
