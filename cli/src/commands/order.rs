//! `spheron order`: list, show, match, cancel, sign, submit.

mod on_chain;
mod signing;

use std::collections::{BTreeMap, BTreeSet};

use ::chain::network::Token;
use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{B256, U256};
use alloy::providers::Provider as _;
use avs::digest::BidsDigest;
use avs::draw;
use avs::matching::{ExplainedBid, Parameters, Scores, Verdict, explain};
use avs::terms::Terms;
use avs::words::{CPU_UNIT_MILLIS, MEMORY_UNIT_BYTES, Mode, OrderId, PackedBid, STORAGE_UNIT_BYTES};
use bindings::{IMatchingTaskManager, IOrderBook, Order as Word, OrderState};
use eyre::{WrapErr as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use manifest::region_names;
use serde_json::{Value, json};

use super::listing;
use crate::amounts;
use crate::arguments::Order;
use crate::catalog::rejection_text;
use crate::chain::{Call, read};
use crate::market::{Created, logs_since, state, state_phrase, topic};
use crate::output::{facts, table};
use crate::serving::candidates_json;
use crate::session::Session;

/// Providers that are read at the same time.
const READS_AT_ONCE: usize = 16;

pub(super) async fn run(session: &Session<'_>, arguments: &Order) -> eyre::Result<()> {
    match arguments {
        Order::List(list) => listing::run(session, list, listing::Kind::Orders).await,
        Order::Show { order } => show(session, *order).await,
        Order::Match { order } => on_chain::run_rule(session, *order).await,
        Order::Cancel { order } => cancel(session, *order).await,
        Order::Sign(arguments) => signing::sign(session, arguments).await,
        Order::Submit { file, dry_run } => signing::submit(session, file, *dry_run).await,
    }
}

async fn cancel(session: &Session<'_>, order: u64) -> eyre::Result<()> {
    let word = session.order(order).await?;
    match word.state {
        OrderState::Open => {
            if let Some(on_chain::Stage::Response { until }) = on_chain::stage(session, order, &word).await? {
                bail!("operators may answer order {order} until block {until}; after that it can be taken back again");
            }
        }
        OrderState::Leased => bail!("order {order} is a lease by now; end it with `spheron lease close {order}`"),
        state => bail!("order {order} is over already: {}", state_phrase(state)),
    }
    let signer = session.home.signer()?;
    session.require_closer(order, signer.address()).await?;
    let call = IOrderBook::cancelOrderCall { orderId: order };
    let call = Call::new("to cancel the order", session.chain.network.contracts.order_book, &call);
    session.output.step(format!("cancelling order {order}"));
    session.chain.execute(&signer, vec![call]).await?;
    let value = json!({"order": order.to_string(), "state": "cancelled"});
    session
        .output
        .result(&value, &format!("order {order} is cancelled; its money is unlocked"));
    Ok(())
}

/// The bids of an order and what the rule makes of them.
struct Bids {
    bids: Vec<PackedBid>,
    explained: Vec<ExplainedBid>,
    parameters: Parameters,
    /// Whether the close block, whose hash seeds the draws, is there.
    is_final: bool,
}

async fn show(session: &Session<'_>, order: u64) -> eyre::Result<()> {
    let word = session.order(order).await?;
    let created = session.created(order).await?;
    let bids = bids(session, order, &word, &created).await?;
    let token = session.token_of(order)?;
    let (state, reason) = state(word.state);
    let (names, regions) = tokio::try_join!(names(session, &bids.explained), session.regions())?;
    let stage = on_chain::stage(session, order, &word).await?;
    let pairs = bids.bids.iter().zip(&bids.explained);
    let told: Vec<Value> = pairs
        .map(|(bid, explained)| bid_json(bid, explained, &names, &regions, token))
        .collect();
    let mut value = json!({
        "order": order.to_string(),
        "state": state,
        "reason": reason,
        "account": OrderId::unpack(order).account.to_string(),
        "created_block": created.block,
        "close_block": word.closeBlock,
        "requeued": word.requeued,
        "terms": terms_json(&created.terms, token, &regions)?,
        // Bids read from logs fold to the digest that the contract stores: none is missing or changed.
        "bids_verified": true,
        "ranking": ranking(word.state, bids.is_final),
        "bids": told,
    });
    if let Some(stage) = stage {
        value["stage"] = stage.name().into();
        value["stage_text"] = stage.phrase(order).into();
    }
    if word.supplier != 0 {
        value["supplier"] = word.supplier.to_string().into();
    }
    if bids.bids.is_empty() {
        value["providers"] = candidates_json(session, order, &created.terms).await?;
    }
    session.output.result(&value, &text(&value, &bids));
    Ok(())
}

/// What the ranking is worth.
fn ranking(state: OrderState, is_final: bool) -> &'static str {
    match state {
        _ if is_final => "final",
        OrderState::Open => "preliminary: the close block is not mined",
        _ => "none: the order ended before its bids were closed",
    }
}

