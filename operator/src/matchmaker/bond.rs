//! What a matchmaker's bond still covers, and which orders of an answer fit it.
//!
//! The task manager takes an answer as a whole: one lease in a token without coverage, or worth more than the bond still
//! covers, would take all its neighbours with it, and another digest for the task may never be signed. So what does not fit is
//! left out before anything is signed: anyone may run the rule for it on chain once the response window is over.

use std::collections::{BTreeMap, BTreeSet};

use alloy::eips::BlockId;
use alloy::primitives::{Address, U256};
use avs::response::OrderMatch;
use avs::words::OrderId;
use bindings::ISingleMatchmaker;

use crate::chain::{Market, ReadError};

/// SPON units of one whole SPON.
const WHOLE_SPON: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// The bond as of one block, in SPON units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bond {
    /// What stands behind answers; what waits to leave does not count.
    pub(crate) counting: U256,
    /// What the leases that can still be disputed need of it.
    pub(crate) exposure: U256,
    /// What a verdict costs: it has to stand behind every answer, even one that opens no lease.
    pub(crate) slash_amount: U256,
    /// Token units that one whole SPON covers; zero or missing for a token that is not covered.
    pub(crate) coverage: BTreeMap<u8, U256>,
}

/// An order of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Priced {
    pub(crate) order_id: u64,
    /// Token units that the bond has to cover, at most; `None` if nobody is ranked, so that no lease can come of it.
    pub(crate) worth: Option<U256>,
}

/// What of an answer the bond stands behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fitting {
    pub(crate) orders: BTreeSet<u64>,
    /// SPON units that they need.
    pub(crate) needed: U256,
    /// Orders left out because the bond covers nothing in their token.
    pub(crate) not_covered: Vec<u64>,
    /// Orders left out because they are worth more than the bond still covers.
    pub(crate) too_large: Vec<u64>,
}

/// Why no answer would be taken now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Shortfall {
    #[error(
        "the bond counts {counting} SPON units, which is less than the {slash_amount} a verdict costs; deposit the rest"
    )]
    BelowSlashAmount { counting: U256, slash_amount: U256 },
    #[error(
        "the bond counts {counting} SPON units, and answers given before need {needed}; deposit more, or wait until their \
         challenge windows are over"
    )]
    Exhausted { counting: U256, needed: U256 },
    #[error(
        "none of the answer's orders fits the {free} SPON units of bond that are free: {not_covered} in tokens without \
         coverage, {too_large} worth too much; deposit more, or wait until earlier answers' challenge windows are over"
    )]
    NothingFits {
        free: U256,
        not_covered: usize,
        too_large: usize,
    },
}

impl Bond {
    /// Reads all that [`Self::fitting`] needs to know about orders in these tokens.
    pub(crate) async fn read(
        market: &Market,
        matchmaker: Address,
        at: BlockId,
        tokens: BTreeSet<u8>,
    ) -> Result<Self, ReadError> {
        let contract = ISingleMatchmaker::new(matchmaker, market.provider());
        let (bond, exposure, amount) = (contract.bond(), contract.exposure(), contract.slashAmount());
        let (bond, exposure, amount) = (bond.block(at), exposure.block(at), amount.block(at));
        let (bond, exposure, slash_amount) = tokio::try_join!(bond.call(), exposure.call(), amount.call())?;
        let mut coverage = BTreeMap::new();
        for token in tokens {
            coverage.insert(token, contract.coverage(token).block(at).call().await?);
        }
        Ok(Self {
            counting: bond.counting,
            exposure,
            slash_amount,
            coverage,
        })
    }

    /// Which orders of an answer may be in it, taken in their order: as long as their worth fits what neither leases nor answers
    /// on their way (`promised`) need. Orders without a lease cost nothing.
    ///
    /// # Errors
    /// When the contract would take no answer at all, or nothing is left to answer.
    pub(crate) fn fitting(&self, promised: U256, orders: &[Priced]) -> Result<Fitting, Shortfall> {
        let counting = self.counting;
        if counting < self.slash_amount {
            return Err(Shortfall::BelowSlashAmount {
                counting,
                slash_amount: self.slash_amount,
            });
        }
        let needed = self.exposure.saturating_add(promised);
        let Some(free) = counting.checked_sub(needed) else {
            return Err(Shortfall::Exhausted { counting, needed });
        };
        let mut fitting = Fitting::default();
        for order in orders {
            let Some(cost) = self.cost(order) else {
                fitting.not_covered.push(order.order_id);
                continue;
            };
            let needed = fitting.needed.saturating_add(cost);
            if needed > free {
                fitting.too_large.push(order.order_id);
                continue;
            }
            fitting.needed = needed;
            fitting.orders.insert(order.order_id);
        }
        match fitting.orders.is_empty() {
            true => Err(Shortfall::NothingFits {
                free,
                not_covered: fitting.not_covered.len(),
                too_large: fitting.too_large.len(),
            }),
            false => Ok(fitting),
        }
    }

