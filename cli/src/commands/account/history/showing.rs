//! A history for people and for programs.

use alloy::primitives::{Address, U256};
use eyre::bail;
use serde_json::{Value, json};

use super::Held;
use crate::amounts;
use crate::arguments::History;
use crate::dates::Date;
use crate::ledger::{Entry, Event, Lease, Ledger, Sums};
use crate::market::state;
use crate::output::table;
use crate::session::Session;

/// Prints the history. Sums that are not what the contract holds are a failure, after everything was shown.
pub(super) fn show(
    session: &Session<'_>,
    arguments: &History,
    account: u32,
    owner: Address,
    ledger: &Ledger,
    held: &Held,
) -> eyre::Result<()> {
    let token = arguments
        .token
        .as_deref()
        .map(|symbol| session.token(symbol))
        .transpose()?;
    let since = arguments.since.map_or(0, |since| since.before(held.time));
    let shown: Vec<&Entry> = ledger
        .entries
        .iter()
        .filter(|entry| entry.place.time >= since)
        .filter(|entry| token.is_none_or(|token| entry.token.is_none_or(|id| id == token.id)))
        .filter(|entry| arguments.lease.is_none() || entry.event.order() == arguments.lease)
        .collect();
    let tokens: Vec<(u8, Sums)> = ledger
        .tokens
        .iter()
        .filter(|(id, _)| token.is_none_or(|token| token.id == **id))
        .map(|(id, sums)| (*id, *sums))
        .collect();

    let entries: eyre::Result<Vec<Value>> = shown.iter().map(|entry| entry_json(session, entry)).collect();
    let sums: eyre::Result<Vec<Value>> = tokens.iter().map(|(id, sums)| sums_json(session, *id, sums)).collect();
    let leases: eyre::Result<Vec<Value>> = ledger
        .leases
        .keys()
        .filter(|id| arguments.lease.is_none_or(|lease| lease == **id))
        .map(|id| lease_json(session, ledger, *id))
        .collect();
    let value = json!({
        "account": account.to_string(),
        "owner": owner,
        "block": held.block,
        "entries": entries?,
        "sums": sums?,
        "leases": leases?,
        "balanced": ledger.problems.is_empty(),
        "problems": ledger.problems,
    });
    let mut text = format!("account {account} of {owner}, as of block {}\n\n", held.block);
    text.push_str(&table(&rows(session, &shown)?));
    text.push_str(&match arguments.lease {
        Some(lease) => lease_text(session, ledger, lease)?,
        None => sums_text(session, &tokens)?,
    });
    session.output.result(&value, &text);
    if ledger.problems.is_empty() {
        session
            .output
            .note("every unit is accounted for: the sums are what the contract holds");
        return Ok(());
    }
    bail!("the history does not add up: {}", ledger.problems.join("; "))
}

fn symbol(session: &Session<'_>, token: Option<u8>) -> String {
    let symbol = token.and_then(|id| session.token_by_id(id).ok());
    symbol.map_or_else(String::new, |token| token.symbol.clone())
}

/// Units with their sign as whole tokens.
fn whole(session: &Session<'_>, token: Option<u8>, units: i128) -> String {
    let decimals = token
        .and_then(|id| session.token_by_id(id).ok())
        .map_or(0, |token| token.decimals);
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}", amounts::whole(U256::from(units.unsigned_abs()), decimals))
}

fn entry_json(session: &Session<'_>, entry: &Entry) -> eyre::Result<Value> {
    let mut value = json!({
        "time": entry.place.time,
        "date": Date(entry.place.time).to_string(),
        "block": entry.place.block,
        "transaction": entry.place.transaction,
        "event": entry.event.name(),
        "text": describe(session, entry),
    });
    if let Some(id) = entry.token {
        value["symbol"] = session.token_by_id(id)?.symbol.clone().into();
        value["unlocked_change_units"] = entry.unlocked.to_string().into();
        value["locked_change_units"] = entry.locked.to_string().into();
        value["unlocked_units"] = entry.after.0.to_string().into();
        value["locked_units"] = entry.after.1.to_string().into();
    }
    if let Some(order) = entry.event.order() {
        value["order"] = order.to_string().into();
    }
    match &entry.event {
        Event::Updated { updated, .. } => value["updated"] = updated.to_string().into(),
        Event::Closed { reason, billed, .. } => {
            value["reason"] = state(*reason).1.into();
            value["billed_seconds"] = (*billed).into();
        }
        Event::Settled { until, .. } => value["settled_for_seconds"] = (*until).into(),
        _ => {}
    }
    if let Some(amount) = amount(&entry.event) {
        value["amount_units"] = amount.to_string().into();
    }
    Ok(value)
}

