//! `spheron account`: open, list, show, deposit, withdraw, hand over; who may spend; what was paid.

mod history;
mod money;
mod operator;
mod transfer;

use alloy::primitives::{Address, U256};
use avs::words::OrderId;
use bindings::{IEscrow, ILeases, OrderState};
use eyre::OptionExt as _;
use futures::future::try_join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::init::opened;
use crate::accounts::Right;
use crate::arguments::Account;
use crate::chain::{Call, read};
use crate::dates::Date;
use crate::output::table;
use crate::session::Session;
use crate::{amounts, brackets};

/// Orders that are read at the same time.
const READS_AT_ONCE: usize = 16;

pub(super) async fn run(session: &Session<'_>, arguments: &Account) -> eyre::Result<()> {
    match arguments {
        Account::Open { owner } => open(session, *owner).await,
        Account::List { owner } => list(session, *owner).await,
        Account::Show { account } => {
            let account = session.account(*account).await?;
            show(session, account, None).await
        }
        Account::Deposit(arguments) => money::deposit(session, arguments).await,
        Account::Withdraw { amount, money, to } => money::withdraw(session, amount, money, *to).await,
        Account::Transfer { to, account, yes } => transfer::run(session, *account, *to, *yes).await,
        Account::Operator(arguments) => operator::run(session, arguments).await,
        Account::History(arguments) => history::run(session, arguments).await,
        Account::UpdateBracket { money } => money::update_bracket(session, money).await,
        Account::Credits { token, withdraw, to } => credits(session, token.as_deref(), *withdraw, *to).await,
        Account::RevokeSignature => revoke(session).await,
    }
}

async fn open(session: &Session<'_>, owner: Option<Address>) -> eyre::Result<()> {
    let signer = session.home.signer()?;
    let owner = owner.unwrap_or_else(|| signer.address());
    let call = Call::new(
        "to open an account",
        session.chain.network.contracts.escrow,
        &IEscrow::openCall { owner },
    );
    session.output.step("opening an account");
    let account = opened(&session.chain.execute(&signer, vec![call]).await?)?;
    let value = json!({"account": account.to_string(), "owner": owner});
    session.output.result(&value, &format!("account {account} of {owner}"));
    Ok(())
}

