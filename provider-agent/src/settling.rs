//! When pay is collected: once it is worth a multiple of what collecting it costs, at the latest after a while or at a lease's
//! end, and never at a loss where prices tell. Where they do not, seldom and all at once. No I/O and no clock.
//!
//! Amounts become money in 10^-36 dollars: units of a token have at most 18 decimals, and prices have 18.

use alloy_primitives::U256;
use manifest::Decimal;
use workload::LeaseId;

/// Leases settled by one transaction.
pub const BATCH: usize = 50;
/// Gas of a transaction that withdraws a token, to a wallet that holds none of it. Like what follows: the dearest that was measured
/// (`contracts/snapshots/Settle.json`, which the tests read), rounded up. A token whose transfers do more than SPON's costs more.
pub const BASE_GAS: u64 = 65_000;
/// Gas that each lease adds.
pub const LEASE_GAS: u64 = 25_000;
/// Gas that the first lease adds which credits the foundation, and the first which credits a gateway.
pub const CREDIT_GAS: u64 = 30_000;

/// What the provider wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What pay must be worth as a multiple of its gas, before it is due.
    pub minimum_gain_ratio: Decimal,
    /// Seconds after which what a lease has earned is due.
    pub interval_seconds: u64,
    /// The same while gas cannot be weighed.
    pub unweighed_interval_seconds: u64,
}

/// What money is worth now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worth {
    /// Wei for a unit of gas.
    pub gas_price: u128,
    /// Dollars with 18 decimals for 10^18 wei, where it is known.
    pub native: Option<U256>,
    /// Dollars with 18 decimals for a whole payment token, where it is known.
    pub token: Option<U256>,
    /// Decimals of the payment token.
    pub decimals: u8,
}

/// What a lease has earned and not been paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earned {
    /// Which.
    pub lease: LeaseId,
    /// Token units, for the supplier.
    pub amount: U256,
    /// Unix seconds until which it was paid.
    pub paid_until: u64,
    /// Whether nothing more will come: its end has passed, or it is closed.
    pub ended: bool,
    /// Whether it was closed inside its payout hold: settling it pays the foundation, too.
    pub closed_in_hold: bool,
    /// Whether settling it pays a gateway a share.
    pub shared: bool,
}

impl Earned {
    /// Gas that it adds to a transaction at most.
    fn gas(&self) -> u64 {
        LEASE_GAS + CREDIT_GAS * (u64::from(self.closed_in_hold) + u64::from(self.shared))
    }
}

/// Gas of a transaction that settles these, and withdraws them with a credit.
fn gas_of(leases: &[&Earned]) -> u64 {
    let pays_foundation = leases.iter().any(|earned| earned.closed_in_hold);
    // All are of one supplier, which has at most one.
    let pays_gateway = leases.iter().any(|earned| earned.shared);
    let credits = u64::from(pays_foundation) + u64::from(pays_gateway);
    BASE_GAS + LEASE_GAS * leases.len() as u64 + CREDIT_GAS * credits
}

/// What the provider is owed in one token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purse {
    /// By lease.
    pub leases: Vec<Earned>,
    /// What was credited already: by closes, by settlements of others, as a gateway's share.
    pub credit: U256,
    /// Unix seconds since which there is a credit.
    pub credit_since: u64,
    /// Whether some of it comes from a lease that just closed.
    pub credit_of_closed: bool,
}

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Leases to settle; with none of them only the credit is withdrawn.
    pub leases: Vec<LeaseId>,
    /// Token units that it brings, as far as it is known before.
    pub amount: U256,
}

/// What to collect now. Each lease is in at most one collection; the first one brings the credit.
///
/// Where prices are known, no collection costs more gas than it brings, and what is due is collected as soon as it pays for its
/// gas. Where they are not, a lease's end makes nothing due, only time does, and all else comes along.
pub fn plan(terms: &Terms, now: u64, worth: &Worth, purse: &Purse) -> Vec<Collection> {
    let money = Money::of(worth);
    let interval = match &money {
        Some(_) => terms.interval_seconds,
        None => terms.unweighed_interval_seconds,
    };
    let is_due =
        |earned: &Earned| (earned.ended && money.is_some()) || now >= earned.paid_until.saturating_add(interval);
    let mut leases: Vec<&Earned> = purse
        .leases
        .iter()
        .filter(|earned| !earned.amount.is_zero())
        // What does not pay for its own place in a transaction waits until it does.
        .filter(|earned| {
            money
                .as_ref()
                .is_none_or(|money| money.worth(earned.amount) >= money.cost(earned.gas()))
        })
        .collect();
    // Those that are due together, so that they are not held up by those that are not; the largest first.
    leases.sort_by_key(|earned| (!is_due(earned), std::cmp::Reverse(earned.amount), earned.lease));

    let has_credit = !purse.credit.is_zero();
    let credit_is_due = has_credit
        && ((purse.credit_of_closed && money.is_some()) || now >= purse.credit_since.saturating_add(interval));
    let mut batches: Vec<&[&Earned]> = leases.chunks(BATCH).collect();
    if batches.is_empty() && has_credit {
        batches.push(&[]);
    }
    let mut collections = Vec::new();
    for (position, batch) in batches.into_iter().enumerate() {
        let credit = if position == 0 { purse.credit } else { U256::ZERO };
        let amount = batch
            .iter()
            .fold(credit, |sum, earned| sum.saturating_add(earned.amount));
        let due = batch.iter().any(|earned| is_due(earned)) || (position == 0 && credit_is_due);
        let gas = gas_of(batch);
        let pays = match &money {
            Some(money) => {
                money.gains(amount, gas, terms.minimum_gain_ratio) || (due && money.worth(amount) >= money.cost(gas))
            }
            None => due,
        };
        if pays {
            collections.push(Collection {
                leases: batch.iter().map(|earned| earned.lease).collect(),
                amount,
            });
        }
    }
    collections
}

/// Prices that are all known. In 10^-36 dollars.
struct Money {
    gas_price: U256,
    unit: U256,
}

impl Money {
    fn of(worth: &Worth) -> Option<Self> {
        let (native, token) = (worth.native?, worth.token?);
        let scale = U256::from(10).pow(U256::from(18u8.checked_sub(worth.decimals)?));
        Some(Self {
            gas_price: native.checked_mul(U256::from(worth.gas_price))?,
            unit: token.checked_mul(scale)?,
        })
    }

    fn worth(&self, amount: U256) -> U256 {
        self.unit.saturating_mul(amount)
    }

    fn cost(&self, gas: u64) -> U256 {
        self.gas_price.saturating_mul(U256::from(gas))
    }

    /// Whether an amount is worth a multiple of its gas. An overflow on the cost's side is a loss.
    fn gains(&self, amount: U256, gas: u64, ratio: Decimal) -> bool {
        let cost = self.cost(gas);
        let wanted = cost.checked_mul(U256::from(ratio.digits()));
        let scale = U256::from(10).pow(U256::from(ratio.scale()));
        wanted.is_some_and(|wanted| {
            let least = wanted.div_ceil(scale).max(cost);
            self.worth(amount) >= least
        })
    }
}

/// Dollars with 18 decimals.
pub fn dollars(price: Decimal) -> Option<U256> {
    let digits = U256::from(price.digits());
    let ten = |exponent: u8| U256::from(10).pow(U256::from(exponent));
    match 18u8.checked_sub(price.scale()) {
        Some(missing) => digits.checked_mul(ten(missing)),
        None => Some(digits / ten(price.scale() - 18)),
    }
}

#[cfg(test)]
mod tests;