/// What an event names as its amount.
fn amount(event: &Event) -> Option<U256> {
    match event {
        Event::Deposited { amount, .. }
        | Event::Withdrawn { amount, .. }
        | Event::Spent { amount, .. }
        | Event::Settled { amount, .. }
        | Event::GatewayPaid { amount, .. } => Some(*amount),
        Event::Extended { locked, .. } => Some(*locked),
        Event::RightSet { limit, .. } => Some(*limit),
        _ => None,
    }
}

/// One sentence without the order's number.
fn describe(session: &Session<'_>, entry: &Entry) -> String {
    let money = |units: &U256| {
        let units = i128::try_from(*units).unwrap_or(i128::MAX);
        format!(
            "{} {}",
            whole(session, entry.token, units),
            symbol(session, entry.token)
        )
    };
    let hourly = |rate: &U256| {
        let token = entry.token.and_then(|id| session.token_by_id(id).ok());
        token.map_or_else(String::new, |token| {
            format!("{} {}/h", amounts::hourly(*rate, token), token.symbol)
        })
    };
    match &entry.event {
        Event::Opened { owner } => format!("account opened for {owner}"),
        Event::HandedOver { from, to } => format!("handed over by {from} to {to}; spending rights ended"),
        Event::Deposited { from, amount, .. } => format!("deposit of {} by {from}", money(amount)),
        Event::Withdrawn { to, amount, .. } => format!("withdrawal of {} to {to}", money(amount)),
        Event::BracketChanged { bracket, .. } => format!("bracket {bracket}"),
        Event::RightSet { spender, limit, .. } if limit.is_zero() => format!("spending right of {spender} taken back"),
        Event::RightSet { spender, limit, .. } => format!("spending right of {} for {spender}", money(limit)),
        Event::Spent {
            spender, amount, left, ..
        } => format!(
            "{spender} spent {} of its right, {} are left",
            money(amount),
            money(left)
        ),
        Event::Ordered { rate, duration, .. } => format!(
            "order for {} at up to {}: its worst case is locked",
            amounts::time((*duration).into()),
            hourly(rate)
        ),
        Event::Cancelled { .. } => "order taken back".to_owned(),
        Event::Expired { .. } => "order expired".to_owned(),
        Event::Requeued { .. } => "no supplier had room: the order takes bids again".to_owned(),
        Event::Leased { supplier, rate, .. } => {
            // A lease that came from an update was not matched.
            let fee = if entry.locked == 0 {
                ""
            } else {
                "; the match fee is paid"
            };
            format!("lease with supplier {supplier} at {}{fee}", hourly(rate))
        }
        Event::Extended { duration, locked, .. } => format!(
            "lease extended to {}: {} more locked",
            amounts::time((*duration).into()),
            money(locked)
        ),
        Event::LowOnFunds { end, .. } => format!("lease low on funds: it ends {} UTC", Date(*end)),
        Event::Proposed { rate, duration, .. } => format!(
            "update proposed: {} at up to {}",
            amounts::time((*duration).into()),
            hourly(rate)
        ),
        Event::Rejected { .. } => "update withdrawn or refused".to_owned(),
        Event::Updated { updated, .. } => format!("lease replaced by lease {updated}: its worst case is locked"),
        Event::Settled { amount, until, .. } => format!(
            "{} paid to the supplier, for the first {}",
            money(amount),
            amounts::time((*until).into())
        ),
        Event::GatewayPaid { amount, .. } => format!("{} paid to the gateway", money(amount)),
        Event::Closed { reason, billed, .. } => {
            let reason = state(*reason).1.unwrap_or("closed");
            format!(
                "lease closed ({reason}): {} billed, {} back",
                amounts::time((*billed).into()),
                money(&U256::from(entry.unlocked.unsigned_abs()))
            )
        }
        Event::Rated { rating, .. } => format!("lease rated {rating} of 10"),
    }
}