async fn list(session: &Session<'_>, owner: Option<Address>) -> eyre::Result<()> {
    let owner = match owner {
        Some(owner) => owner,
        None => session.home.address()?,
    };
    let accounts = session.own_accounts(owner).await?;
    let found: Vec<Value> = try_join_all(accounts.iter().map(|account| session.account_json(*account))).await?;
    let mut rows = vec![
        ["ACCOUNT", "TOKEN", "UNLOCKED", "LOCKED", "BRACKET", "ORDERS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for account in &found {
        let name = account["account"].as_str().unwrap_or_default();
        let mut empty = true;
        for token in account["tokens"].as_array().into_iter().flatten() {
            if token["orders"] == 0 && token["unlocked_units"] == "0" && token["locked_units"] == "0" {
                continue;
            }
            empty = false;
            let cells = ["symbol", "unlocked", "locked"].map(|cell| text(&token[cell]));
            let mut row = vec![name.to_owned()];
            row.extend(cells);
            row.push(token["bracket"]["bracket"].to_string());
            row.push(token["orders"].to_string());
            rows.push(row);
        }
        if empty {
            rows.push(vec![name.to_owned(), "-".to_owned(), "0".to_owned(), "0".to_owned()]);
        }
    }
    let shown = match found.len() {
        0 => format!("{owner} has no account; `spheron account open` opens one"),
        _ => format!("accounts of {owner}\n\n{}", table(&rows)),
    };
    session
        .output
        .result(&json!({"owner": owner, "accounts": found}), &shown);
    Ok(())
}

async fn credits(session: &Session<'_>, token: Option<&str>, withdraw: bool, to: Option<Address>) -> eyre::Result<()> {
    let owner = session.home.address()?;
    let tokens: Vec<_> = match token {
        Some(symbol) => vec![session.token(symbol)?],
        None => session.chain.network.tokens.iter().collect(),
    };
    let (mut found, mut rows, mut calls) = (
        Vec::new(),
        vec![vec!["TOKEN".to_owned(), "OWED".to_owned()]],
        Vec::new(),
    );
    let to = to.unwrap_or(owner);
    for token in tokens {
        let owed = read(session.escrow().creditOf(owner, token.id)).await?;
        let whole = amounts::whole(owed, token.decimals);
        found.push(json!({"symbol": token.symbol, "owed": whole, "owed_units": owed.to_string()}));
        rows.push(vec![token.symbol.clone(), whole]);
        if !owed.is_zero() {
            let call = IEscrow::withdrawCreditCall { token: token.id, to };
            calls.push(Call::new(
                "to withdraw what is owed",
                session.chain.network.contracts.escrow,
                &call,
            ));
        }
    }
    let sent = withdraw && !calls.is_empty();
    if sent {
        session.output.step(format!("withdrawing what is owed to {to}"));
        session.chain.execute(&session.home.signer()?, calls).await?;
    }
    let value = json!({"address": owner, "credits": found, "withdrawn": sent, "to": sent.then_some(to)});
    let done = if sent {
        format!("\nwithdrawn to {to}\n")
    } else {
        String::new()
    };
    session
        .output
        .result(&value, &format!("owed to {owner}\n\n{}{done}", table(&rows)));
    Ok(())
}

async fn revoke(session: &Session<'_>) -> eyre::Result<()> {
    let signer = session.home.signer()?;
    let (nonce, _) = session.signing_nonce(signer.address()).await?;
    let book = session.chain.network.contracts.order_book;
    let call = Call::new("to revoke the signature", book, &ILeases::skipNonceCall {});
    session.chain.execute(&signer, vec![call]).await?;
    let value = json!({"signer": signer.address(), "revoked_nonce": nonce.to_string()});
    let text = format!(
        "whatever {} signed with nonce {nonce} is worth nothing now",
        signer.address()
    );
    session.output.result(&value, &text);
    Ok(())
}

/// Orders and leases of an account that still hold money, oldest first.
pub(super) async fn live_orders(session: &Session<'_>, account: u32) -> eyre::Result<Vec<(u64, OrderState)>> {
    let mut ids = Vec::new();
    for token in &session.chain.network.tokens {
        let held = session.balance(account, token.id).await?;
        // What lives has a lock.
        if held.locked.is_zero() {
            continue;
        }
        for nonce in 1..=held.nonce {
            let id = OrderId {
                account,
                token: token.id,
                nonce,
            };
            ids.push(id.pack()?);
        }
    }
    let found: Vec<(u64, OrderState)> = stream::iter(ids)
        .map(async |id| eyre::Ok((id, session.order(id).await?.state)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let lives = |state: &OrderState| matches!(state, OrderState::Open | OrderState::Leased);
    Ok(found.into_iter().filter(|(_, state)| lives(state)).collect())
}

/// Spending rights as rows, for people.
pub(super) fn rights_table(session: &Session<'_>, rights: &[Right], now: u64) -> eyre::Result<String> {
    let header = ["SPENDER", "TOKEN", "LEFT", "UNTIL (UTC)", "MAY CLOSE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for right in rights {
        let token = session.token_by_id(right.token)?;
        let until = Date(right.expiry());
        let mark = if right.expiry() <= now { " (over)" } else { "" };
        rows.push(vec![
            right.spender.to_string(),
            token.symbol.clone(),
            amounts::whole(U256::from(right.right.limit), token.decimals),
            format!("{until}{mark}"),
            if right.right.mayClose { "yes" } else { "no" }.to_owned(),
        ]);
    }
    Ok(table(&rows))
}

/// Spending rights for programs.
pub(super) fn rights_json(session: &Session<'_>, rights: &[Right], now: u64) -> eyre::Result<Vec<Value>> {
    let json = |right: &Right| Ok(right.json(session.token_by_id(right.token)?, now));
    rights.iter().map(json).collect()
}

/// Orders and leases for programs.
pub(super) fn live_json(live: &[(u64, OrderState)]) -> Value {
    let state = |state: OrderState| if state == OrderState::Open { "open" } else { "leased" };
    live.iter()
        .map(|(id, of)| json!({"order": id.to_string(), "state": state(*of)}))
        .collect()
}

/// What a command moved into or out of the account that is shown after it.
struct Moved {
    /// Its field for programs.
    name: &'static str,
    value: Value,
    text: String,
}

async fn show(session: &Session<'_>, account: u32, moved: Option<Moved>) -> eyre::Result<()> {
    let (mut value, rights, live, (_, now)) = tokio::try_join!(
        session.account_json(account),
        session.rights(account),
        live_orders(session, account),
        session.chain.head()
    )?;
    let header = ["TOKEN", "UNLOCKED", "LOCKED", "IN THE OWNER'S WALLET", "BRACKET"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let (mut entitled, mut advice) = (String::new(), String::new());
    for token in value["tokens"].as_array().into_iter().flatten() {
        let mut row: Vec<String> = ["symbol", "unlocked", "locked", "wallet"]
            .map(|name| text(&token[name]))
            .to_vec();
        row.push(token["bracket"]["bracket"].to_string());
        rows.push(row);
        if token["bracket"]["bracket"] != 0 {
            let (symbol, more) = (text(&token["symbol"]), text(&token["bracket"]["text"]));
            entitled.push_str(&format!("\n{symbol} entitles to {more}\n"));
        }
        if let Some(told) = token["bracket"]["advice"].as_str() {
            advice.push_str(&format!("\n{told}\n"));
        }
    }
    if entitled.is_empty() {
        entitled = format!("\nit entitles to {}\n", brackets::entitlement(0));
    }
    let owner = value["owner"]
        .as_str()
        .ok_or_eyre("an account has an owner")?
        .to_owned();
    let mut shown = format!("account {account} of {owner}\n\n{}{entitled}{advice}", table(&rows));
    if !live.is_empty() {
        let names: Vec<String> = live.iter().map(|(id, _)| id.to_string()).collect();
        shown.push_str(&format!(
            "\nlive orders and leases: {} (`spheron lease list --account {account}`)\n",
            names.join(", ")
        ));
    }
    if !rights.is_empty() {
        shown.push_str(&format!("\nspending rights\n{}", rights_table(session, &rights, now)?));
    }
    if let Some(moved) = moved {
        shown = format!("{}\n\n{shown}", moved.text);
        value[moved.name] = moved.value;
    }
    value["live"] = live_json(&live);
    value["spending_rights"] = rights_json(session, &rights, now)?.into();
    session.output.result(&value, &shown);
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
