//! `spheron lease close`: by the key itself, or signed by one and brought in by another.

use std::path::Path;

use ::chain::network::Token;
use alloy::primitives::{B256, U256};
use bindings::{CloseRequest, ILeases, LeaseResources, OrderState};
use eyre::bail;
use serde_json::{Value, json};

use super::{OnChain, on_chain};
use crate::amounts::{self, Bill, lease_lock};
use crate::arguments::Close;
use crate::chain::Call;
use crate::dates::{Date, Moment};
use crate::failure::Failure;
use crate::market::{state, state_phrase};
use crate::output::facts;
use crate::session::Session;
use crate::signatures::{Signed, read_file, shared_nonce};

pub(super) async fn run(session: &Session<'_>, arguments: &Close) -> eyre::Result<()> {
    match (arguments.lease, &arguments.submit) {
        (Some(lease), _) if arguments.sign => sign(session, lease, arguments.valid).await,
        (Some(lease), _) => close(session, lease).await,
        (None, Some(file)) => submit(session, file).await,
        (None, None) => bail!(Failure::bad_input("name a lease, or a signed request with --submit")),
    }
}

async fn close(session: &Session<'_>, lease: u64) -> eyre::Result<()> {
    let word = session.order(lease).await?;
    match word.state {
        OrderState::Leased => {}
        OrderState::Open => {
            bail!("order {lease} is open and no lease yet; take it back with `spheron order cancel {lease}`")
        }
        state => bail!("lease {lease} is over already: {}", state_phrase(state)),
    }
    let found = on_chain(session, lease).await?;
    // At the end of end and grace it is anybody's to close.
    if found.account.is_none_or(|account| found.now < account.grace_end) {
        session.require_closer(lease, session.home.address()?).await?;
    }
    session.output.step(format!("closing lease {lease}"));
    let billed = session.close(lease).await?;
    show(session, lease, found, billed).await
}

/// What the close of a lease comes to.
pub(in crate::commands) struct Closed<'a> {
    lease: u64,
    token: &'a Token,
    /// What it was closed as.
    state: OrderState,
    /// Seconds.
    billed: u32,
    pub(in crate::commands) bill: Bill,
    /// What the user has back of what was locked, in units.
    refunded: U256,
}

impl<'a> Closed<'a> {
    /// Of a lease as it was before, billed for so many seconds.
    pub(in crate::commands) fn of(
        lease: u64,
        token: &'a Token,
        before: &OnChain,
        billed: u32,
        state: OrderState,
    ) -> Self {
        let rate = U256::from(before.word.rate);
        let bill = Bill::after(billed, rate, &before.schedule, before.origin);
        Self {
            lease,
            token,
            state,
            billed,
            bill,
            refunded: lease_lock(before.word.duration, rate, &before.schedule).saturating_sub(bill.streamed()),
        }
    }

    pub(in crate::commands) fn json(&self) -> Value {
        let (bill, refunded) = (&self.bill, self.refunded);
        let (state, reason) = state(self.state);
        let amount = |units: U256| amounts::whole(units, self.token.decimals);
        json!({
            "lease": self.lease.to_string(),
            "state": state,
            "reason": reason,
            "billed_seconds": self.billed,
            "symbol": self.token.symbol,
            "spent": amount(bill.spent()), "spent_units": bill.spent().to_string(),
            "paid": amount(bill.paid), "paid_units": bill.paid.to_string(),
            "gateway": amount(bill.gateway), "gateway_units": bill.gateway.to_string(),
            "fees": amount(bill.fees()), "fees_units": bill.fees().to_string(),
            "commission_units": bill.commission.to_string(),
            "provider_fee_units": bill.provider_fee.to_string(),
            "user_fee_units": bill.user_fee.to_string(),
            "match_fee_units": bill.match_fee.to_string(),
            "refunded": amount(refunded), "refunded_units": refunded.to_string(),
        })
    }

    pub(in crate::commands) fn facts(&self) -> Vec<(&'static str, String)> {
        let shown = |units: U256| amounts::shown(units, self.token);
        let mut lines = vec![
            ("lease", format!("{}, {}", self.lease, state_phrase(self.state))),
            ("billed", amounts::time(self.billed.into())),
            ("spent", shown(self.bill.spent())),
            ("  to the provider", shown(self.bill.paid)),
        ];
        if !self.bill.gateway.is_zero() {
            lines.push(("  to its gateway", shown(self.bill.gateway)));
        }
        lines.extend([("  fees", shown(self.bill.fees())), ("refunded", shown(self.refunded))]);
        lines
    }
}

/// The bill of a lease that was just closed.
async fn show(session: &Session<'_>, lease: u64, before: OnChain, billed: u32) -> eyre::Result<()> {
    let state = session.order(lease).await?.state;
    let closed = Closed::of(lease, session.token_of(lease)?, &before, billed, state);
    let mut lines = closed.facts();
    lines.push(("rate it", format!("spheron lease rate {lease} 1..10, once it is paid")));
    session.output.result(&closed.json(), &facts(&lines));
    Ok(())
}

/// Prints a close that anybody may bring in. For an open order it is a cancellation.
async fn sign(session: &Session<'_>, lease: u64, valid: Moment) -> eyre::Result<()> {
    let word = session.order(lease).await?;
    if !matches!(word.state, OrderState::Leased | OrderState::Open) {
        bail!("order {lease} is over already: {}", state_phrase(word.state));
    }
    let key = session.home.signer()?;
    session.require_closer(lease, key.address()).await?;
    let (nonce, now) = session.signing_nonce(key.address()).await?;
    let deadline = valid.after(now);
    if deadline <= now {
        bail!(Failure::bad_input(format!("{} is no time to come", Date(deadline))));
    }
    let request = CloseRequest {
        signer: key.address(),
        orderId: lease,
        nonce,
        deadline: U256::from(deadline),
    };
    let signed = session.sign(request, &key)?;
    session.output.note(format!(
        "until {} UTC anybody may bring this in: spheron lease close --submit FILE",
        Date(deadline)
    ));
    session.output.note(shared_nonce(nonce));
    session.output.line(&serde_json::to_string_pretty(&signed)?);
    Ok(())
}

async fn submit(session: &Session<'_>, file: &Path) -> eyre::Result<()> {
    let signed = Signed::<CloseRequest>::parse(&read_file(file)?)?;
    session.check_signed(&signed).await?;
    let order = signed.request.orderId;
    let word = session.order(order).await?;
    let leased = word.state == OrderState::Leased;
    let resources = if leased {
        session.lease_resources(order).await?
    } else {
        // A cancellation frees no capacity.
        LeaseResources {
            resources: U256::ZERO,
            restHash: B256::ZERO,
        }
    };
    let found = on_chain(session, order).await?;
    let call = ILeases::closeForCall {
        request: signed.request.clone(),
        resources,
        signature: signed.signature.clone(),
    };
    let purpose = "to close for the signer";
    let call = Call::new(purpose, session.chain.network.contracts.order_book, &call);
    session
        .output
        .step(format!("closing {order} for {}", signed.request.signer));
    let receipts = session.chain.execute(&session.home.signer()?, vec![call]).await?;
    let closed = receipts
        .iter()
        .find_map(|receipt| receipt.decoded_log::<ILeases::LeaseClosed>());
    match closed {
        Some(closed) => show(session, order, found, closed.billed).await,
        None => {
            let value = json!({"order": order.to_string(), "state": "cancelled"});
            let text = format!("order {order} is cancelled; its money is unlocked");
            session.output.result(&value, &text);
            Ok(())
        }
    }
}