async fn bids(session: &Session<'_>, order: u64, word: &Word, created: &Created) -> eyre::Result<Bids> {
    let terms = &created.terms;
    let address = session.chain.network.contracts.order_book;
    let tasks = IMatchingTaskManager::new(session.chain.network.contracts.task_manager, &session.chain.provider);
    let (_, requirements) = terms.unpack().wrap_err("the order's terms are malformed")?;
    let book = session.order_book();
    let since = created.block;
    let (placed, requeued, stored, parameters, head) = tokio::try_join!(
        logs_since::<IOrderBook::BidPlaced>(&session.chain, address, topic(order), None, since),
        logs_since::<IOrderBook::OrderRequeued>(&session.chain, address, topic(order), None, since),
        read(book.bidsDigest(order)),
        read(tasks.matchingParameters(requirements.params_version)),
        session.chain.head(),
    )?;
    // A requeued order starts anew: earlier bids count no more.
    let anew = requeued.last().map(|(log, _)| (log.block_number, log.log_index));
    let bids: Vec<PackedBid> = placed
        .into_iter()
        .filter(|(log, _)| anew.is_none_or(|anew| (log.block_number, log.log_index) > anew))
        .map(|(_, bid)| PackedBid::from(&bid))
        .collect();
    let digest = BidsDigest {
        digest: stored.digest,
        count: stored.count,
    };
    digest
        .check(order, word.closeBlock, &bids)
        .wrap_err("the RPC endpoint's logs are not what the contract took")?;
    let parameters = Parameters::try_from(&parameters)?;
    let close = u64::from(word.closeBlock);
    let hash = if head.0 >= close {
        close_hash(session, close).await?
    } else {
        B256::ZERO
    };
    let rule = avs::matching::Order::new(&parameters, order, terms).wrap_err("the order's terms are malformed")?;
    let explained = explain(&rule, draw::seed(session.chain.network.chain_id, order, hash), &bids);
    Ok(Bids {
        bids,
        explained,
        parameters,
        is_final: head.0 >= close,
    })
}

async fn close_hash(session: &Session<'_>, number: u64) -> eyre::Result<B256> {
    let block = session
        .chain
        .provider
        .get_block_by_number(BlockNumberOrTag::Number(number))
        .await;
    let block = block.wrap_err("cannot read the chain")?;
    Ok(block
        .ok_or_else(|| eyre::eyre!("the RPC endpoint does not have block {number}"))?
        .header
        .hash)
}

/// An order's terms for programs, and the regions by their names.
fn terms_json(terms: &Terms, token: &Token, regions: &BTreeMap<u8, String>) -> eyre::Result<Value> {
    let (resources, requirements) = terms.unpack()?;
    let gpus: Vec<u8> = resources.gpus.iter().collect();
    let region_ids: Vec<u8> = (1..=255u8).filter(|id| terms.regions.bit(usize::from(*id))).collect();
    let any_region = terms.regions == U256::MAX;
    Ok(json!({
        "manifest_hash": terms.manifest_hash,
        "maximum_rate": amounts::rate(U256::from(terms.maximum_rate), token),
        "duration_seconds": terms.duration,
        "cpu": amounts::whole(U256::from(u64::from(resources.cpu) * CPU_UNIT_MILLIS), 3),
        "memory_mib": u64::from(resources.memory) * (MEMORY_UNIT_BYTES >> 20),
        "storage_mib": u64::from(resources.storage) * (STORAGE_UNIT_BYTES >> 20),
        "gpus": resources.gpu_count,
        "gpu_ids": gpus,
        "mode": if requirements.mode == Mode::Fizz { "fizz" } else { "provider" },
        "tiers": (1..=7u8).filter(|tier| requirements.tiers.contains(*tier)).collect::<Vec<_>>(),
        "regions": if any_region { json!("any") } else { json!(region_ids) },
        "region_names": region_names(terms.regions, regions),
        "wanted_suppliers": terms.wanted_suppliers,
        "excluded_suppliers": terms.excluded_suppliers,
        "params_version": requirements.params_version,
    }))
}

