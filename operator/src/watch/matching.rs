//! Runs the rule on chain for an order that nobody answered within the response window. The match fee pays for it.

use alloy::sol_types::{SolCall as _, SolError as _};
use avs::dispute;
use avs::terms::TermsError;
use bindings::{IMatchingTaskManager, OrderTerms};
use chain::{Call, SubmitError};

use super::Watcher;
use super::plan::Outcome;
use crate::chain::ReadError;
use crate::tasks::OpenOrder;

/// Why an order is not matched.
#[derive(Debug, thiserror::Error)]
pub(super) enum MatchError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the terms of the order do not fit the contracts")]
    Terms(#[from] TermsError),
    #[error("the order has more bids than the rule takes")]
    Bids(#[from] dispute::TooManyBids),
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl Watcher {
    /// Matches one order, unless somebody was faster.
    pub(super) async fn match_order(&self, order: &OpenOrder) -> Result<Outcome, MatchError> {
        let Some(transactions) = &self.transactions else {
            return Ok(Outcome::Done);
        };
        let until = u64::from(order.close_block) + self.windows.response + self.windows.matching;
        let error = match transactions.submit(self.call(order, until)?).await {
            Ok(included) => {
                self.metrics.matched.inc();
                tracing::info!(
                    order = order.order_id,
                    block = included.block.number,
                    gas = included.gas_used,
                    "matched an order that nobody answered"
                );
                return Ok(Outcome::Done);
            }
            Err(error) => error,
        };
        match error {
            // Simulated first, so that being late costs nothing.
            SubmitError::WouldRevert { data, .. }
                if data.starts_with(&IMatchingTaskManager::OrderNotOpen::SELECTOR) =>
            {
                Ok(Outcome::Done)
            }
            // What was followed is not what the chain has: ask for the bids by themselves, once.
            SubmitError::WouldRevert { data, .. } if data.starts_with(&IMatchingTaskManager::WrongBids::SELECTOR) => {
                let mut order = order.clone();
                order.bids = self.market.bids_of(&order).await?;
                transactions.submit(self.call(&order, until)?).await?;
                self.metrics.matched.inc();
                Ok(Outcome::Done)
            }
            error => Err(error.into()),
        }
    }

    fn call(&self, order: &OpenOrder, until: u64) -> Result<Call, MatchError> {
        let call = IMatchingTaskManager::matchOrderCall {
            orderId: order.order_id,
            terms: OrderTerms::try_from(&order.terms)?,
            bids: dispute::bid_words(&order.bids),
            bidOrder: dispute::bid_order(&order.bids)?.into(),
        };
        let label = format!("match/{}/{}", order.order_id, order.close_block);
        Ok(Call::new(label, self.market.task_manager(), call.abi_encode()).valid_until(until))
    }
}
