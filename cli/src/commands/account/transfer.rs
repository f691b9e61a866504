//! `spheron account transfer`: hand an account over, with what goes along shown first.

use alloy::primitives::{Address, B256, U256};
use bindings::standard::IERC721;
use bindings::{ICertificateRegistry, OrderState};
use serde_json::json;

use super::{live_json, live_orders, rights_json, rights_table};
use crate::chain::{Call, read};
use crate::failure::Failure;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, account: u32, to: Address, yes: bool) -> eyre::Result<()> {
    let owner = session.home.address()?;
    session.require_owner(account, owner).await?;
    let escrow = session.chain.network.contracts.escrow;
    if to == owner || to == Address::ZERO || to == escrow {
        return Err(Failure::bad_input(format!("account {account} cannot be handed over to {to}")).into());
    }
    let registry = session.chain.network.contracts.certificate_registry;
    let certificates = ICertificateRegistry::new(registry, &session.chain.provider);
    let (held, live, rights, (_, now), published) = tokio::try_join!(
        session.account_json(account),
        live_orders(session, account),
        session.rights(account),
        session.chain.head(),
        read(certificates.fingerprints(to))
    )?;
    let warnings = warnings(account, to, published.current, &live);
    let mut text = String::new();
    for token in held["tokens"].as_array().into_iter().flatten() {
        let part = |name: &str| token[name].as_str().unwrap_or_default();
        if part("unlocked") != "0" || part("locked") != "0" {
            text.push_str(&format!(
                "  {} {} unlocked, {} locked\n",
                part("symbol"),
                part("unlocked"),
                part("locked")
            ));
        }
    }
    for (id, state) in &live {
        let what = if *state == OrderState::Open { "order" } else { "lease" };
        text.push_str(&format!("  {what} {id}\n"));
    }
    if text.is_empty() {
        text.push_str("  nothing: it is empty\n");
    }
    let mut text = format!("with account {account} go to {to}\n{text}");
    if !rights.is_empty() {
        text.push_str(&format!(
            "\nspending rights that end\n{}",
            rights_table(session, &rights, now)?
        ));
    }
    if live.iter().any(|(_, state)| *state == OrderState::Leased) {
        text.push_str("\nwhoever owns the account reads and changes what its leases run; proposed updates end\n");
    }
    for warning in &warnings {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    let mut value = json!({
        "account": account.to_string(), "warnings": warnings, "from": owner, "to": to, "sent": false, "holds": held["tokens"],
        "live": live_json(&live), "rights_that_end": rights_json(session, &rights, now)?,
    });
    if !yes {
        text.push_str("\nnothing was sent; add --yes to hand it over, which cannot be taken back\n");
        session.output.result(&value, &text);
        return Ok(());
    }
    let call = IERC721::transferFromCall {
        from: owner,
        to,
        tokenId: U256::from(account),
    };
    let call = Call::new("to hand the account over", escrow, &call);
    session.output.step(format!("handing account {account} over to {to}"));
    session.chain.execute(&session.home.signer()?, vec![call]).await?;
    value["sent"] = true.into();
    text.push_str(&format!("\naccount {account} belongs to {to} now\n"));
    session.output.result(&value, &text);
    Ok(())
}

/// What the new owner cannot do with what goes along.
fn warnings(account: u32, to: Address, certificate: B256, live: &[(u64, OrderState)]) -> Vec<String> {
    let mut warnings = Vec::new();
    if certificate.is_zero() {
        warnings.push(format!(
            "{to} has published no certificate: no provider talks to it about the leases of account {account} before it has run `spheron \
             init`"
        ));
    }
    for (order, _) in live.iter().filter(|(_, state)| *state == OrderState::Open) {
        warnings.push(format!(
            "order {order} is open and only whoever ordered it has its manifest: when it becomes a lease, {to} cannot send it; take the \
             order back before (`spheron order cancel {order}`), or wait until it runs"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_receiver_cannot_use_is_warned_of() {
        let (to, live) = (
            Address::repeat_byte(7),
            [(11, OrderState::Open), (12, OrderState::Leased)],
        );
        let told = warnings(4, to, B256::ZERO, &live);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains(&to.to_string()) && told[0].contains("no certificate"),
            "{told:?}"
        );
        assert!(told[1].contains("spheron order cancel 11"), "{told:?}");
        assert!(warnings(4, to, B256::repeat_byte(1), &live[1..]).is_empty());
    }
}
