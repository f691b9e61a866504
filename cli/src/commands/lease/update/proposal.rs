//! What would take the place of a lease, what changes with it, and what it costs.

use std::collections::BTreeMap;
use std::path::Path;

use ::chain::network::Token;
use alloy::primitives::{B256, U256};
use avs::words::OrderId;
use eyre::{OptionExt as _, bail};
use manifest::{FieldDifference, FieldValue, OrderRequest, SaltedManifest, differences, duration_text, region_names};
use serde_json::{Value, json};

use crate::amounts::{self, lease_lock};
use crate::arguments::UpdateLease;
use crate::chain::read;
use crate::commands::deploy::{Funds, Standing, derive, note_warnings, read_file};
use crate::commands::lease::OnChain;
use crate::dates::{Date, Moment};
use crate::failure::Failure;
use crate::output::facts;
use crate::session::Session;

/// What is proposed, and what it costs at most.
pub(super) struct Proposal {
    pub(super) salted: SaltedManifest,
    pub(super) request: OrderRequest,
    /// What is locked when the provider accepts, at most, and what there is for it.
    pub(super) funds: Funds,
    standing: Option<Standing>,
    time: Time,
    /// What the lease costs as it is.
    rate: U256,
    changes: Vec<FieldDifference>,
    regions: BTreeMap<u8, String>,
    pub(super) expiry: u64,
}

/// When the lease ends, with the update and without it: Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Time {
    now: u64,
    end: u64,
    /// Seconds that the new lease lasts from its beginning.
    duration: u32,
}

impl Time {
    /// The end if the provider accepts at once; it is as much later as the provider is.
    fn updated_end(self) -> u64 {
        self.now + u64::from(self.duration)
    }

    /// Seconds that the update takes away.
    fn shorter_by(self) -> u64 {
        self.end.saturating_sub(self.updated_end())
    }

