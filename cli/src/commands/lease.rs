//! `spheron lease`: show, send, manifest, extend, update, close, rate.

pub(super) mod close;
mod extend;
mod rate;
mod update;

use std::time::{Duration, Instant};

use ::chain::network::Token;
use alloy::primitives::U256;
use avs::words::OrderId;
use bindings::{FeeSchedule, Order, OrderState};
use eyre::{WrapErr as _, bail};
use gateway::wire::{ErrorCode, LeaseId, LeaseStatus};
use gateway::{ClientError, GatewayClient};
use manifest::SaltedManifest;
use serde_json::{Value, json};

use crate::amounts::{self, Bill, Origin, lease_lock, order_lock};
use crate::arguments::Lease;
use crate::chain::read;
use crate::dates::Date;
use crate::market::{Account, Supplier, Time, state, state_phrase};
use crate::output::{facts, plain};
use crate::serving::{manifest_state, phase, progress, services_json};
use crate::session::Session;

/// How long to try to reach a provider.
const SEND_LIMIT: Duration = Duration::from_secs(30);

pub(super) async fn run(session: &Session<'_>, arguments: &Lease) -> eyre::Result<()> {
    match arguments {
        Lease::Show { lease } => show(session, *lease).await,
        Lease::Send { lease } => send(session, *lease).await,
        Lease::Manifest { lease } => fetch(session, *lease).await,
        Lease::Extend(arguments) => extend::run(session, arguments).await,
        Lease::TopUp(arguments) => extend::top_up(session, arguments).await,
        Lease::Update(arguments) => update::run(session, arguments).await,
        Lease::Close(arguments) => close::run(session, arguments).await,
        Lease::Rate { lease, rating } => rate::run(session, *lease, *rating).await,
        // Dispatched before: they are also commands of their own.
        Lease::List(_) | Lease::Logs(_) => Ok(()),
    }
}

/// What the chain says of a lease.
pub(super) struct OnChain {
    pub(super) word: Order,
    pub(super) supplier: Option<Supplier>,
    pub(super) account: Option<Account>,
    /// The first lease of its workload.
    pub(super) workload: u64,
    pub(super) origin: Origin,
    pub(super) schedule: FeeSchedule,
    /// Unix seconds of the newest block.
    pub(super) now: u64,
}

pub(super) async fn on_chain(session: &Session<'_>, lease: u64) -> eyre::Result<OnChain> {
    let leases = session.leases();
    let (word, workload, windows, (_, now)) = tokio::try_join!(
        session.order(lease),
        read(leases.workloadOf(lease)),
        session.windows(),
        session.chain.head()
    )?;
    let book = session.order_book();
    let supplier = async {
        match word.supplier {
            0 => Ok((None, 0)),
            id => {
                let (supplier, terms) = tokio::try_join!(session.supplier(id), read(book.supplierTerms(id)))?;
                Ok((Some(supplier), terms.gateway))
            }
        }
    };
    let ((supplier, gateway), schedule) = tokio::try_join!(supplier, session.fee_schedule(word.feeSchedule))?;
    let origin = Origin {
        updated: workload != lease,
        shared: gateway != 0,
    };
    let account = Account::of(&word, &schedule, origin, windows, now);
    Ok(OnChain {
        word,
        supplier,
        account,
        workload,
        origin,
        schedule,
        now,
    })
}

impl OnChain {
    /// What was paid out of the account by now: settled, and the match fee.
    fn settled(&self) -> Bill {
        let rate = U256::from(self.word.rate);
        Bill::after(self.word.settledFor, rate, &self.schedule, self.origin)
    }

    /// What is locked for it now.
    fn locked(&self) -> U256 {
        let word = &self.word;
        locked(word, &self.schedule, self.account.map(|account| account.bill))
    }

    pub(super) fn json(&self, lease: u64, token: &Token) -> Value {
        let (state, reason) = state(self.word.state);
        let mut value = json!({
            "lease": lease.to_string(),
            "state": state,
            "reason": reason,
            "account": (lease >> 32).to_string(),
            "close_block": self.word.closeBlock,
            "rate": amounts::rate(U256::from(self.word.rate), token),
            "locked": amounts::whole(self.locked(), token.decimals),
            "locked_units": self.locked().to_string(),
        });
        if let Some(supplier) = &self.supplier {
            value["provider"] = supplier.json();
        }
        if let Some(account) = &self.account {
            let bill = &account.bill;
            value["workload"] = self.workload.to_string().into();
            value["start"] = self.word.start.into();
            value["end"] = account.end.into();
            value["grace_end"] = account.grace_end.into();
            value["seconds"] = account.seconds.into();
            value["seconds_left"] = account.left.into();
            value["time"] = account.time.map(Time::name).into();
            value["spent"] = amounts::whole(bill.spent(), token.decimals).into();
            value["spent_units"] = bill.spent().to_string().into();
            let mut amount = |name: &str, units: U256| {
                value[name] = amounts::whole(units, token.decimals).into();
                value[format!("{name}_units")] = units.to_string().into();
            };
            amount("stream", bill.gross);
            amount("user_fee", bill.user_fee);
            amount("match_fee", bill.match_fee);
            amount("paid_out", self.settled().spent());
            if self.word.state == OrderState::Leased {
                value["low_funds_announced"] = self.word.noted.into();
            } else {
                value["rated"] = self.word.noted.into();
            }
        }
        value
    }
}

