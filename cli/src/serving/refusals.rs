//! Why nobody serves an order: the matching rule asked about every provider as it stands now.

use alloy::primitives::B256;
use avs::matching::{Order, Parameters, Verdict, explain};
use avs::terms::Terms;
use avs::words::{Offer, PackedBid, Requirements};
use bindings::IProviderRegistry;
use eyre::WrapErr as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::catalog::rejection_text;
use crate::chain::read;
use crate::failure::Failure;
use crate::output::plain;
use crate::session::Session;

/// Providers that are read at the same time.
const READS_AT_ONCE: usize = 16;
/// More are counted, not told one by one.
const MOST_TOLD: usize = 20;

impl Session<'_> {
    /// The failure of an order that expired.
    pub(super) async fn nobody_serves(&self, order: u64) -> eyre::Result<Failure> {
        let created = self.created(order).await?;
        let bids = read(self.order_book().bidsDigest(order)).await?.count;
        let candidates = candidates_json(self, order, &created.terms).await?;
        let listed = candidates.as_array().map(Vec::as_slice).unwrap_or_default();
        let fitting = listed.iter().filter(|candidate| candidate["fits"] == true).count();
        let mut message = match (listed.len(), fitting, bids) {
            (0, ..) => format!(
                "nobody can serve order {order}: there is no provider on {}",
                self.chain.network.name
            ),
            (count, 0, _) => format!("nobody can serve order {order}: of {count} providers none fits"),
            (count, fitting, 0) => format!(
                "nobody serves order {order}: of {count} providers {fitting} could, but none bid (too low a price for them, or \
                 their agents are down)"
            ),
            (_, _, bids) => format!("order {order} had {bids} bids, but no match was answered in time"),
        };
        message.push_str("; the order expired and its money is unlocked");
        for candidate in listed.iter().take(MOST_TOLD) {
            let text = |name: &str| candidate[name].as_str().unwrap_or_default();
            message.push_str(&format!(
                "\n  provider {} ({}): {}",
                text("id"),
                text("name"),
                text("reason")
            ));
        }
        if listed.len() > MOST_TOLD {
            message.push_str(&format!("\n  and {} more", listed.len() - MOST_TOLD));
        }
        let report = json!({"order": order.to_string(), "bids": bids, "providers": candidates});
        Ok(Failure::NobodyServes {
            message,
            report: Some(report),
        })
    }
}

/// Every provider, whether it fits an order's terms, and why not.
pub(crate) async fn candidates_json(session: &Session<'_>, order: u64, terms: &Terms) -> eyre::Result<Value> {
    let registry = session.registry();
    let count = async { read(registry.supplierCount()).await };
    let (count, regions) = tokio::try_join!(count, session.regions())?;
    // Whether a bid fits depends on no weight.
    let parameters = Parameters::default();
    let rule = Order::new(&parameters, order, terms).wrap_err("the terms are malformed")?;
    let fizz = matches!(Requirements::unpack(terms.requirements)?.mode, avs::words::Mode::Fizz);
    let (rule, regions) = (&rule, &regions);
    let candidates: Vec<Value> = stream::iter(1..=count)
        .map(async |id| {
            let (registry, book) = (session.registry(), session.order_book());
            let (about, capacity) = tokio::try_join!(
                read(registry.call_builder(&IProviderRegistry::providerCall { id })),
                read(book.capacityOf(id))
            )?;
            // The best it could offer.
            let offer = Offer {
                block: 0,
                rate: 1,
                fizz: 0,
                provider: id,
            };
            let bid = PackedBid {
                offer: offer.pack()?,
                score_card: about.scoreCard,
                capacity: capacity.capacity,
            };
            let reason = match explain(rule, B256::ZERO, &[bid]).pop().map(|bid| bid.verdict) {
                Some(Verdict::Rejected(_)) if fizz => Some("the order asks for a fizz node".to_owned()),
                Some(Verdict::Rejected(rejection)) => Some(rejection_text(&rejection, regions)),
                _ => None,
            };
            eyre::Ok(json!({
                "id": id.to_string(),
                "name": plain(&about.name),
                "fits": reason.is_none(),
                "reason": reason.unwrap_or_else(|| "fits".to_owned()),
            }))
        })
        .buffered(READS_AT_ONCE)
        .try_collect()
        .await?;
    Ok(candidates.into())
}
