//! `spheron order match`: the matching rule, run on chain for an order that nobody answered. And where an open order stands.

use avs::dispute;
use bindings::{IMatchingTaskManager, IOrderBook, Order as Word, OrderState, OrderTerms};
use eyre::bail;
use serde_json::json;

use crate::chain::{Call, read};
use crate::failure::Failure;
use crate::market::{state, state_phrase};
use crate::session::Session;

/// What can happen to an open order in the next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Bids are taken.
    Bids { until: u64 },
    /// Nobody bid: it can only expire.
    NoBids,
    /// Operators answer.
    Response { until: u64 },
    /// Nobody answered: anyone may run the rule on chain.
    Match { until: u64 },
    /// Nobody did: anyone may expire it.
    Expirable,
}

impl Stage {
    /// As of the block after `head`; the windows follow each other without a gap.
    pub(super) fn of(word: &Word, bids: u16, windows: &IOrderBook::Parameters, head: u64) -> Self {
        let close = u64::from(word.closeBlock);
        let answered_until = close + u64::from(windows.responseWindow);
        let matched_until = answered_until + u64::from(windows.matchWindow);
        match head + 1 {
            next if next < close => Self::Bids { until: close - 1 },
            _ if bids == 0 => Self::NoBids,
            next if next <= answered_until => Self::Response { until: answered_until },
            next if next <= matched_until => Self::Match { until: matched_until },
            _ => Self::Expirable,
        }
    }

    /// One word, for programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bids { .. } => "bids",
            Self::NoBids => "no-bids",
            Self::Response { .. } => "response",
            Self::Match { .. } => "match",
            Self::Expirable => "expirable",
        }
    }

    /// One phrase, for people.
    pub(super) fn phrase(self, order: u64) -> String {
        match self {
            Self::Bids { until } => format!("takes bids until block {until}"),
            Self::NoBids => "nobody bid; anyone may expire it".to_owned(),
            Self::Response { until } => format!("operators answer until block {until}"),
            Self::Match { until } => format!(
                "nobody answered; until block {until} anyone may run the rule on chain: spheron order match {order}"
            ),
            Self::Expirable => "nobody answered; anyone may expire it, its owner may take it back".to_owned(),
        }
    }
}

/// Where an open order stands; nothing for any other.
pub(super) async fn stage(session: &Session<'_>, order: u64, word: &Word) -> eyre::Result<Option<Stage>> {
    if word.state != OrderState::Open {
        return Ok(None);
    }
    let book = session.order_book();
    let (windows, stored, head) = tokio::try_join!(
        read(book.parameters()),
        read(book.bidsDigest(order)),
        session.chain.head()
    )?;
    Ok(Some(Stage::of(word, stored.count, &windows, head.0)))
}

/// Runs the rule on chain.
pub(super) async fn run_rule(session: &Session<'_>, order: u64) -> eyre::Result<()> {
    let word = session.order(order).await?;
    match stage(session, order, &word).await? {
        Some(Stage::Match { .. }) => {}
        Some(Stage::Response { until }) => bail!(Failure::bad_input(format!(
            "order {order} waits for the operators' answer until block {until}; only after that can the rule be run for it"
        ))),
        Some(stage) => bail!(Failure::bad_input(format!(
            "the rule cannot be run for order {order}: {}",
            stage.phrase(order)
        ))),
        None => bail!(Failure::bad_input(format!(
            "order {order} is not open any more: {}",
            state_phrase(word.state)
        ))),
    }
    let created = session.created(order).await?;
    let bids = super::bids(session, order, &word, &created).await?;
    let call = IMatchingTaskManager::matchOrderCall {
        orderId: order,
        terms: OrderTerms::try_from(&created.terms)?,
        bids: dispute::bid_words(&bids.bids),
        bidOrder: dispute::bid_order(&bids.bids)?.into(),
    };
    let call = Call::new("to run the rule", session.chain.network.contracts.task_manager, &call);
    session
        .output
        .step(format!("running the rule for order {order}: bids: {}", bids.bids.len()));
    let signer = session.home.signer()?;
    if let Err(error) = session.chain.execute(&signer, vec![call]).await {
        // A watcher may have been faster, which is as good.
        if session.order(order).await?.state == OrderState::Open {
            return Err(error);
        }
    }
    let word = session.order(order).await?;
    let (now, reason) = state(word.state);
    let by_rule = IMatchingTaskManager::new(session.chain.network.contracts.task_manager, &session.chain.provider);
    let by_rule = read(by_rule.matchedByRule(order)).await?;
    let mut value = json!({
        "order": order.to_string(), "state": now, "reason": reason, "matched_by_rule": by_rule, "bids": bids.bids.len(),
    });
    let mut text = format!("order {order} is {}", state_phrase(word.state));
    if word.supplier != 0 {
        value["supplier"] = word.supplier.to_string().into();
        text = format!("order {order} is leased to supplier {}", word.supplier);
    } else if word.state == OrderState::Open {
        text = format!(
            "no supplier has room left: order {order} takes bids again until block {}",
            word.closeBlock
        );
    }
    session.output.result(&value, &text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::aliases::U96;

    use super::*;

    #[test]
    fn stages_follow_each_other_without_a_gap() {
        let word = Word {
            rate: U96::from(1),
            settledFor: 0,
            duration: 100,
            start: 0,
            closeBlock: 100,
            supplier: 0,
            feeSchedule: 2,
            requeued: false,
            noted: false,
            gpuEntry: 0,
            state: OrderState::Open,
        };
        let windows = IOrderBook::Parameters {
            bidWindow: 3,
            maximumBidWindow: 50,
            responseWindow: 20,
            matchWindow: 10,
            challengeWindow: 5,
            graceWindow: 60,
            lowFundsWindow: 120,
            bidLimit: 512,
            paramsVersion: 1,
        };
        let at = |bids, next: u64| Stage::of(&word, bids, &windows, next - 1);
        assert_eq!(at(1, 99), Stage::Bids { until: 99 });
        assert_eq!(at(0, 100), Stage::NoBids);
        // An answer needs the close block's hash, and comes in a later block.
        assert_eq!(at(1, 101), Stage::Response { until: 120 });
        assert_eq!(at(1, 120), Stage::Response { until: 120 });
        assert_eq!(at(1, 121), Stage::Match { until: 130 });
        assert_eq!(at(1, 130), Stage::Match { until: 130 });
        assert_eq!(at(1, 131), Stage::Expirable);
    }
}