/// What the escrow keeps locked for an order or lease. A live lease keeps its whole lock, whatever was settled of it; one that
/// was closed inside its payout hold keeps what it is billed.
fn locked(word: &Order, schedule: &FeeSchedule, bill: Option<Bill>) -> U256 {
    let rate = U256::from(word.rate);
    match (word.state, bill) {
        (OrderState::Open, _) => order_lock(word.duration, rate, schedule),
        (OrderState::Leased, _) => lease_lock(word.duration, rate, schedule),
        (OrderState::Cancelled | OrderState::Expired | OrderState::ClosedUndone, _) => U256::ZERO,
        (_, Some(bill)) if word.settledFor < word.duration => bill.streamed(),
        _ => U256::ZERO,
    }
}

/// What a lease spent, and what for.
fn split(bill: &Bill, token: &Token) -> String {
    let mut text = format!(
        "{}: {} for its time, {} user fee",
        amounts::shown(bill.spent(), token),
        amounts::whole(bill.gross, token.decimals),
        amounts::whole(bill.user_fee, token.decimals)
    );
    if !bill.match_fee.is_zero() {
        text.push_str(&format!(
            ", {} match fee",
            amounts::whole(bill.match_fee, token.decimals)
        ));
    }
    text
}

/// What a user should do about the time of a lease, if anything.
pub(super) fn time_advice(lease: u64, time: Option<Time>) -> Option<String> {
    let extend = format!("extend it: spheron lease top-up {lease} --for 6h");
    match time? {
        Time::Ample => None,
        Time::Low => Some(format!("it ends soon; {extend}")),
        Time::Grace(left) => Some(format!(
            "its end has passed, and in {} it is over; {extend}",
            amounts::time(left)
        )),
        Time::Over => Some("its end and its grace are over; it can only be closed".to_owned()),
    }
}

async fn show(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let token = session.token_of(lease)?;
    let found = on_chain(session, lease).await?;
    let mut value = found.json(lease, token);
    let account = OrderId::unpack(lease).account;
    let owner = session.owner_of(account).await?;
    value["owner"] = json!(owner);
    let mut lines = vec![
        ("lease", lease.to_string()),
        ("state", state_phrase(found.word.state)),
        ("account", format!("{account} of {owner}")),
    ];
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
        lines.push(("ends", format!("{} UTC", Date(account.end))));
        if let Some(advice) = time_advice(lease, account.time) {
            lines.push(("attention", advice));
        }
        lines.push(("spent", split(&account.bill, token)));
        lines.push(("paid out of it", amounts::shown(found.settled().spent(), token)));
        lines.push(("locked", amounts::shown(found.locked(), token)));
        if found.workload != lease {
            lines.push(("workload", format!("{}, of which this is an update", found.workload)));
        }
    }
    if found.word.state == OrderState::Leased {
        let proposal = read(session.leases().updateProposal(lease)).await?;
        if !proposal.hash.is_zero() {
            let expiry = proposal.expiry.to::<u64>();
            let over = if expiry <= found.now { ", which is over" } else { "" };
            lines.push(("update", format!("proposed, until {} UTC{over}", Date(expiry))));
            value["update_proposed_until"] = expiry.into();
        }
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
        let name = plain(service["name"].as_str().unwrap_or_default());
        let state = service["state"].as_str().unwrap_or_default();
        text.push_str(&format!(
            "\n{name}: {state} ({} of {})\n",
            service["running"], service["wanted"]
        ));
        for url in service["urls"].as_array().into_iter().flatten() {
            text.push_str(&format!("  {}\n", plain(url.as_str().unwrap_or_default())));
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            let part = |name: &str| port[name].as_str().unwrap_or_default();
            let (inside, outside) = (&port["container_port"], &port["port"]);
            text.push_str(&format!(
                "  port {inside}/{} at {}:{outside}\n",
                part("protocol"),
                plain(part("host"))
            ));
        }
    }
    for warning in &status.warnings {
        text.push_str(&format!("\nwarning: {}\n", plain(warning)));
    }
    text
}

