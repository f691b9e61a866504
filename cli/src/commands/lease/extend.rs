//! `spheron lease extend` and `top-up`: a later end, with the money that is there or with money that is brought along.

use ::chain::network::Token;
use alloy::primitives::U256;
use avs::words::OrderId;
use bindings::{ILeases, OrderState};
use eyre::{OptionExt as _, bail, ensure};
use serde_json::{Value, json};

use super::on_chain;
use crate::amounts::{self, affordable_extension, lease_lock};
use crate::arguments::{Extend, TopUp};
use crate::chain::Call;
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
    /// Locked on top of what is locked.
    cost: U256,
    unlocked: U256,
    /// Unix seconds: the end as it is, and as it will be.
    end: u64,
}

pub(super) async fn run(session: &Session<'_>, arguments: &Extend) -> eyre::Result<()> {
    let price = price(session, arguments.lease, |_, _| Ok(arguments.added)).await?;
    if arguments.dry_run {
        session.output.result(&price.json(false), &price.text());
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
    let given = arguments
        .amount
        .as_deref()
        .map(|amount| amounts::units(amount, token.decimals, &token.symbol))
        .transpose()?;
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
    let deposit = given.unwrap_or_else(|| price.cost.saturating_sub(price.unlocked));
    if arguments.dry_run {
        let mut value = price.json(false);
        value["deposit"] = amounts::whole(deposit, token.decimals).into();
        value["deposit_units"] = deposit.to_string().into();
        let text = format!("{}deposit          {}\n", price.text(), amounts::shown(deposit, &token));
        session.output.result(&value, &text);
        return Ok(());
    }
    let signer = session.home.signer()?;
    session
        .require_spender(price.account, &token, signer.address(), price.cost)
        .await?;
    let mut calls = Vec::new();
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
    let cost = Cost {
        rate,
        schedule: &found.schedule,
    };
    let added = added(duration, &cost)?;
    if added > LONGEST - duration {
        bail!(Failure::bad_input(format!(
            "a lease lasts at most {LONGEST}s; this one can be extended by {}s",
            LONGEST - duration
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
            "enough": self.unlocked >= self.cost,
            "end": self.end + u64::from(self.added),
            "sent": sent,
        })
    }

    fn text(&self) -> String {
        let enough = if self.unlocked >= self.cost {
            ""
        } else {
            ", which is not enough: `spheron lease top-up` deposits the rest"
        };
        facts(&[
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
        ])
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
