//! `spheron tokens`: what can be paid with, and what it entitles to.

use alloy::primitives::U256;
use bindings::IPaymentTokens;
use bindings::IPaymentTokens::Status;
use bindings::standard::IERC20;
use eyre::WrapErr as _;
use futures::future::try_join_all;
use serde_json::{Value, json};

use crate::amounts;
use crate::brackets;
use crate::chain::read;
use crate::dates::Date;
use crate::output::table;
use crate::session::Session;

/// Prices are dollars with this many decimals.
const PRICE_DECIMALS: u8 = 18;

pub(super) async fn run(session: &Session<'_>) -> eyre::Result<()> {
    let network = &session.chain.network;
    let (_, now) = session.chain.head().await?;
    let found = try_join_all(network.tokens.iter().map(|token| one(session, token, now))).await?;
    let header = [
        "TOKEN",
        "STATUS",
        "PRICE",
        "AGE",
        "USER FEE",
        "PROVIDER PAYS",
        "MATCH FEE",
        "HELD OF CAP",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    for token in &found {
        let fees = &token["fees"];
        let price = match token["price"].as_str() {
            Some(price) => format!("${price}"),
            None => format!("none: {}", text(&token["price_problem"])),
        };
        rows.push(vec![
            text(&token["symbol"]),
            text(&token["status"]),
            price,
            token["price_age_seconds"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), amounts::time),
            format!("{} %", text(&fees["user_percent"])),
            provider_pays(fees),
            text(&fees["match"]),
            format!("{} of {}", text(&token["held"]), text(&token["cap"])),
        ]);
    }
    let mut shown = table(&rows);
    shown.push_str("\nwhat an account's dollars of one token entitle to\n");
    let ladder: Vec<Value> = (1..=5).map(brackets::entitlement_json).collect();
    for step in &ladder {
        shown.push_str(&format!("  ${}: {}\n", step["dollars"], text(&step["text"])));
    }
    shown.push_str("  and so on: twice the dollars, twice the resources\n");
    session
        .output
        .result(&json!({"tokens": found, "brackets": ladder}), &shown);
    Ok(())
}

/// Commission and provider fee; the commission of providers of tier 1, where it is another one.
fn provider_pays(fees: &Value) -> String {
    let percent = |name: &str| fees[name].as_str().unwrap_or("-").to_owned();
    let (commission, rebated) = (percent("commission_percent"), percent("commission_rebated_percent"));
    let of_tier_1 = if commission == rebated {
        String::new()
    } else {
        format!(" (tier 1: {rebated} %)")
    };
    format!("{commission} %{of_tier_1} + {} %", percent("provider_percent"))
}

async fn one(session: &Session<'_>, token: &::chain::network::Token, now: u64) -> eyre::Result<Value> {
    let network = &session.chain.network;
    let list = IPaymentTokens::new(network.contracts.payment_tokens, &session.chain.provider);
    let contract = IERC20::new(token.address, &session.chain.provider);
    let (listed, held) = tokio::try_join!(
        read(list.token(token.id)),
        read(contract.balanceOf(network.contracts.escrow))
    )
    .wrap_err_with(|| format!("token {}", token.symbol))?;
    let (schedule, rebated, kept) = tokio::try_join!(
        session.fee_schedule(listed.feeSchedule),
        session.fee_schedule(listed.feeSchedule | 1),
        read(list.lastPrice(token.id))
    )?;
    let percent = |points: u16| manifest::decimal_text(U256::from(points), 2);
    let amount = |units: U256| amounts::whole(units, token.decimals);
    let cap = U256::from(listed.cap);
    let mut value = json!({
        "id": token.id,
        "symbol": token.symbol,
        "address": token.address,
        "decimals": token.decimals,
        "status": match listed.status {
            Status::Enabled => "enabled",
            Status::Paused => "paused: no new orders until governance enables it",
            Status::Delisted => "delisted: no new orders",
            Status::__Invalid => "unknown",
        },
        "fees": {
            "schedule": listed.feeSchedule,
            "user_percent": percent(schedule.userFee),
            "provider_percent": percent(schedule.providerFee),
            "commission_percent": percent(schedule.commission),
            "commission_rebated_percent": percent(rebated.commission),
            "gateway_share_percent": percent(schedule.gatewayShare),
            "match": amount(U256::from(schedule.matchFee)),
            "match_units": U256::from(schedule.matchFee).to_string(),
        },
        "cap": if cap == U256::from(u128::MAX) { "no limit".to_owned() } else { amount(cap) },
        "cap_units": cap.to_string(),
        "held": amount(held),
        "held_units": held.to_string(),
        "feed": listed.feed.feed,
        "feed_heartbeat_seconds": listed.feed.heartbeat,
        "kept_price": manifest::decimal_text(kept.price, PRICE_DECIMALS),
        "kept_price_at": kept.updatedAt,
        "kept_price_date": Date(kept.updatedAt).to_string(),
    });
    match read(list.price(token.id)).await {
        Ok(price) => {
            value["price"] = manifest::decimal_text(price, PRICE_DECIMALS).into();
            value["price_age_seconds"] = age(session, &listed.feed, now).await.into();
        }
        // Prices decide brackets and nothing else: without one the rest is as it was.
        Err(error) => value["price_problem"] = format!("{error:#}").into(),
    }
    Ok(value)
}

/// Seconds since the feed had its answer; nothing if it does not say.
async fn age(session: &Session<'_>, feed: &IPaymentTokens::PriceFeed, now: u64) -> Option<u64> {
    let feed = bindings::standard::IPriceFeed::new(feed.feed, &session.chain.provider);
    let round = feed.latestRoundData().call().await.ok()?;
    Some(now.saturating_sub(round.updatedAt.saturating_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rebated_commission_is_told() {
        let mut fees = json!({"commission_percent": "20", "commission_rebated_percent": "15", "provider_percent": "2"});
        assert_eq!(provider_pays(&fees), "20 % (tier 1: 15 %) + 2 %");
        fees["commission_rebated_percent"] = "20".into();
        assert_eq!(provider_pays(&fees), "20 % + 2 %");
    }
}
