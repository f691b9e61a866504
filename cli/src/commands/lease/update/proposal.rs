//! What would take the place of a lease, what changes with it, and what it costs.

use std::path::Path;

use ::chain::network::Token;
use alloy::primitives::{B256, U256};
use avs::words::OrderId;
use eyre::bail;
use manifest::{FieldDifference, OrderRequest, SaltedManifest, differences};
use serde_json::{Value, json};

use crate::amounts::{self, lease_lock};
use crate::arguments::UpdateLease;
use crate::chain::read;
use crate::commands::deploy::{derive, note_warnings, read_file, require_bracket};
use crate::commands::lease::OnChain;
use crate::dates::{Date, Moment};
use crate::failure::Failure;
use crate::output::facts;
use crate::session::Session;

/// What is proposed, and what it costs at most.
pub(super) struct Proposal {
    pub(super) salted: SaltedManifest,
    pub(super) request: OrderRequest,
    pub(super) token: Token,
    pub(super) account: u32,
    /// Locked when the provider accepts, at most.
    pub(super) lock: U256,
    /// What the old lease gives back then.
    pub(super) returned: U256,
    pub(super) unlocked: U256,
    pub(super) changes: Vec<FieldDifference>,
    pub(super) expiry: u64,
}

/// Reads a file and what it asks for in place of a lease.
pub(super) async fn prepare(
    session: &Session<'_>,
    arguments: &UpdateLease,
    file: &Path,
    found: &OnChain,
) -> eyre::Result<Proposal> {
    let name = file.display().to_string();
    let deployment = read_file(file)?;
    note_warnings(session.output, &name, &deployment.warnings);
    let salted = SaltedManifest {
        salt: B256::from(rand::random::<[u8; 32]>()),
        manifest: deployment.manifest,
    };
    let request = derive(session, &salted, &name).await?;
    let OrderId { account, token: id, .. } = OrderId::unpack(arguments.lease);
    let token = session.token_by_id(id)?.clone();
    if request.token != id {
        bail!(Failure::bad_input(format!(
            "{name}: it pays in another token than lease {}, which is in {}; order anew for that",
            arguments.lease, token.symbol
        )));
    }
    require_bracket(session, account, &request).await?;
    let listed = read(session.escrow().tokenOf(id)).await?;
    let (schedule, held, before) = tokio::try_join!(
        session.fee_schedule(listed.schedule),
        session.balance(account, id),
        session.created(arguments.lease)
    )?;
    let rate = U256::from(found.word.rate);
    let streamed = found
        .account
        .as_ref()
        .map_or(U256::ZERO, |account| account.bill.streamed());
    let old = OrderRequest {
        token: id,
        terms: before.terms,
    };
    let expiry = expiry(arguments.expires, found.now)?;
    Ok(Proposal {
        lock: lease_lock(
            request.terms.duration,
            U256::from(request.terms.maximum_rate),
            &schedule,
        ),
        returned: lease_lock(found.word.duration, rate, &found.schedule).saturating_sub(streamed),
        unlocked: held.unlocked,
        changes: differences(&request, &old),
        salted,
        request,
        token,
        account,
        expiry,
    })
}

fn expiry(expires: Moment, now: u64) -> Result<u64, Failure> {
    let expiry = expires.after(now);
    if expiry <= now || expiry >= 1 << 40 {
        return Err(Failure::bad_input(format!("{} is no time to come", Date(expiry))));
    }
    Ok(expiry)
}

impl Proposal {
    pub(super) fn json(&self, lease: u64) -> Value {
        let amount = |units: U256| amounts::whole(units, self.token.decimals);
        json!({
            "lease": lease.to_string(),
            "account": self.account.to_string(),
            "symbol": self.token.symbol,
            "maximum_rate": amounts::rate(U256::from(self.request.terms.maximum_rate), &self.token),
            "duration_seconds": self.request.terms.duration,
            "lock": amount(self.lock), "lock_units": self.lock.to_string(),
            "returned": amount(self.returned), "returned_units": self.returned.to_string(),
            "unlocked": amount(self.unlocked),
            "enough": self.unlocked + self.returned >= self.lock,
            "changes": self.changes.iter().map(|change| json!({
                "field": change.field, "from": change.on_chain, "to": change.derived,
            })).collect::<Vec<_>>(),
            "sent": false,
        })
    }

    pub(super) fn text(&self, lease: u64) -> String {
        let rate = U256::from(self.request.terms.maximum_rate);
        let mut text = facts(&[
            ("lease", lease.to_string()),
            (
                "maximum rate",
                format!("{} {}/h", amounts::hourly(rate, &self.token), self.token.symbol),
            ),
            ("duration", amounts::time(self.request.terms.duration.into())),
            ("locks at most", amounts::shown(self.lock, &self.token)),
            (
                "comes back",
                format!(
                    "{} of the lease that is replaced",
                    amounts::shown(self.returned, &self.token)
                ),
            ),
            ("unlocked", amounts::shown(self.unlocked, &self.token)),
        ]);
        text.push_str("\nwhat changes\n");
        for change in &self.changes {
            text.push_str(&format!(
                "  {}: {} -> {}\n",
                change.field, change.on_chain, change.derived
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_lies_ahead() {
        assert_eq!(expiry(Moment::Distance(60), 100).ok(), Some(160));
        assert!(expiry(Moment::At(100), 100).is_err());
        assert!(expiry(Moment::At(1 << 40), 100).is_err());
    }
}
