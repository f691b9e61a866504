//! `spheron lease list` (`ps`) and `spheron order list`.

use std::collections::BTreeMap;
use std::path::Path;

use avs::words::OrderId;
use bindings::OrderState;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::lease::on_chain;
use crate::amounts;
use crate::arguments::List;
use crate::output::table;
use crate::session::Session;

/// Orders that are read at the same time.
const READS_AT_ONCE: usize = 16;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Leases,
    Orders,
}

pub(super) async fn run(session: &Session<'_>, arguments: &List, kind: Kind) -> eyre::Result<()> {
    let account = session.account(arguments.account).await?;
    let orders = session.orders().await?;
    let mut ids = Vec::new();
    for token in &session.chain.network.tokens {
        let nonce = session.balance(account, token.id).await?.nonce;
        let first = nonce.saturating_sub(arguments.limit);
        // The newest first.
        for nonce in (first + 1..=nonce).rev() {
            ids.push(
                OrderId {
                    account,
                    token: token.id,
                    nonce,
                }
                .pack()?,
            );
        }
    }
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
    session.output.result(
        &json!({"account": account.to_string(), name: listed}),
        &rows(&listed, kind),
    );
    Ok(())
}

fn rows(listed: &[Value], kind: Kind) -> String {
    let first = if kind == Kind::Leases { "LEASE" } else { "ORDER" };
    let mut rows = vec![
        [
            first,
            "STATE",
            "PROVIDER",
            "RATE/H",
            "TIME LEFT",
            "SPENT",
            "WORKLOAD",
            "FILE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
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
        rows.push(vec![
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
        ]);
    }
    table(&rows)
}
