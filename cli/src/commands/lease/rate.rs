//! `spheron lease rate`: what the owner of a closed, paid lease says of its provider, once.

use avs::words::OrderId;
use bindings::{ILeases, IOrderBook, Order, OrderState};
use eyre::bail;
use serde_json::json;

use super::{OnChain, on_chain};
use crate::amounts::{self, Bill};
use crate::chain::Call;
use crate::dates::Date;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, lease: u64, rating: u8) -> eyre::Result<()> {
    let found = on_chain(session, lease).await?;
    let windows = session.windows().await?;
    if let Some(reason) = refusal(lease, &found, windows.payout_hold) {
        bail!(reason);
    }
    let signer = session.home.signer()?;
    session
        .require_owner(OrderId::unpack(lease).account, signer.address())
        .await?;
    let book = session.chain.network.contracts.order_book;
    let mut calls = Vec::new();
    if found.word.settledFor != found.word.duration {
        // Closed inside its payout hold, which is over: whoever settles pays the provider.
        let settle = IOrderBook::settleCall { orderIds: vec![lease] };
        calls.push(Call::new("to settle the lease", book, &settle));
    }
    let call = ILeases::rateLeaseCall { orderId: lease, rating };
    calls.push(Call::new("to rate the lease", book, &call));
    session.output.step(format!("rating lease {lease}"));
    session.chain.execute(&signer, calls).await?;
    let provider = found.supplier.as_ref().map(|supplier| supplier.name.clone());
    let value = json!({"lease": lease.to_string(), "rating": rating, "provider": provider});
    let text = format!(
        "lease {lease} with {} is rated {rating} of 10",
        provider.unwrap_or_default()
    );
    session.output.result(&value, &text);
    Ok(())
}

/// Why the chain would not take a rating now.
fn refusal(lease: u64, found: &OnChain, payout_hold: u32) -> Option<String> {
    let bill = found.account.as_ref().map(|account| &account.bill);
    refusal_of(lease, &found.word, bill, payout_hold, found.now)
}

fn refusal_of(lease: u64, word: &Order, bill: Option<&Bill>, payout_hold: u32, now: u64) -> Option<String> {
    let held_until = u64::from(word.start) + u64::from(payout_hold);
    let reason = match word.state {
        OrderState::Open | OrderState::Leased => {
            format!("lease {lease} is not over; rate it once it is closed and paid")
        }
        OrderState::Cancelled | OrderState::Expired => format!("order {lease} never became a lease"),
        OrderState::ClosedUpdated => format!(
            "lease {lease} was replaced by an update; its workload is rated once, by its last lease (`spheron ps -a`)"
        ),
        _ if word.noted => format!("lease {lease} is rated already; that is done once"),
        _ if bill.is_none_or(|bill| bill.foundation().is_zero()) => {
            format!("lease {lease} was so short that it paid no fee; only what paid one is rated")
        }
        _ if word.settledFor != word.duration && now < held_until => format!(
            "the payment of lease {lease} is held back for {} more, until {} UTC, so that a wrong match can still be \
             undone; rate it then",
            amounts::time(held_until - now),
            Date(held_until)
        ),
        _ => return None,
    };
    Some(reason)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;

    use super::*;
    use crate::market::tests::lease;

    fn refused(word: &Order, commission: u64, now: u64) -> Option<String> {
        let bill = Bill {
            commission: U256::from(commission),
            ..Bill::default()
        };
        refusal_of(7, word, Some(&bill), 3600, now)
    }

    #[test]
    fn what_the_chain_would_refuse_is_refused_with_its_reason() {
        let closed = Order {
            duration: 100,
            state: OrderState::ClosedByUser,
            ..lease()
        };
        let held = refused(&closed, 1, 2_000).expect("a refusal");
        assert!(held.contains("43m 20s") && held.contains("rate it then"), "{held}");
        assert_eq!(refused(&closed, 1, 4_600), None);
        let paid = Order {
            settledFor: 100,
            ..closed.clone()
        };
        assert_eq!(refused(&paid, 1, 2_000), None);
        let short = refused(&paid, 0, 2_000).expect("a refusal");
        assert!(short.contains("paid no fee"), "{short}");
        let rated = Order { noted: true, ..paid };
        assert!(refused(&rated, 1, 9_000).expect("a refusal").contains("rated already"));
        let live = Order {
            state: OrderState::Leased,
            ..closed
        };
        assert!(refused(&live, 1, 9_000).expect("a refusal").contains("not over"));
    }
}
