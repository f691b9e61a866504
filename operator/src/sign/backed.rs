//! What a single matchmaker may sign: the part of every answer that its bond stands behind.

use std::collections::BTreeSet;

use alloy::eips::BlockId;
use alloy::primitives::{Address, U256};
use avs::response::{self, MatchResponse, OrderMatch};
use avs::words::OrderId;

use super::{SignError, Signing};
use crate::matchmaker::bond::{self, Bond, Fitting, Priced, Shortfall};
use crate::metrics::Refusal;
use crate::tasks::Answer;

/// Answers without what the bond does not cover.
#[derive(Debug, Default)]
pub(super) struct Backed {
    pub(super) answers: Vec<Answer>,
    /// Whether there are tasks with nothing to sign for now: the bond may cover them in a later block.
    pub(super) waits: bool,
}

impl Signing {
    /// Leaves out of the answers what the contract would refuse them for. What was signed before is what is signed again,
    /// whatever the bond covers by now.
    pub(super) async fn backed(
        &mut self,
        at: BlockId,
        verifier: Address,
        answers: Vec<Answer>,
    ) -> Result<Backed, SignError> {
        let mut backed = Backed::default();
        let mut outcomes = Vec::with_capacity(answers.len());
        for answer in &answers {
            outcomes.push(response::decode(&answer.matches)?);
        }
        if answers.is_empty() {
            return Ok(backed);
        }
        let bond = Bond::read(&self.market, verifier, at, tokens(&outcomes)).await?;
        for (answer, outcomes) in answers.into_iter().zip(outcomes) {
            let orders = bond::priced(&self.market, at, &outcomes).await?;
            match self.select(&bond, &answer, &orders).await? {
                Ok(kept) => backed.answers.push(answer.restricted_to(&self.domain, &kept)?),
                Err(shortfall) => {
                    self.wait(&answer, &shortfall);
                    backed.waits = true;
                }
            }
        }
        Ok(backed)
    }

    /// The orders to answer. What they need of the bond is promised until the answer is on chain or of no use.
    async fn select(
        &mut self,
        bond: &Bond,
        answer: &Answer,
        orders: &[Priced],
    ) -> Result<Result<BTreeSet<u64>, Shortfall>, SignError> {
        let MatchResponse {
            close_block,
            close_block_hash,
            chunk,
            ..
        } = answer.response;
        if let Some(signed) = self.store.signed_orders(close_block_hash, chunk).await? {
            let of_answer = orders.iter().filter(|order| signed.contains(&order.order_id));
            let of_answer: Vec<Priced> = of_answer.copied().collect();
            self.promised.insert((close_block, chunk), bond.needed(&of_answer));
            return Ok(Ok(signed));
        }
        self.promised.remove(&(close_block, chunk));
        let promised = self.promised.values().copied().fold(U256::ZERO, U256::saturating_add);
        let fitting = match bond.fitting(promised, orders) {
            Ok(fitting) => fitting,
            Err(shortfall) => return Ok(Err(shortfall)),
        };
        self.promised.insert((close_block, chunk), fitting.needed);
        self.report_left_out(answer, &fitting);
        Ok(Ok(fitting.orders))
    }

    fn report_left_out(&self, answer: &Answer, fitting: &Fitting) {
        let left_out = fitting.not_covered.len() + fitting.too_large.len();
        if left_out == 0 {
            return;
        }
        self.metrics.left_out_orders.inc_by(left_out as u64);
        tracing::warn!(
            close_block = answer.response.close_block,
            chunk = answer.response.chunk,
            answered = fitting.orders.len(),
            not_covered = ?fitting.not_covered,
            too_large = ?fitting.too_large,
            "{left_out} orders are left out of the answer: the bond covers nothing in the token of {}, and {} are worth more \
             than it still covers; anyone may run the rule for them after the response window",
            fitting.not_covered.len(),
            fitting.too_large.len(),
        );
    }

    /// Says so once; the task is looked at again in every block of its response window.
    fn wait(&mut self, answer: &Answer, shortfall: &Shortfall) {
        let MatchResponse { close_block, chunk, .. } = answer.response;
        if !self
            .waiting
            .insert((close_block, answer.response.close_block_hash, chunk))
        {
            tracing::debug!(close_block, chunk, "still not signed: {shortfall}");
            return;
        }
        self.refused(Refusal::Bond);
        tracing::warn!(
            close_block,
            chunk,
            orders = answer.order_ids.len(),
            "not signed, tried again in every block of the response window: {shortfall}"
        );
    }
}

/// The tokens of the orders that a lease can come of.
fn tokens(answers: &[Vec<OrderMatch>]) -> BTreeSet<u8> {
    let ranked = answers.iter().flatten().filter(|order| !order.ranks.is_empty());
    ranked.map(|order| OrderId::unpack(order.order_id).token).collect()
}