async fn send(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let word = session.leased(lease).await?;
    let (reaching, created) = tokio::try_join!(session.reach(&word), session.created(lease))?;
    let (supplier, client) = reaching;
    let salted = match session.orders().await?.manifest(created.terms.manifest_hash) {
        Ok(salted) => salted,
        Err(error) => return Err(error.wrap_err(not_sent(lease, &supplier, &client).await)),
    };
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
    let encoded = match client.manifest(LeaseId(lease)).await {
        Ok(encoded) => encoded,
        Err(ClientError::Refused { body, .. }) if body.error == ErrorCode::NoManifest => {
            let here = session.orders().await?.manifest(created.terms.manifest_hash).is_ok();
            bail!(lost_manifest(lease, &supplier, here))
        }
        Err(error) => return Err(error.into()),
    };
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

/// What to do about a manifest that this home does not have.
async fn not_sent(lease: u64, supplier: &Supplier, client: &GatewayClient) -> String {
    match client.manifest(LeaseId(lease)).await {
        Ok(_) => format!(
            "provider {} ({}) has the manifest of lease {lease}, nothing need be sent",
            supplier.id, supplier.name
        ),
        Err(ClientError::Refused { body, .. }) if body.error == ErrorCode::NoManifest => {
            lost_manifest(lease, supplier, false)
        }
        Err(_) => format!("only a home that has the manifest of lease {lease} can send it"),
    }
}

/// What to do about a manifest that the provider does not have.
fn lost_manifest(lease: u64, supplier: &Supplier, here: bool) -> String {
    let advice = match here {
        true => format!("this home has it: spheron lease send {lease}"),
        false => format!(
            "nor has this home; where no other home has it, run the deployment file anew in the place of this lease: spheron lease \
             update {lease} FILE"
        ),
    };
    format!(
        "provider {} ({}) holds no manifest for lease {lease}; {advice}",
        supplier.id, supplier.name
    )
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use alloy::primitives::aliases::U96;

    use super::*;
    use crate::market::tests::lease;

    #[test]
    fn a_lost_manifest_is_sent_again_only_by_a_home_that_has_it() {
        let supplier = Supplier {
            id: 3,
            owner: Address::ZERO,
            name: "north".to_owned(),
            gateway: String::new(),
        };
        let here = lost_manifest(7, &supplier, true);
        assert!(
            here.contains("lease send 7") && !here.contains("lease update"),
            "{here}"
        );
        let gone = lost_manifest(7, &supplier, false);
        assert!(
            gone.contains("lease update 7 FILE") && !gone.contains("lease send"),
            "{gone}"
        );
    }

    #[test]
    fn what_is_locked_follows_the_state() {
        let schedule = FeeSchedule {
            commission: 2_000,
            userFee: 200,
            providerFee: 0,
            gatewayShare: 0,
            matchFee: U96::from(1_000),
        };
        let word = Order {
            rate: U96::from(36_000_000),
            duration: 100,
            state: OrderState::Open,
            ..lease()
        };
        let bill = Bill::after(100, U256::from(word.rate), &schedule, Origin::default());
        let locked = |state, settled| {
            let word = Order {
                state,
                settledFor: settled,
                ..word.clone()
            };
            locked(&word, &schedule, Some(bill))
        };
        // 100 s at 1 000 units a second, a fiftieth as fee, and the fee for the match.
        assert_eq!(locked(OrderState::Open, 0), U256::from(103_000));
        assert_eq!(locked(OrderState::Leased, 0), U256::from(102_000));
        // Until the lease ends, what was paid of it is still counted as locked.
        assert_eq!(locked(OrderState::Leased, 50), U256::from(102_000));
        assert_eq!(locked(OrderState::ClosedByUser, 0), U256::from(102_000));
        assert_eq!(locked(OrderState::ClosedByUser, 100), U256::ZERO);
        assert_eq!(locked(OrderState::Cancelled, 0), U256::ZERO);
        assert_eq!(locked(OrderState::ClosedUndone, 0), U256::ZERO);
        let token = Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals: 6,
        };
        assert_eq!(
            split(&bill, &token),
            "0.103 uSPON: 0.1 for its time, 0.002 user fee, 0.001 match fee"
        );
    }

    #[test]
    fn whoever_is_short_of_time_is_told_what_to_do() {
        assert_eq!(time_advice(7, None), None);
        assert_eq!(time_advice(7, Some(Time::Ample)), None);
        let low = time_advice(7, Some(Time::Low)).expect("advice");
        assert!(low.contains("spheron lease top-up 7"), "{low}");
        let grace = time_advice(7, Some(Time::Grace(61))).expect("advice");
        assert!(grace.contains("in 1m 1s it is over"), "{grace}");
        let over = time_advice(7, Some(Time::Over)).expect("advice");
        assert!(!over.contains("top-up"), "{over}");
    }
}
