//! `spheron provider list`.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::U256;
use avs::words::{Capacity, ScoreCard};
use bindings::{ILeases, IOrderBook, IProviderRegistry, IStakeManager};
use eyre::WrapErr as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::SPON_DECIMALS;
use crate::amounts;
use crate::chain::read;
use crate::market::logs;
use crate::output::{plain, table};
use crate::session::Session;

/// Providers that are read at the same time.
const READS_AT_ONCE: usize = 16;

pub(super) async fn run(session: &Session<'_>) -> eyre::Result<()> {
    let (count, regions, leases) = tokio::try_join!(read_count(session), session.regions(), live_leases(session))?;
    let providers: Vec<Value> = stream::iter(1..=count)
        .map(|id| one(session, id, &regions, leases.get(&id).copied().unwrap_or(0)))
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    let mut rows = vec![
        [
            "ID",
            "NAME",
            "REGION",
            "TIER",
            "CPU FREE",
            "MEMORY FREE",
            "STORAGE FREE",
            "STAKE",
            "LEASES",
            "STATE",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for provider in &providers {
        let share = |resource: &str, unit: &str| {
            let resource = &provider["capacity"][resource];
            format!("{} of {}{unit}", text(&resource["free"]), text(&resource["total"]))
        };
        rows.push(vec![
            text(&provider["id"]),
            text(&provider["name"]),
            text(&provider["region"]),
            text(&provider["tier"]),
            share("cpu", ""),
            share("memory_gib", " GiB"),
            share("storage_gib", " GiB"),
            text(&provider["stake"]),
            text(&provider["leases"]),
            if provider["active"] == true {
                "active"
            } else {
                "inactive"
            }
            .to_owned(),
        ]);
    }
    session.output.result(&json!({"providers": providers}), &table(&rows));
    Ok(())
}

async fn read_count(session: &Session<'_>) -> eyre::Result<u32> {
    read(session.registry().supplierCount()).await
}

/// Leases that were opened and not closed, by supplier: the contracts keep no count of them.
async fn live_leases(session: &Session<'_>) -> eyre::Result<BTreeMap<u32, usize>> {
    let book = session.chain.network.contracts.order_book;
    let (opened, closed) = tokio::try_join!(
        logs::<IOrderBook::LeaseCreated>(&session.chain, book, None, None),
        logs::<ILeases::LeaseClosed>(&session.chain, book, None, None),
    )?;
    let closed: BTreeSet<u64> = closed.into_iter().map(|(_, event)| event.orderId).collect();
    let mut live = BTreeMap::new();
    for (_, event) in opened.into_iter().filter(|(_, event)| !closed.contains(&event.orderId)) {
        *live.entry(event.supplier).or_default() += 1;
    }
    Ok(live)
}

async fn one(session: &Session<'_>, id: u32, regions: &BTreeMap<u8, String>, leases: usize) -> eyre::Result<Value> {
    let (registry, book) = (session.registry(), session.order_book());
    let stakes = IStakeManager::new(session.chain.network.contracts.stake_manager, &session.chain.provider);
    let (about, capacity, stake) = tokio::try_join!(
        read(registry.call_builder(&IProviderRegistry::providerCall { id })),
        read(book.capacityOf(id)),
        read(stakes.stakeOf(id)),
    )
    .wrap_err_with(|| format!("provider {id}"))?;
    let card = ScoreCard::unpack(about.scoreCard)?;
    let capacity = Capacity::unpack(capacity.capacity)?;
    let quotient =
        |units: u32, numerator: u64, scale: u8| manifest::decimal_text(U256::from(u64::from(units) * numerator), scale);
    let cpu = |units| quotient(units, 1, 2);
    // 16 MiB are 1/64 GiB, 256 MiB a quarter: both end within six decimals.
    let memory = |units| quotient(units, 15_625, 6);
    let storage = |units| quotient(units, 25, 2);
    let gpus: Vec<Value> = capacity
        .gpus
        .iter()
        .filter(|entry| entry.id != 0)
        .map(|entry| json!({"id": entry.id, "free": entry.free, "total": entry.total}))
        .collect();
    Ok(json!({
        "id": id.to_string(),
        "name": plain(&about.name),
        "owner": about.owner,
        "gateway": plain(&about.gateway),
        "region": regions.get(&card.region).cloned().unwrap_or_else(|| card.region.to_string()),
        "zone": card.zone,
        "tier": card.tier,
        "slashes": card.slashes,
        "active": card.active && capacity.active,
        "capacity": {
            "cpu": {"free": cpu(capacity.cpu_free), "total": cpu(capacity.cpu_total)},
            "memory_gib": {"free": memory(capacity.memory_free), "total": memory(capacity.memory_total)},
            "storage_gib": {"free": storage(capacity.storage_free), "total": storage(capacity.storage_total)},
            "gpus": gpus,
        },
        "stake": amounts::whole(stake, SPON_DECIMALS),
        "leases": leases,
    }))
}