fn rows(session: &Session<'_>, shown: &[&Entry]) -> eyre::Result<Vec<Vec<String>>> {
    let header = ["TIME (UTC)", "ORDER", "UNLOCKED", "LOCKED", "TOKEN", "WHAT"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for entry in shown {
        let change = |units: i128| match units {
            0 => String::new(),
            units if units > 0 => format!("+{}", whole(session, entry.token, units)),
            units => whole(session, entry.token, units),
        };
        rows.push(vec![
            Date(entry.place.time).to_string(),
            entry.event.order().map_or_else(String::new, |order| order.to_string()),
            change(entry.unlocked),
            change(entry.locked),
            symbol(session, entry.token),
            describe(session, entry),
        ]);
    }
    Ok(rows)
}

/// Names and amounts of a token's sums, in the order in which they add up.
fn parts(sums: &Sums) -> [(&'static str, i128); 11] {
    [
        ("deposited", sums.deposited),
        ("withdrawn", sums.withdrawn),
        ("suppliers", sums.suppliers),
        ("gateways", sums.gateways),
        ("commission", sums.commission),
        ("provider_fees", sums.provider_fees),
        ("user_fees", sums.user_fees),
        ("match_fees", sums.match_fees),
        ("paid_of_locked", sums.in_flight),
        ("unlocked", sums.unlocked),
        ("locked", sums.locked),
    ]
}

fn sums_json(session: &Session<'_>, id: u8, sums: &Sums) -> eyre::Result<Value> {
    let mut value = json!({"symbol": session.token_by_id(id)?.symbol});
    for (name, units) in parts(sums) {
        value[name] = whole(session, Some(id), units).into();
        value[format!("{name}_units")] = units.to_string().into();
    }
    Ok(value)
}

fn sums_text(session: &Session<'_>, tokens: &[(u8, Sums)]) -> eyre::Result<String> {
    let mut rows = vec![vec![String::new()]];
    for (name, _) in parts(&Sums::default()) {
        rows.push(vec![name.replace('_', " ")]);
    }
    for (id, sums) in tokens {
        rows[0].push(session.token_by_id(*id)?.symbol.clone());
        for (row, (_, units)) in rows.iter_mut().skip(1).zip(parts(sums)) {
            row.push(whole(session, Some(*id), units));
        }
    }
    Ok(if tokens.is_empty() {
        String::new()
    } else {
        format!(
            "\n{}\npaid of locked: what live leases have paid, which is counted as locked until they end\n",
            table(&rows)
        )
    })
}

/// Names and amounts of what a lease cost, in the order in which they add up.
fn lease_parts(lease: &Lease) -> [(&'static str, U256); 9] {
    [
        ("supplier", lease.suppliers),
        ("gateway", lease.gateway),
        ("commission", lease.commission),
        ("provider_fee", lease.provider_fee),
        ("user_fee", lease.user_fee),
        ("match_fee", lease.match_fee),
        ("spent", lease.spent()),
        ("locked", lease.locked),
        ("refunded", lease.refunded),
    ]
}

fn lease_text(session: &Session<'_>, ledger: &Ledger, id: u64) -> eyre::Result<String> {
    let (token, lease) = (session.token_of(id)?, ledger.leases.get(&id));
    let Some(lease) = lease else {
        return Ok(String::new());
    };
    let rows = lease_parts(lease).map(|(name, units)| vec![name.replace('_', " "), amounts::shown(units, token)]);
    Ok(format!("\n{}", table(&rows)))
}

fn lease_json(session: &Session<'_>, ledger: &Ledger, id: u64) -> eyre::Result<Value> {
    let token = session.token_of(id)?;
    let mut value = json!({"order": id.to_string(), "symbol": token.symbol});
    if let Some(lease) = ledger.leases.get(&id) {
        for (name, units) in lease_parts(lease) {
            value[name] = amounts::whole(units, token.decimals).into();
            value[format!("{name}_units")] = units.to_string().into();
        }
    }
    Ok(value)
}
