//! `spheron lease list` (`ps`) and `spheron order list`.

use std::collections::BTreeMap;
use std::path::Path;

use avs::words::OrderId;
use bindings::OrderState;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::lease::on_chain;
use crate::accounts::Balance;
use crate::amounts;
use crate::arguments::List;
use crate::output::table;
use crate::session::Session;

/// Orders that are read at the same time.
const READS_AT_ONCE: usize = 16;
/// Accounts of one key that are listed together.
const ACCOUNTS: usize = 100;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leases,
    Orders,
}

pub(super) async fn run(session: &Session<'_>, arguments: &List, kind: Kind) -> eyre::Result<()> {
    let accounts = accounts(session, arguments.account).await?;
    let orders = session.orders().await?;
    let ids = ids(session, &accounts, arguments).await?;
    let found: BTreeMap<u64, Value> = stream::iter(ids)
        .map(async |id| {
            let found = on_chain(session, id).await?;
            let leased = found.word.start != 0;
            let live = matches!(found.word.state, OrderState::Leased | OrderState::Open);
            if (kind == Kind::Leases && !leased) || !(arguments.all || live) {
                return eyre::Ok(None);
            }
            let token = session.token_of(id)?;
            let mut value = found.json(id, token);
            if kind == Kind::Orders {
                value["order"] = id.to_string().into();
            }
            if let Some(record) = orders.record(id)? {
                value["file"] = record.file.into();
            }
            Ok(Some((id, value)))
        })
        .buffered(READS_AT_ONCE)
        .try_filter_map(async |found| Ok(found))
        .try_collect()
        .await?;
    let listed: Vec<Value> = found.into_values().collect();
    let name = match kind {
        Kind::Leases => "leases",
        Kind::Orders => "orders",
    };
    let names: Vec<String> = accounts.iter().map(u32::to_string).collect();
    session.output.result(
        &json!({"accounts": names, name: listed}),
        &rows(&listed, kind, accounts.len() > 1),
    );
    Ok(())
}

/// The account that was named, or all of the key's.
async fn accounts(session: &Session<'_>, named: Option<u32>) -> eyre::Result<Vec<u32>> {
    let own = match named {
        None => session.own_accounts(session.home.address()?).await?,
        Some(_) => Default::default(),
    };
    if own.is_empty() {
        return Ok(vec![session.account(named).await?]);
    }
    if own.len() > ACCOUNTS {
        // Anybody may open accounts for anybody.
        session.output.note(format!(
            "the key has {} accounts; of the first {ACCOUNTS} is told here, of another one with --account",
            own.len()
        ));
    }
    Ok(own.into_iter().take(ACCOUNTS).collect())
}

/// The orders that are looked at: of every account and token the newest.
async fn ids(session: &Session<'_>, accounts: &[u32], arguments: &List) -> eyre::Result<Vec<u64>> {
    let tokens = &session.chain.network.tokens;
    let pairs = accounts
        .iter()
        .flat_map(|account| tokens.iter().map(move |token| (*account, token.id)));
    let held: Vec<(u32, u8, Balance)> = stream::iter(pairs)
        .map(async |(account, token)| eyre::Ok((account, token, session.balance(account, token).await?)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut ids = Vec::new();
    for (account, token, balance) in held {
        // What lives has a lock.
        if balance.locked.is_zero() && !arguments.all {
            continue;
        }
        let first = balance.nonce.saturating_sub(arguments.limit);
        for nonce in first + 1..=balance.nonce {
            ids.push(OrderId { account, token, nonce }.pack()?);
        }
    }
    Ok(ids)
}

/// For people; with the account of each if there are several.
fn rows(listed: &[Value], kind: Kind, several: bool) -> String {
    let first = if kind == Kind::Leases { "LEASE" } else { "ORDER" };
    let header = [
        first,
        "STATE",
        "PROVIDER",
        "RATE/H",
        "TIME LEFT",
        "SPENT",
        "WORKLOAD",
        "FILE",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    if several {
        rows[0].insert(1, "ACCOUNT".to_owned());
    }
    for value in listed {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let symbol = text(&value["rate"]["symbol"]);
        let spent = match value["spent"].as_str() {
            Some(spent) => format!("{spent} {symbol}"),
            None => "-".to_owned(),
        };
        let mut left = value["seconds_left"]
            .as_u64()
            .map_or_else(|| "-".to_owned(), amounts::time);
        match value["time"].as_str() {
            Some("low") => left.push_str(" (low)"),
            Some("grace") => "in its grace".clone_into(&mut left),
            Some("over") => "over".clone_into(&mut left),
            _ => {}
        }
        let file = Path::new(value["file"].as_str().unwrap_or("-"));
        let mut row = vec![
            text(&value["lease"]),
            text(&value["state"]),
            text(&value["provider"]["name"]),
            format!("{} {symbol}", text(&value["rate"]["per_hour"])),
            left,
            spent,
            text(&value["workload"]),
            file.file_name()
                .unwrap_or(file.as_os_str())
                .to_string_lossy()
                .into_owned(),
        ];
        if several {
            row.insert(1, text(&value["account"]));
        }
        rows.push(row);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_a_column_where_there_are_several() {
        let lease = json!({
            "lease": "8589934593", "account": "2", "state": "leased", "time": "grace", "seconds_left": 0,
            "rate": {"symbol": "uSPON", "per_hour": "1"}, "file": "/home/u/app.yaml",
        });
        let listed = [lease];
        let one = rows(&listed, Kind::Leases, false);
        assert!(!one.contains("ACCOUNT") && one.contains("in its grace"), "{one}");
        let several = rows(&listed, Kind::Orders, true);
        let words: Vec<Vec<&str>> = several.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[0][..3], ["ORDER", "ACCOUNT", "STATE"]);
        assert_eq!(words[1][..3], ["8589934593", "2", "leased"]);
        assert!(several.contains(" app.yaml"), "{several}");
    }
}