    /// SPON units that an answer about these orders needs, whether they fit or not: it was signed before.
    pub(crate) fn needed(&self, orders: &[Priced]) -> U256 {
        let costs = orders.iter().filter_map(|order| self.cost(order));
        costs.fold(U256::ZERO, U256::saturating_add)
    }

    /// SPON units that an order needs, rounded up as the contract does; `None` if its token is not covered.
    fn cost(&self, order: &Priced) -> Option<U256> {
        let Some(worth) = order.worth else {
            return Some(U256::ZERO);
        };
        let units_per_spon = self.coverage.get(&OrderId::unpack(order.order_id).token).copied()?;
        (!units_per_spon.is_zero()).then(|| worth.saturating_mul(WHOLE_SPON).div_ceil(units_per_spon))
    }
}

/// What the orders of an answer can be worth at most: the contract counts what is locked at the rate of whoever of the ranked
/// gets the lease, with the match fee.
pub(crate) async fn priced(market: &Market, at: BlockId, matches: &[OrderMatch]) -> Result<Vec<Priced>, ReadError> {
    let highest = |order: &OrderMatch| order.ranks.iter().map(|rank| rank.rate).max();
    let leases: Vec<(u64, u128)> = matches
        .iter()
        .filter_map(|order| Some((order.order_id, highest(order)?)))
        .collect();
    let locks = match leases.is_empty() {
        true => Vec::new(),
        false => market.locks(at, &leases).await?,
    };
    let worth: BTreeMap<u64, U256> = leases.iter().map(|(order_id, _)| *order_id).zip(locks).collect();
    let price = |order: &OrderMatch| Priced {
        order_id: order.order_id,
        worth: worth.get(&order.order_id).copied(),
    };
    Ok(matches.iter().map(price).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERED: u8 = 1;
    const UNCOVERED: u8 = 2;
    const COVERAGE: u64 = 1_000;

    /// One whole SPON covers 1 000 units of the one token.
    fn bond(counting: U256, exposure: U256) -> Bond {
        Bond {
            counting,
            exposure,
            slash_amount: WHOLE_SPON,
            coverage: BTreeMap::from([(COVERED, U256::from(COVERAGE)), (UNCOVERED, U256::ZERO)]),
        }
    }

    fn spon(amount: u64) -> U256 {
        U256::from(amount) * WHOLE_SPON
    }

    fn order(token: u8, nonce: u32, worth: u64) -> Priced {
        Priced {
            order_id: id(token, nonce),
            worth: Some(U256::from(worth)),
        }
    }

    fn id(token: u8, nonce: u32) -> u64 {
        let account = 3;
        OrderId { account, token, nonce }.pack().expect("an order id")
    }

    #[test]
    fn what_fits_to_the_last_unit_is_kept() {
        let orders = [order(COVERED, 1, 2_000), order(COVERED, 2, 3_000)];
        let fitting = bond(spon(9), spon(3)).fitting(spon(1), &orders).expect("all of it");
        assert_eq!(fitting.orders, BTreeSet::from([id(COVERED, 1), id(COVERED, 2)]));
        assert_eq!(fitting.needed, spon(5));
        assert!(fitting.not_covered.is_empty() && fitting.too_large.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_its_neighbours_stay() {
        let orders = [
            order(COVERED, 1, 2_000),
            order(COVERED, 2, 9_000),
            order(COVERED, 3, 3_000),
            order(COVERED, 4, 1),
        ];
        let fitting = bond(spon(8), spon(3)).fitting(U256::ZERO, &orders).expect("two fit");
        assert_eq!(fitting.orders, BTreeSet::from([id(COVERED, 1), id(COVERED, 3)]));
        assert_eq!(fitting.too_large, [id(COVERED, 2), id(COVERED, 4)]);
        assert_eq!(fitting.needed, spon(5));
    }

    #[test]
    fn answers_on_their_way_take_their_part_of_the_bond() {
        let orders = [order(COVERED, 1, 2_000)];
        let bond = bond(spon(5), spon(1));
        assert!(bond.fitting(spon(2), &orders).is_ok());
        let more = spon(2) + U256::from(1);
        let shortfall = bond.fitting(more, &orders).expect_err("one unit short");
        assert_eq!(
            shortfall,
            Shortfall::NothingFits {
                free: spon(2) - U256::from(1),
                not_covered: 0,
                too_large: 1
            }
        );
        assert_eq!(
            bond.fitting(spon(5), &orders),
            Err(Shortfall::Exhausted {
                counting: spon(5),
                needed: spon(6)
            })
        );
    }

    #[test]
    fn a_token_without_coverage_is_left_out() {
        let unknown = 7;
        let orders = [order(COVERED, 1, 1_000), order(UNCOVERED, 1, 1), order(unknown, 1, 1)];
        let fitting = bond(spon(9), U256::ZERO).fitting(U256::ZERO, &orders).expect("one");
        assert_eq!(fitting.orders, BTreeSet::from([id(COVERED, 1)]));
        assert_eq!(fitting.not_covered, [id(UNCOVERED, 1), id(unknown, 1)]);
        assert_eq!(fitting.needed, WHOLE_SPON);
    }

    /// `(amount * 1e18 + unitsPerSpon - 1) / unitsPerSpon`, for every lease by itself.
    #[test]
    fn every_order_is_rounded_up() {
        let mut bond = bond(WHOLE_SPON, U256::ZERO);
        // 1e18 / 3 is 333 333 333 333 333 333 and a third.
        bond.coverage.insert(COVERED, U256::from(3));
        let third = U256::from(333_333_333_333_333_334_u64);
        assert_eq!(bond.needed(&[order(COVERED, 1, 1)]), third);
        assert_eq!(bond.needed(&[order(COVERED, 1, 3)]), WHOLE_SPON);
        // Three thirds, each rounded up, are more than the whole.
        let orders = [1, 2, 3].map(|nonce| order(COVERED, nonce, 1));
        let fitting = bond.fitting(U256::ZERO, &orders).expect("two thirds");
        assert_eq!(fitting.orders, BTreeSet::from([id(COVERED, 1), id(COVERED, 2)]));
        assert_eq!(fitting.needed, third + third);
        assert_eq!(fitting.too_large, [id(COVERED, 3)]);
    }

    #[test]
    fn a_bond_below_what_a_verdict_costs_answers_nothing() {
        let nobody_ranked = Priced {
            order_id: id(COVERED, 1),
            worth: None,
        };
        for counting in [U256::ZERO, WHOLE_SPON - U256::from(1)] {
            assert_eq!(
                bond(counting, U256::ZERO).fitting(U256::ZERO, &[nobody_ranked]),
                Err(Shortfall::BelowSlashAmount {
                    counting,
                    slash_amount: WHOLE_SPON
                })
            );
        }
        assert!(
            bond(WHOLE_SPON, U256::ZERO)
                .fitting(U256::ZERO, &[nobody_ranked])
                .is_ok()
        );
    }

    #[test]
    fn an_order_that_ranks_nobody_costs_nothing_in_any_token() {
        let orders = [COVERED, UNCOVERED].map(|token| Priced {
            order_id: id(token, 1),
            worth: None,
        });
        // All of the bond is needed for others.
        let fitting = bond(spon(4), spon(4))
            .fitting(U256::ZERO, &orders)
            .expect("free of cost");
        assert_eq!(fitting.orders, BTreeSet::from([id(COVERED, 1), id(UNCOVERED, 1)]));
        assert_eq!(fitting.needed, U256::ZERO);
    }

    #[test]
    fn nothing_that_fits_is_no_answer() {
        let orders = [order(COVERED, 1, 9_000), order(UNCOVERED, 1, 1)];
        assert_eq!(
            bond(spon(4), U256::ZERO).fitting(U256::ZERO, &orders),
            Err(Shortfall::NothingFits {
                free: spon(4),
                not_covered: 1,
                too_large: 1
            })
        );
    }
}
