//! `spheron lease`: show, send, manifest, close.

use std::time::{Duration, Instant};

use ::chain::network::Token;
use alloy::primitives::U256;
use bindings::{Order, OrderState};
use eyre::{WrapErr as _, bail};
use gateway::wire::{LeaseId, LeaseStatus};
use manifest::SaltedManifest;
use serde_json::{Value, json};

use crate::amounts::{self, worst_case};
use crate::arguments::Lease;
use crate::market::{Account, Supplier, state, state_phrase};
use crate::output::facts;
use crate::serving::{manifest_state, phase, progress, services_json};
use crate::session::Session;

/// How long to try to reach a provider.
const SEND_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(session: &Session<'_>, arguments: &Lease) -> eyre::Result<()> {
    match arguments {
        Lease::Show { lease } => show(session, *lease).await,
        Lease::Send { lease } => send(session, *lease).await,
        Lease::Manifest { lease } => fetch(session, *lease).await,
        Lease::Close { lease } => close(session, *lease).await,
        // Dispatched before: they are also commands of their own.
        Lease::List(_) | Lease::Logs(_) => Ok(()),
    }
}

/// What the chain says of a lease.
pub(super) struct OnChain {
    pub(super) word: Order,
    pub(super) supplier: Option<Supplier>,
    pub(super) account: Option<Account>,
}

pub(super) async fn on_chain(session: &Session<'_>, lease: u64) -> eyre::Result<OnChain> {
    let (word, (_, now)) = tokio::try_join!(session.order(lease), session.chain.head())?;
    let supplier = async {
        match word.supplier {
            0 => Ok(None),
            id => session.supplier(id).await.map(Some),
        }
    };
    let (supplier, schedule) = tokio::try_join!(supplier, session.fee_schedule(word.feeSchedule))?;
    let account = Account::of(&word, &schedule, now);
    Ok(OnChain {
        word,
        supplier,
        account,
    })
}

impl OnChain {
    pub(super) fn json(&self, lease: u64, token: &Token) -> Value {
        let (state, reason) = state(self.word.state);
        let mut value = json!({
            "lease": lease.to_string(),
            "state": state,
            "reason": reason,
            "account": (lease >> 32).to_string(),
            "close_block": self.word.closeBlock,
            "rate": amounts::rate(U256::from(self.word.rate), token),
        });
        if let Some(supplier) = &self.supplier {
            value["provider"] = supplier.json();
        }
        if let Some(account) = &self.account {
            let bill = &account.bill;
            value["start"] = self.word.start.into();
            value["seconds"] = account.seconds.into();
            value["seconds_left"] = account.left.into();
            value["spent"] = amounts::whole(bill.spent, token.decimals).into();
            value["spent_units"] = bill.spent.to_string().into();
        }
        value
    }
}

async fn show(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let token = session.token_of(lease)?;
    let found = on_chain(session, lease).await?;
    let mut value = found.json(lease, token);
    let mut lines = vec![("lease", lease.to_string()), ("state", state_phrase(found.word.state))];
    if let Some(supplier) = &found.supplier {
        lines.push((
            "provider",
            format!("{} ({}), {}", supplier.id, supplier.name, supplier.gateway),
        ));
    }
    let rate = U256::from(found.word.rate);
    lines.push(("rate", format!("{} {}/h", amounts::hourly(rate, token), token.symbol)));
    if let Some(account) = &found.account {
        lines.push(("ran", amounts::time(account.seconds.into())));
        lines.push(("time left", amounts::time(account.left.into())));
        lines.push(("spent", amounts::shown(account.bill.spent, token)));
    }
    value["manifest"] = "unknown".into();
    value["services"] = json!([]);
    let mut services = String::new();
    if found.word.state == OrderState::Leased {
        match ask(session, lease, found.supplier.as_ref()).await {
            Ok(status) => {
                value["manifest"] = manifest_state(&status).into();
                value["phase"] = phase(status.phase).into();
                value["message"] = progress(&status).into();
                value["services"] = services_json(&status);
                value["warnings"] = json!(status.warnings);
                lines.push(("at the provider", progress(&status)));
                lines.push(("manifest", manifest_state(&status).to_owned()));
                services = services_text(&status);
            }
            // The chain has its say whether or not the provider answers.
            Err(error) => {
                let message = format!("{error:#}");
                lines.push(("at the provider", format!("unknown: {message}")));
                value["message"] = message.into();
            }
        }
    }
    session.output.result(&value, &format!("{}{services}", facts(&lines)));
    Ok(())
}