/// Names of all who bid, by their ids.
async fn names(session: &Session<'_>, bids: &[ExplainedBid]) -> eyre::Result<BTreeMap<u32, String>> {
    let ids: BTreeSet<u32> = bids
        .iter()
        .filter_map(|bid| bid.offer)
        .map(|offer| offer.provider)
        .collect();
    stream::iter(ids)
        .map(async |id| eyre::Ok((id, session.supplier(id).await?.name)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await
}

fn bid_json(
    bid: &PackedBid,
    explained: &ExplainedBid,
    names: &BTreeMap<u32, String>,
    regions: &BTreeMap<u8, String>,
    token: &Token,
) -> Value {
    let mut value = json!({});
    if let Some(offer) = &explained.offer {
        value["provider"] = json!({"id": offer.provider.to_string(), "name": names.get(&offer.provider)});
        value["fizz"] = offer.fizz.into();
        value["block"] = offer.block.into();
        value["rate"] = amounts::rate(U256::from(offer.rate), token);
    } else {
        value["offer"] = json!(bid.offer);
    }
    match &explained.verdict {
        Verdict::Superseded => value["verdict"] = "superseded".into(),
        Verdict::Rejected(rejection) => {
            value["verdict"] = "rejected".into();
            value["why"] = rejection_text(rejection, regions).into();
        }
        Verdict::Ranked {
            rank, scores, total, ..
        } => {
            value["verdict"] = "ranked".into();
            value["rank"] = json!(rank);
            value["total"] = json!(total);
            let terms = Scores::NAMES.iter().zip(scores.terms());
            value["scores"] = terms
                .map(|(name, score)| ((*name).to_owned(), Value::from(score)))
                .collect();
        }
    }
    value
}

/// [`terms_json`] for people.
fn terms_facts(terms: &Value) -> Vec<(&'static str, String)> {
    vec![
        ("maximum rate", rate(&terms["maximum_rate"])),
        (
            "duration",
            amounts::time(terms["duration_seconds"].as_u64().unwrap_or(0)),
        ),
        (
            "asks for",
            format!(
                "{} CPU, {} MiB memory, {} MiB storage, {} GPU",
                shown(&terms["cpu"]),
                terms["memory_mib"],
                terms["storage_mib"],
                terms["gpus"]
            ),
        ),
        ("regions", shown(&terms["region_names"])),
    ]
}

/// A value of JSON as people read it.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn rate(rate: &Value) -> String {
    format!("{} {}/h", shown(&rate["per_hour"]), shown(&rate["symbol"]))
}

fn text(value: &Value, bids: &Bids) -> String {
    let terms = &value["terms"];
    let state = match (value["reason"].as_str(), value["stage_text"].as_str()) {
        (Some(more), _) | (None, Some(more)) => format!("{}: {more}", shown(&value["state"])),
        (None, None) => shown(&value["state"]),
    };
    let mut lines = vec![
        ("order", shown(&value["order"])),
        ("state", state),
        ("created in block", shown(&value["created_block"])),
        ("close block", shown(&value["close_block"])),
    ];
    lines.extend(terms_facts(terms));
    lines.extend([
        ("manifest hash", shown(&terms["manifest_hash"])),
        ("ranking", shown(&value["ranking"])),
    ]);
    let mut text = facts(&lines);
    text.push('\n');
    if bids.bids.is_empty() {
        text.push_str("no bids; providers as they stand now:\n");
        for provider in value["providers"].as_array().into_iter().flatten() {
            text.push_str(&format!(
                "  {} ({}): {}\n",
                shown(&provider["id"]),
                shown(&provider["name"]),
                shown(&provider["reason"])
            ));
        }
        return text;
    }
    // Each term as the part of the total that it makes, in thousandths of the whole.
    let mut rows = vec![["RANK", "PROVIDER", "RATE", "TOTAL"].map(str::to_owned).to_vec()];
    rows[0].extend(Scores::NAMES.iter().map(|name| name.to_uppercase()));
    let mut told: Vec<&Value> = value["bids"].as_array().into_iter().flatten().collect();
    told.sort_by_key(|bid| bid["rank"].as_u64().unwrap_or(u64::MAX));
    for bid in told {
        let name = format!(
            "{} ({})",
            shown(&bid["provider"]["id"]),
            shown(&bid["provider"]["name"])
        );
        let mut row = vec![
            bid["rank"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |rank| rank.to_string()),
            name,
            rate(&bid["rate"]),
        ];
        match bid["total"].as_u64() {
            Some(total) => {
                let thousandths = |millionths: u64| manifest::decimal_text(U256::from(millionths / 1_000), 3);
                row.push(thousandths(total / 1_000_000));
                for (name, weight) in Scores::NAMES.iter().zip(bids.parameters.weights()) {
                    let score = bid["scores"][*name].as_u64().unwrap_or(0);
                    row.push(thousandths(score * u64::from(*weight) / 1_000_000));
                }
            }
            None => row.push(bid["why"].as_str().unwrap_or("replaced by a later bid").to_owned()),
        }
        rows.push(row);
    }
    text.push_str(&table(&rows));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_was_taken_back_waits_for_no_block() {
        assert_eq!(ranking(OrderState::Leased, true), "final");
        assert!(ranking(OrderState::Open, false).contains("not mined"));
        let cancelled = ranking(OrderState::Cancelled, false);
        assert!(
            cancelled.contains("ended before") && !cancelled.contains("mined"),
            "{cancelled}"
        );
    }
}
