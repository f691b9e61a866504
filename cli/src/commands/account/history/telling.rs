//! One entry of a history, for people and for programs.

use alloy::primitives::{Address, B256, U256};
use serde_json::{Value, json};

use super::people::People;
use super::showing::{symbol, whole};
use crate::amounts;
use crate::dates::Date;
use crate::ledger::{Entry, Event, Ledger};
use crate::market::state;
use crate::session::Session;

/// What an entry is told with.
pub(super) struct Teller<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) ledger: &'a Ledger,
    pub(super) people: &'a People,
}

impl Teller<'_> {
    pub(super) fn json(&self, entry: &Entry) -> eyre::Result<Value> {
        let mut value = json!({
            "time": entry.place.time,
            "date": Date(entry.place.time).to_string(),
            "block": entry.place.block,
            "transaction": entry.place.transaction,
            "event": entry.event.name(),
            "text": self.describe(entry),
        });
        if let Some(id) = entry.token {
            value["symbol"] = self.session.token_by_id(id)?.symbol.clone().into();
            value["unlocked_change_units"] = entry.unlocked.to_string().into();
            value["locked_change_units"] = entry.locked.to_string().into();
            value["unlocked_units"] = entry.after.0.to_string().into();
            value["locked_units"] = entry.after.1.to_string().into();
        }
        if let Some(order) = entry.event.order() {
            value["order"] = order.to_string().into();
        }
        match &entry.event {
            Event::Updated { order, updated } => {
                value["replaced"] = order.to_string().into();
                value["updated"] = updated.to_string().into();
            }
            Event::Closed { order, reason, billed } => {
                value["reason"] = state(*reason).1.into();
                value["billed_seconds"] = (*billed).into();
                value["replaced_by"] = self.replaced_by(*order).map(|lease| lease.to_string()).into();
            }
            Event::Settled { until, .. } => value["settled_for_seconds"] = (*until).into(),
            Event::RightSet { spender, may_close, .. } => {
                value["spender"] = json!(spender);
                value["may_close"] = json!(may_close);
            }
            Event::Proposed { by, .. } => value["by"] = json!(by),
            Event::Rejected { order, by } => {
                value["by"] = json!(by);
                value["refused"] = self.is_refusal(*order, entry).into();
            }
            _ => {}
        }
        if let Some(sender) = self.people.sender(entry) {
            value["by"] = json!(sender.by);
            value["signed_by"] = json!(sender.signer);
        }
        if let Some(amount) = amount(&entry.event) {
            value["amount_units"] = amount.to_string().into();
        }
        Ok(value)
    }

    pub(super) fn rows(&self, shown: &[&Entry]) -> Vec<Vec<String>> {
        let header = [
            "TIME (UTC)",
            "ORDER",
            "UNLOCKED",
            "LOCKED",
            "TOKEN",
            "TRANSACTION",
            "WHAT",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for entry in shown {
            let change = |units: i128| match units {
                0 => String::new(),
                units if units > 0 => format!("+{}", whole(self.session, entry.token, units)),
                units => whole(self.session, entry.token, units),
            };
            rows.push(vec![
                Date(entry.place.time).to_string(),
                entry.event.order().map_or_else(String::new, |order| order.to_string()),
                change(entry.unlocked),
                change(entry.locked),
                symbol(self.session, entry.token),
                short(entry.place.transaction),
                self.describe(entry),
            ]);
        }
        rows
    }

    fn replaced_by(&self, order: u64) -> Option<u64> {
        self.ledger.leases.get(&order)?.replaced_by
    }

    /// Whether a proposal's end was its provider's refusal; nothing where that cannot be told.
    fn is_refusal(&self, order: u64, entry: &Entry) -> Option<bool> {
        let Event::Rejected { by, .. } = entry.event else {
            return None;
        };
        let supplier = self.ledger.leases.get(&order)?.supplier;
        Some(by == self.people.owner(supplier)?)
    }

    /// One sentence without the order's number.
    fn describe(&self, entry: &Entry) -> String {
        let session = self.session;
        let money = |units: &U256| {
            let units = i128::try_from(*units).unwrap_or(i128::MAX);
            format!(
                "{} {}",
                whole(session, entry.token, units),
                symbol(session, entry.token)
            )
        };
        let back = || money(&U256::from(entry.unlocked.unsigned_abs()));
        let hourly = |rate: &U256| {
            let token = entry.token.and_then(|id| session.token_by_id(id).ok());
            token.map_or_else(String::new, |token| {
                format!("{} {}/h", amounts::hourly(*rate, token), token.symbol)
            })
        };
        let by = || {
            let sender = self.people.sender(entry);
            sender.map_or_else(String::new, |sender| format!(", {sender}"))
        };
        match &entry.event {
            Event::Opened { owner } => format!("account opened for {owner}"),
            Event::HandedOver { from, to } => format!("handed over by {from} to {to}; spending rights ended"),
            Event::Deposited { from, amount, .. } => format!("deposit of {} by {from}", money(amount)),
            Event::Withdrawn { to, amount, .. } => format!("withdrawal of {} to {to}", money(amount)),
            Event::BracketChanged { bracket, .. } => format!("bracket {bracket}"),
            Event::RightSet {
                spender,
                limit,
                may_close,
                ..
            } => right_text(*spender, (!limit.is_zero()).then(|| money(limit)), *may_close),
            Event::Spent {
                spender, amount, left, ..
            } => format!(
                "{spender} spent {} of its right, {} are left",
                money(amount),
                money(left)
            ),
            Event::Ordered { rate, duration, .. } => format!(
                "order for {} at up to {}{}: its worst case is locked",
                amounts::time((*duration).into()),
                hourly(rate),
                by()
            ),
            Event::Cancelled { .. } => format!("order taken back{}: {} back", by(), back()),
            Event::Expired { .. } => format!("order expired: {} back", back()),
            Event::Requeued { .. } => "no supplier had room: the order takes bids again".to_owned(),
            Event::Leased { supplier, rate, .. } => {
                // A lease that came from an update was not matched.
                let fee = if entry.locked == 0 {
                    ""
                } else {
                    "; the match fee is paid"
                };
                format!("lease with supplier {supplier} at {}{fee}", hourly(rate))
            }
            Event::Extended { duration, locked, .. } => format!(
                "lease extended to {}: {} more locked",
                amounts::time((*duration).into()),
                money(locked)
            ),
            Event::LowOnFunds { end, .. } => format!("lease low on funds: it ends {} UTC", Date(*end)),
            Event::Proposed { by, rate, duration, .. } => format!(
                "update proposed by {by}: {} at up to {}",
                amounts::time((*duration).into()),
                hourly(rate)
            ),
            Event::Rejected { order, by } => match self.is_refusal(*order, entry) {
                Some(true) => format!("update refused by its provider ({by})"),
                Some(false) => format!("update withdrawn by {by}"),
                None => format!("update withdrawn or refused by {by}"),
            },
            Event::Updated { order, .. } => format!("lease in place of lease {order}: its worst case is locked"),
            Event::Settled { amount, until, .. } => format!(
                "{} paid to the supplier, for the first {}",
                money(amount),
                amounts::time((*until).into())
            ),
            Event::GatewayPaid { amount, .. } => format!("{} paid to the gateway", money(amount)),
            Event::Closed { order, reason, billed } => {
                let reason = match self.replaced_by(*order) {
                    Some(lease) => format!("replaced by lease {lease}"),
                    None => state(*reason).1.unwrap_or("closed").to_owned(),
                };
                format!(
                    "lease closed ({reason}){}: {} billed, {} back",
                    by(),
                    amounts::time((*billed).into()),
                    back()
                )
            }
            Event::Rated { rating, .. } => format!("lease rated {rating} of 10"),
        }
    }
}