async fn ask(session: &Session<'_>, lease: u64, supplier: Option<&Supplier>) -> eyre::Result<LeaseStatus> {
    let Some(supplier) = supplier else {
        bail!("nobody serves the lease");
    };
    let client = session.gateway(supplier).await?;
    Ok(client.lease(LeaseId(lease)).await?)
}

/// Services with where they are reached, for people.
pub(super) fn services_text(status: &LeaseStatus) -> String {
    let mut text = String::new();
    for service in services_json(status).as_array().into_iter().flatten() {
        let name = service["name"].as_str().unwrap_or_default();
        let state = service["state"].as_str().unwrap_or_default();
        text.push_str(&format!(
            "\n{name}: {state} ({} of {})\n",
            service["running"], service["wanted"]
        ));
        for url in service["urls"].as_array().into_iter().flatten() {
            text.push_str(&format!("  {}\n", url.as_str().unwrap_or_default()));
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let part = |name: &str| port[name].as_str().unwrap_or_default();
            let (inside, outside) = (&port["container_port"], &port["port"]);
            text.push_str(&format!(
                "  port {inside}/{} at {}:{outside}\n",
                part("protocol"),
                part("host")
            ));
        }
    }
    for warning in &status.warnings {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    text
}

async fn send(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let word = session.leased(lease).await?;
    let (reaching, created) = tokio::try_join!(session.reach(&word), session.created(lease))?;
    let (supplier, client) = reaching;
    let salted = session.orders().await?.manifest(created.terms.manifest_hash)?;
    session.output.step(format!(
        "sending the manifest to provider {} ({})",
        supplier.id, supplier.name
    ));
    let deadline = Instant::now() + SEND_LIMIT;
    session.send_manifest(&client, lease, salted.encode(), deadline).await?;
    let value = json!({"lease": lease.to_string(), "manifest": "stored", "provider": supplier.json()});
    session.output.result(
        &value,
        &format!("provider {} ({}) has the manifest", supplier.id, supplier.name),
    );
    Ok(())
}

async fn fetch(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let word = session.leased(lease).await?;
    let (reaching, created) = tokio::try_join!(session.reach(&word), session.created(lease))?;
    let (supplier, client) = reaching;
    session.output.step(format!(
        "asking provider {} ({}) for the manifest",
        supplier.id, supplier.name
    ));
    let encoded = client.manifest(LeaseId(lease)).await?;
    let salted = SaltedManifest::decode(&encoded).wrap_err("the provider gave something back that is no manifest")?;
    if salted.hash() != created.terms.manifest_hash {
        bail!(
            "the provider gave back a manifest with hash {}, the order has {}; nothing was stored",
            salted.hash(),
            created.terms.manifest_hash
        );
    }
    // So that a home that lost it can send it again.
    session.orders().await?.store_manifest(&salted)?;
    session.output.line(&String::from_utf8_lossy(&salted.encode()));
    Ok(())
}

async fn close(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let token = session.token_of(lease)?;
    let word = session.order(lease).await?;
    match word.state {
        OrderState::Leased => {}
        OrderState::Open => {
            bail!("order {lease} is open and no lease yet; take it back with `spheron order cancel {lease}`")
        }
        state => bail!("lease {lease} is over already: {}", state_phrase(state)),
    }
    session.output.step(format!("closing lease {lease}"));
    let (billed, schedule) = tokio::try_join!(session.close(lease), session.fee_schedule(word.feeSchedule))?;
    let rate = U256::from(word.rate);
    let bill = amounts::Bill::after(billed, rate, &schedule);
    let refunded = worst_case(word.duration, rate, &schedule).saturating_sub(bill.spent);
    let closed = session.order(lease).await?;
    let (state, reason) = state(closed.state);
    let amount = |units: U256| amounts::whole(units, token.decimals);
    let value = json!({
        "lease": lease.to_string(),
        "state": state,
        "reason": reason,
        "billed_seconds": billed,
        "symbol": token.symbol,
        "spent": amount(bill.spent), "spent_units": bill.spent.to_string(),
        "paid": amount(bill.paid), "paid_units": bill.paid.to_string(),
        "fees": amount(bill.fees), "fees_units": bill.fees.to_string(),
        "refunded": amount(refunded), "refunded_units": refunded.to_string(),
    });
    let text = facts(&[
        ("lease", format!("{lease}, {}", state_phrase(closed.state))),
        ("billed", amounts::time(billed.into())),
        ("spent", amounts::shown(bill.spent, token)),
        ("  to the provider", amounts::shown(bill.paid, token)),
        ("  fees", amounts::shown(bill.fees, token)),
        ("refunded", amounts::shown(refunded, token)),
    ]);
    session.output.result(&value, &text);
    Ok(())
}