    fn text(self) -> String {
        let change = match (self.shorter_by(), self.updated_end().saturating_sub(self.end)) {
            (0, 0) => String::new(),
            (0, later) => format!(" ({} later)", amounts::time(later)),
            (shorter, _) => format!(" (SHORTER by {})", amounts::time(shorter)),
        };
        format!(
            "now at {} UTC, with the update, if it is accepted at once, at {} UTC{change}",
            Date(self.end),
            Date(self.updated_end())
        )
    }
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
    let token = session.token_by_id(id)?;
    if request.token != id {
        bail!(Failure::bad_input(format!(
            "{name}: it pays in another token than lease {}, which is in {}; order anew for that",
            arguments.lease, token.symbol
        )));
    }
    let listed = read(session.escrow().tokenOf(id)).await?;
    let (schedule, before, regions) = tokio::try_join!(
        session.fee_schedule(listed.schedule),
        session.created(arguments.lease),
        session.regions()
    )?;
    let lock = lease_lock(
        request.terms.duration,
        U256::from(request.terms.maximum_rate),
        &schedule,
    );
    let mut funds = Funds::of(session, account, id, &request.terms, lock).await?;
    let (rate, lease) = (
        U256::from(found.word.rate),
        found.account.as_ref().ok_or_eyre("a lease has a start")?,
    );
    funds.returned = lease_lock(found.word.duration, rate, &found.schedule).saturating_sub(lease.bill.streamed());
    let standing = match arguments.dry_run {
        true => Standing::of(session, account, token, lock).await?,
        false => None,
    };
    // What is compared is the lease as it is: with its extensions.
    let mut old = OrderRequest {
        token: id,
        terms: before.terms,
    };
    old.terms.duration = found.word.duration;
    Ok(Proposal {
        changes: differences(&request, &old),
        time: Time {
            now: found.now,
            end: lease.end,
            duration: request.terms.duration,
        },
        expiry: expiry(arguments.expires, found.now)?,
        salted,
        request,
        funds,
        standing,
        rate,
        regions,
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
    /// Fails if the update takes time away that is paid for, unless that is wanted.
    pub(super) fn require_time(&self, lease: u64, wanted: bool) -> Result<(), Failure> {
        match self.time.shorter_by() {
            0 => Ok(()),
            _ if wanted => Ok(()),
            shorter => Err(Failure::bad_input(format!(
                "lease {lease} would end {} sooner: {}; write a longer duration into the file, or take the shorter time with --yes \
                 (it can be extended afterwards)",
                amounts::time(shorter),
                self.time.text()
            ))),
        }
    }

    /// What becomes of the lease's end.
    pub(super) fn ends(&self, lease: u64) -> String {
        format!("lease {lease} ends {}", self.time.text())
    }

    pub(super) fn json(&self, lease: u64) -> Value {
        let funds = &self.funds;
        let amount = |units: U256| amounts::whole(units, funds.token.decimals);
        let mut value = json!({
            "lease": lease.to_string(),
            "symbol": funds.token.symbol,
            "rate": amounts::rate(self.rate, &funds.token),
            "maximum_rate": amounts::rate(U256::from(self.request.terms.maximum_rate), &funds.token),
            "duration_seconds": self.request.terms.duration,
            "end": self.time.end,
            "end_with_update": self.time.updated_end(),
            "shorter_by_seconds": self.time.shorter_by(),
            "lock": amount(funds.lock), "lock_units": funds.lock.to_string(),
            "returned": amount(funds.returned), "returned_units": funds.returned.to_string(),
            "unlocked": amount(funds.unlocked),
            "changes": self.changes.iter().map(|change| json!({
                "field": change.field, "from": change.on_chain.to_string(), "to": change.derived.to_string(),
            })).collect::<Vec<_>>(),
            "sent": false,
        });
        funds.json(&mut value);
        value["account"] = funds.account.to_string().into();
        value["enough"] = funds.is_enough().into();
        if let Some(standing) = &self.standing {
            value["spender"] = standing.json(&funds.token);
        }
        value
    }

    pub(super) fn text(&self, lease: u64) -> String {
        let funds = &self.funds;
        let hourly = |rate: U256| format!("{} {}/h", amounts::hourly(rate, &funds.token), funds.token.symbol);
        let mut lines = vec![
            ("lease", lease.to_string()),
            ("ends", self.time.text()),
            (
                "rate",
                format!(
                    "now {}, with the update at most {}",
                    hourly(self.rate),
                    hourly(U256::from(self.request.terms.maximum_rate))
                ),
            ),
            ("duration", amounts::time(self.request.terms.duration.into())),
            ("locks at most", amounts::shown(funds.lock, &funds.token)),
            (
                "comes back",
                format!(
                    "{} of the lease that is replaced",
                    amounts::shown(funds.returned, &funds.token)
                ),
            ),
        ];
        lines.extend(funds.facts());
        if let Some(standing) = &self.standing {
            lines.push(("this key", standing.text(&funds.token)));
        }
        if self.time.shorter_by() > 0 {
            lines.push(("shorter", "without --yes it is not proposed".to_owned()));
        }
        let mut text = facts(&lines);
        text.push_str("\nwhat changes\n");
        for change in &self.changes {
            text.push_str(&format!("  {}\n", self.change(change)));
        }
        text
    }

    /// A field that changes, in units that people read.
    fn change(&self, change: &FieldDifference) -> String {
        let field = match change.field {
            "duration" => "duration from the start",
            field => field,
        };
        let shown = |value| readable(value, &self.funds.token, &self.regions);
        format!("{field}: {} -> {}", shown(&change.on_chain), shown(&change.derived))
    }
}

/// What stands in a field of an order in a token, with regions by their names.
fn readable(value: &FieldValue, token: &Token, regions: &BTreeMap<u8, String>) -> String {
    match value {
        FieldValue::Rate(rate) => format!("{} {}/h", amounts::hourly(U256::from(*rate), token), token.symbol),
        FieldValue::Seconds(seconds) => duration_text((*seconds).into()),
        FieldValue::MilliCpu(thousandths) => format!("{} CPU", amounts::whole(U256::from(*thousandths), 3)),
        FieldValue::Bytes(bytes) => format!("{} MiB", bytes >> 20),
        FieldValue::Regions(bitmap) => region_names(*bitmap, regions),
        FieldValue::Region(id) if regions.contains_key(id) => regions[id].clone(),
        other => other.to_string(),
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

    #[test]
    fn an_update_that_shortens_a_lease_says_by_how_much() {
        // Extended to a day; the file asks for two hours.
        let time = Time {
            now: 1_000,
            end: 87_400,
            duration: 7_200,
        };
        assert_eq!((time.updated_end(), time.shorter_by()), (8_200, 79_200));
        let text = time.text();
        assert!(text.contains("now at 1970-01-02 00:16:40 UTC"), "{text}");
        assert!(text.contains("at 1970-01-01 02:16:40 UTC (SHORTER by 22h)"), "{text}");
        let longer = Time { end: 4_600, ..time };
        assert_eq!(longer.shorter_by(), 0);
        assert!(longer.text().ends_with("(1h later)"), "{}", longer.text());
    }

    #[test]
    fn what_changes_is_told_in_peoples_units() {
        let token = Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Default::default(),
            decimals: 6,
        };
        let regions = BTreeMap::from([(1, "us-east".to_owned())]);
        for (value, told) in [
            (FieldValue::Bytes(64 << 20), "64 MiB"),
            (FieldValue::MilliCpu(200), "0.2 CPU"),
            (FieldValue::Rate(5_000_000), "0.5 uSPON/h"),
            (FieldValue::Seconds(7_200), "2h"),
            // To the second: what differs by one is told apart.
            (FieldValue::Seconds(93_601), "1d 2h 1s"),
            (FieldValue::Regions(U256::from(0b10)), "us-east"),
            (FieldValue::Region(1), "us-east"),
            // One that this home has not heard of.
            (FieldValue::Region(2), "2"),
            (FieldValue::Wanted(Vec::new()), "any"),
        ] {
            assert_eq!(readable(&value, &token, &regions), told, "{value:?}");
        }
    }
}
