//! What a transaction offers for its place in a block, and what it offers next. No I/O.

/// Nodes replace a transaction only by one that offers a tenth more of both fees; an eighth more leaves room for rounding.
const BUMP_DIVISOR: u128 = 8;

/// The two fees of an EIP-1559 transaction, in wei per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fees {
    pub(crate) maximum: u128,
    pub(crate) priority: u128,
}

/// What to offer first: twice the base fee survives six full blocks in a row.
pub(crate) fn first_offer(base_fee: u128, suggested_priority: u128, least_priority: u128, limit: u128) -> Fees {
    let priority = suggested_priority.max(least_priority).min(limit);
    Fees {
        maximum: base_fee.saturating_mul(2).saturating_add(priority).min(limit),
        priority,
    }
}

/// What to offer instead of `old`: both fees raised enough that nodes accept the replacement, or the present market if
/// that is more. Nothing where the limit leaves no room.
pub(crate) fn next_offer(old: Fees, market: Fees, limit: u128) -> Option<Fees> {
    let raised = |fee: u128| {
        fee.saturating_add(fee.div_ceil(BUMP_DIVISOR))
            .max(fee.saturating_add(1))
    };
    let least = Fees {
        maximum: raised(old.maximum),
        priority: raised(old.priority),
    };
    let offer = Fees {
        maximum: market.maximum.max(least.maximum).min(limit),
        priority: market.priority.max(least.priority).min(limit),
    };
    (offer.maximum >= least.maximum && offer.priority >= least.priority).then_some(Fees {
        maximum: offer.maximum.max(offer.priority),
        ..offer
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the market does, a replacement is one that nodes accept (a tenth more of both) and within the limit.
        #[test]
        fn a_replacement_is_accepted_and_affordable(
            maximum in 0u128..1 << 90, priority in 0u128..1 << 90, base in 0u128..1 << 90, tip in 0u128..1 << 90,
            limit in 1u128..1 << 92,
        ) {
            let old = Fees { maximum: maximum.max(priority), priority };
            if let Some(new) = next_offer(old, first_offer(base, tip, 1, limit), limit) {
                prop_assert!(new.maximum * 10 >= old.maximum * 11 && new.maximum > old.maximum);
                prop_assert!(new.priority * 10 >= old.priority * 11 && new.priority > old.priority);
                prop_assert!(new.maximum <= limit && new.priority <= new.maximum);
            }
        }

        #[test]
        fn a_first_offer_is_valid(base in any::<u128>(), tip in any::<u128>(), least in 0u128..1 << 40, limit in 1u128..1 << 92) {
            let fees = first_offer(base, tip, least, limit);
            prop_assert!(fees.priority <= fees.maximum && fees.maximum <= limit);
        }
    }

    #[test]
    fn at_the_limit_there_is_no_next_offer() {
        let market = Fees {
            maximum: 90,
            priority: 9,
        };
        assert_eq!(
            next_offer(
                Fees {
                    maximum: 95,
                    priority: 9
                },
                market,
                100
            ),
            None
        );
        assert_eq!(
            next_offer(
                Fees {
                    maximum: 80,
                    priority: 8
                },
                market,
                100
            ),
            Some(Fees {
                maximum: 90,
                priority: 9
            })
        );
    }
}