/// A transaction by its first four bytes: enough to find it, and programs get the whole.
fn short(transaction: B256) -> String {
    format!("{}…", alloy::primitives::hex::encode_prefixed(&transaction[..4]))
}

/// A spending right that was set, and to how much if it is to spend at all.
fn right_text(spender: Address, amount: Option<String>, may_close: bool) -> String {
    match (amount, may_close) {
        (None, false) => format!("spending right of {spender} taken back"),
        (None, true) => format!("right to close for {spender}"),
        (Some(amount), false) => format!("spending right of {amount} for {spender}"),
        (Some(amount), true) => format!("spending right of {amount}, and right to close, for {spender}"),
    }
}

/// What an event names as its amount.
fn amount(event: &Event) -> Option<U256> {
    match event {
        Event::Deposited { amount, .. }
        | Event::Withdrawn { amount, .. }
        | Event::Spent { amount, .. }
        | Event::Settled { amount, .. }
        | Event::GatewayPaid { amount, .. } => Some(*amount),
        Event::Extended { locked, .. } => Some(*locked),
        Event::RightSet { limit, .. } => Some(*limit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_to_closing_alone_is_not_one_taken_back() {
        let told = |amount: Option<&str>, may_close| {
            let told = right_text(Address::ZERO, amount.map(str::to_owned), may_close);
            told.replace(&Address::ZERO.to_string(), "0x0")
        };
        assert_eq!(told(None, false), "spending right of 0x0 taken back");
        assert_eq!(told(None, true), "right to close for 0x0");
        assert_eq!(told(Some("5 uSPON"), false), "spending right of 5 uSPON for 0x0");
        assert_eq!(
            told(Some("5 uSPON"), true),
            "spending right of 5 uSPON, and right to close, for 0x0"
        );
    }

    #[test]
    fn a_transaction_is_told_by_its_beginning() {
        assert_eq!(short(B256::repeat_byte(0xab)), "0xabababab…");
    }
}
