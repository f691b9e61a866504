//! A history for people and for programs.

use alloy::primitives::{Address, U256};
use eyre::bail;
use serde_json::{Value, json};

use super::Held;
use super::people::People;
use super::telling::Teller;
use crate::amounts;
use crate::arguments::History;
use crate::ledger::{Entry, Lease, Ledger, Sums};
use crate::output::table;
use crate::session::Session;

/// Prints the history. Sums that are not what the contract holds are a failure, after everything was shown.
pub(super) async fn show(
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

    let people = People::of(session, &shown, ledger).await?;
    let teller = Teller {
        session,
        ledger,
        people: &people,
    };
    let entries: eyre::Result<Vec<Value>> = shown.iter().map(|entry| teller.json(entry)).collect();
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
    text.push_str(&table(&teller.rows(&shown)));
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

pub(super) fn symbol(session: &Session<'_>, token: Option<u8>) -> String {
    let symbol = token.and_then(|id| session.token_by_id(id).ok());
    symbol.map_or_else(String::new, |token| token.symbol.clone())
}

/// Units with their sign as whole tokens.
pub(super) fn whole(session: &Session<'_>, token: Option<u8>, units: i128) -> String {
    let decimals = token
        .and_then(|id| session.token_by_id(id).ok())
        .map_or(0, |token| token.decimals);
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}", amounts::whole(U256::from(units.unsigned_abs()), decimals))
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
