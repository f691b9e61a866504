//! What a stream of so many seconds is worth, and who gets which part of it. All amounts are cumulative, from the start of
//! the lease; what a settlement pays is the difference of two.

use num_bigint::BigUint;

/// Token units, exact and of any size.
pub type Amount = BigUint;

const RATE_SECONDS: u32 = 36_000;
const WHOLE: u32 = 10_000;

/// Shares are in basis points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    pub commission: u32,
    pub user_fee: u32,
    pub provider_fee: u32,
    pub gateway_share: u32,
    pub match_fee: u128,
}

/// What `seconds` of a lease pay to whom, rounded down each for itself; `supplier` and `gateway` share what is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub supplier: Amount,
    pub gateway: Amount,
    /// User fee, provider fee and commission.
    pub fees: Amount,
}

impl Split {
    /// What the account pays.
    pub fn total(&self) -> Amount {
        &self.supplier + &self.gateway + &self.fees
    }
}

impl Schedule {
    /// What `seconds` at `rate` pay; `shared` with a gateway or not.
    pub fn split(&self, rate: u128, seconds: u32, shared: bool) -> Split {
        let streamed = Amount::from(rate) * seconds / RATE_SECONDS;
        let share_of = |amount: &Amount, basis_points: u32| amount * basis_points / WHOLE;
        let taken = share_of(&streamed, self.commission + self.provider_fee);
        let net = &streamed - &taken;
        let gateway = share_of(&net, if shared { self.gateway_share } else { 0 });
        Split {
            supplier: net - &gateway,
            gateway,
            fees: taken + share_of(&streamed, self.user_fee),
        }
    }

    /// The most that a lease can cost: the stream rounded up, and the user fee on that rounded up.
    pub fn lease_lock(&self, rate: u128, duration: u32) -> Amount {
        let streamed = rounded_up(Amount::from(rate) * duration, RATE_SECONDS);
        let fee = rounded_up(&streamed * self.user_fee, WHOLE);
        streamed + fee
    }

    /// The most that an order can cost.
    pub fn order_lock(&self, rate: u128, duration: u32) -> Amount {
        self.lease_lock(rate, duration) + self.match_fee
    }

    /// Whether it may be added with this rebated commission. A match fee has 20 significant bits, times a power of ten.
    pub fn is_allowed(&self, rebated_commission: u32) -> bool {
        let precise = (0..32).any(|exponent| {
            10_u128
                .checked_pow(exponent)
                .is_some_and(|power| self.match_fee.is_multiple_of(power) && self.match_fee / power < 1 << 20)
        });
        self.commission + self.user_fee + self.provider_fee <= 2_500
            && self.gateway_share <= 5_000
            && rebated_commission <= self.commission
            && precise
    }
}

fn rounded_up(amount: Amount, divisor: u32) -> Amount {
    (amount + (divisor - 1)) / divisor
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        commission: 2_000,
        user_fee: 200,
        provider_fee: 200,
        gateway_share: 2_500,
        match_fee: 7,
    };

    /// Numbers worked out by hand: 90 units an hour for 400 seconds stream 10.
    #[test]
    fn an_hour_of_pennies() {
        let whole = SCHEDULE.split(900_000, 36_000, true);
        assert_eq!(whole.gateway, Amount::from(175_500_u32), "a quarter of 78 %");
        assert_eq!(whole.supplier, Amount::from(526_500_u32), "the rest of it");
        assert_eq!(whole.fees, Amount::from(216_000_u32), "22 % and 2 % on top");
        // Ten units: 22 % are 2.2, so 2; a quarter of eight is two; 2 % are nothing.
        let ten = SCHEDULE.split(900, 400, true);
        assert_eq!(
            (ten.supplier, ten.gateway, ten.fees),
            (6_u8.into(), 2_u8.into(), 2_u8.into())
        );
    }

    /// The smallest lease locks a unit for the stream and one for the fee on it, and pays nothing.
    #[test]
    fn the_smallest_lease() {
        assert_eq!(SCHEDULE.lease_lock(1, 1), Amount::from(2_u8));
        assert_eq!(SCHEDULE.order_lock(1, 1), Amount::from(9_u8));
        assert_eq!(SCHEDULE.split(1, 1, false).total(), Amount::ZERO);
    }

    #[test]
    fn match_fees_are_round() {
        let with = |match_fee| Schedule { match_fee, ..SCHEDULE };
        assert!(with(1_048_575 * 10_u128.pow(20)).is_allowed(2_000));
        assert!(!with(1_048_577).is_allowed(2_000));
        assert!(
            !with(0).is_allowed(2_001),
            "the rebated commission is not above the commission"
        );
    }
}
